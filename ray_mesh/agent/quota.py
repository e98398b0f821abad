"""Keeps the data plane's rate-limit buckets filled, by leases from the PolicyActor that owns each limit."""

from __future__ import annotations

import asyncio
import time

from ray_mesh.agent.thread import DataThread
from ray_mesh.bus import messages, subjects
from ray_mesh.bus.client import Bus, Message
from ray_mesh.errors import MeshError, Unavailable
from ray_mesh.membership import Membership
from ray_mesh.proxy.plane import DataPlane
from ray_mesh.rendezvous import owner

POLL_S = 0.05
REQUEST_TIMEOUT_S = 0.5


class QuotaLeases:
    """Asks for what the data plane wants, one request per limit at a time."""

    def __init__(self, bus: Bus, proxy: str, thread: DataThread, plane: DataPlane) -> None:
        self._bus = bus
        self._proxy = proxy
        self._thread = thread
        self._plane = plane
        self._policies = Membership()
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Learn which PolicyActors live."""
        await self._bus.subscribe(subjects.every("role", "policy"), self._heard_policy)

    async def run(self) -> None:
        """Poll the data plane's demand until cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            demand = await self._thread.call(self._plane.quota_demand)
            for limit, wanted in demand.items():
                if wanted > 0 and (limit not in self._asking or self._asking[limit].done()):
                    self._asking[limit] = asyncio.create_task(self._ask(limit, wanted))

    def _heard_policy(self, message: Message) -> None:
        lease = messages.decode(messages.RoleLease, message.data)
        self._policies.heard(subjects.last_token(message.subject), time.monotonic(), lease.leaving)

    async def _ask(self, limit: str, wanted: int) -> None:
        """One question; without an answer the bucket's fail mode decides."""
        sent_at = time.monotonic()
        policies = self._policies.live(sent_at)
        if not policies:
            return
        request = messages.encode(messages.QuotaRequest(limit, wanted))
        subject = subjects.quota(owner(limit, policies), self._proxy)
        try:
            answer = await self._bus.request(subject, request, timeout_s=REQUEST_TIMEOUT_S)
            reply = messages.decode(messages.QuotaReply, answer.data)
            if reply.error:
                raise Unavailable(reply.error)
        except MeshError:
            return
        await self._thread.call(self._plane.grant, limit, reply.granted, sent_at + reply.expires_in_s)
