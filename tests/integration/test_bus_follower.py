"""Followers on a real broker converge through kills, gaps and a bucket that is made anew."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bus_broker import Broker, running_broker, until

from ray_mesh.bus import subjects
from ray_mesh.bus.client import Bus
from ray_mesh.bus.credentials import Credential
from ray_mesh.bus.follower import Follower
from ray_mesh.bus.permissions import Permissions
from ray_mesh.bus.store import Entry, Store, ensure_buckets
from ray_mesh.errors import PeerError, Unavailable

SHARED, PRIVATE, DESIRED = subjects.SHARED_BUCKET, subjects.PRIVATE_BUCKET, subjects.DESIRED_BUCKET


class Copy:
    """What a follower was told, with the rule that revisions of a key only grow."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.revisions: dict[str, int] = {}
        self.resets = 0

    def add(self, entry: Entry) -> None:
        assert entry.revision > self.revisions.get(entry.key, 0), "an old value was delivered"
        self.revisions[entry.key] = entry.revision
        self.values[entry.key] = entry.value

    def reset(self) -> None:
        self.resets += 1
        self.values.clear()
        self.revisions.clear()


def version_of(entry: Entry) -> int:
    return int(entry.value)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with running_broker(tmp_path) as started:
        yield started


async def follow_all(bus: Bus, bucket: str = SHARED, prefix: str = "") -> tuple[Follower, Copy]:
    copy = Copy()
    follower = Follower(bus, bucket, copy.add, prefix=prefix, on_reset=copy.reset)
    await follower.start()
    return follower, copy


async def follow_keys(bus: Bus, keys: list[str], bucket: str = SHARED) -> tuple[Follower, Copy]:
    copy = Copy()
    follower = Follower(bus, bucket, copy.add, keys=keys, version_of=version_of)
    await follower.start()
    return follower, copy


async def write_versions(store: Store, keys: list[str], latest: dict[str, int], stop: asyncio.Event) -> None:
    """Keep writing growing versions, through outages."""
    while not stop.is_set():
        key = random.choice(keys)
        latest[key] = latest.get(key, 0) + 1
        value = b"%d" % latest[key]
        stored = False
        while not stored:
            try:
                await store.put(key, value, "sig")
                stored = True
            except Unavailable:
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.002)


async def more_writes(latest: dict[str, int]) -> None:
    enough = sum(latest.values()) + 40
    await until(lambda: sum(latest.values()) >= enough)


async def test_all_followers_converge_through_three_kills(broker: Broker) -> None:
    keys = [f"service.default.s{n}" for n in range(20)]
    store = Store(await broker.join("routing", "writer"), SHARED)
    whole = [await follow_all(await broker.join("routing", f"r{n}")) for n in range(2)]
    some = [await follow_keys(await broker.join("proxy", f"p{n}"), keys[n : n + 5]) for n in range(4)]
    latest: dict[str, int] = {}
    stop = asyncio.Event()
    writer = asyncio.create_task(write_versions(store, keys, latest, stop))
    for _ in range(3):
        await more_writes(latest)
        await broker.kill()
        await broker.start()
    await more_writes(latest)
    stop.set()
    await asyncio.wait_for(writer, 10)
    stored = {entry.key: entry.value for entry in await store.list()}
    assert stored == {key: b"%d" % version for key, version in latest.items()}
    await until(lambda: all(copy.values == stored for _, copy in whole))
    for n, (_, copy) in enumerate(some):
        wanted = {key: stored[key] for key in keys[n : n + 5] if key in stored}
        await until(lambda copy=copy, wanted=wanted: copy.values == wanted)  # type: ignore[misc]
    for follower, _ in (*whole, *some):
        await asyncio.wait_for(follower.synced(), 5)
        await follower.stop()


async def test_what_was_written_while_a_follower_was_cut_off_is_fetched(broker: Broker) -> None:
    """No later write tells it of the loss."""
    store = Store(await broker.join("routing", "writer"), SHARED)
    bus = await broker.join("proxy", "p1")
    follower, copy = await follow_keys(bus, ["service.a.b", "service.a.c"])
    await store.put("service.a.b", b"1", "")
    await until(lambda: copy.values == {"service.a.b": b"1"})
    everybody = dict(broker.users)
    assert isinstance(bus._credential, Credential)
    del broker.users[bus._credential.public]
    await broker.server.set_users(broker.users)
    await until(lambda: not bus.connected)
    await store.put("service.a.b", b"2", "")
    await store.put("service.a.c", b"1", "")
    await broker.server.set_users(everybody)
    await until(lambda: copy.values == {"service.a.b": b"2", "service.a.c": b"1"})
    await follower.stop()


async def test_a_bucket_that_is_made_anew_is_read_anew(broker: Broker) -> None:
    # Removing a bucket is no right of any role.
    admin = await broker.add_user("controller", "admin")
    name = subjects.stream(SHARED)
    allowed = broker.users[admin.public]
    broker.users[admin.public] = Permissions(
        (*allowed.publish, f"$JS.API.STREAM.DELETE.{name}"), allowed.subscribe
    )
    await broker.server.set_users(broker.users)
    controller = await broker.connect("controller", "admin", admin)
    store = Store(await broker.join("routing", "writer"), SHARED)
    for n in range(10):
        await store.put(f"service.default.s{n}", b"1", "")
    whole, copy = await follow_all(await broker.join("routing", "reader"))
    some, proxy_copy = await follow_keys(await broker.join("proxy", "p1"), ["service.default.s1"])
    await asyncio.wait_for(whole.synced(), 5)
    await asyncio.wait_for(some.synced(), 5)
    assert len(copy.values) == 10

    await controller.request(f"$JS.API.STREAM.DELETE.{name}", b"")
    await ensure_buckets(controller)
    proxy_copy.revisions.clear()
    await store.put("service.default.s1", b"2", "")
    await until(lambda: copy.resets == 1 and copy.values == {"service.default.s1": b"2"})
    await until(lambda: proxy_copy.values == {"service.default.s1": b"2"})
    assert "bucket_recreated" in broker.reasons()
    await store.put("service.default.s1", b"3", "")
    await until(lambda: copy.values["service.default.s1"] == b"3" == proxy_copy.values["service.default.s1"])
    await whole.stop()
    await some.stop()


async def test_keys_can_be_followed_and_left_at_any_time(broker: Broker) -> None:
    store = Store(await broker.join("routing", "writer"), PRIVATE)
    await store.put("n1.workload.default.w1", b"1", "sig")
    follower, copy = await follow_keys(await broker.join("proxy", "p1"), [], PRIVATE)
    await asyncio.wait_for(follower.synced(), 5)
    entry = await follower.follow("n1.workload.default.w1")
    assert entry is not None
    assert (entry.value, entry.signature) == (b"1", "sig")
    assert copy.values == {"n1.workload.default.w1": b"1"}
    assert await follower.follow("n1.workload.default.w2") is None
    await store.put("n1.workload.default.w2", b"1", "")
    await until(lambda: "n1.workload.default.w2" in copy.values)
    follower.unfollow("n1.workload.default.w1")
    await store.put("n1.workload.default.w1", b"2", "")
    await store.put("n1.workload.default.w2", b"2", "")
    await until(lambda: copy.values["n1.workload.default.w2"] == b"2")
    assert copy.values["n1.workload.default.w1"] == b"1"
    await follower.stop()


async def test_a_version_that_a_beacon_names_is_fetched(broker: Broker) -> None:
    """Even when the message that carried it never came."""
    store = Store(await broker.join("routing", "writer"), SHARED)
    bus = await broker.join("proxy", "p1")
    follower, copy = await follow_keys(bus, ["service.default.a", "service.default.b"])
    await asyncio.wait_for(follower.synced(), 5)
    for subscription in list(bus._subscriptions):
        subscription.stop()
    await bus.flush()
    await store.put("service.default.a", b"4", "")
    changed = {"service.default.a": 4, "service.default.other": 9}
    assert follower.check(changed) == ("service.default.a",)
    await asyncio.wait_for(follower.synced(), 5)
    assert copy.values == {"service.default.a": b"4"}
    assert follower.check(changed) == ()
    await follower.stop()


async def test_a_whole_follower_notices_what_it_never_heard(broker: Broker) -> None:
    store = Store(await broker.join("gateway", "writer"), DESIRED)
    bus = await broker.join("routing", "reader")
    follower, copy = await follow_all(bus, DESIRED, prefix="service.default")
    await asyncio.wait_for(follower.synced(), 5)
    for subscription in list(bus._subscriptions):
        subscription.stop()
    await bus.flush()
    await store.put("service.default.a", b"x", "")
    await store.put("service.other.a", b"x", "")
    await until(lambda: copy.values == {"service.default.a": b"x"}, 5)
    await follower.stop()


async def test_a_whole_follower_notices_a_loss_between_other_keys(broker: Broker) -> None:
    writer = Store(await broker.join("routing"), SHARED)
    reader = await broker.join("gateway")
    follower, copy = await follow_all(reader)
    await follower.synced()
    await writer.put("mesh.a.first", b"1", "")
    await until(lambda: "mesh.a.first" in copy.values)
    [subscription] = reader._subscriptions
    hear = subscription.callback
    subscription.callback = lambda message: None if message.subject.endswith(".lost") else hear(message)
    await writer.put("mesh.a.lost", b"1", "")
    await writer.put("mesh.a.last", b"1", "")
    await until(lambda: copy.values.keys() == {"mesh.a.first", "mesh.a.lost", "mesh.a.last"})
    assert follower.resyncs == 2
    await follower.stop()


async def test_a_whole_follower_delivers_nothing_without_what_it_lost(broker: Broker) -> None:
    writer = Store(await broker.join("routing"), SHARED)
    reader = await broker.join("gateway")
    copy, known = Copy(), list[int]()

    def receive(entry: Entry) -> None:
        copy.add(entry)
        asyncio.get_running_loop().call_soon(lambda: known.append(len(copy.values)))

    follower = Follower(reader, SHARED, receive, on_reset=copy.reset)
    await follower.start()
    await follower.synced()
    await writer.put("mesh.a.first", b"1", "")
    await until(lambda: known == [1])
    [subscription] = reader._subscriptions
    hear = subscription.callback
    subscription.callback = lambda message: None if message.subject.endswith(".lost") else hear(message)
    for name in ("lost", "switch", "last"):
        await writer.put(f"mesh.a.{name}", b"1", "")
    await until(lambda: len(known) == 4)
    assert known == [1, 4, 4, 4]
    assert not copy.resets
    await follower.stop()


async def test_what_the_receiver_refuses_is_reported_and_ends_nothing(broker: Broker) -> None:
    seen: list[bytes] = []

    def receive(entry: Entry) -> None:
        if entry.value == b"2":
            raise PeerError("bad signature")
        if entry.value == b"3":
            raise RuntimeError("a mistake")
        seen.append(entry.value)

    store = Store(await broker.join("routing", "writer"), SHARED)
    follower = Follower(
        await broker.join("proxy", "p1"), SHARED, receive, keys=["service.a.b"], version_of=version_of
    )
    await follower.start()
    await asyncio.wait_for(follower.synced(), 5)
    for value in (b"1", b"2", b"3", b"4"):
        await store.put("service.a.b", value, "")
    await until(lambda: seen == [b"1", b"4"])
    assert follower.refused == 2
    assert broker.reasons().count("entry_refused") == 2
    await follower.stop()


async def test_a_follower_can_start_while_the_broker_is_away(broker: Broker) -> None:
    store = Store(await broker.join("routing", "writer"), SHARED)
    await store.put("service.a.b", b"1", "")
    credential = await broker.add_user("proxy", "late")
    await broker.kill()
    bus = await broker.connect("proxy", "late", credential, timeout_s=0)
    follower, copy = await follow_keys(bus, ["service.a.b"])
    with pytest.raises(Unavailable, match="the broker is away"):
        await follower.follow("service.a.c", timeout_s=0.2)
    await broker.start()
    await until(lambda: copy.values == {"service.a.b": b"1"})
    await asyncio.wait_for(follower.synced(), 5)
    await store.put("service.a.c", b"1", "")
    await until(lambda: "service.a.c" in copy.values)
    await follower.stop()
