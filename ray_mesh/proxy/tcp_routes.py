"""Which destination a connection goes to. Pure: what is random is passed in."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from ray_mesh.proxy.match import Scope
from ray_mesh.snapshot import ConnectionMatch, ConnectionRoute, Destination, Service


def choose_route(service: Service, scope: Scope, sni: str) -> ConnectionRoute | None:
    """The route of a connection to the port of ``scope``.

    ``sni`` is the name in a TLS handshake, empty for any other connection. Without a route that matches a
    connection goes to the service itself, but not one of TLS for whose port there are TLS routes.
    """
    protocol = next((port.protocol for port in service.ports if port.number == scope.port), "tcp")
    routes = service.tls_routes if protocol == "tls" else service.tcp_routes
    route = first_route(routes, scope, sni)
    if route is not None:
        return route
    if protocol == "tls" and needs_sni(service, scope):
        return None
    return ConnectionRoute("default", "", (), (Destination(service.host),))


def first_route(routes: Sequence[ConnectionRoute], scope: Scope, sni: str) -> ConnectionRoute | None:
    """The first route that matches."""
    for route in routes:
        if not route.matches or any(matches(match, scope, sni) for match in route.matches):
            return route
    return None


def needs_sni(service: Service, scope: Scope) -> bool:
    """Whether the routes of a TLS port depend on the name in the handshake."""
    return any(_applies(match, scope) for route in service.tls_routes for match in route.matches)


def matches(match: ConnectionMatch, scope: Scope, sni: str) -> bool:
    """Whether a match holds for a connection."""
    if not _applies(match, scope):
        return False
    return not match.sni_hosts or any(covers(pattern, sni) for pattern in match.sni_hosts)


def covers(pattern: str, name: str) -> bool:
    """Whether an SNI host (exact, ``*.suffix`` or ``*``) stands for a name; both in lower case."""
    if pattern == "*":
        return bool(name)
    if pattern.startswith("*."):
        return name.endswith(pattern[1:]) and len(name) >= len(pattern)
    return pattern == name


def draw(destinations: Sequence[Destination], point: float) -> Destination | None:
    """The destination that owns ``point`` in [0, 1), by weight; of one the weight does not count."""
    if len(destinations) == 1:
        return destinations[0]
    edges = list(accumulate(each.weight for each in destinations))
    if not edges or not edges[-1]:
        return None
    return next(each for each, edge in zip(destinations, edges, strict=True) if point * edges[-1] < edge)


def _applies(match: ConnectionMatch, scope: Scope) -> bool:
    """What depends on the caller and the port only. At a gateway the compiler saw to the gateways."""
    return (
        match.port in (0, scope.port)
        and match.source_namespace in ("", scope.namespace)
        and scope.labels.issuperset(match.source_labels)
        and (scope.is_gateway or not match.gateways or "mesh" in match.gateways)
    )
