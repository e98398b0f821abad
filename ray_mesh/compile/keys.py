"""Every key that a world compiles to, and the resource of one key.

A stored key is the snapshot key of a shared resource, and ``<node>.<snapshot key>`` of a private one.
"""

from __future__ import annotations

from ray_mesh import snapshot
from ray_mesh.compile.gateways import compile_gateway
from ray_mesh.compile.mesh import compile_mesh
from ray_mesh.compile.services import compile_service
from ray_mesh.compile.workloads import compile_node, compile_workload
from ray_mesh.compile.world import World, is_ingress
from ray_mesh.errors import PeerError
from ray_mesh.resources import Document, WorkloadSpec


def split_key(stored_key: str) -> tuple[str, str]:
    """The node (empty for shared resources) and the snapshot key of a stored key."""
    first, _, rest = stored_key.partition(".")
    return ("", stored_key) if first in snapshot.SHARED_KINDS else (first, rest)


def stored_key(key: str, node: str) -> str:
    """Where a resource is stored that a proxy of a node applies: some are for that node's proxies only."""
    return f"{node}.{key}" if snapshot.kind_of(key) in snapshot.PRIVATE_KINDS else key


def stored_keys(world: World) -> set[str]:
    """Every key of a world, those of endpoints among them."""
    keys = {snapshot.MESH_KEY}
    for callee in world.callees():
        keys |= host_keys(callee.host)
    for workload in world.find("kind", "Workload"):
        keys |= workload_keys(workload)
    return keys


def host_keys(host: str) -> set[str]:
    """The keys of what is called under a full host."""
    return {snapshot.key_for("service", host), snapshot.key_for("endpoints", host)}


def workload_keys(workload: Document) -> set[str]:
    """The keys that a Workload compiles to, and that of its node."""
    node, name = workload.read(WorkloadSpec).node, f"{workload.namespace}.{workload.name}"
    keys = {stored_key(f"workload.{name}", node), stored_key(f"node.mesh.{node}", node)}
    if is_ingress(workload):
        keys.add(gateway_key(workload))
    return keys


def gateway_key(workload: Document) -> str:
    """The key of what an ingress workload serves."""
    node = workload.read(WorkloadSpec).node
    return stored_key(f"gateway.{workload.namespace}.{workload.name}", node)


def compile_key(world: World, stored_key: str) -> snapshot.Resource | None:
    """The resource of a key, None when the world has none (any more).

    Endpoints depend on leases too: see :func:`~ray_mesh.compile.endpoints.compile_endpoints`.

    Raises:
        PeerError: the key names no kind that is compiled from documents alone.
    """
    node, key = split_key(stored_key)
    match snapshot.kind_of(key):
        case "mesh" if not node:
            return compile_mesh(world)
        case "service" if not node:
            callee = world.callee(snapshot.host_for(key))
            return compile_service(world, callee) if callee else None
        case "node" if node:
            return compile_node(world, node) if key == f"node.mesh.{node}" else None
        case "workload" if node:
            workload = _workload(world, node, key)
            return compile_workload(world, workload) if workload else None
        case "gateway" if node:
            workload = _workload(world, node, key)
            return compile_gateway(world, workload) if workload else None
    raise PeerError(f"{stored_key!r} is not compiled from documents")


def _workload(world: World, node: str, key: str) -> Document | None:
    _, namespace, name = key.split(".", 2)
    workload = world.get(f"workload.{namespace}.{name}")
    return workload if workload and workload.read(WorkloadSpec).node == node else None
