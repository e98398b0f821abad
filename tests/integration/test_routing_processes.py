"""RoutingActors as processes on a real broker: one is killed, one is stopped and goes on, all are killed."""

from __future__ import annotations

import os
import signal
import time

import pytest
from config_site import Site, site
from scale import routes, until

from ray_mesh.bus import subjects
from ray_mesh.bus.store import Entry, Store

SERVICES = 12

pytestmark = pytest.mark.timeout(90)


async def stored(mesh: Site) -> dict[str, Entry]:
    found = {}
    for bucket in (subjects.SHARED_BUCKET, subjects.PRIVATE_BUCKET):
        found.update({entry.key: entry for entry in await Store(mesh.controller, bucket).list()})
    return found


async def agreed(mesh: Site, *names: str) -> None:
    """Return when these shards, and no others, say that they are the members, and are through."""
    await until(lambda: all(mesh.members.get(name) == tuple(sorted(names)) for name in names))


async def test_a_survivor_takes_over_and_one_that_wakes_changes_nothing() -> None:
    async with site(SERVICES, ("routing", "routing")) as mesh:
        stalled, survivor = mesh.roles
        await agreed(mesh, stalled.name, survivor.name)
        for number in range(1):
            # It has work in hand when it stops.
            await mesh.desk.put(routes(SERVICES, 2 * number))
            os.kill(stalled.pid, signal.SIGSTOP)
            try:
                begun_at = time.monotonic()
                revision = await mesh.desk.put(routes(SERVICES, 2 * number + 1))
                _, _ = mesh.change_endpoint()
                mesh.forget()
                await until(lambda: mesh.members.get(survivor.name) == (survivor.name,))
                await mesh.compiled(revision)
                assert time.monotonic() - begun_at < 4.0, "2 s, and what a busy machine adds"
                before = await stored(mesh)
            finally:
                os.kill(stalled.pid, signal.SIGCONT)
            await agreed(mesh, stalled.name, survivor.name)
            await mesh.compiled(revision)
            assert await stored(mesh) == before


async def test_while_none_runs_nothing_changes_and_one_that_starts_sends_nothing_again() -> None:
    async with site(SERVICES) as mesh:
        proxies = await mesh.start_proxies([["probe.default.svc.cluster.local"]] * 3, 1)
        mesh.kill_roles()
        before = await stored(mesh)
        mark, _ = await mesh.change_route()
        started = await mesh.start_role("routing")
        await proxies.applied(mark)
        await agreed(mesh, started.name)
        after = await stored(mesh)
        assert {key for key, entry in after.items() if entry != before.get(key)} == {"service.default.probe"}
