"""Keeps the copies of an application running and in the mesh. One actor per application.

It is on the node of the mesh's controller and reads the mesh's token from the file there: the token
never travels through Ray. It ends, with its copies, when the mesh is taken down.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from ray_mesh.actors.placement import node_name
from ray_mesh.errors import ConfigError, MeshError, Unavailable
from ray_mesh.sdk.client import AsyncMesh
from ray_mesh.sdk.state import read_state
from ray_mesh.workload.app import AppActor, Serving
from ray_mesh.workload.plan import ServePlan, check_replicas, count_of

log = logging.getLogger(__name__)

TURN_S = 0.5
HEALTH_TIMEOUT_S = 10.0
START_TIMEOUT_S = 90.0
UNHEALTHY_AFTER = 3
"""Failed checks in a row of a copy that still answers; one that is gone is replaced at once."""
LONGEST_PAUSE_S = 30.0
STOP_MARGIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Replica:
    """One copy as people see it. ``restarts`` counts those that had its place before."""

    name: str
    state: str
    node: str
    port: int
    pid: int
    restarts: int
    problem: str


@dataclass(slots=True)
class Copy:
    """A place for one copy, and the actor that has it."""

    name: str
    actor: ActorHandle[Any] | None = None
    serving: Serving | None = None
    failed_checks: int = 0
    failed_starts: int = 0
    restarts: int = 0
    problem: str = ""
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    def shown(self) -> Replica:
        """For people."""
        at = self.serving
        state = "STARTING"
        if at is not None:
            state = "FAILING" if self.failed_checks else "HEALTHY"
        return Replica(
            name=self.name,
            state=state,
            node=node_name(at.ray_node) if at else "",
            port=at.port if at else 0,
            pid=at.pid if at else 0,
            restarts=self.restarts,
            problem=self.problem,
        )


class Keeper:
    """The actor. ``state_file`` is the one in the mesh's state directory."""

    def __init__(self, plan: ServePlan, app: Any, state_file: str) -> None:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._plan = plan
        self._app = app
        self._state_file = Path(state_file)
        self._mesh: AsyncMesh | None = None
        self._copies: list[Copy] = []
        self._changed = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        # After a restart by Ray nobody else calls start().
        ray.get_runtime_context().current_actor.start.remote()

    async def start(self) -> None:
        """Begin keeping. Repeated calls do nothing.

        Raises:
            MeshError: there is no mesh any more.
        """
        async with self._starting:
            if self._loop_task is not None:
                return
            if self._mesh is None:
                self._mesh = AsyncMesh(read_state(self._state_file))
            is_again = ray.get_runtime_context().was_current_actor_reconstructed
            self._resize(await self._kept() if is_again else self._plan.replicas)
            self._loop_task = asyncio.create_task(self._keep(), name="keep")

    async def _kept(self) -> int:
        """How many copies there were: the mesh still has them, and they ended with the keeper before this."""
        while self._state_file.exists():
            try:
                attached = await self._client.list("Workload", namespace=self._plan.namespace)
            except MeshError as error:
                log.warning("%s waits for the mesh: %s", self._plan.name, error)
                await asyncio.sleep(TURN_S)
                continue
            return count_of(self._plan.name, (one.name for one in attached)) or self._plan.replicas
        return self._plan.replicas

    async def wait_ready(self, timeout_s: float) -> None:
        """Return when every copy serves in the mesh.

        Raises:
            Unavailable: not in time; the message has the reason of one that does not.
        """
        await self.start()
        try:
            async with asyncio.timeout(timeout_s):
                while not all(copy.serving for copy in self._copies):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as error:
            waiting = [copy for copy in self._copies if copy.serving is None]
            reason = next((copy.problem for copy in waiting if copy.problem), "it is still starting")
            raise Unavailable(
                f"{len(waiting)} of {len(self._copies)} copies of {self._plan.name} do not serve: {reason}"
            ) from error

    async def status(self) -> list[Replica]:
        """The copies, in their order."""
        return [copy.shown() for copy in self._copies]

    async def scale(self, replicas: int) -> None:
        """Keep so many copies from now on; those too many are drained.

        Raises:
            ConfigError: there cannot be so many.
        """
        check_replicas(replicas)
        surplus = self._resize(replicas)
        await asyncio.gather(*(self._end(copy) for copy in surplus))

    async def stop(self) -> None:
        """Take all copies out of the mesh, drain and end them."""
        if self._loop_task is not None:
            self._loop_task.cancel()
            await asyncio.gather(self._loop_task, return_exceptions=True)
        await asyncio.gather(*(self._end(copy) for copy in self._copies))
        if self._mesh is not None:
            await self._mesh.close()

    def _resize(self, count: int) -> list[Copy]:
        surplus = self._copies[count:]
        self._copies = self._copies[:count]
        self._copies += [Copy(f"{self._plan.name}-{number}") for number in range(len(self._copies), count)]
        return surplus

    async def _keep(self) -> None:
        while self._state_file.exists():
            for copy in self._copies:
                if copy.task is None or copy.task.done():
                    copy.task = asyncio.create_task(self._attend(copy))
            await asyncio.sleep(TURN_S)
        log.warning("the mesh is down: ending %s", self._plan.name)
        for copy in self._copies:
            await self._kill(copy)
        me = ray.get_runtime_context().current_actor
        await asyncio.to_thread(ray.kill, me, no_restart=True)

    async def _attend(self, copy: Copy) -> None:
        """Start the copy, or look whether it is well."""
        try:
            if copy.serving is None:
                await self._start(copy)
            else:
                await self._check(copy)
        except (MeshError, RayError, TimeoutError) as error:
            copy.problem = str(_cause(error)) or type(error).__name__
            log.warning("%s: %s", copy.name, copy.problem)
            await self._discard(copy)
            if isinstance(_cause(error), ConfigError):
                copy.failed_starts = max(copy.failed_starts, 6)
            await asyncio.sleep(min(TURN_S * 2**copy.failed_starts, LONGEST_PAUSE_S))

    async def _start(self, copy: Copy) -> None:
        copy.failed_starts += 1
        async with asyncio.timeout(START_TIMEOUT_S):
            copy.actor = _spawn(self._plan, self._app)
            serving: Serving = await copy.actor.start.remote()
            attachment = await self._client.attach(
                self._plan.service,
                self._plan.version,
                serving.port,
                namespace=self._plan.namespace,
                name=copy.name,
                service_account=self._plan.service_account,
                labels=self._plan.labels,
                node=node_name(serving.ray_node),
            )
            await copy.actor.use_proxy.remote(attachment.http_proxy)
        copy.serving, copy.failed_checks, copy.failed_starts, copy.problem = serving, 0, 0, ""
        self._changed.set()

    async def _check(self, copy: Copy) -> None:
        assert copy.actor is not None
        async with asyncio.timeout(HEALTH_TIMEOUT_S):
            copy.problem = await copy.actor.problem.remote(self._plan.health_path)
        copy.failed_checks = copy.failed_checks + 1 if copy.problem else 0
        if copy.failed_checks >= UNHEALTHY_AFTER:
            raise Unavailable(copy.problem)

    async def _discard(self, copy: Copy) -> None:
        """Out of the mesh first, so that nobody calls it any more."""
        if copy.serving is not None:
            copy.restarts += 1
        copy.serving, copy.failed_checks = None, 0
        try:
            await self._client.detach(copy.name, namespace=self._plan.namespace)
        except MeshError as error:
            log.warning("cannot detach %s: %s", copy.name, error)
        await self._kill(copy)

    async def _end(self, copy: Copy) -> None:
        """Detach, wait until no proxy sends it anything, let requests end, and end it."""
        if copy.task is not None:
            copy.task.cancel()
            await asyncio.gather(copy.task, return_exceptions=True)
        try:
            await self._client.detach(copy.name, namespace=self._plan.namespace)
            await self._client.wait((await self._client.status()).revision)
            if copy.actor is not None and copy.serving is not None:
                async with asyncio.timeout(self._plan.drain_s + STOP_MARGIN_S):
                    await copy.actor.stop.remote(self._plan.drain_s)
        except (MeshError, RayError, TimeoutError) as error:
            log.warning("%s did not end by itself: %s", copy.name, error)
        await self._kill(copy)

    async def _kill(self, copy: Copy) -> None:
        actor, copy.actor, copy.serving = copy.actor, None, None
        if actor is not None:
            await asyncio.to_thread(ray.kill, actor, no_restart=True)

    @property
    def _client(self) -> AsyncMesh:
        assert self._mesh is not None, "start() comes first"
        return self._mesh


def _spawn(plan: ServePlan, app: Any) -> ActorHandle[Any]:
    """An actor of its own name, spread over the nodes; it ends with the keeper."""
    remote: Any = ray.remote(AppActor)
    handle: ActorHandle[Any] = remote.options(
        name=f"{plan.name}-{secrets.token_hex(3)}",
        num_cpus=plan.num_cpus,
        max_restarts=0,
        max_concurrency=1000,
        enable_task_events=False,
        scheduling_strategy="SPREAD",
    ).remote(app)
    return handle


def _cause(error: BaseException) -> BaseException:
    """What an actor raised, without the traceback that Ray makes its message."""
    return getattr(error, "cause", None) or error
