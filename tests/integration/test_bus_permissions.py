"""Every role against a real broker: what it may do works, and everything else is refused.

The table names what a role may do; all other actions of the list must be refused. Actions are
written for the instance ``a`` (of proxies ``p1`` on node ``n1``); the others are somebody else's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from bus_broker import Broker, running_broker, until

from ray_mesh.bus import subjects
from ray_mesh.bus.client import Bus
from ray_mesh.bus.permissions import ROLES
from ray_mesh.bus.store import Store
from ray_mesh.errors import PolicyDenied, Unavailable

DESIRED, SHARED, PRIVATE = subjects.BUCKETS


def stream_api(verb: str, bucket: str) -> str:
    return f"$JS.API.{verb}.{subjects.stream(bucket)}"


PUBLISH = {
    "write desired": subjects.stored(DESIRED, "service.a.b"),
    "write shared": subjects.stored(SHARED, "service.a.b"),
    "write own private": subjects.stored(PRIVATE, "n1.workload.a.b"),
    "write other private": subjects.stored(PRIVATE, "n2.workload.a.b"),
    "forge republished shared": subjects.republished(SHARED, "service.a.b"),
    "forge republished private": subjects.republished(PRIVATE, "n1.workload.a.b"),
    "forge republished desired": subjects.republished(DESIRED, "service.a.b"),
    "read desired key": subjects.direct_get(DESIRED, "service.a.b"),
    "read shared key": subjects.direct_get(SHARED, "service.a.b"),
    "read own private key": subjects.direct_get(PRIVATE, "n1.workload.a.b"),
    "read other private key": subjects.direct_get(PRIVATE, "n2.workload.a.b"),
    "read any private key": subjects.direct_get(PRIVATE, "*.workload.a.b"),
    "read all private": subjects.direct_get(PRIVATE, ">"),
    "read desired stream": stream_api("DIRECT.GET", DESIRED),
    "read shared stream": stream_api("DIRECT.GET", SHARED),
    "read private stream": stream_api("DIRECT.GET", PRIVATE),
    "read private message": stream_api("STREAM.MSG.GET", PRIVATE),
    "inspect desired": stream_api("STREAM.INFO", DESIRED),
    "inspect private": stream_api("STREAM.INFO", PRIVATE),
    "list streams": "$JS.API.STREAM.NAMES",
    "update private": stream_api("STREAM.UPDATE", PRIVATE),
    "create desired": stream_api("STREAM.CREATE", DESIRED),
    "create other stream": "$JS.API.STREAM.CREATE.OTHER",
    "purge desired": stream_api("STREAM.PURGE", DESIRED),
    "delete shared": stream_api("STREAM.DELETE", SHARED),
    "delete message": stream_api("STREAM.MSG.DELETE", DESIRED),
    "consume desired": f"$JS.API.CONSUMER.CREATE.{subjects.stream(DESIRED)}.c",
    "consume private": f"$JS.API.CONSUMER.CREATE.{subjects.stream(PRIVATE)}.c",
    "own beacon": subjects.beacon("a"),
    "other beacon": subjects.beacon("r9"),
    "own lease": subjects.lease("p1"),
    "other lease": subjects.lease("p2"),
    "own telemetry": subjects.telemetry("p1"),
    "other telemetry": subjects.telemetry("p2"),
    "own csr": subjects.csr("p1"),
    "other csr": subjects.csr("p2"),
    "own quota": subjects.quota("pol", "p1"),
    "other quota": subjects.quota("pol", "p2"),
    "reserve": subjects.reserve("n1"),
    "query": subjects.query("t1"),
    "control": subjects.control("down"),
    "controller lease": subjects.role("controller", "a"),
    "ca lease": subjects.role("ca", "a"),
    "other ca lease": subjects.role("ca", "b"),
    "policy lease": subjects.role("policy", "a"),
    "routing lease": subjects.role("routing", "a"),
    "telemetry lease": subjects.role("telemetry", "a"),
    "gateway lease": subjects.role("gateway", "a"),
    "own proxy event": subjects.event("proxy", "p1"),
    "other proxy event": subjects.event("proxy", "p2"),
    "ca event": subjects.event("ca", "a"),
    "controller event": subjects.event("controller", "a"),
    "policy event": subjects.event("policy", "a"),
    "routing event": subjects.event("routing", "a"),
    "telemetry event": subjects.event("telemetry", "a"),
    "gateway event": subjects.event("gateway", "a"),
    "answer gateway": "_INBOX.gateway.a.guess",
    "answer controller": "_INBOX.controller.a.guess",
    "answer routing": "_INBOX.routing.a.guess",
    "answer other proxy": "_INBOX.proxy.p2.guess",
    "system": "$SYS.REQ.SERVER.PING",
    "anything": "anything.else",
}

SUBSCRIBE = {
    "writes": "$KV.>",
    "everything": ">",
    "requests to the store": "$JS.API.>",
    "desired": subjects.republished(DESIRED, ">"),
    "shared": subjects.republished(SHARED, ">"),
    "a shared key": subjects.republished(SHARED, "service.a.b"),
    "own private": subjects.republished(PRIVATE, "n1.>"),
    "other private": subjects.republished(PRIVATE, "n2.>"),
    "all private": subjects.republished(PRIVATE, ">"),
    "beacons": subjects.every("beacon"),
    "leases": subjects.every("lease"),
    "other lease": subjects.lease("p2"),
    "telemetry": subjects.every("telemetry"),
    "csrs": subjects.every("csr"),
    "own csr": subjects.csr("p1"),
    "quota of a": f"{subjects.ROOT}.quota.a.*",
    "quota of all": f"{subjects.ROOT}.quota.>",
    "reserve on n1": subjects.reserve("n1"),
    "reserve on n2": subjects.reserve("n2"),
    "queries of a": subjects.query("a"),
    "queries of b": subjects.query("b"),
    "control": subjects.every("control"),
    "roles": f"{subjects.ROOT}.role.>",
    "policy roles": f"{subjects.ROOT}.role.policy.*",
    "events": f"{subjects.ROOT}.event.>",
    "all inboxes": "_INBOX.>",
    "gateway inbox": "_INBOX.gateway.a.>",
    "proxy p2 inbox": "_INBOX.proxy.p2.>",
    "answers between accounts": "_R_.>",
    "system": "$SYS.>",
    "connects": "$SYS.ACCOUNT.*.CONNECT",
    "all of the mesh": f"{subjects.ROOT}.>",
}

LIVENESS = {"leases", "other lease", "beacons", "roles", "policy roles"}
READ_DESIRED = {"read desired key", "read desired stream", "inspect desired"}
READ_COMPILED = {
    "read shared key",
    "read shared stream",
    "read own private key",
    "read other private key",
    "read any private key",
    "read all private",
    "read private stream",
    "inspect private",
}
HEAR_COMPILED = {"shared", "a shared key", "own private", "other private", "all private"}

MAY_PUBLISH: dict[str, set[str]] = {
    "controller": READ_DESIRED
    | READ_COMPILED
    | {"controller lease", "controller event", "answer gateway", "update private", "create desired"}
    | {"write desired"},
    "ca": READ_DESIRED | {"ca lease", "ca event"},
    "routing": READ_DESIRED
    | READ_COMPILED
    | {"write shared", "write own private", "write other private", "own beacon", "routing lease"}
    | {"routing event"},
    "policy": READ_DESIRED | {"policy lease", "policy event"},
    "telemetry": {"telemetry lease", "telemetry event", "answer gateway"},
    "gateway": READ_DESIRED
    | READ_COMPILED
    | {"write desired", "reserve", "query", "control", "gateway lease", "gateway event"},
    "proxy": {"read shared key", "read own private key", "own lease", "own telemetry", "own csr", "own quota"}
    | {"own proxy event"},
    "new proxy": {"own csr"},
    "observer": set(),
}

MAY_SUBSCRIBE: dict[str, set[str]] = {
    "controller": LIVENESS | HEAR_COMPILED | {"desired", "control", "telemetry", "events"},
    "ca": LIVENESS | {"desired", "csrs", "own csr"},
    "routing": LIVENESS | HEAR_COMPILED | {"desired"},
    "policy": LIVENESS | {"desired", "quota of a"},
    "telemetry": LIVENESS | {"telemetry", "queries of a"},
    "gateway": LIVENESS | HEAR_COMPILED | {"desired", "telemetry", "events", "gateway inbox"},
    "proxy": {"shared", "a shared key", "own private", "beacons", "policy roles", "reserve on n1"},
    "new proxy": set(),
    "observer": {"telemetry", "events"},
}


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with running_broker(tmp_path) as started:
        yield started


async def join(broker: Broker, role: str) -> Bus:
    if role in ("proxy", "new proxy"):
        return await broker.join("proxy", "p1", "n1", attested=role == "proxy")
    return await broker.join(role, "a")


def refused(broker: Broker, reason: str, table: dict[str, str]) -> set[str]:
    """The names of the actions that the broker has refused."""
    said = {event.message.rsplit(" ", 1)[1].lower() for event in broker.events if event.reason == reason}
    return {name for name, subject in table.items() if subject.lower() in said}


def test_the_tables_name_every_role_and_only_real_actions() -> None:
    assert set(MAY_PUBLISH) == set(MAY_SUBSCRIBE) == {*ROLES, "new proxy"}
    assert set.union(*MAY_PUBLISH.values()) <= PUBLISH.keys()
    assert set.union(*MAY_SUBSCRIBE.values()) <= SUBSCRIBE.keys()


@pytest.mark.parametrize("role", [*ROLES, "new proxy"])
async def test_each_role_may_do_its_own_and_nothing_else(broker: Broker, role: str) -> None:
    bus = await join(broker, role)
    for subject in SUBSCRIBE.values():
        await bus.subscribe(subject, lambda message: None)
    for subject in PUBLISH.values():
        await bus.send(subject, b"")
    assert await bus.flush()
    assert SUBSCRIBE.keys() - refused(broker, "subscribe_refused", SUBSCRIBE) == MAY_SUBSCRIBE[role]
    assert PUBLISH.keys() - refused(broker, "publish_refused", PUBLISH) == MAY_PUBLISH[role]
    assert bus.counters.reconnects == 0


async def fill(broker: Broker) -> Store:
    routing = await broker.join("routing", "writer")
    private, shared = Store(routing, PRIVATE), Store(routing, SHARED)
    await shared.put("service.a.b", b"service", "sig")
    await private.put("n1.workload.a.b", b"mine", "sig")
    await private.put("n2.workload.a.b", b"theirs", "sig")
    return private


async def test_a_proxy_reads_its_own_node_and_no_other_in_any_form(broker: Broker) -> None:
    await fill(broker)
    proxy = await broker.join("proxy", "p1", "n1")
    own = subjects.direct_get(PRIVATE, "n1.workload.a.b")
    answer = await proxy.request(own, b"")
    assert answer.data == b"mine"
    assert answer.headers["Mesh-Signature"] == "sig"
    for key in ("n2.workload.a.b", "n2.>", "*.workload.a.b", ">", "*.*.*.*"):
        with pytest.raises(PolicyDenied):
            await proxy.request(subjects.direct_get(PRIVATE, key), b"")
    # The stream-wide form, and its questions put to the form for one key.
    questions = (
        {"multi_last": ["$KV.mesh-private.n2.>"]},
        {"multi_last": ["$KV.mesh-private.>"], "batch": 10},
        {"last_by_subj": "$KV.mesh-private.n2.workload.a.b"},
        {"seq": 2},
        {"seq": 1, "next_by_subj": "$KV.mesh-private.n2.>", "batch": 10},
    )
    for question in questions:
        payload = json.dumps(question).encode()
        with pytest.raises(PolicyDenied):
            await proxy.request(stream_api("DIRECT.GET", PRIVATE), payload)
        assert b"theirs" not in (await proxy.request(own, payload)).data
    for key in ("n1.>", "n1.*.*.*"):
        assert (await proxy.request(subjects.direct_get(PRIVATE, key), b"")).data == b"mine"


@pytest.mark.parametrize(
    "reply",
    [
        stream_api("STREAM.PURGE", SHARED),
        stream_api("STREAM.PURGE", PRIVATE),
        stream_api("STREAM.DELETE", PRIVATE),
        stream_api("STREAM.MSG.DELETE", PRIVATE),
        subjects.stored(SHARED, "service.a.victim"),
        subjects.stored(PRIVATE, "n2.workload.a.b"),
        subjects.stored(DESIRED, "service.a.victim"),
        subjects.beacon("writer"),
        subjects.role("ca", "a"),
        subjects.control("down"),
        "_INBOX.gateway.a.guess",
    ],
)
async def test_the_broker_s_own_answers_cannot_be_aimed(broker: Broker, reply: str) -> None:
    """The broker answers with rights of its own on whatever reply subject a request names."""
    private = await fill(broker)
    heard: list[str] = []
    controller = await broker.join("controller", "ears")
    gateway = await broker.join("gateway")
    for bus in (controller, gateway):
        for subject in (subjects.every("beacon"), f"{subjects.ROOT}.role.>", subjects.every("control")):
            if bus is controller or "control" not in subject:
                await bus.subscribe(subject, lambda message: heard.append(message.subject))
    await gateway.subscribe("_INBOX.gateway.a.guess", lambda message: heard.append(message.subject))
    await controller.flush()
    await gateway.flush()
    proxy = await broker.join("proxy", "p1", "n1")
    for key in ("n1.workload.a.b", "n1.workload.a.none"):
        await proxy.send(subjects.direct_get(PRIVATE, key), b"", reply=reply)
    await proxy.send(subjects.csr("p1"), b"", reply=reply)
    await proxy.flush()
    await asyncio.gather(controller.flush(), gateway.flush())
    everything = {
        (bucket, entry.key): entry.value
        for bucket in subjects.BUCKETS
        for entry in await Store(controller, bucket).list()
    }
    assert everything == {
        (SHARED, "service.a.b"): b"service",
        (PRIVATE, "n1.workload.a.b"): b"mine",
        (PRIVATE, "n2.workload.a.b"): b"theirs",
    }
    assert await private.head() == 2
    assert heard == []


async def test_requests_cross_the_accounts_and_the_subject_tells_who_asks(broker: Broker) -> None:
    asked: list[str] = []

    async def answer(message: object) -> bytes:
        asked.append(getattr(message, "subject", ""))
        return b"yes"

    ca, policy, gateway = [await broker.join(role) for role in ("ca", "policy", "gateway")]
    proxy = await broker.join("proxy", "p1", "n1")
    await ca.serve(subjects.every("csr"), answer, subjects.CSR_QUEUE)
    await policy.serve(f"{subjects.ROOT}.quota.a.*", answer)
    await proxy.serve(subjects.reserve("n1"), answer, "reserve")
    for bus in (ca, policy, proxy):
        await bus.flush()
    assert (await proxy.request(subjects.csr("p1"), b"")).data == b"yes"
    assert (await proxy.request(subjects.quota("a", "p1"), b"")).data == b"yes"
    assert (await gateway.request(subjects.reserve("n1"), b"")).data == b"yes"
    assert asked == [subjects.csr("p1"), subjects.quota("a", "p1"), subjects.reserve("n1")]
    with pytest.raises(Unavailable, match="nobody answers"):
        await gateway.request(subjects.reserve("n3"), b"")


async def test_reloading_users_disturbs_nobody(broker: Broker) -> None:
    """Requests and reports flow between the accounts while the user list changes many times."""
    ca, telemetry = await broker.join("ca"), await broker.join("telemetry")
    proxy = await broker.join("proxy", "p1", "n1")
    heard: list[int] = []
    answered = 0
    await ca.serve(subjects.every("csr"), _echo)
    await telemetry.subscribe(subjects.every("telemetry"), lambda message: heard.append(int(message.data)))
    await asyncio.gather(ca.flush(), telemetry.flush())
    stop = asyncio.Event()

    async def ask() -> None:
        nonlocal answered
        while not stop.is_set():
            await proxy.request(subjects.csr("p1"), b"")
            proxy.publish(subjects.telemetry("p1"), b"%d" % answered)
            answered += 1

    asking = asyncio.create_task(ask())
    for number in range(15):
        await broker.add_user("proxy", f"x{number}", "n9")
        before = answered
        await until(lambda before=before: answered > before + 5 or asking.done())  # type: ignore[misc]
    stop.set()
    await asking
    assert await proxy.flush()
    await until(lambda: len(heard) == answered)
    assert heard == list(range(answered))
    assert ca.counters.reconnects == proxy.counters.reconnects == 0


async def _echo(message: object) -> bytes:
    return b"yes"
