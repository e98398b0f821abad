"""RoutingActors as processes on a real broker: one is killed, one is stopped and goes on, all are killed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
from config_site import Site, site
from scale import DRIVER, routes, until

from ray_mesh import snapshot
from ray_mesh.actors.routing import RoutingActor
from ray_mesh.actors.settings import MeshKeys, MeshOptions, RoleSettings
from ray_mesh.bus import chunks, subjects
from ray_mesh.bus.chunks import chunk_key, fetch_whole, join
from ray_mesh.bus.client import Message
from ray_mesh.bus.messages import SIGNATURE_HEADER, Beacon, Compiled, decode
from ray_mesh.bus.permissions import permissions
from ray_mesh.bus.store import Entry, Store
from ray_mesh.resources import Document, from_json
from ray_mesh.security.vouching import fingerprint, vouched

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


def entry_of(count: int) -> Document:
    listed = [{"address": f"10.{one >> 16}.{one >> 8 & 255}.{one & 255}"} for one in range(count)]
    plain = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "many", "namespace": "default"},
        "spec": {
            "hosts": ["many.example.com"],
            "resolution": "STATIC",
            "endpoints": listed,
            "ports": [{"number": 80 + one, "name": f"http-{one}", "protocol": "HTTP"} for one in range(3)],
        },
    }
    return from_json(json.dumps(plain), 1.0)


async def test_endpoints_that_no_message_holds_are_written_in_chunks_and_only_once() -> None:
    key = snapshot.key_for("endpoints", "many.example.com")
    async with site(1) as mesh:
        await mesh.compiled(await mesh.desk.put([entry_of(3_000)]))
        whole = await fetch_whole(mesh.controller, subjects.SHARED_BUCKET, key)
        assert whole is not None
        assert whole.chunks
        read = snapshot.decode(key, join(decode(Compiled, whole.value), whole.parts).resource)
        assert isinstance(read, snapshot.Endpoints)
        assert len(read.endpoints) == 9_000
        before = await stored(mesh)
        mesh.kill_roles()
        started = await mesh.start_role("routing")
        mesh.forget()
        await agreed(mesh, started.name)
        assert await stored(mesh) == before, "who starts puts it together and compares"

        mesh.kill_roles()
        damager = await mesh._connect("routing", permissions("routing", DRIVER))
        await Store(damager, subjects.SHARED_BUCKET).put(chunk_key(subjects.SHARED_BUCKET, key, 0), b"x", "")
        started = await mesh.start_role("routing")
        mesh.forget()
        await agreed(mesh, started.name)
        again = await fetch_whole(mesh.controller, subjects.SHARED_BUCKET, key)
        assert again is not None
        assert again.parts == whole.parts, "what does not fit together is written again"
        await mesh.compiled(await mesh.desk.put([entry_of(2)]))
        after = await stored(mesh)
        assert after[key].chunks == 0
        assert {len(one.value) for name, one in after.items() if name.endswith(f".{key}")} == {0}


async def test_what_is_larger_than_any_set_is_told_in_beacons_until_it_is_smaller(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(chunks, "MAX_BYTES", chunks.WHOLE_BYTES)
    key = snapshot.key_for("endpoints", "many.example.com")
    heard: dict[int, Beacon] = {}
    async with site(1) as mesh:
        mesh.kill_roles()
        await mesh.gateway.subscribe(subjects.beacon("r-here"), partial(note, heard))
        actor = await start_here(mesh, "r-here")
        try:
            revision = await mesh.desk.put([entry_of(3_000)])
            await until(lambda: revision in heard)
            ((large, reason),) = [(one.key, one.reason) for one in heard[revision].refused]
            assert large == key
            assert "divide the service" in reason
            assert key not in await stored(mesh)
            revision = await mesh.desk.put([entry_of(2)])
            await until(lambda: revision in heard)
            assert heard[revision].refused == ()
            assert key in await stored(mesh)
        finally:
            await actor.stop()


async def test_what_is_written_vouches_for_the_beacon_that_tells_of_it() -> None:
    told: dict[bytes, Beacon] = {}

    def hear(message: Message) -> None:
        sha256 = fingerprint(message.data, message.headers[SIGNATURE_HEADER])
        told[sha256] = decode(Beacon, message.data)

    async with site(1) as mesh:
        await mesh.gateway.subscribe(subjects.every("beacon"), hear)
        store = Store(mesh.controller, subjects.SHARED_BUCKET)
        for kind, change in (("service", mesh.change_route), ("endpoints", moved(mesh))):
            key = f"{kind}.default.probe"
            before = await store.get(key)
            await change()
            await until(lambda key=key: any(key in one.changed for one in told.values()))  # type: ignore[misc]
            entry = await store.get(key)
            assert entry is not None
            assert entry != before
            beacon = vouched(
                mesh.bench.state_dir.signing_key("compiled").verify_key, entry.value, entry.beacon
            )
            assert told[beacon].changed == {key: decode(Compiled, entry.value).version}
            told.clear()


def moved(mesh: Site) -> Callable[[], Awaitable[object]]:
    async def change() -> object:
        return mesh.change_endpoint()

    return change


def note(heard: dict[int, Beacon], message: Message) -> None:
    beacon = decode(Beacon, message.data)
    heard[beacon.through] = beacon


async def start_here(mesh: Site, name: str) -> RoutingActor:
    state_dir = mesh.bench.state_dir
    keys = MeshKeys(
        root_der=b"",
        admission_public=state_dir.signing_key("admission").public,
        compiled_public=state_dir.signing_key("compiled").public,
        token_sha256="",
    )
    options = MeshOptions(state_dir=state_dir.path)
    actor = RoutingActor(RoleSettings("routing", name, "bench", "127.0.0.1", options, keys))
    await mesh.bench.admit((await actor.prepare()).nkey_public, permissions("routing", name))
    await actor.start(mesh.bench.address)
    return actor
