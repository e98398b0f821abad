"""Which ingress workloads serve a Gateway, and which routes attach to its listeners or to a service."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ray_mesh.compile.gateway_api.terms import API_GATEWAY, RouteSpec, parent_key
from ray_mesh.resources import ApiGatewaySpec, Document, GrpcRouteSpec, HttpRouteSpec, TlsRouteSpec
from ray_mesh.resources.gateway_api.gateway import Listener
from ray_mesh.resources.gateway_api.references import ParentReference
from ray_mesh.resources.hosts import pattern_covers, specificity

if TYPE_CHECKING:
    from ray_mesh.compile.callee import Callee
    from ray_mesh.compile.world import World

GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
"""The label of an ingress workload that serves one Gateway of its namespace only, as Istio's have it."""
NAMESPACE_NAME = "kubernetes.io/metadata.name"
ANY = "*"


@dataclass(frozen=True, slots=True)
class Attached:
    """A route at a listener: the hosts they have in common, each with the one that the route says."""

    route: Document
    hosts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose requests a route of a service is for: callers of a namespace (empty for all), to a port (0 for
    all)."""

    namespace: str = ""
    port: int = 0


def serves(workload: Document, gateway: Document) -> bool:
    """Whether an ingress workload serves a Gateway: it has the labels of its ``infrastructure``, and, if it
    says the name of a Gateway, this one."""
    wanted = gateway.read(ApiGatewaySpec).infrastructure.labels
    if not wanted.items() <= workload.labels.items():
        return False
    name = workload.labels.get(GATEWAY_NAME)
    return name is None or (name, workload.namespace) == (gateway.name, gateway.namespace)


def api_gateways_for(world: World, workload: Document) -> list[Document]:
    """The Gateways that an ingress workload serves, oldest first."""
    return [one for one in world.oldest("kind", API_GATEWAY) if serves(workload, one)]


def api_ingress_for(world: World, gateway: Document) -> list[Document]:
    """The ingress workloads, of any namespace, that serve a Gateway."""
    return [workload for workload in world.find("ingress") if serves(workload, gateway)]


def routes_at(world: World, gateway: Document, listener: Listener, *kinds: str) -> list[Attached]:
    """The routes of these kinds that attach to a listener, oldest first. Of an HTTPRoute and a GRPCRoute with
    a host in common only the older one does."""
    found: list[Attached] = []
    if not set(kinds) & set(listener.kinds):
        return found
    routes = [one for one in world.find("route of", gateway.key) if one.kind in kinds]
    for route in sorted(routes, key=lambda one: (one.admitted_at, f"{one.namespace}/{one.name}")):
        hosts = () if why_detached(world, route, gateway, listener) else common_hosts(listener, route)
        if hosts and not any(_is_rival(route, hosts, other) for other in found):
            found.append(Attached(route, hosts))
    return found


def _is_rival(route: Document, hosts: tuple[tuple[str, str], ...], other: Attached) -> bool:
    return route.kind != other.route.kind and any(
        pattern_covers(one, two) or pattern_covers(two, one) for one, _ in hosts for two, _ in other.hosts
    )


def why_detached(world: World, route: Document, gateway: Document, listener: Listener) -> str:
    """Why a route that names a Gateway does not attach to one of its listeners; empty when it may."""
    if not any(_names(parent, listener) for parent in parents_at(route, gateway.key)):
        return "the route names another listener"
    if route.kind not in listener.kinds:
        kinds = " and ".join(listener.kinds) or "no kind of this build"
        return f"the listener takes {kinds}"
    if not _allows(world, listener, gateway, route.namespace):
        said = listener.allowed_routes.namespaces.from_
        return f"the listener takes no routes of namespace {route.namespace} (allowedRoutes: {said})"
    return ""


def parents_at(route: Document, key: str) -> list[ParentReference]:
    """The references of a route to one object."""
    spec = route.spec
    assert isinstance(spec, RouteSpec)
    return [parent for parent in spec.parent_refs if parent_key(route, parent) == key]


def _names(parent: ParentReference, listener: Listener) -> bool:
    return parent.section_name in (None, listener.name) and parent.port in (None, listener.port)


def _allows(world: World, listener: Listener, gateway: Document, namespace: str) -> bool:
    allowed = listener.allowed_routes.namespaces
    if allowed.from_ == "Same":
        return namespace == gateway.namespace
    return allowed.from_ == "All" or (
        allowed.selector is not None and allowed.selector.selects(labels_of_namespace(world, namespace))
    )


def labels_of_namespace(world: World, name: str) -> dict[str, str]:
    """The labels of a namespace; its name is always among them."""
    document = world.get(f"namespace.{name}.{name}")
    return {**(document.labels if document else {}), NAMESPACE_NAME: name}


def common_hosts(listener: Listener, route: Document) -> tuple[tuple[str, str], ...]:
    """The hosts that a listener and a route have in common, each with the route's own: of two patterns of
    which one covers the other, the narrower. A route without hosts takes the listener's."""
    own = listener.hostname or ANY
    spec = route.spec
    written = spec.hostnames if isinstance(spec, GrpcRouteSpec | HttpRouteSpec | TlsRouteSpec) else ()
    found: dict[str, str] = {}
    for host in written or (ANY,):
        narrow = host if pattern_covers(own, host) else own if pattern_covers(host, own) else ""
        if narrow and (narrow not in found or specificity(host) > specificity(found[narrow])):
            found[narrow] = host
    return tuple(sorted(found.items()))


def mesh_routes_of(world: World, callee: Callee, kind: str) -> Iterator[tuple[Document, list[Scope]]]:
    """The routes of a kind that callers of a service follow, oldest first, and for whom each one is."""
    for route in world.oldest("route of", callee.document.key):
        if route.kind == kind:
            scopes = [scope_of(callee, route, one) for one in parents_at(route, callee.document.key)]
            known = [scope for scope in dict.fromkeys(scopes) if scope is not None]
            if known:
                yield route, known


def scope_of(callee: Callee, route: Document, parent: ParentReference) -> Scope | None:
    """For whom a route of a service is; None when the service has no such port.

    A route of the service's own namespace holds for all callers, one of another for those of its own.
    """
    named = [
        port
        for port in callee.ports
        if parent.port in (None, port.number) and parent.section_name in (None, port.name)
    ]
    if not named:
        return None
    namespace = "" if route.namespace == callee.namespace else route.namespace
    whole = parent.port is None and parent.section_name is None
    return Scope(namespace, 0 if whole else named[0].number)
