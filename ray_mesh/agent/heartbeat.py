"""What a proxy says of itself: its lease each second, and at once what it has applied or serves now.

A lease is heard by every control role, an acknowledgement only by those that people ask how far a change is:
there is one per proxy and change, and who compiles shall not pay for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from ray_mesh.bus import messages, subjects
from ray_mesh.bus.client import Bus

INTERVAL_S = 1.0
COALESCE_S = 0.005
"""What changes within this time is told of together."""


class Heartbeat:
    """Publishes what ``lease`` says whenever it is due, and acknowledgements made of it between."""

    def __init__(self, bus: Bus, lease: Callable[[], Awaitable[messages.ProxyLease]]) -> None:
        self._bus = bus
        self._lease = lease
        self._news = asyncio.Event()
        self._is_due = False
        self._number = 0
        self.sent = 0
        self.acknowledged = 0

    def hasten(self) -> None:
        """What the proxy serves changed."""
        self._is_due = True
        self._news.set()

    def acknowledge(self) -> None:
        """What the proxy has applied or refuses changed."""
        self._number += 1
        self._news.set()

    async def run(self) -> None:
        """Keep the lease until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            due_at = clock() + INTERVAL_S
            await self.send()
            while clock() < due_at:
                try:
                    async with asyncio.timeout_at(due_at):
                        await self._news.wait()
                except TimeoutError:
                    break
                await asyncio.sleep(COALESCE_S)
                self._news.clear()
                if self._is_due:
                    break
                await self._acknowledge()

    async def send(self) -> None:
        """Publish the lease as it is now."""
        self._is_due = False
        lease = await self._numbered()
        self._bus.publish(subjects.lease(lease.proxy), messages.encode(lease))
        self.sent += 1

    async def _acknowledge(self) -> None:
        lease = await self._numbered()
        told = messages.Acknowledgement(lease.proxy, lease.epoch, lease.number, lease.applied, lease.rejected)
        self._bus.publish(subjects.ack(lease.proxy), messages.encode(told))
        self.acknowledged += 1

    async def _numbered(self) -> messages.ProxyLease:
        number = self._number  # before what it numbers: that may be newer than it says, never older
        return replace(await self._lease(), number=number)
