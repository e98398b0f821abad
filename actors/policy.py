"""PolicyActor: hands out rate-limit tokens as leases (Mixer's quota role)."""

from __future__ import annotations

import asyncio
import time

from ray_mesh.actors.desired import DesiredFollower
from ray_mesh.actors.role import Role
from ray_mesh.actors.settings import RoleSettings
from ray_mesh.bus import messages, subjects
from ray_mesh.bus.client import Message
from ray_mesh.membership import HEARTBEAT_S
from ray_mesh.quota import Grant, QuotaBook
from ray_mesh.resources import RateLimitSpec


class PolicyActor(Role):
    """One of N quota keepers; limits are divided among them by rendezvous hashing.

    What a limit allows is read from desired state; a proxy's claim about it is not believed.
    """

    def __init__(self, settings: RoleSettings) -> None:
        super().__init__(settings)
        self._book = QuotaBook(settings.instance, time.time())
        self._desired = DesiredFollower(settings.keys.admission_public)

    async def run(self) -> None:
        """Answer quota requests."""
        await self._desired.start(self.bus)
        self.bus.on_reconnect(lambda: self._book.hear_again(time.time()))
        await self.bus.serve(subjects.every("quota", self.settings.instance), self._answer)
        self.spawn(self._observe(), "members")

    async def _observe(self) -> None:
        while True:
            self._book.observe(self.members.live(time.monotonic()), time.time())
            await asyncio.sleep(HEARTBEAT_S)

    async def _answer(self, message: Message) -> bytes:
        request = messages.decode(messages.QuotaRequest, message.data)
        grant = self._grant(request.limit, request.demand, subjects.last_token(message.subject))
        return messages.encode(
            messages.QuotaReply(grant.granted, grant.expires_in_s, grant.retry_in_s, grant.error)
        )

    def _grant(self, limit: str, demand: int, proxy: str) -> Grant:
        namespace, _, name = limit.partition("/")
        record = self._desired.records.get(f"ratelimit.{namespace}.{name}")
        if record is None:
            return Grant(0, 1.0, 1.0, f"there is no RateLimit {limit}")
        spec = record.document.read(RateLimitSpec)
        return self._book.grant(limit, spec.requests, spec.per_s, demand, proxy, time.time())
