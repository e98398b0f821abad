"""TelemetryActor: keeps the totals of the proxies that are its own, and answers for them."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque

from ray_mesh.actors.role import Role
from ray_mesh.actors.settings import RoleSettings
from ray_mesh.bus import messages, subjects
from ray_mesh.bus.client import Message
from ray_mesh.membership import LEASE_S
from ray_mesh.rendezvous import owner
from ray_mesh.telemetry.merge import Collector

BACKLOG = 1024
"""Reports that may wait. Of more, the oldest go: newer totals replace them."""


class TelemetryActor(Role):
    """One of N collectors; proxies are divided among them by rendezvous hashing.

    A new one, and one that was cut off from the broker, takes nothing before it must have heard of the
    others: it would claim every proxy, and their totals would be counted twice. Totals are cumulative, so
    nothing is lost by waiting.
    """

    def __init__(self, settings: RoleSettings) -> None:
        super().__init__(settings)
        self._collector = Collector()
        self._settled_at = math.inf
        self._waiting: deque[Message] = deque(maxlen=BACKLOG)
        self._arrived = asyncio.Event()

    async def run(self) -> None:
        """Listen to the proxies and answer queries."""
        self._settle()
        self.bus.on_reconnect(self._settle)
        await self.bus.subscribe(subjects.every("telemetry"), self._heard)
        await self.bus.serve(subjects.query(self.settings.instance), self._answer)
        self.spawn(self._merge(), "merge")

    def _settle(self) -> None:
        self._settled_at = time.monotonic() + LEASE_S

    def _heard(self, message: Message) -> None:
        now = time.monotonic()
        proxy = subjects.last_token(message.subject)
        if now < self._settled_at:
            return
        if owner(proxy, self.members.live(now)) != self.settings.instance:
            self._collector.release(proxy)
            return
        self._waiting.append(message)
        self._arrived.set()

    async def _merge(self) -> None:
        """Merge reports one by one, so that heartbeats and questions never wait for many of them."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                self.bus.hand_over(self._add, self._waiting.popleft())
                await asyncio.sleep(0)

    def _add(self, message: Message) -> None:
        proxy, now = subjects.last_token(message.subject), time.monotonic()
        if owner(proxy, self.members.live(now)) != self.settings.instance:
            return
        report = messages.decode(messages.TelemetryReport, message.data)
        self._collector.add_report(
            proxy=proxy,
            epoch=report.epoch,
            sequence=report.sequence,
            part=report.part,
            parts=report.parts,
            at=report.at,
            series=report.series,
            now=now,
        )

    async def _answer(self, message: Message) -> bytes:
        request = messages.decode(messages.EdgesRequest, message.data)
        series, seconds = self._collector.edges(request.window_s, time.monotonic())
        reply = messages.EdgesReply(
            instance=self.settings.instance,
            seconds=seconds,
            series=series,
            proxies=self._collector.proxies,
            lost_reports=self._collector.lost_reports,
        )
        return messages.encode(reply)
