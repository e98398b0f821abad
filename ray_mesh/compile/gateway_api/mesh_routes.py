"""Routes of services inside the mesh (GAMMA): what callers of a service follow.

A route in the service's own namespace holds for all callers. One in another namespace holds for callers of
that namespace, and instead of the service's own. A request that a route is for and that none matches is
answered 404. Where GRPCRoutes and HTTPRoutes are for one port the GRPCRoutes decide alone. VirtualServices do
where neither are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ray_mesh import snapshot
from ray_mesh.compile.gateway_api.attachment import Scope, mesh_routes_of
from ray_mesh.compile.gateway_api.connections import connection_route
from ray_mesh.compile.gateway_api.http_routes import Listening, Rank
from ray_mesh.compile.gateway_api.request_routes import ranked_routes
from ray_mesh.compile.gateway_api.terms import REQUEST_ROUTES
from ray_mesh.resources import TlsRouteSpec

if TYPE_CHECKING:
    from ray_mesh.compile.callee import Callee
    from ray_mesh.compile.world import World


def with_gateway_api(world: World, callee: Callee, routing: snapshot.Routing) -> snapshot.Routing:
    """A routing of a service with its routes of the Gateway API before what VirtualServices say."""
    owners = list(routing.owners)
    routes = _request_routes(world, callee, routing, owners)
    tls = (*_connection_routes(world, callee, "TLSRoute", owners), *routing.tls_routes)
    tcp = (*_connection_routes(world, callee, "TCPRoute", owners), *routing.tcp_routes)
    return replace(routing, owners=tuple(owners), routes=routes, tls_routes=tls, tcp_routes=tcp)


def _request_routes(
    world: World, callee: Callee, routing: snapshot.Routing, owners: list[snapshot.RouteOwner]
) -> tuple[snapshot.Route, ...]:
    """All routes for requests; the documents they are from are added to the owners."""
    found = {kind: _ranked(world, callee, kind, owners) for kind in REQUEST_ROUTES}
    namespaces = {scope.namespace for routes in found.values() for scope in routes}
    routes: list[snapshot.Route] = []
    for namespace in sorted(namespaces, key=lambda name: (name == "", name)):
        decided: set[int] = set()
        for kind in REQUEST_ROUTES:
            mine = {one.port: routes for one, routes in found[kind].items() if one.namespace == namespace}
            ports = mine.keys() - decided
            if not ports or 0 in decided:
                continue
            decided |= ports
            ordered = _in_order(pair for port in sorted(ports) for pair in mine[port])
            routes += ordered
            routes += (replace(end, owner=ordered[0].owner) for end in _ends(callee, kind, namespace, ports))
        if namespace == "" and 0 in decided:
            return tuple(routes)
    if not routes or any(one.is_http for one in routing.owners):
        return (*routes, *routing.routes)
    owners.append(snapshot.RouteOwner(callee.namespace, callee.host, is_http=False))
    return (*routes, *(replace(route, owner=len(owners) - 1) for route in routing.routes))


def _ranked(
    world: World, callee: Callee, kind: str, owners: list[snapshot.RouteOwner]
) -> dict[Scope, list[tuple[Rank, snapshot.Route]]]:
    """The routes of the documents of a kind, by those whose requests they are for."""
    found: dict[Scope, list[tuple[Rank, snapshot.Route]]] = {}
    for document, scopes in mesh_routes_of(world, callee, kind):
        owners.append(snapshot.RouteOwner(document.namespace, callee.host))
        for rank, route in ranked_routes(world, document, Listening()):
            for scope in scopes:
                narrow = replace(_narrow(route, scope), owner=len(owners) - 1)
                found.setdefault(scope, []).append((rank, narrow))
    return found


def _in_order(routes: Iterable[tuple[Rank, snapshot.Route]]) -> list[snapshot.Route]:
    return [route for _, route in sorted(routes, key=lambda pair: pair[0])]


def _narrow(route: snapshot.Route, scope: Scope) -> snapshot.Route:
    matches = (replace(match, source_namespace=scope.namespace, port=scope.port) for match in route.matches)
    return replace(route, matches=tuple(matches))


def _ends(callee: Callee, kind: str, namespace: str, ports: set[int]) -> Iterator[snapshot.Route]:
    """What answers requests that were for routes of a kind; behind those for everything nothing follows."""
    if namespace == "" and 0 in ports:
        return
    for port in (0,) if 0 in ports else sorted(ports):
        match = snapshot.RequestMatch(source_namespace=namespace, port=port)
        origin = f"{kind}s of {callee.document.title}"
        yield snapshot.Route("no-route", origin, (match,), (), direct_response=snapshot.DirectResponse(404))


def _connection_routes(
    world: World, callee: Callee, kind: str, owners: list[snapshot.RouteOwner]
) -> tuple[snapshot.ConnectionRoute, ...]:
    """The TLSRoutes or TCPRoutes of a service, those for callers of one namespace first, then the oldest."""
    found = []
    for place, (document, scopes) in enumerate(mesh_routes_of(world, callee, kind)):
        owners.append(snapshot.RouteOwner(document.namespace, callee.host, is_http=False))
        spec = document.spec
        names = spec.hostnames if isinstance(spec, TlsRouteSpec) else ()
        for scope in scopes:
            match = snapshot.ConnectionMatch(names, scope.port, source_namespace=scope.namespace)
            matches = () if match == snapshot.ConnectionMatch() else (match,)
            rank = (scope.namespace == "", scope.port == 0, place)
            route = replace(connection_route(world, document, matches), owner=len(owners) - 1)
            found.append((rank, route))
    return tuple(route for _, route in sorted(found, key=lambda pair: pair[0]))
