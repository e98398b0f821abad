"""What a proxy holds of a mesh of which it uses ten services."""

from __future__ import annotations

from collections.abc import AsyncIterator

from config_rows import Pace, Reading
from config_site import PROBE, host_of, site

USED = 10
CHANGES = 20


async def measure(pace: Pace) -> AsyncIterator[Reading]:
    """Memory of a proxy with a data plane in a large mesh, beyond that in a small one."""
    small = await _private_mb(USED)
    large = await _private_mb(pace.services)
    yield Reading("proxy-memory", f"{USED} services", small, "MB")
    yield Reading("proxy-memory", f"{USED} of {pace.services} services", large, "MB")
    yield Reading("proxy-memory", "difference", large - small, "MB", 2)


async def _private_mb(services: int) -> float:
    async with site(services) as mesh:
        hosts = [PROBE, *map(host_of, range(USED - 1))]
        workers = await mesh.start_proxies([hosts], 1, with_plane=True)
        await mesh.fill(services)
        for _ in range(CHANGES):
            mark, _ = await mesh.change_route()
            await workers.applied(mark)
        (answer,) = await workers.ask("memory")
        return float(answer["private_kb"]) / 1000
