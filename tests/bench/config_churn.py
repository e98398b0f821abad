"""Endpoints that come and go all the time: whether what is said is kept up with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from config_rows import Pace, Reading, quantile
from config_site import PER_NODE, PROBE, Site, Workers, host_of, node_of, site, workload_key

RATES = (520, 700, 1000)
FOLLOWED = 20
BAR = 500
GROWTH = 2.0
"""How much slower the second half may be than the first."""
FLOOR_S = 0.1
"""Below this nobody speaks of lag."""


async def measure(pace: Pace) -> AsyncIterator[Reading]:
    """The highest of :data:`RATES` that is kept up with."""
    async with site(pace.services) as mesh:
        follows = [
            [PROBE, *(host_of((proxy * FOLLOWED + one) % pace.services) for one in range(FOLLOWED))]
            for proxy in range(pace.few)
        ]
        workers = await mesh.start_proxies(follows, 1)
        kept, notes = 0.0, []
        for rate in RATES:
            lags, written = await _churn(mesh, workers, rate, pace)
            early, late = lags[: len(lags) // 2], lags[len(lags) // 2 :]
            first, second = quantile(early, 0.5), quantile(late, 0.5)
            notes.append(f"{rate}/s: {written:.0f} written, lag {first * 1e3:.0f} then {second * 1e3:.0f} ms")
            if written < 0.95 * rate or second > max(FLOOR_S, GROWTH * first):
                break
            kept = written
        yield Reading("churn", "kept up with", kept, "changes/s", BAR, at_least=True, note="; ".join(notes))


async def _churn(mesh: Site, workers: Workers, rate: int, pace: Pace) -> tuple[list[float], float]:
    """Lags of a change that all follow, beside so many others a second, and how many of those were stored."""
    before, begun_at = (await mesh.heads())[0], time.monotonic()
    churning = asyncio.create_task(_toggle(mesh, rate, pace))
    lags: list[float] = []
    while time.monotonic() - begun_at < pace.churn_s or len(lags) < 4:
        mark, at = mesh.change_endpoint()
        lags.append(await workers.applied(mark) - at)
        await asyncio.sleep(0.25)
    written = (await mesh.heads())[0] - before - len(lags)
    per_s = written / (time.monotonic() - begun_at)
    churning.cancel()
    await asyncio.gather(churning, return_exceptions=True)
    await asyncio.sleep(2.0)
    return lags, per_s


async def _toggle(mesh: Site, rate: int, pace: Pace) -> None:
    """One service after the other loses its endpoint, and gets it back in the next round."""
    begun_at, number = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - begun_at) * rate)
        while number < due:
            # Neighbours are on one node: a step of its size spreads what follows each other.
            one = (number * PER_NODE + number * PER_NODE // pace.services) % pace.services
            node, key = node_of(one), workload_key(one)
            ready = mesh.nodes.ready(node)
            mesh.nodes.set(node, tuple(k for k in ready if k != key) if key in ready else (*ready, key))
            number += 1
        await asyncio.sleep(0.002)
