"""Which keys a change of documents may alter: never too few, sometimes a few too many.

A document matters through what it said before and says now. Both are followed through the new world
only: whatever else on the way to a key changed as well is itself in the change, and is followed too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ray_mesh import snapshot
from ray_mesh.compile.callee import hosts_of, selector_of
from ray_mesh.compile.gateway_api.changes import touched, touched_by_backend
from ray_mesh.compile.gateways import ingress_for
from ray_mesh.compile.keys import gateway_key, host_keys, stored_keys, workload_keys
from ray_mesh.compile.selection import selector_in
from ray_mesh.compile.sidecars import is_general
from ray_mesh.compile.workloads import picks
from ray_mesh.compile.world import World, gateways_of, is_wildcard, mesh_hosts, rule_hosts
from ray_mesh.resources import (
    ApiGatewaySpec,
    AuthorizationPolicySpec,
    DestinationRuleSpec,
    Document,
    GatewaySpec,
    GrpcRouteSpec,
    HealthCheckSpec,
    HttpRouteSpec,
    MeshConfigSpec,
    NamespaceSpec,
    RateLimitSpec,
    ReferenceGrantSpec,
    ServiceEntrySpec,
    ServiceSpec,
    SidecarSpec,
    TcpRouteSpec,
    TlsRouteSpec,
    VirtualServiceSpec,
    WorkloadEntrySpec,
    WorkloadSpec,
)
from ray_mesh.resources.hosts import MESH_GATEWAY, meanings, pattern_covers
from ray_mesh.resources.mesh import ROOT_NAMESPACE


def affected(old: World, new: World, changed: Iterable[str]) -> set[str]:
    """The stored keys that may compile differently in ``new``; ``changed`` are keys of documents."""
    keys: set[str] = set()
    for key in changed:
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        for document in (before, after):
            if document is not None:
                keys.update(_touched(new, document))
    return keys


def _touched(world: World, document: Document) -> Iterable[str]:
    match document.spec:
        case ServiceSpec() | ServiceEntrySpec():
            return _by_hosts(world, document)
        case VirtualServiceSpec():
            return _by_virtual_service(world, document)
        case HealthCheckSpec(host=host):
            return _services(world, meanings(host, document.namespace))
        case DestinationRuleSpec():
            return _services(world, rule_hosts(document))
        case GatewaySpec():
            return (gateway_key(workload) for workload in ingress_for(world, document))
        case AuthorizationPolicySpec() | RateLimitSpec():
            return _by_policy(world, document)
        case WorkloadSpec():
            return (*workload_keys(document), *_endpoints(world, document))
        case WorkloadEntrySpec():
            return _endpoints(world, document)
        case SidecarSpec():
            return _by_sidecar(world, document)
        case MeshConfigSpec():
            return stored_keys(world)
        case ApiGatewaySpec() | GrpcRouteSpec() | HttpRouteSpec() | TcpRouteSpec() | TlsRouteSpec():
            return touched(world, document)
        case ReferenceGrantSpec() | NamespaceSpec():
            return touched(world, document)
    return ()


def _by_hosts(world: World, document: Document) -> Iterator[str]:
    """Its own keys; routes to it, whose default port it decides; workloads that it names, and those that
    a ServiceEntry for the same host names, which has the host when this one has not."""
    named = [document]
    for host in hosts_of(document):
        yield from host_keys(host)
        if is_wildcard(host) or world.has("addresses"):
            yield snapshot.MESH_KEY
        named += world.find("entry for", host)
        for user in world.find("routes to", host):
            yield from _by_virtual_service(world, user)
        yield from touched_by_backend(world, host)
    if isinstance(document.spec, ServiceEntrySpec) and document.spec.addresses:
        yield snapshot.MESH_KEY
    for one in named:
        selector = selector_of(one)
        for workload in () if selector is None else world.picked("workload", one.namespace, selector):
            yield from workload_keys(workload)


def _by_virtual_service(world: World, document: Document) -> Iterator[str]:
    """What it routes itself, and through those that delegate to it (one level)."""
    for one in (document, *world.find("delegates to", f"{document.namespace}/{document.name}")):
        yield from _by_routes(world, one)


def _by_routes(world: World, document: Document) -> Iterator[str]:
    yield from _services(world, mesh_hosts(document))
    for name in gateways_of(document):
        if name == MESH_GATEWAY:
            continue
        namespace, _, gateway_name = name.partition("/")
        gateway = world.get(f"gateway.{namespace}.{gateway_name}")
        if gateway is not None:
            yield from (gateway_key(workload) for workload in ingress_for(world, gateway))


def _services(world: World, patterns: Iterable[str]) -> Iterator[str]:
    for pattern in patterns:
        if "*" not in pattern:
            if world.callee(pattern) is not None:
                yield snapshot.key_for("service", pattern)
            continue
        for callee in world.callees():
            if pattern_covers(pattern, callee.host):
                yield snapshot.key_for("service", callee.host)


def _by_policy(world: World, document: Document) -> Iterator[str]:
    spec = document.spec
    assert isinstance(spec, AuthorizationPolicySpec | RateLimitSpec)
    if document.namespace == ROOT_NAMESPACE:
        workloads = [one for one in world.find("kind", "Workload") if picks(spec.selector, one)]
    else:
        workloads = world.picked("workload", document.namespace, selector_in(document) or {})
    for workload in workloads:
        yield from workload_keys(workload)


def _by_sidecar(world: World, document: Document) -> Iterator[str]:
    """The workloads of its namespace; of the root namespace, all."""
    is_for_all = document.namespace == ROOT_NAMESPACE and is_general(document)
    term = ("kind", "Workload") if is_for_all else ("workload in", document.namespace)
    for workload in world.find(*term):
        yield from workload_keys(workload)


def _endpoints(world: World, workload: Document) -> Iterator[str]:
    for callee in world.callees_of(workload):
        yield snapshot.key_for("endpoints", callee.host)
