"""What admission finds in routes of the Gateway API.

What a route names has to be there. What others may refuse it (``allowedRoutes``, a ReferenceGrant) is only
told, as they may do so at any time: the route is detached, or its share of the requests is answered 500.
"""

from __future__ import annotations

from collections.abc import Iterator

from ray_mesh.compile import codes
from ray_mesh.compile.callee import Callee
from ray_mesh.compile.finding import Finding, error, warning
from ray_mesh.compile.gateway_api.attachment import (
    common_hosts,
    mesh_routes_of,
    routes_at,
    scope_of,
    why_detached,
)
from ray_mesh.compile.gateway_api.backends import invalid, is_granted, why_invalid
from ray_mesh.compile.gateway_api.terms import (
    REQUEST_ROUTES,
    RouteSpec,
    backend_host,
    backends_of,
    parent_key,
)
from ray_mesh.compile.routings import virtual_services_for
from ray_mesh.compile.world import World, mesh_hosts
from ray_mesh.resources import ApiGatewaySpec, Document, GrpcRouteSpec, HttpRouteSpec, VirtualServiceSpec
from ray_mesh.resources.gateway_api.gateway import Listener
from ray_mesh.resources.gateway_api.grpc_route import GrpcRouteRule
from ray_mesh.resources.gateway_api.http_route import HttpRouteRule
from ray_mesh.resources.gateway_api.references import BackendObjectReference, ParentReference
from ray_mesh.resources.source import Path
from ray_mesh.snapshot import HTTP2_PROTOCOLS, HTTP_PROTOCOLS

_HTTP = (*HTTP_PROTOCOLS, "auto")
_FITTING = {
    "HTTPRoute": _HTTP,
    "GRPCRoute": (*HTTP2_PROTOCOLS, "auto"),
    "TLSRoute": ("tls", "auto"),
    "TCPRoute": ("tcp", "auto"),
}
"""The protocols of ports for whose callers a route of a kind is."""


def api_route_findings(world: World, document: Document) -> Iterator[Finding]:
    """Everything about one HTTPRoute, GRPCRoute, TLSRoute or TCPRoute."""
    spec = document.spec
    assert isinstance(spec, RouteSpec)
    if not spec.parent_refs:
        message = "the route attaches to nothing"
        yield warning(document, codes.ROUTE_DETACHED, ("spec", "parentRefs"), message, "name a Gateway")
    for index, parent in enumerate(spec.parent_refs):
        path: Path = ("spec", "parentRefs", index)
        found = world.get(parent_key(document, parent))
        if found is None:
            name = f"{parent.namespace or document.namespace}/{parent.name}"
            message = f'Referenced {parent.kind} not found: "{name}"'
            yield error(document, codes.NOT_FOUND, path, message, "apply it first, or with this")
        elif isinstance(found.spec, ApiGatewaySpec):
            yield from _gateway_findings(world, document, found, parent, path)
        else:
            yield from _service_findings(world, document, found, parent, path)
    yield from _backend_findings(world, document)


def _gateway_findings(
    world: World, document: Document, gateway: Document, parent: ParentReference, path: Path
) -> Iterator[Finding]:
    named = [
        one
        for one in gateway.read(ApiGatewaySpec).listeners
        if parent.section_name in (None, one.name) and parent.port in (None, one.port)
    ]
    if not named:
        what = parent.section_name or f"port {parent.port}"
        message = f'Referenced listener not found: "{what}" of {gateway.title}'
        yield error(document, codes.NOT_FOUND, path, message, "name one of its listeners")
        return
    reasons = [(one, why_detached(world, document, gateway, one)) for one in named]
    open_to = [one for one, reason in reasons if not reason]
    if not open_to:
        message = f"{gateway.title} does not take the route: {reasons[0][1]}"
        fix = "allow it there, or attach it elsewhere"
        yield warning(document, codes.ROUTE_DETACHED, path, message, fix)
    elif not any(common_hosts(one, document) for one in open_to):
        hosts = ", ".join(dict.fromkeys(one.hostname or "*" for one in open_to))
        message = f"no hostname of the route is one of {gateway.title}: {hosts}"
        yield warning(document, codes.HOST_NOT_IN_GATEWAY, ("spec", "hostnames"), message, "name one of them")
    elif document.kind == "TCPRoute":
        yield from _older(world, document, gateway, open_to, path)
    elif document.kind in REQUEST_ROUTES:
        yield from _rivals(world, document, gateway, open_to, path)


def _older(
    world: World, document: Document, gateway: Document, listeners: list[Listener], path: Path
) -> Iterator[Finding]:
    for listener in listeners:
        first = routes_at(world, gateway, listener, "TCPRoute")[0].route
        if first.key != document.key:
            message = f"{first.title} is older and takes every connection of listener {listener.name}"
            yield warning(document, codes.UNREACHABLE_RULE, path, message, "delete one of the two")


def _rivals(
    world: World, document: Document, gateway: Document, listeners: list[Listener], path: Path
) -> Iterator[Finding]:
    """Listeners at which an older route of the other kind for requests has a host of this one."""
    names = [
        one.name
        for one in listeners
        if common_hosts(one, document)
        and document.key not in {each.route.key for each in routes_at(world, gateway, one, *REQUEST_ROUTES)}
    ]
    if names:
        other = next(kind for kind in REQUEST_ROUTES if kind != document.kind)
        message = (
            f"an older {other} at listener {', '.join(names)} of {gateway.title} is for the same host, "
            f"and a host has HTTPRoutes or GRPCRoutes"
        )
        yield warning(document, codes.ROUTE_DETACHED, path, message, "give one of them another hostname")


def _service_findings(
    world: World, document: Document, service: Document, parent: ParentReference, path: Path
) -> Iterator[Finding]:
    for callee in world.callees_in(service):
        scope = scope_of(callee, document, parent)
        if scope is None:
            what = parent.section_name or parent.port
            message = f"{callee.host} has no port {what}"
            yield error(document, codes.NOT_FOUND, path, message, "name one of its ports")
            return
        ports = [one for one in callee.ports if scope.port in (0, one.number)]
        if not any(one.protocol in _FITTING[document.kind] for one in ports):
            message = f"no port of {callee.host} that the route is for speaks what a {document.kind} routes"
            yield warning(document, codes.ROUTE_DETACHED, path, message, "name its ports by protocol")
        if document.kind in REQUEST_ROUTES:
            yield from _overridden(world, callee, document, path)
    if _is_for_the_mesh_only(document.spec):
        message = "hostnames say nothing to callers in the mesh: the route is for the Service's host"
        yield warning(document, codes.ROUTE_DETACHED, ("spec", "hostnames"), message, "leave them out")


def _is_for_the_mesh_only(spec: object) -> bool:
    """Whether a route for requests has hostnames, and no Gateway for which they would say something."""
    return (
        isinstance(spec, HttpRouteSpec | GrpcRouteSpec)
        and bool(spec.hostnames)
        and not any(one.is_gateway for one in spec.parent_refs)
    )


def _overridden(world: World, callee: Callee, document: Document, path: Path) -> Iterator[Finding]:
    closer = [one.title for one in _closer(world, callee, document)]
    if closer:
        message = f"for {callee.host} {', '.join(closer)} decides alone where both are for the same callers"
        fix = "name different ports, or keep one of the two kinds"
        yield warning(document, codes.ROUTES_OVERRIDDEN, path, message, fix)
    beside = _http_services(world, callee)
    if beside:
        names = ", ".join(f"{one.namespace}/{one.name}" for one in beside)
        message = f"this decides for {callee.host} before the http rules of the VirtualServices {names}"
        yield warning(document, codes.ROUTES_OVERRIDDEN, path, message, "keep one of the two kinds")


def _closer(world: World, callee: Callee, document: Document) -> Iterator[Document]:
    """The routes of the kind that goes before this one's which are for some of the same requests."""
    mine = next(
        (scopes for one, scopes in mesh_routes_of(world, callee, document.kind) if one is document), []
    )
    for kind in REQUEST_ROUTES[: REQUEST_ROUTES.index(document.kind)]:
        for other, scopes in mesh_routes_of(world, callee, kind):
            if any(
                one.namespace == two.namespace and (one.port == two.port or 0 in (one.port, two.port))
                for one in mine
                for two in scopes
            ):
                yield other


def _http_services(world: World, callee: Callee) -> list[Document]:
    documents = virtual_services_for(world, callee.host, callee.namespace)
    return [one for one in documents if one.read(VirtualServiceSpec).http]


def overridden_findings(world: World, document: Document) -> Iterator[Finding]:
    """HTTPRoutes and GRPCRoutes that decide before the rules of a VirtualService."""
    if not isinstance(document.spec, VirtualServiceSpec) or not document.spec.http:
        return
    for host in mesh_hosts(document):
        callee = world.callee(host)
        routes = world.find("route of", callee.document.key) if callee is not None else []
        names = [one.title for one in routes if one.kind in REQUEST_ROUTES]
        if callee is not None and names and document in _http_services(world, callee):
            message = f"for {host} {', '.join(names)} decide before these rules"
            fix = "keep one of the two kinds"
            yield warning(document, codes.ROUTES_OVERRIDDEN, ("spec", "http"), message, fix)


def _backend_findings(world: World, document: Document) -> Iterator[Finding]:
    spec = document.spec
    for path, backend in backends_of(document):
        reason = why_invalid(world, document, backend)
        if not reason:
            yield from _version_findings(world, document, backend, path)
            continue
        if not is_granted(world, document, backend):
            fix = f"apply a ReferenceGrant in namespace {backend.namespace}"
            told = f"{reason}: requests are answered {invalid(document)}"
            yield warning(document, codes.NOT_GRANTED, path, told, fix)
        else:
            fix = "apply the Service first, or correct the reference"
            yield error(document, codes.NOT_FOUND, path, reason, fix)
    rules: tuple[HttpRouteRule | GrpcRouteRule, ...] = ()
    if isinstance(spec, HttpRouteSpec | GrpcRouteSpec):
        rules = spec.rules
    for index, rule in enumerate(rules):
        is_answered = any(one.type == "RequestRedirect" for one in rule.filters)
        if not is_answered and not any(one.weight for one in rule.backend_refs):
            message = f"no backend has a weight: requests are answered {invalid(document)}"
            place: Path = ("spec", "rules", index, "backendRefs")
            yield warning(document, codes.NO_BACKEND, place, message, "name a backend")


def _version_findings(
    world: World, document: Document, backend: BackendObjectReference, path: Path
) -> Iterator[Finding]:
    """Backends of gRPC that are declared to understand HTTP/1.1 only."""
    callee = world.callee(backend_host(document, backend)) if document.kind == "GRPCRoute" else None
    for port in callee.ports if callee is not None else ():
        if backend.port in (None, port.number) and port.protocol == "http":
            message = (
                f"port {port.number} of {backend.name} is declared to be HTTP/1.1, and gRPC needs HTTP/2"
            )
            yield warning(document, codes.VERSIONS_DIFFER, path, message, "name the port grpc")
