"""Every call of Ray that the controller makes: nodes, creating actors, finding them, ending them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayError

from ray_mesh.actors.broker import BrokerActor
from ray_mesh.actors.ca import CertificateAuthorityActor
from ray_mesh.actors.gateway import GatewayActor
from ray_mesh.actors.policy import PolicyActor
from ray_mesh.actors.proxy import ProxyActor
from ray_mesh.actors.routing import RoutingActor
from ray_mesh.actors.settings import Description, RoleSettings
from ray_mesh.actors.telemetry import TelemetryActor
from ray_mesh.errors import MeshError

CLASSES: dict[str, type] = {
    "broker": BrokerActor,
    "ca": CertificateAuthorityActor,
    "routing": RoutingActor,
    "policy": PolicyActor,
    "telemetry": TelemetryActor,
    "gateway": GatewayActor,
    "proxy": ProxyActor,
}
CONCURRENCY = 1000
STOP_TIMEOUT_S = 3.0
PING_TIMEOUT_S = 10.0
START_ERRORS = (RayError, MeshError, TimeoutError, OSError)
"""Of Ray's errors not only a dead actor: on a node that left, an actor cannot even be scheduled."""


@dataclass(frozen=True, slots=True)
class RayNode:
    """A live node. ``name`` is the token that the mesh knows it by."""

    name: str
    ray_id: str
    address: str


async def live_nodes(bind_address: str = "") -> dict[str, RayNode]:
    """Live nodes by name, at ``bind_address`` or at their own.

    The call blocks while the GCS is away, so it runs on a thread.
    """
    rows = await asyncio.to_thread(ray.nodes)
    nodes = (
        RayNode(node_name(row["NodeID"]), row["NodeID"], bind_address or row["NodeManagerAddress"])
        for row in rows
        if row["Alive"]
    )
    return {node.name: node for node in nodes}


def node_name(ray_id: str) -> str:
    """What the mesh calls a Ray node."""
    return ray_id[:12]


def create(settings: RoleSettings, node: RayNode) -> ActorHandle[Any]:
    """Start an actor pinned to a node; its replacement is the controller's business, not Ray's."""
    remote: Any = ray.remote(CLASSES[settings.role])
    handle: ActorHandle[Any] = remote.options(
        name=settings.instance,
        namespace=settings.options.namespace,
        lifetime="detached",
        num_cpus=0,
        max_restarts=0,
        max_concurrency=CONCURRENCY,
        enable_task_events=False,
        label_selector={"ray.io/node-id": node.ray_id},
    ).remote(settings)
    return handle


async def find(instance: str, namespace: str) -> ActorHandle[Any] | None:
    """A running actor of an earlier controller."""
    try:
        return await asyncio.to_thread(ray.get_actor, instance, namespace)
    except ValueError:
        return None


async def describe(handle: ActorHandle[Any]) -> Description | None:
    """What an actor says of itself; None when it is gone or does not answer in time."""
    try:
        async with asyncio.timeout(PING_TIMEOUT_S):
            description: Description = await handle.describe.remote()
    except START_ERRORS:
        return None
    return description


async def end(handle: ActorHandle[Any], *, politely: bool) -> None:
    """Stop an actor: first by asking, then by force."""
    if politely:
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await handle.stop.remote()
        except (TimeoutError, RayActorError):
            pass
    await asyncio.to_thread(ray.kill, handle, no_restart=True)
