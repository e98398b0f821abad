"""Where a route sends to, and whether it may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_mesh import snapshot
from ray_mesh.compile.gateway_api.terms import backend_host
from ray_mesh.resources import Document, ReferenceGrantSpec
from ray_mesh.resources.gateway_api.names import GROUP
from ray_mesh.resources.gateway_api.references import BackendObjectReference

if TYPE_CHECKING:
    from ray_mesh.compile.world import World


def invalid(route: Document) -> int:
    """What a request is answered that would have gone to a backend that is not there, or not for this route:
    for gRPC that is UNAVAILABLE."""
    return 503 if route.kind == "GRPCRoute" else 500


def destination(
    world: World, route: Document, backend: BackendObjectReference, weight: int
) -> snapshot.Destination:
    """The share of a backend; one that is invalid answers its share itself."""
    host = backend_host(route, backend)
    if why_invalid(world, route, backend):
        return snapshot.Destination(host, port=backend.port or 0, weight=weight, status=invalid(route))
    return snapshot.Destination(host, port=backend.port or _only_port(world, host), weight=weight)


def why_invalid(world: World, route: Document, backend: BackendObjectReference) -> str:
    """Why a route cannot send to a backend; empty when it can."""
    if not backend.is_known:
        return f"{backend.kind} is no kind to send to"
    if not is_granted(world, route, backend):
        return (
            f"{backend.kind} {backend.namespace}/{backend.name} is of another namespace, "
            f"and no ReferenceGrant there allows it for {route.kind}s of {route.namespace}"
        )
    host = backend_host(route, backend)
    callee = world.callee(host)
    if callee is None:
        return f'Referenced host not found: "{host}"'
    numbers = [port.number for port in callee.ports]
    if backend.port is not None and backend.port not in numbers:
        return f"{host} has no port {backend.port}: it has {', '.join(map(str, numbers))}"
    if backend.port is None and len(numbers) != 1:
        return f"{host} has several ports: say which"
    return ""


def is_granted(world: World, route: Document, backend: BackendObjectReference) -> bool:
    """Whether a route may refer to a backend of another namespace. A host has no namespace."""
    if backend.kind == "Hostname" or backend.namespace in (None, route.namespace):
        return True
    return any(
        _grants(grant.read(ReferenceGrantSpec), route, backend)
        for grant in world.find("referencegrant in", str(backend.namespace))
    )


def _grants(grant: ReferenceGrantSpec, route: Document, backend: BackendObjectReference) -> bool:
    asks = (GROUP, route.kind, route.namespace)
    return any((one.group, one.kind, one.namespace) == asks for one in grant.from_) and any(
        (one.group, one.kind) == (backend.group, backend.kind) and one.name in (None, backend.name)
        for one in grant.to
    )


def _only_port(world: World, host: str) -> int:
    callee = world.callee(host)
    return callee.ports[0].number if callee is not None and callee.ports else 0
