"""What a proxy follows and acknowledges, on a real broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from bus_broker import Broker, running_broker, until

from ray_mesh import snapshot
from ray_mesh.agent.config import ConfigSync
from ray_mesh.bus import chunks, subjects
from ray_mesh.bus.messages import SIGNATURE_HEADER, Beacon, Compiled, encode
from ray_mesh.bus.store import Store
from ray_mesh.security.signing import SigningKey
from ray_mesh.security.vouching import fingerprint, vouch

HOST = "reviews.default.svc.cluster.local"
NODE = "n1"


class Site:
    """A broker with one routing role that writes, and one proxy that follows."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.signing = SigningKey.generate()
        self.applied: dict[str, snapshot.Resource | None] = {}
        self.unknown: list[str] = []
        self.reports: list[str] = []
        self.number = 0
        self.history: list[int] = []
        self.applying = ""
        self.may_apply = asyncio.Event()
        self.may_apply.set()
        self.breaks_on: snapshot.Resource = snapshot.Mesh("broken", "")

    async def start(self) -> None:
        self.routing = await self.broker.join("routing")
        self.bus = await self.broker.join("proxy", "p1", node=NODE)
        self.sync = ConfigSync(
            self.bus,
            NODE,
            self.signing.verify_key,
            apply=self._apply,
            unknown=self._unknown,
            changed=self._changed,
            assigned=lambda: None,
            report=lambda reason, message: self.reports.append(reason),
        )
        await self.sync.start()

    async def write(
        self,
        key: str,
        resource: snapshot.Resource | None,
        *,
        signing: SigningKey | None = None,
        beacon: bytes = b"",
    ) -> int:
        version = int(time.time() * 1000)
        if resource is None:
            compiled = Compiled(key, version, 1, b"", removed=True)
        else:
            compiled = Compiled(key, version, 1, snapshot.encode(resource))
        value = encode(compiled)
        private = snapshot.kind_of(key) in snapshot.PRIVATE_KINDS
        bucket = subjects.PRIVATE_BUCKET if private else subjects.SHARED_BUCKET
        signing = signing or self.signing
        said = vouch(signing, value, beacon) if beacon else ""
        stored_key = f"{NODE}.{key}" if private else key
        await Store(self.routing, bucket).put(stored_key, value, signing.sign("compiled", value), beacon=said)
        return version

    def announce(self, changed: dict[str, int], *, skip: int = 0) -> int:
        self.number += 1 + skip
        beacon = encode(Beacon("r1", self.number, time.time(), 1, ("r1",), changed))
        self.send(beacon, self.signing.sign("beacon", beacon))
        return self.number

    def send(self, beacon: bytes, signature: str) -> None:
        headers = {SIGNATURE_HEADER: signature}
        self.routing.publish(subjects.beacon(self.routing.instance), beacon, headers)

    async def acknowledged(self, number: int) -> None:
        await until(lambda: self.sync.applied.get("r1", 0) >= number)

    def _changed(self) -> None:
        self.history.append(self.sync.applied.get("r1", 0))

    async def _apply(self, key: str, resource: snapshot.Resource | None) -> None:
        if resource == self.breaks_on:
            raise KeyError(key)
        self.applying = key
        await self.may_apply.wait()
        self.applied[key] = resource

    async def _unknown(self, host: str) -> None:
        self.unknown.append(host)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with running_broker(tmp_path) as broker:
        made = Site(broker)
        await made.start()
        try:
            yield made
        finally:
            await made.sync.stop()


def service(port: int = 9080) -> snapshot.Service:
    return snapshot.Service(HOST, "default", "reviews", (snapshot.Port(port, "http"),), (), ())


async def test_a_host_is_followed_when_it_is_asked_for_and_acknowledged_behind_its_changes(
    site: Site,
) -> None:
    await site.write("service.default.reviews", service())
    site.sync.want(HOST)
    await until(lambda: site.applied.get("service.default.reviews") == service())
    version = await site.write("service.default.reviews", service(9090))
    await site.acknowledged(site.announce({"service.default.reviews": version}))
    assert site.applied["service.default.reviews"] == service(9090)


async def test_nothing_is_acknowledged_while_it_is_being_applied(site: Site) -> None:
    await site.write("service.default.reviews", service())
    site.sync.want(HOST)
    await until(lambda: "service.default.reviews" in site.applied)
    await site.acknowledged(site.announce({}))
    site.applying = ""
    site.may_apply.clear()
    version = await site.write("service.default.reviews", service(9090))
    await until(lambda: site.applying == "service.default.reviews")
    heard: list[bytes] = []
    await site.bus.subscribe(subjects.every("beacon"), lambda message: heard.append(message.data))
    assert await site.bus.flush()
    number = site.announce({"service.default.reviews": version})
    site.announce({})
    await until(lambda: len(heard) == 2)
    assert site.sync.applied["r1"] < number
    site.may_apply.set()
    await site.acknowledged(number + 1)
    assert site.applied["service.default.reviews"] == service(9090)
    assert site.history == sorted(site.history)


async def test_after_a_missed_beacon_everything_is_fetched_before_the_acknowledgement(site: Site) -> None:
    await site.write("service.default.reviews", service())
    site.sync.want(HOST)
    await until(lambda: "service.default.reviews" in site.applied)
    await site.acknowledged(site.announce({}))
    await site.write("service.default.reviews", service(9090))
    await site.acknowledged(site.announce({}, skip=3))
    assert site.applied["service.default.reviews"] == service(9090)


async def test_a_host_that_the_mesh_does_not_have_is_told_of(site: Site) -> None:
    site.sync.want("nobody.default.svc.cluster.local")
    await until(lambda: site.unknown == ["nobody.default.svc.cluster.local"])


async def test_a_host_outside_is_followed_too_and_so_is_where_a_route_leads(site: Site) -> None:
    outside = replace(service(80), host="api.example.com", name="api", plaintext=True)
    inside = replace(
        service(),
        routes=(snapshot.Route("out", "test", (), (snapshot.Destination("api.example.com", "", 80),)),),
    )
    await site.write("service.-.api.example.com", outside)
    await site.write("service.default.reviews", inside)
    site.sync.want(HOST)
    await until(lambda: site.applied.get("service.default.reviews") == inside)
    assert list(site.applied)[-2:] == ["service.-.api.example.com", "service.default.reviews"]
    version = await site.write("service.-.api.example.com", replace(outside, plaintext=False))
    await site.acknowledged(site.announce({"service.-.api.example.com": version}))
    assert site.applied["service.-.api.example.com"] == replace(outside, plaintext=False)
    site.sync.want("www.example.org")
    await until(lambda: site.unknown == ["www.example.org"])


async def test_an_idle_host_is_let_go_and_followed_again_when_it_is_asked_for(site: Site) -> None:
    await site.write("service.default.reviews", service())
    site.sync.want(HOST)
    await until(lambda: site.applied.get("service.default.reviews") == service())
    site.sync.let_go(HOST)
    await until(lambda: site.applied["service.default.reviews"] is None)
    version = await site.write("service.default.reviews", service(9090))
    await site.acknowledged(site.announce({"service.default.reviews": version}))
    assert site.applied["service.default.reviews"] is None, "what nobody calls is not followed"
    site.sync.want(HOST)
    await until(lambda: site.applied["service.default.reviews"] == service(9090))


async def test_an_idle_host_that_a_route_leads_to_is_kept_until_the_route_goes(site: Site) -> None:
    outside = replace(service(80), host="api.example.com", name="api")
    inside = replace(
        service(),
        routes=(snapshot.Route("out", "test", (), (snapshot.Destination("api.example.com", "", 80),)),),
    )
    await site.write("service.-.api.example.com", outside)
    await site.write("service.default.reviews", inside)
    site.sync.want(HOST)
    await until(lambda: site.applied.get("service.default.reviews") == inside)
    site.sync.let_go("api.example.com")
    site.sync.want("nobody.default.svc.cluster.local")
    await until(lambda: site.unknown == ["nobody.default.svc.cluster.local"])
    assert site.applied["service.-.api.example.com"] == outside
    site.sync.let_go(HOST)
    site.sync.let_go("api.example.com")
    await until(lambda: site.applied["service.-.api.example.com"] is None)


async def test_a_host_that_is_a_pattern_and_routes_of_some_callers_are_followed_too(site: Site) -> None:
    pattern = replace(service(80), host="*.example.com", name="wide", is_dynamic=True)
    way = snapshot.Route("out", "test", (), (snapshot.Destination("*.example.com", "", 80),))
    inside = replace(service(), routings=(snapshot.Routing("prod", (), (way,)),))
    await site.write("service._.example.com", pattern)
    await site.write("service.default.reviews", inside)
    site.sync.want(HOST)
    await until(lambda: site.applied.get("service.default.reviews") == inside)
    assert list(site.applied)[-2:] == ["service._.example.com", "service.default.reviews"]
    version = await site.write("service._.example.com", replace(pattern, is_dynamic=False))
    await site.acknowledged(site.announce({"service._.example.com": version}))
    assert site.applied["service._.example.com"] == replace(pattern, is_dynamic=False)


async def test_a_host_that_was_removed_is_unknown_at_once_and_may_come_back(site: Site) -> None:
    await site.write("service.default.reviews", service())
    site.sync.want(HOST)
    await until(lambda: "service.default.reviews" in site.applied)
    await site.write("service.default.reviews", None)
    await until(lambda: site.applied["service.default.reviews"] is None)
    site.sync.want(HOST)
    await until(lambda: site.unknown == [HOST])
    await site.write("service.default.reviews", service(9090))
    await until(lambda: site.applied["service.default.reviews"] == service(9090))


async def test_what_fails_in_an_unforeseen_way_is_rejected_not_acknowledged_as_applied(site: Site) -> None:
    await site.write("service.default.reviews", service())
    site.sync.want(HOST)
    await until(lambda: "service.default.reviews" in site.applied)
    site.breaks_on = service(9090)
    version = await site.write("service.default.reviews", service(9090))
    await until(lambda: "internal" in site.reports)
    assert site.sync.rejected["service.default.reviews"].version == version
    await site.write("service.default.reviews", service(9091))
    await until(lambda: site.applied["service.default.reviews"] == service(9091))
    assert site.sync.rejected == {}


async def test_what_another_key_signed_is_never_applied(site: Site) -> None:
    await site.write("service.default.reviews", service(), signing=SigningKey.generate())
    site.sync.want(HOST)
    await until(lambda: site.unknown == [HOST])
    assert "service.default.reviews" not in site.applied


async def test_what_another_node_is_to_let_go_is_not_waited_for(site: Site) -> None:
    """A workload that moves is written for both nodes, with versions of their own."""
    key = "workload.default.reviews-v1"
    workload = snapshot.Workload(
        "default", "reviews-v1", NODE, "sa", "spiffe://mesh.local/ns/default/sa/sa",
        "reviews-v1.default.workload.mesh", (), "127.0.0.1", 7000, 7001, b"",
    )  # fmt: skip
    await site.write(f"node.mesh.{NODE}", snapshot.Node(NODE, (key,)))
    version = await site.write(key, workload)
    await until(lambda: site.applied.get(key) == workload)
    await site.acknowledged(site.announce({f"{NODE}.{key}": version, f"n2.{key}": version + 5}))
    await site.acknowledged(site.announce({}))


async def test_the_workloads_of_the_node_are_taken_up_and_let_go(site: Site) -> None:
    key = "workload.default.reviews-v1"
    workload = snapshot.Workload(
        "default", "reviews-v1", NODE, "sa", "spiffe://mesh.local/ns/default/sa/sa",
        "reviews-v1.default.workload.mesh", (), "127.0.0.1", 7000, 7001, b"",
    )  # fmt: skip
    await site.write(key, workload)
    version = await site.write(f"node.mesh.{NODE}", snapshot.Node(NODE, (key,)))
    await site.acknowledged(site.announce({f"{NODE}.node.mesh.{NODE}": version}))
    assert site.sync.workloads == {key: workload}
    assert site.applied[key] == workload
    version = await site.write(f"node.mesh.{NODE}", snapshot.Node(NODE, ()))
    await site.acknowledged(site.announce({f"{NODE}.node.mesh.{NODE}": version}))
    assert site.sync.workloads == {}
    assert site.applied[key] is None


async def test_an_older_signed_workload_is_refused_when_it_is_taken_up_again(site: Site) -> None:
    key = "workload.default.reviews-v1"
    workload = snapshot.Workload(
        "default", "reviews-v1", NODE, "sa", "spiffe://mesh.local/ns/default/sa/sa",
        "reviews-v1.default.workload.mesh", (), "127.0.0.1", 7000, 7001, b"",
    )  # fmt: skip
    old = await site.write(key, workload)
    stored = await Store(site.routing, subjects.PRIVATE_BUCKET).get(f"{NODE}.{key}")
    assert stored is not None
    await site.write(key, replace(workload, app_port=7002))
    for keys in ((key,), ()):
        version = await site.write(f"node.mesh.{NODE}", snapshot.Node(NODE, keys))
        await site.acknowledged(site.announce({f"{NODE}.node.mesh.{NODE}": version}))
    assert site.sync.workloads == {}
    await Store(site.routing, subjects.PRIVATE_BUCKET).put(stored.key, stored.value, stored.signature)
    version = await site.write(f"node.mesh.{NODE}", snapshot.Node(NODE, (key,)))
    await until(lambda: "entry_refused" in site.broker.reasons() or "peer_error" in site.reports)
    assert old < version
    assert site.applied[key] is None, "the replayed workload came into force"


async def test_a_replayed_beacon_takes_no_acknowledgement_back(site: Site) -> None:
    await site.acknowledged(site.announce({}))
    number = site.announce({})
    await site.acknowledged(number)
    site.number -= 2
    site.announce({})
    for asked in range(1, 81):
        # Each answer comes behind what was heard before it; together they outlast a resynchronization.
        site.sync.want("nobody.default.svc.cluster.local")
        await until(lambda asked=asked: len(site.unknown) == asked)  # type: ignore[misc]
    assert site.sync.applied["r1"] == number
    assert site.history == sorted(site.history)


def forged(number: int) -> tuple[bytes, str]:
    """A beacon that somebody else signed."""
    beacon = encode(Beacon("r1", number, time.time(), 1, ("r1",), {}))
    return beacon, SigningKey.generate().sign("beacon", beacon)


async def test_a_beacon_that_a_verified_resource_vouches_for_is_believed_without_its_signature(
    site: Site,
) -> None:
    """None but the right signature has the fingerprint of a real one: this shows that it is not looked at."""
    beacon, signature = forged(1)
    named = fingerprint(beacon, signature)
    await site.write("service.default.reviews", service(), beacon=named)
    site.sync.want(HOST)
    await until(lambda: "service.default.reviews" in site.applied)
    site.send(beacon, signature)
    await site.acknowledged(1)
    await site.write("service.default.reviews", service(9090), beacon=named)
    site.number = 1
    await site.acknowledged(site.announce({}))


async def test_a_beacon_that_no_verified_resource_vouches_for_needs_its_signature(site: Site) -> None:
    await site.write("service.default.reviews", service())
    site.sync.want(HOST)
    await until(lambda: "service.default.reviews" in site.applied)
    beacon, signature = forged(1)
    await site.write(
        "service.default.reviews",
        service(9090),
        signing=SigningKey.generate(),
        beacon=fingerprint(beacon, signature),
    )
    site.send(beacon, signature)
    other, _ = forged(1)
    await site.write("service.default.reviews", service(9091), beacon=fingerprint(other, signature))
    site.send(beacon, signature)
    site.send(other, SigningKey.generate().sign("beacon", other))
    await until(lambda: site.bus.counters.messages_refused == 3)
    await until(lambda: site.applied["service.default.reviews"] == service(9091))
    assert site.sync.applied == {}
    await site.acknowledged(site.announce({}))


async def test_what_comes_late_of_a_known_shard_is_believed_and_of_an_unknown_one_refused(site: Site) -> None:
    """A proxy that could not keep up for a while must not fetch everything again for that."""

    def late(number: int) -> None:
        beacon = encode(Beacon("r1", number, time.time() - 60.0, 1, ("r1",), {}))
        site.send(beacon, site.signing.sign("beacon", beacon))

    late(1)
    await until(lambda: site.bus.counters.messages_refused == 1)
    assert site.sync.applied == {}
    await site.acknowledged(site.announce({}))
    late(site.number + 1)
    await site.acknowledged(site.number + 1)
    late(site.number - 1)
    site.number += 1
    await site.acknowledged(site.announce({}))
    assert site.bus.counters.messages_refused == 1


async def test_a_lookup_outlives_an_absent_broker(site: Site) -> None:
    await site.write("service.default.reviews", service())
    await site.broker.kill()
    site.sync.want(HOST)
    await until(lambda: "unavailable" in site.reports)
    await site.broker.start()
    await until(lambda: site.applied.get("service.default.reviews") == service())
    assert site.unknown == []


def endpoints(count: int, port: int = 1) -> snapshot.Endpoints:
    return snapshot.Endpoints(
        HOST,
        tuple(
            snapshot.Endpoint(
                workload=f"workload.default.reviews-{number}",
                address=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
                port=port,
                sni=f"reviews-{number}.default.workload.mesh",
                identity="spiffe://mesh.local/ns/default/sa/reviews",
                labels=(("app", "reviews"), ("version", f"v{number % 3}")),
                node=f"n{number % 100}",
            )
            for number in range(count)
        ),
    )


ENDPOINTS = "endpoints.default.reviews"
MANY = 20_000


async def write_large(site: Site, resource: snapshot.Endpoints, had: int = 0, expected: int = 0) -> int:
    """As a routing role does; returns the revision."""
    compiled = Compiled(ENDPOINTS, int(time.time() * 1000), 1, snapshot.encode(resource))
    sign = partial(site.signing.sign, "compiled")
    made = chunks.writes(subjects.SHARED_BUCKET, ENDPOINTS, compiled, expected, sign, had)
    return await Store(site.routing, subjects.SHARED_BUCKET).apply(made)


async def test_endpoints_that_no_message_holds_come_in_chunks_and_go_back_to_one(site: Site) -> None:
    await site.write("service.default.reviews", service())
    revision = await write_large(site, endpoints(MANY))
    entry = await chunks.fetch_whole(site.routing, subjects.SHARED_BUCKET, ENDPOINTS)
    assert entry is not None
    assert entry.chunks == len(entry.parts) > 0
    site.sync.want(HOST)
    await until(lambda: site.applied.get(ENDPOINTS) == endpoints(MANY))
    revision = await write_large(site, endpoints(MANY, port=2), entry.chunks, revision)
    await until(lambda: site.applied.get(ENDPOINTS) == endpoints(MANY, port=2))
    await write_large(site, endpoints(3), entry.chunks, revision)
    await until(lambda: site.applied.get(ENDPOINTS) == endpoints(3))
    left = await Store(site.routing, subjects.SHARED_BUCKET).get(f"chunk.0.{ENDPOINTS}")
    assert left is not None
    assert left.value == b""


async def test_chunks_that_somebody_changed_are_refused_and_what_was_applied_stays(site: Site) -> None:
    await site.write("service.default.reviews", service())
    await write_large(site, endpoints(3))
    site.sync.want(HOST)
    await until(lambda: site.applied.get(ENDPOINTS) == endpoints(3))
    entry = await Store(site.routing, subjects.SHARED_BUCKET).get(ENDPOINTS)
    assert entry is not None
    compiled = Compiled(ENDPOINTS, int(time.time() * 1000), 1, snapshot.encode(endpoints(MANY)))
    made = chunks.writes(
        subjects.SHARED_BUCKET,
        ENDPOINTS,
        compiled,
        entry.revision,
        partial(site.signing.sign, "compiled"),
    )
    made[0] = replace(made[0], value=b"something else")
    await Store(site.routing, subjects.SHARED_BUCKET).apply(made)
    number = site.announce({ENDPOINTS: compiled.version})
    await write_large(site, endpoints(5), had=len(made) - 1, expected=entry.revision + len(made))
    await until(lambda: site.applied.get(ENDPOINTS) == endpoints(5))
    await site.acknowledged(number)
