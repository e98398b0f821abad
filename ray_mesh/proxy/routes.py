"""Routes as one caller sees them, ready to be used for each request."""

from __future__ import annotations

import random
from collections.abc import Iterable

from ray_mesh.proxy.balance import WeightedSplit
from ray_mesh.proxy.cluster import Cluster
from ray_mesh.proxy.match import Matchable, Scope, matching_routes
from ray_mesh.snapshot import Route

_random = random.random


class Target:
    """One weighted destination of a route. ``cluster`` is filled in when it is first used."""

    __slots__ = ("announcement", "cluster", "host", "port", "subset")

    def __init__(self, host: str, subset: str, port: int, announcement: bytes) -> None:
        self.host = host
        self.subset = subset
        self.port = port
        self.announcement = announcement
        self.cluster: Cluster | None = None


class RouteEntry:
    """One route that can match for the caller."""

    __slots__ = ("_split", "fault", "name", "targets", "timeout_s")

    def __init__(self, route: Route, targets: tuple[Target, ...]) -> None:
        self.name = route.name
        self.fault = route.fault
        self.timeout_s = route.timeout_s
        self.targets = targets
        weights = [destination.weight for destination in route.destinations]
        self._split = WeightedSplit(weights) if len(weights) > 1 and sum(weights) > 0 else None

    def draw(self) -> Target | None:
        """The destination of one request, by weight; None when the route has none."""
        if self._split is None:
            return self.targets[0] if self.targets else None
        return self.targets[self._split.draw(_random())]


class RouteTable:
    """Routes in order. ``source`` is announced to the next proxy together with the destination."""

    __slots__ = ("_always", "_routes")

    def __init__(self, routes: Iterable[Route], scope: Scope, source: bytes) -> None:
        self._routes = []
        for predicate, route in matching_routes(tuple(routes), scope):
            targets = tuple(
                Target(one.host, one.subset, one.port or scope.port, announcement(source, one.host))
                for one in route.destinations
            )
            self._routes.append((predicate, RouteEntry(route, targets)))
        self._always: RouteEntry | None = None
        if self._routes and self._routes[0][0] is None:
            self._always = self._routes[0][1]

    def choose(self, request: Matchable) -> RouteEntry | None:
        """The first route that matches."""
        if self._always is not None:
            return self._always
        for predicate, route in self._routes:
            if predicate is None or predicate(request):
                return route
        return None


def announcement(source: bytes, host: str) -> bytes:
    """The header lines by which a proxy tells the next one who calls what."""
    return b"x-mesh-source: %b\r\nx-mesh-service: %b\r\n" % (source, host.encode())
