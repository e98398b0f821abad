"""Sets of more documents than the broker stores in one step, on a real broker: all in force, or none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bus_broker import Broker, running_broker, until

from ray_mesh.actors.desired import DesiredFollower
from ray_mesh.bus import subjects
from ray_mesh.bus.client import Bus
from ray_mesh.bus.follower import Follower
from ray_mesh.bus.store import Store, ensure_buckets
from ray_mesh.compile import Grounds
from ray_mesh.errors import ConfigError, Conflict
from ray_mesh.gateway import admission as admitting
from ray_mesh.gateway import sets
from ray_mesh.gateway.admission import Admission, NamedText, Outcome
from ray_mesh.gateway.desired import DesiredState
from ray_mesh.resources import Document
from ray_mesh.security.signing import SigningKey

DOCUMENTS = 2_500
FEW = 50
"""What a batch takes where a test would else be longer for nothing."""


def services(count: int, port: int = 80) -> str:
    return "---\n".join(
        f"apiVersion: v1\nkind: Service\nmetadata: {{name: s{number}}}\n"
        f"spec: {{selector: {{app: s{number}}}, ports: [{{port: {port}, name: http}}]}}\n"
        for number in range(count)
    )


class Site:
    """A broker, and gateways' admissions that write to it."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.signing = SigningKey.generate()
        self._followers: list[Follower] = []

    async def admission(self, name: str, *, hangs_at: int = 0) -> Admission:
        """``hangs_at``: which refresh never ends, 0 for none."""
        bus = await self.broker.join("gateway", name)
        state, store = DesiredState(self.signing.verify_key), Store(bus, subjects.DESIRED_BUCKET)
        follower = Follower(
            bus, subjects.DESIRED_BUCKET, lambda entry: _put(state, entry), on_reset=state.reset
        )
        await follower.start()
        await follower.synced()
        self._followers.append(follower)
        refreshes = 0

        async def refresh() -> None:
            nonlocal refreshes
            refreshes += 1
            if refreshes == hangs_at:
                await asyncio.Event().wait()
            head = await store.head()
            await until(lambda: state.head >= head)

        return Admission(state, store, self.signing, refresh, Grounds)

    async def end(self) -> None:
        for follower in self._followers:
            await follower.stop()


def _put(state: DesiredState, entry: object) -> None:
    state.put(entry)  # type: ignore[arg-type]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with running_broker(tmp_path) as broker:
        made = Site(broker)
        yield made
        await made.end()


class Reader:
    """A role that follows desired state, and how many documents it had each time it was told of something."""

    def __init__(self, site: Site) -> None:
        self._follower = DesiredFollower(site.signing.public, self._heard)
        self.counts: set[int] = set()
        self.ports: set[frozenset[str]] = set()
        self.through = 0
        self._told = 0

    async def start(self, bus: Bus) -> None:
        await self._follower.start(bus)
        self._loop = asyncio.get_running_loop()

    def _heard(self, key: str, document: Document | None, revision: int) -> None:
        self.through = max(self.through, revision)
        # What is compiled is what is there when the loop comes round.
        asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        self.counts.add(len(self._follower.records))

    @property
    def records(self) -> int:
        return len(self._follower.records)

    async def stop(self) -> None:
        await self._follower.stop()


async def apply(admission: Admission, text: str) -> Outcome:
    return await admission.apply([NamedText("set.yaml", text)], "me")


async def test_a_set_beyond_one_batch_comes_into_force_in_one_step(site: Site) -> None:
    admission = await site.admission("g0")
    reader = Reader(site)
    await reader.start(await site.broker.join("routing", "r0"))
    begun_at = time.monotonic()
    outcome = await apply(admission, services(DOCUMENTS))
    took_s = time.monotonic() - begun_at
    assert outcome.revision == DOCUMENTS + 1, "its switch is the last write"
    await until(lambda: reader.through == outcome.revision)
    await asyncio.sleep(0)
    assert reader.counts <= {0, DOCUMENTS}, "somebody saw a part"
    assert reader.records == len(admission._state.records) == DOCUMENTS
    late = await site.admission("g1")
    assert len(late._state.records) == DOCUMENTS
    assert {one.revision for one in late._state.records.values()} == {outcome.revision}
    again = await apply(late, services(DOCUMENTS))
    assert {change.action for change in again.changes} == {"unchanged"}
    assert again.revision == outcome.revision
    assert took_s < 60
    await reader.stop()


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sets, admitting):
        monkeypatch.setattr(module, "MAX_BATCH", FEW)


async def test_a_writer_that_dies_before_its_switch_leaves_nothing(
    site: Site, small_batches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = FEW + 100
    other = await site.admission("g1")
    before = await apply(other, services(3))
    # Its second refresh is the one before the switch: everything is staged by then.
    writer = await site.admission("g0", hangs_at=2)
    writing = asyncio.create_task(apply(writer, services(count, port=81)))
    store = Store(await site.broker.join("gateway", "g2"), subjects.DESIRED_BUCKET)
    async with asyncio.timeout(60):
        while await store.head() < before.revision + count:
            await asyncio.sleep(0.05)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)

    await other.refresh()
    assert {one.revision for one in other._state.records.values()} == {1, 2, before.revision}
    assert len(other._state.staged) == count
    assert await other.sets.sweep() == 0, "it could still be on its way"
    monkeypatch.setattr(sets, "ABANDONED_S", -60.0)
    assert await other.sets.sweep() == count
    late = await site.admission("g3")
    assert not late._state.staged
    assert sorted(late._state.records) == [f"service.default.s{number}" for number in range(3)]
    assert {len(one.document.json) for one in late._state.records.values()} == {
        len(one.document.json) for one in other._state.records.values()
    }
    after = await apply(late, services(4, port=82))
    await late.refresh()
    assert len(late._state.records) == 4
    assert after.revision == await store.head()


async def test_somebody_else_who_was_first_is_neither_lost_nor_overwritten(
    site: Site, small_batches: None
) -> None:
    first, second = await site.admission("g0"), await site.admission("g1")
    await apply(first, services(FEW + 5))
    staged = asyncio.Event()
    go_on = asyncio.Event()
    switch = second.sets._switch

    async def paused(*arguments: object) -> int:
        staged.set()
        await go_on.wait()
        return await switch(*arguments)  # type: ignore[arg-type]

    second.sets._switch = paused  # type: ignore[method-assign,assignment]
    writing = asyncio.create_task(apply(second, services(FEW + 5, port=81)))
    await asyncio.wait_for(staged.wait(), 30)
    alone = await apply(first, services(1, port=99))
    go_on.set()
    outcome = await writing
    await first.refresh()
    assert outcome.revision > alone.revision
    assert not first._state.staged
    documents = [one.document.json for one in first._state.records.values()]
    assert all('"port":81' in one for one in documents), "the set was applied again, over the other's change"
    changes = {change.name: change.action for change in outcome.changes}
    assert set(changes.values()) == {"configured"}


async def test_a_set_that_others_keep_from_its_switch_is_taken_back(
    site: Site, small_batches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sets, "SWITCH_ATTEMPTS", 1)
    first, second = await site.admission("g0"), await site.admission("g1")
    await apply(first, services(2))
    put = second._store.put
    others = 0

    async def beaten(key: str, *arguments: object, **options: object) -> int:
        nonlocal others
        others += 1
        await apply(first, services(1, port=1000 + others))
        return await put(key, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(second._store, "put", beaten)
    with pytest.raises(Conflict, match="nothing was stored"):
        await apply(second, services(FEW + 1, port=81))
    assert others > 1
    await first.refresh()
    assert len(first._state.records) == 2
    assert not first._state.staged


async def test_a_document_that_no_message_holds_is_refused_by_name(site: Site, small_batches: None) -> None:
    admission = await site.admission("g0")
    large = services(1).replace("name: s0}", "name: s0, annotations: {note: '" + "x" * 1_000_000 + "'}}")
    with pytest.raises(ConfigError, match=r"service\.default\.s0: 1\d{6} bytes as stored, at most 1000000"):
        await apply(admission, large)
    half = services(FEW + 1).replace("name: s0}", "name: s0, annotations: {note: '" + "x" * 600_000 + "'}}")
    await apply(admission, half)
    with pytest.raises(ConfigError, match=r"service\.default\.s0: 1\d{6} bytes with what is in force"):
        await apply(admission, half.replace("port: 80", "port: 81"))
    assert not admission._state.staged


async def test_an_object_twice_in_a_set_is_refused(site: Site, small_batches: None) -> None:
    admission = await site.admission("g0")
    with pytest.raises(ConfigError, match="Service default/s0 is there twice"):
        await apply(admission, services(1) + "---\n" + services(FEW))


async def test_a_store_that_was_lost_comes_back_with_what_was_switched_and_without_what_was_staged(
    site: Site, small_batches: None, tmp_path: Path
) -> None:
    admission = await site.admission("g0")
    await apply(admission, services(FEW + 1))
    store = Store(await site.broker.join("controller", "c1"), subjects.DESIRED_BUCKET)
    entries = sorted(await store.list(), key=lambda one: one.revision)
    folder = tmp_path / "anew"
    folder.mkdir()
    async with running_broker(folder, buckets=False) as broker:
        assert await ensure_buckets(await broker.join("controller", "c2"), desired=entries)
        anew = Site(broker)
        anew.signing = site.signing
        restored = await anew.admission("g0")
        assert len(restored._state.records) == FEW + 1
        assert not restored._state.staged
        await anew.end()
