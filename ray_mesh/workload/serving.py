"""From a driver: have an application kept by the cluster."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray_mesh import cluster
from ray_mesh.errors import Conflict, MeshError, Unavailable
from ray_mesh.sdk.state import MeshState
from ray_mesh.workload.hosting import check_app
from ray_mesh.workload.keeper import Keeper, Replica
from ray_mesh.workload.places import ray_id
from ray_mesh.workload.plan import ServePlan

READY_TIMEOUT_S = 120.0
ANSWER_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class AsyncServed:
    """An application that the mesh serves. It goes on when this program ends."""

    plan: ServePlan
    keeper: Any

    async def status(self) -> list[Replica]:
        """The copies with their state."""
        found: list[Replica] = await _ask(self.keeper.status.remote(), ANSWER_TIMEOUT_S)
        return found

    async def scale(self, replicas: int) -> None:
        """Run so many copies; returns when they serve, and when those too many are drained.

        Raises:
            ConfigError: there cannot be so many.
            Unavailable: the new ones do not serve in time.
        """
        await _ask(self.keeper.scale.remote(replicas), READY_TIMEOUT_S)
        await _ask(self.keeper.wait_ready.remote(READY_TIMEOUT_S), READY_TIMEOUT_S + ANSWER_TIMEOUT_S)

    async def stop(self) -> None:
        """Take it out of the mesh, let its requests end, and end it."""
        import ray

        await _ask(self.keeper.stop.remote(), self.plan.drain_s + READY_TIMEOUT_S)
        await asyncio.to_thread(ray.kill, self.keeper, no_restart=True)


async def serve(state: MeshState, plan: ServePlan, app: Any) -> AsyncServed:
    """Start the copies of an application and return when all serve in the mesh.

    Raises:
        ConfigError: it is no application that can be sent to another process; or the mesh is elsewhere.
        Conflict: the same version of the service is served already.
        Unavailable: it does not serve in time. It is ended again.
    """
    import ray

    check_app(app)
    if not ray.is_initialized():
        await asyncio.to_thread(cluster.join, cluster.address_of("") or "auto")
    namespace = f"{cluster.namespace_of(state.name)}-apps"
    if _find(plan, namespace) is not None:
        raise Conflict(
            f"{plan.namespace}/{plan.name} is served already: give the new code a version of its own and "
            "move traffic to it, or stop() the old one first"
        )
    remote: Any = ray.remote(Keeper)
    keeper = remote.options(
        name=plan.keeper,
        namespace=namespace,
        lifetime="detached",
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=-1,
        max_concurrency=1000,
        label_selector={"ray.io/node-id": ray_id(state.node)},
    ).remote(plan, app, os.fspath(Path(state.state_dir) / "mesh.json"))
    try:
        await _ask(keeper.wait_ready.remote(READY_TIMEOUT_S), READY_TIMEOUT_S + ANSWER_TIMEOUT_S)
    except BaseException:
        await AsyncServed(plan, keeper).stop()
        raise
    return AsyncServed(plan, keeper)


def _find(plan: ServePlan, namespace: str) -> Any | None:
    import ray

    try:
        return ray.get_actor(plan.keeper, namespace=namespace)
    except ValueError:
        return None


async def _ask(call: Any, timeout_s: float) -> Any:
    """What the keeper answers. Raises the MeshError that it raised, Unavailable when it does not answer."""
    from ray.exceptions import RayActorError, RayTaskError

    try:
        async with asyncio.timeout(timeout_s):
            return await call
    except TimeoutError as error:
        raise Unavailable(f"the keeper of the application did not answer in {timeout_s:g} s") from error
    except RayActorError as error:
        raise Unavailable(f"the keeper of the application ended: {error}") from error
    except RayTaskError as error:
        raise (error.cause if isinstance(error.cause, MeshError) else error) from None
