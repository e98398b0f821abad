"""The control loop: what runs is compared with what should run, again and again, and put right."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Coroutine
from typing import Any

from ray.actor import ActorHandle
from ray.exceptions import RayError

from ray_mesh import __version__
from ray_mesh.actors import placement
from ray_mesh.actors.announcing import Announcing
from ray_mesh.actors.crew import Crew
from ray_mesh.actors.fleet import Fleet, StartActor, StopActor
from ray_mesh.actors.messaging import BROKER, Messaging
from ray_mesh.actors.placement import PING_TIMEOUT_S, START_ERRORS
from ray_mesh.actors.premises import Premises
from ray_mesh.actors.settings import why_no_sidecars
from ray_mesh.actors.sidecars import Admission, Sidecars
from ray_mesh.bus import messages
from ray_mesh.bus.client import Bus
from ray_mesh.errors import MeshError

log = logging.getLogger(__name__)

TURN_S = 0.25
CERTIFICATES_S = 60.0
PING_S = 0.5
RAY_AWAY = (
    "its GCS does not answer, so no actor can be started or replaced. Traffic and changes go on, but without "
    "GCS fault tolerance Ray ends every worker about 60 s after it was lost: start the GCS again where it is "
    "on, else expect to start Ray and the mesh again"
)


class Control:
    """One life of the controller over its premises: its parts, and the loop that keeps them."""

    def __init__(self, premises: Premises) -> None:
        replicas = premises.inventory.replicas or premises.options.replicas
        self.premises = premises
        self.fleet = Fleet(replicas, premises.head, lambda: secrets.token_hex(3))
        self.announcing = Announcing()
        self.messaging = Messaging(premises, self.announcing)
        self.crew = Crew(premises, self.fleet, self.messaging, self.announcing)
        self._pings: dict[str, asyncio.Task[None]] = {}
        self._pinged_at: dict[str, float] = {}
        self._certify_at = 0.0
        self._jobs: set[asyncio.Task[None]] = set()
        self._loop_task: asyncio.Task[None] | None = None

    @property
    def runs(self) -> bool:
        """Whether the loop was started."""
        return self._loop_task is not None

    async def start(self) -> Bus:
        """Adopt or make everything, and keep it so. Raises MeshError, RayError, OSError."""
        await self.crew.adopt()
        bus = await self.messaging.start()
        premises = self.premises
        self._sidecars = Sidecars(
            premises.inventory,
            premises.keys,
            premises.options.trust_domain,
            self.messaging.address,
            Admission(
                push_users=self.messaging.push_users,
                tell_cas=self.crew.tell_cas,
                check_attestation=self.crew.check_attestation,
                remove=self.crew.end,
                ray_nodes=lambda: premises.nodes,
                write_letter=self.messaging.write_letter,
            ),
            refusal=why_no_sidecars(premises.options),
        )
        await self._sidecars.start(bus)
        self._loop_task = asyncio.create_task(self._reconcile(), name="reconcile")
        self._do(self.crew.renew())
        return bus

    async def stop(self) -> None:
        """Start and replace nothing more."""
        if self._loop_task is not None:
            self._loop_task.cancel()
            await asyncio.gather(self._loop_task, *self._jobs, return_exceptions=True)

    def status(self) -> messages.ControlReply:
        """All actors with their state."""
        premises, pids = self.premises, self.crew.pids
        rows = [messages.ActorStatus("controller", "controller", premises.head, "HEALTHY", os.getpid(), 0)]
        if self.messaging.broker is not None:
            pid = pids.get(BROKER, 0)
            rows.append(messages.ActorStatus(BROKER, BROKER, premises.head, "HEALTHY", pid, 0))
        for place, one in sorted(self.fleet.running.items()):
            pid, restarts = pids.get(one.instance, 0), self.fleet.restarts.get(place, 0)
            rows.append(messages.ActorStatus(place.role, one.instance, place.node, one.state, pid, restarts))
        nats = premises.options.nats
        return messages.ControlReply(
            __version__,
            tuple(rows),
            tuple(sorted(premises.nodes)),
            warnings=nats.shared() if nats else (),
            problems=self.announcing.problems(),
        )

    async def _reconcile(self) -> None:
        while True:
            try:
                await self._turn()
            except Exception:
                log.exception("control loop")
            await asyncio.sleep(TURN_S)

    async def _turn(self) -> None:
        now = time.monotonic()
        premises, crew = self.premises, self.crew
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                premises.nodes = await placement.live_nodes(premises.options.bind_address)
            self.announcing.note_trouble("Ray", "")
        except TimeoutError:
            self.announcing.note_trouble("Ray", RAY_AWAY)
        for instruction in self.fleet.plan(list(premises.nodes), now):
            match instruction:
                case StartActor(place, instance):
                    self._do(crew.start(place, instance, premises.nodes[place.node]))
                case StopActor(place, instance, reason):
                    log.warning("ending %s: %s", instance, reason)
                    has_node = place.node in premises.nodes
                    self._do(crew.retire(instance) if has_node else crew.end(instance))
        for one in list(self.fleet.running.values()):
            if one.state == "HEALTHY":
                self._ping(one.instance, crew.handles[one.instance], now)
        if self.messaging.broker is not None:
            self._ping(BROKER, self.messaging.broker, now)
        if now >= self._certify_at:
            self._certify_at = now + CERTIFICATES_S
            self._do(self._keep_certified())
        for instance in self._sidecars.overdue(now):
            log.warning("removing the sidecar %s: it was not heard of for too long", instance)
            self._do(crew.end(instance))

    def _do(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    def _ping(self, instance: str, handle: ActorHandle[Any], now: float) -> None:
        due = now - self._pinged_at.get(instance, 0.0) >= PING_S
        if due and (instance not in self._pings or self._pings[instance].done()):
            self._pinged_at[instance] = now
            self._pings[instance] = asyncio.create_task(self._check(instance, handle))

    async def _check(self, instance: str, handle: ActorHandle[Any]) -> None:
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                description = await handle.describe.remote()
            self.crew.pids[instance] = description.pid
            if description.healthy:
                self.announcing.note_trouble(instance, description.trouble)
                return
            why = f"is not healthy: {description.detail}"
        except TimeoutError:
            why = f"did not answer for {PING_TIMEOUT_S:g} s"
        except START_ERRORS as error:
            why = f"is gone ({type(error).__name__})"
        sentence = f"{instance} {why}: it is ended, another takes its place"
        self.announcing.report("warning", "actor_replaced", sentence)
        await (self.messaging.replace_broker() if instance == BROKER else self.crew.replace(instance))

    async def _keep_certified(self) -> None:
        """Renew the intermediate and the servers' certificates in time; the CA actors read it again."""
        premises, broker = self.premises, self.messaging.broker
        try:
            if premises.state_dir.renew(premises.broker_addresses(), premises.options.api, time.time()):
                if broker is not None:
                    await broker.renew.remote()
                sentence = "a new intermediate certificate signs from now on"
                self.announcing.report("info", "ca_renewed", sentence)
        except (MeshError, RayError, OSError) as error:
            self.announcing.report("error", "ca_not_renewed", f"{error}; it is tried again")
