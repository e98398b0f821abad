"""A broker that is killed again and again under changes: whether all end equal to the store."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator

from config_rows import Pace, Reading
from config_site import PROBE, Site, Workers, host_of, site

from ray_mesh import snapshot
from ray_mesh.bus import messages, subjects
from ray_mesh.bus.store import Store
from ray_mesh.errors import MeshError

PROXIES = 200
BETWEEN_S = 2.0
BAR_S = 5.0
PATIENCE_S = 60.0
FOLLOWED = 5


async def measure(pace: Pace) -> AsyncIterator[Reading]:
    """Kill the broker, and compare."""
    async with site(pace.services) as mesh:
        count = min(PROXIES, pace.proxies)
        follows = [
            [PROBE, *(host_of((proxy + one * 7) % pace.services) for one in range(FOLLOWED))]
            for proxy in range(count)
        ]
        workers = await mesh.start_proxies(follows, min(2, pace.processes))
        changing = asyncio.create_task(_change(mesh, pace.updates))
        for _ in range(pace.kills):
            await asyncio.sleep(BETWEEN_S)
            mesh.bench.server.kill()
            await mesh.bench.server.wait_dead()
            await mesh.bench.restart()
        restarted_at = time.monotonic()
        await asyncio.sleep(0.5)
        changing.cancel()
        (written,) = await asyncio.gather(changing, return_exceptions=True)
        if isinstance(written, BaseException) and not isinstance(written, asyncio.CancelledError):
            raise written
        mark, _ = await mesh.change_route()
        await workers.applied(mark)
        unequal = await _settled(mesh, workers)
        taken_s = time.monotonic() - restarted_at
        note = f"{pace.kills} kills, {count} proxies, {pace.updates} changes/s, the last ones 0.5 s after it"
        yield Reading("broker", "equal after the last restart", taken_s, "s", BAR_S, note=note)
        yield Reading("broker", "unequal copies", unequal, "", 0)


async def _change(mesh: Site, rate: int) -> None:
    """Route and endpoint changes in turns, through outages."""
    begun_at, number = time.monotonic(), 0
    while True:
        number += 1
        try:
            if number % 2:
                await mesh.change_route()
            else:
                mesh.change_endpoint()
        except MeshError:
            await asyncio.sleep(0.05)
        await asyncio.sleep(max(0.0, begun_at + number / rate - time.monotonic()))


async def _settled(mesh: Site, workers: Workers) -> int:
    """Wait until every proxy holds what the store does; how many copies do not when patience runs out."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        unequal = await _unequal(mesh, workers)
        if not unequal or time.monotonic() > deadline:
            return unequal
        await asyncio.sleep(0.1)


async def _unequal(mesh: Site, workers: Workers) -> int:
    held = [one["held"] for one in await workers.ask("held")]
    stored = {}
    for entry in await Store(mesh.controller, subjects.SHARED_BUCKET).list():
        compiled = messages.decode(messages.Compiled, entry.value)
        if not compiled.removed:
            again = snapshot.encode(snapshot.decode(entry.key, compiled.resource))
            stored[entry.key] = hashlib.sha256(again).hexdigest()
    return sum(
        count
        for of_process in held
        for key, digests in of_process.items()
        for digest, count in digests.items()
        if digest != stored.get(key)
    )
