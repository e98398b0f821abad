"""A broker that comes back with an empty store: desired state is put back whole, and revisions go on."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bus_broker import Broker, running_broker, until

from ray_mesh.actors.export import DesiredExport
from ray_mesh.bus import subjects
from ray_mesh.bus.follower import Follower
from ray_mesh.bus.messages import Desired, encode
from ray_mesh.bus.store import Entry, Store, ensure_buckets, inspect
from ray_mesh.errors import ConfigError, Unavailable
from ray_mesh.gateway.desired import PURPOSE, DesiredState
from ray_mesh.gateway.export import read_export
from ray_mesh.security.sealed import read_private, write_private
from ray_mesh.security.signing import SigningKey

SIGNING = SigningKey.generate()
COUNT = 300


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    tmp_path.chmod(0o700)
    async with running_broker(tmp_path) as started:
        yield started


async def admit(store: Store, name: str, document: str, expected: int | None = None) -> int:
    key = f"service.default.{name}"
    manifest = (
        f'{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{name}","namespace":"default"}},'
        f'"spec":{{"selector":{{"app":"{name}"}},"ports":[{{"name":"http","port":{document}}}]}}}}'
    )
    value = encode(Desired(key, manifest, 1.0, "me", "set"))
    return await store.put(key, value, SIGNING.sign(PURPOSE, value), expected)


async def lose_the_store(broker: Broker) -> None:
    await broker.kill()
    shutil.rmtree(broker.options.store)
    await broker.start()


async def test_what_was_lost_is_restored_and_revisions_go_on(broker: Broker, tmp_path: Path) -> None:
    store = Store(await broker.join("gateway"), subjects.DESIRED_BUCKET)
    for number in range(COUNT):
        await admit(store, f"s{number}", "80")
    head = await admit(store, "s7", "81")
    told: list[str] = []
    path = tmp_path / "desired.export"
    export = DesiredExport(path, SIGNING, lambda severity, reason, message: told.append(reason))
    await export.start(await broker.join("controller"))
    state, resets = DesiredState(SIGNING.verify_key), 0

    def reset() -> None:
        nonlocal resets
        resets += 1
        state.reset()

    def heard(entry: Entry) -> None:
        state.put(entry)

    follower = Follower(await broker.join("routing"), subjects.DESIRED_BUCKET, heard, on_reset=reset)
    await follower.start()
    await follower.synced()
    port = broker.server.port
    await lose_the_store(broker)
    await until(lambda: "desired_state_restored" in told and resets == 1 and state.head > head)
    assert len(state.records) == COUNT
    assert broker.server.port == port
    assert (broker.options.store / "port").read_text().strip() == str(port)
    assert await admit(store, "s7", "82", expected=state.revision_of("service.default.s7")) > head + COUNT
    await until(lambda: "82" in state.records["service.default.s7"].desired.document)
    await export.stop()
    await follower.stop()
    kept = read_export(read_private(path), SIGNING.verify_key)
    assert len(kept.entries) == COUNT
    assert kept.head == head + COUNT + 1


async def test_nobody_reads_a_restoration_that_is_not_whole_and_the_next_one_finishes_it(
    broker: Broker, tmp_path: Path
) -> None:
    store = Store(await broker.join("gateway"), subjects.DESIRED_BUCKET)
    for number in range(3):
        await admit(store, f"s{number}", "80")
    entries = await store.list()
    await lose_the_store(broker)
    controller = await broker.join("controller")
    short = [*entries[:2], Entry("not a key", 3, b"", "", 0.0)]
    with pytest.raises(ConfigError):
        await ensure_buckets(controller, desired=short)
    with pytest.raises(Unavailable, match="being restored"):
        await inspect(controller, subjects.DESIRED_BUCKET)
    with pytest.raises(Unavailable, match="being restored"):
        await store.head()
    assert await ensure_buckets(controller, desired=entries)
    assert [(one.key, one.value, one.signature) for one in await store.list()] == [
        (one.key, one.value, one.signature) for one in entries
    ]
    assert await store.head() > entries[-1].revision
    assert not await ensure_buckets(controller, desired=entries)


async def test_a_store_that_was_lost_while_nothing_ran_is_restored_at_the_start(
    broker: Broker, tmp_path: Path
) -> None:
    store = Store(await broker.join("gateway"), subjects.DESIRED_BUCKET)
    head = await admit(store, "one", "80")
    controller = await broker.join("controller")
    path = tmp_path / "desired.export"
    first = DesiredExport(path, SIGNING, lambda *_: None)
    await first.start(controller)
    await until(path.exists)
    await first.stop()
    await controller.close()
    await lose_the_store(broker)
    told: list[str] = []
    second = DesiredExport(path, SIGNING, lambda severity, reason, message: told.append(reason))
    await second.start(await broker.join("controller", "b"))
    await until(lambda: told == ["desired_state_restored"])
    await second.stop()
    assert [one.key for one in await store.list()] == ["service.default.one"]
    assert await store.head() > head


async def test_a_mesh_does_not_start_from_an_export_that_was_changed(broker: Broker, tmp_path: Path) -> None:
    path = tmp_path / "desired.export"
    write_private(path, b"something else")
    with pytest.raises(ConfigError, match="Put a backup"):
        await DesiredExport(path, SIGNING, lambda *_: None).start(await broker.join("controller"))


async def test_a_copy_that_cannot_be_written_is_told_and_written_when_it_can(
    broker: Broker, tmp_path: Path
) -> None:
    folder = tmp_path / "later"
    told: list[str] = []
    export = DesiredExport(
        folder / "desired.export", SIGNING, lambda severity, reason, message: told.append(reason)
    )
    await export.start(await broker.join("controller"))
    await until(lambda: "export_failed" in told)
    folder.mkdir(mode=0o700)
    await until((folder / "desired.export").exists)
    await asyncio.wait_for(export.stop(), 5.0)
