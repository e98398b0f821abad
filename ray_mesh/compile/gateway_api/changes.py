"""Which keys a change of the Gateway API's documents may alter; see :mod:`ray_mesh.compile.affected`."""

from __future__ import annotations

from collections.abc import Iterator

from ray_mesh import snapshot
from ray_mesh.compile.gateway_api.attachment import api_ingress_for
from ray_mesh.compile.gateway_api.terms import RouteSpec, parent_key
from ray_mesh.compile.keys import gateway_key
from ray_mesh.compile.world import World
from ray_mesh.resources import ApiGatewaySpec, Document, NamespaceSpec, ReferenceGrantSpec


def touched(world: World, document: Document) -> Iterator[str]:
    """The keys that a Gateway, a route, a ReferenceGrant or the labels of a Namespace have a say in."""
    match document.spec:
        case ApiGatewaySpec():
            yield from (gateway_key(workload) for workload in api_ingress_for(world, document))
        case ReferenceGrantSpec():
            for route in world.find("refers into", document.namespace):
                yield from touched_by_route(world, route)
        case NamespaceSpec():
            for gateway in world.find("selects namespaces"):
                yield from touched(world, gateway)
        case _:
            yield from touched_by_route(world, document)


def touched_by_route(world: World, route: Document) -> Iterator[str]:
    """What a route is compiled into."""
    spec = route.spec
    assert isinstance(spec, RouteSpec)
    for parent in spec.parent_refs:
        found = world.get(parent_key(route, parent))
        if found is None:
            continue
        if isinstance(found.spec, ApiGatewaySpec):
            yield from touched(world, found)
        else:
            yield from (snapshot.key_for("service", one.host) for one in world.callees_in(found))


def touched_by_backend(world: World, host: str) -> Iterator[str]:
    """What the routes that send to a host are compiled into."""
    for route in world.find("sends to", host):
        yield from touched_by_route(world, route)
