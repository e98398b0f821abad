"""The buckets on a real broker: compare-and-set, atomic sets, history, listing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bus_broker import Broker, running_broker

from ray_mesh.bus import subjects
from ray_mesh.bus.store import Store, Write, ensure_buckets, inspect
from ray_mesh.errors import ConfigError, Conflict


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with running_broker(tmp_path) as started:
        yield started


async def desired(broker: Broker) -> Store:
    return Store(await broker.join("gateway"), subjects.DESIRED_BUCKET)


async def test_a_value_keeps_its_signature_revision_and_time(broker: Broker) -> None:
    store = await desired(broker)
    assert await store.get("service.default.reviews") is None
    revision = await store.put("service.default.reviews", b"\x00value", "c2ln", expected=0)
    entry = await store.get("service.default.reviews")
    assert entry is not None
    assert (entry.key, entry.revision, entry.value, entry.signature) == (
        "service.default.reviews",
        revision,
        b"\x00value",
        "c2ln",
    )
    assert entry.at > 1_700_000_000
    assert await store.head() == revision


async def test_only_one_of_two_writers_wins(broker: Broker) -> None:
    store = await desired(broker)
    revision = await store.put("k.a.b", b"one", "", expected=0)
    with pytest.raises(Conflict, match=r"k\.a\.b"):
        await store.put("k.a.b", b"two", "", expected=0)
    assert await store.put("k.a.b", b"two", "", expected=revision) > revision
    with pytest.raises(Conflict):
        await store.put("k.a.b", b"three", "", expected=revision)

    async def write(value: bytes, expected: int) -> bool:
        try:
            await store.put("k.a.b", value, "", expected=expected)
        except Conflict:
            return False
        return True

    entry = await store.get("k.a.b")
    assert entry is not None
    assert entry.value == b"two"
    outcomes = await asyncio.gather(*(write(b"%d" % n, entry.revision) for n in range(20)))
    assert outcomes.count(True) == 1


async def test_a_set_is_stored_whole_or_not_at_all(broker: Broker) -> None:
    store = await desired(broker)
    first = await store.put("k.a.x", b"x", "", expected=0)
    writes = [Write(f"k.a.n{n}", b"v%d" % n, f"s{n}", expected=0) for n in range(300)]
    last = await store.apply([*writes, Write("k.a.x", b"x2", "s", expected=first)])
    assert last == first + 301 == await store.head()

    with pytest.raises(Conflict, match=r"k\.a\.n7: .*nothing was stored"):
        await store.apply([Write("k.b.new", b"n", "", 0), Write("k.a.n7", b"n", "", 0)])
    assert await store.get("k.b.new") is None
    assert await store.head() == last

    entries = await store.list("k.a")
    assert [entry.key for entry in entries] == sorted([*(w.key for w in writes), "k.a.x"])
    assert {entry.key: (entry.value, entry.signature) for entry in entries}["k.a.n42"] == (b"v42", "s42")
    assert [entry.key for entry in await store.list("k.a.x")] == ["k.a.x"]
    assert await store.list("k.c") == []


async def test_a_set_that_cannot_be_is_refused(broker: Broker) -> None:
    store = await desired(broker)
    with pytest.raises(ConfigError, match="twice"):
        await store.apply([Write("k.a.x", b"", ""), Write("k.a.x", b"", "")])
    with pytest.raises(ConfigError, match="0 writes"):
        await store.apply([])
    with pytest.raises(ConfigError, match="1001 writes"):
        await store.apply([Write(f"k.{n}", b"", "") for n in range(1001)])
    for key in ("", "k.*", "k.>", ">", "a..b", ".a", "a b", "a\r\nPUB x"):
        with pytest.raises(ConfigError):
            await store.put(key, b"", "")
    with pytest.raises(ConfigError, match="more than the broker takes"):
        await store.put("k.a.big", b"x" * (2 << 20), "")


async def test_history_keeps_the_last_64_revisions_in_order(broker: Broker) -> None:
    store = await desired(broker)
    for n in range(70):
        await store.put("k.a.b", b"%d" % n, "")
        await store.put("k.a.other", b"", "")
    history = await store.history("k.a.b")
    assert [entry.value for entry in history] == [b"%d" % n for n in range(6, 70)]
    assert history == sorted(history, key=lambda entry: entry.revision)
    assert await store.history("k.a.none") == []


async def test_listing_pages_through_values_of_any_size(broker: Broker) -> None:
    store = await desired(broker)
    for n in range(12):
        await store.put(f"k.big.n{n}", bytes([n]) * 900_000, "")
    entries = await store.list("k.big")
    assert [len(entry.value) for entry in entries] == [900_000] * 12


async def test_buckets_are_made_once_and_survive_their_broker(broker: Broker) -> None:
    store = await desired(broker)
    await store.put("k.a.b", b"kept", "sig")
    before = await inspect(await broker.join("gateway", "b"), subjects.DESIRED_BUCKET)
    await broker.kill()
    await broker.start()
    controller = await broker.join("controller", "other")
    await ensure_buckets(controller)
    after = await inspect(controller, subjects.DESIRED_BUCKET)
    assert before == after
    entry = await store.get("k.a.b")
    assert entry is not None
    assert entry.value == b"kept"
