"""A proxy's heartbeat: its lease, each second and soon after a change. The lease carries what is applied."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ray_mesh.bus import messages, subjects
from ray_mesh.bus.client import Bus

INTERVAL_S = 1.0
COALESCE_S = 0.005
"""What changes within this time is told of together."""


class Heartbeat:
    """Publishes what ``lease`` says whenever it is due."""

    def __init__(self, bus: Bus, lease: Callable[[], Awaitable[messages.ProxyLease]]) -> None:
        self._bus = bus
        self._lease = lease
        self._due = asyncio.Event()
        self.sent = 0

    def hasten(self) -> None:
        """Something changed."""
        self._due.set()

    async def run(self) -> None:
        """Keep the lease until cancelled."""
        while True:
            await self.send()
            try:
                async with asyncio.timeout(INTERVAL_S):
                    await self._due.wait()
                await asyncio.sleep(COALESCE_S)
            except TimeoutError:
                pass
            self._due.clear()

    async def send(self) -> None:
        """Publish the lease as it is now."""
        lease = await self._lease()
        self._bus.publish(subjects.lease(lease.proxy), messages.encode(lease))
        self.sent += 1
