"""Routes as one caller sees them, ready to be used for each request."""

from __future__ import annotations

import random
from collections.abc import Iterable

from ray_mesh.proxy.answers import answer_of
from ray_mesh.proxy.balance import WeightedSplit
from ray_mesh.proxy.change import Change, change_of, edit_of
from ray_mesh.proxy.cluster import Cluster
from ray_mesh.proxy.cors import CrossOrigin
from ray_mesh.proxy.match import Alternative, Matchable, Scope, alternatives
from ray_mesh.proxy.mirror import TIMEOUT_S
from ray_mesh.proxy.retry import RetryPolicy
from ray_mesh.proxy.route_index import RouteIndex
from ray_mesh.snapshot import Destination, Route

_random = random.random


class Target:
    """One weighted destination of a route. ``cluster`` is filled in when it is first used; with a ``status``
    there is none, and that is the answer. ``requested`` is the host that was asked for, where that is the
    endpoint."""

    __slots__ = (
        "announcement",
        "change",
        "cluster",
        "host",
        "port",
        "requested",
        "shadows",
        "status",
        "subset",
    )

    def __init__(
        self,
        to: Destination,
        port: int,
        announcement: bytes,
        change: Change | None = None,
        shadows: tuple[Shadow, ...] = (),
        requested: str = "",
    ) -> None:
        self.host = to.host
        self.requested = requested
        self.subset = to.subset
        self.status = to.status
        self.port = to.port or port
        self.announcement = announcement
        self.change = change
        self.shadows = shadows
        self.cluster: Cluster | None = None


class Shadow:
    """One mirror of a route. ``name`` is what its copies are recorded under."""

    __slots__ = ("name", "percent", "target", "timeout_s")

    def __init__(self, route: Route, percent: float, target: Target) -> None:
        self.name = f"{route.name} mirror"
        self.percent = percent
        self.target = target
        self.timeout_s = min(route.timeout_s or TIMEOUT_S, TIMEOUT_S)


class RouteEntry:
    """One route that can match for the caller. One that ``is_plain`` does nothing but send requests on."""

    __slots__ = (
        "_split",
        "answer",
        "cors",
        "edit",
        "fault",
        "is_plain",
        "name",
        "retries",
        "targets",
        "timeout_s",
    )

    def __init__(self, route: Route, targets: tuple[Target, ...], scope: Scope) -> None:
        self.name = route.name
        self.fault = route.fault
        self.cors = CrossOrigin(route.cors) if route.cors is not None else None
        self.answer = answer_of(route, scope)
        self.edit = edit_of(route.response_headers)
        self.is_plain = not (self.fault or self.cors or self.answer or self.edit)
        self.timeout_s = route.timeout_s
        self.retries = RetryPolicy(route.retries) if route.retries is not None else None
        self.targets = targets
        weights = [destination.weight for destination in route.destinations]
        self._split = WeightedSplit(weights) if len(weights) > 1 and sum(weights) > 0 else None

    def draw(self) -> Target | None:
        """The destination of one request, by weight; None when the route has none."""
        if self._split is None:
            return self.targets[0] if self.targets else None
        return self.targets[self._split.draw(_random())]


class RouteTable:
    """Routes in order. ``source`` is announced to the next proxy together with the destination.
    ``requested`` is the full host of the service, and how it was asked for (see :class:`Target`)."""

    __slots__ = ("_always", "_index", "_requested", "_scope", "_source")

    def __init__(
        self, routes: Iterable[Route], scope: Scope, source: bytes, requested: tuple[str, str] = ("", "")
    ) -> None:
        self._scope = scope
        self._requested = requested
        self._source = source
        kept: list[tuple[list[Alternative], _Slot]] = []
        for route in routes:
            ways = alternatives(route.matches, scope)
            if ways:
                kept.append((ways, _Slot(route)))
            if any(one.is_certain for one in ways):
                break
        self._always: _Slot | None = None
        if kept and any(one.is_certain for one in kept[0][0]):
            self._always = kept[0][1]
        self._index = RouteIndex(kept)

    def choose(self, request: Matchable) -> RouteEntry | None:
        """The first route that matches."""
        slot = self._always or self._index.find(request)
        if slot is None:
            return None
        return slot.entry or self._fill(slot)

    def _fill(self, slot: _Slot) -> RouteEntry:
        route = slot.route
        targets = _targets(route, self._scope, self._source, self._requested)
        entry = slot.entry = RouteEntry(route, targets, self._scope)
        return entry


class _Slot:
    """A route, and its entry once a request came for it: most of a large table is never asked for."""

    __slots__ = ("entry", "route")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.entry: RouteEntry | None = None


def _targets(route: Route, scope: Scope, source: bytes, requested: tuple[str, str]) -> tuple[Target, ...]:
    def asked(to: Destination) -> str:
        return requested[1] if to.host == requested[0] else ""

    mirrors = [
        (
            one.percent,
            Target(
                one.destination,
                scope.port,
                announcement(source, one.destination.host),
                requested=asked(one.destination),
            ),
        )
        for one in route.mirrors
    ]
    shadows = tuple(Shadow(route, percent, target) for percent, target in mirrors)
    return tuple(
        Target(one, scope.port, announcement(source, one.host), change_of(route, one), shadows, asked(one))
        for one in route.destinations
    )


def announcement(source: bytes, host: str) -> bytes:
    """The header lines by which a proxy tells the next one who calls what."""
    return b"x-mesh-source: %b\r\nx-mesh-service: %b\r\n" % (source, host.encode())
