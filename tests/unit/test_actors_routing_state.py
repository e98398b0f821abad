"""The compiler shard: what it writes, in which order, and what it must not drop."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ray_mesh import snapshot
from ray_mesh.actors.routing_state import FENCE_S, Shard, Write
from ray_mesh.actors.serving import PROXY_LEASE_S
from ray_mesh.bus.messages import Compiled, ProxyLease
from ray_mesh.rendezvous import owner
from ray_mesh.resources import Document, load

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {selector: {app: reviews}, ports: [{name: http, port: 9080}]}
"""
WORKLOAD = f"""
apiVersion: mesh.ray.io/v1
kind: Workload
metadata: {{name: reviews-v1, labels: {{app: reviews, version: v1}}}}
spec: {{serviceAccount: reviews, node: n1, port: 7000, outboundPort: 7001, tokenSha256: "{"ab" * 32}"}}
"""


def documents(*texts: str) -> list[Document]:
    return [document for text in texts for document in load(text, "test")]


def make_shard(*members: str, started_at: float = 0.0) -> Shard:
    shard = Shard("a", started_at)
    shard.set_members(tuple(sorted(members or ("a",))))
    return shard


def feed(shard: Shard, *texts: str, revision: int = 7) -> None:
    for document in documents(*texts):
        shard.put_document(document.key, document, revision)


def lease(state: str = "HEALTHY", ready: tuple[str, ...] = ("workload.default.reviews-v1",)) -> ProxyLease:
    return ProxyLease("p1", "e", "n1", "127.0.0.1", 7443, "0", state, ready, {}, (), 1, 0.0)  # type: ignore[arg-type]


def settle(shard: Shard, wall_at: float = 1000.0) -> list[Write]:
    """Write until there is nothing to write, as the actor does."""
    written: list[Write] = []
    while not shard.idle:
        for write in shard.step(wall_at):
            shard.wrote(write, write.revision + 1)
            written.append(write)
        shard.validate()
    return written


def endpoints_of(writes: list[Write]) -> tuple[snapshot.Endpoint, ...] | None:
    for write in reversed(writes):
        if write.compiled.key == "endpoints.default.reviews":
            resource = snapshot.decode(write.compiled.key, write.compiled.resource)
            assert isinstance(resource, snapshot.Endpoints)
            return resource.endpoints
    return None


def test_documents_become_resources_dependencies_first() -> None:
    shard = make_shard()
    feed(shard, SERVICE, WORKLOAD)
    kinds = [snapshot.kind_of(write.compiled.key) for write in settle(shard)]
    assert kinds == ["mesh", "endpoints", "service", "workload", "node"]


def test_private_resources_are_stored_under_their_node() -> None:
    shard = make_shard()
    feed(shard, WORKLOAD)
    stored = {write.stored_key for write in settle(shard)}
    assert {"n1.workload.default.reviews-v1", "n1.node.mesh.n1"} <= stored


def test_the_same_input_writes_nothing_again() -> None:
    shard = make_shard()
    feed(shard, SERVICE, WORKLOAD)
    settle(shard)
    feed(shard, SERVICE, WORKLOAD, revision=9)
    assert settle(shard) == []
    assert shard.through == 9


def test_versions_grow_even_when_the_clock_steps_back() -> None:
    shard = make_shard()
    feed(shard, SERVICE)
    first = {write.stored_key: write.compiled.version for write in settle(shard, 1000.0)}
    feed(shard, SERVICE.replace("9080", "9090"))
    second = {write.stored_key: write.compiled.version for write in settle(shard, 10.0)}
    assert second["service.default.reviews"] == first["service.default.reviews"] + 1


def test_a_deleted_document_removes_its_resources_last() -> None:
    shard = make_shard()
    feed(shard, SERVICE, WORKLOAD)
    settle(shard)
    for document in documents(SERVICE, WORKLOAD):
        shard.put_document(document.key, None, 8)
    writes = settle(shard)
    assert [write.compiled.removed for write in writes] == sorted(write.compiled.removed for write in writes)
    assert {write.compiled.key for write in writes if write.compiled.removed} >= {
        "service.default.reviews",
        "workload.default.reviews-v1",
    }


def test_a_lease_makes_an_endpoint_and_its_end_takes_it_away() -> None:
    shard = make_shard()
    feed(shard, SERVICE, WORKLOAD)
    settle(shard)
    shard.put_lease(lease(), 0.0)
    (endpoint,) = endpoints_of(settle(shard)) or ()
    assert (endpoint.address, endpoint.port) == ("127.0.0.1", 7443)
    shard.tick(PROXY_LEASE_S + 0.1)
    assert endpoints_of(settle(shard)) == ()


def test_a_broker_that_was_away_costs_no_endpoint() -> None:
    shard = make_shard()
    feed(shard, SERVICE, WORKLOAD)
    shard.put_lease(lease(), 0.0)
    settle(shard)
    back_at = 10 * PROXY_LEASE_S
    shard.hear_again(back_at)
    shard.tick(back_at)
    assert endpoints_of(settle(shard)) is None, "nothing was rewritten"
    shard.put_lease(lease(), back_at + 1.0)
    shard.tick(back_at + PROXY_LEASE_S + 0.1)
    assert endpoints_of(settle(shard)) is None, "nothing was rewritten"


def test_a_proxy_that_died_while_the_broker_was_away_goes_one_lease_period_later() -> None:
    shard = make_shard()
    feed(shard, SERVICE, WORKLOAD)
    shard.put_lease(lease(), 0.0)
    settle(shard)
    back_at = 10 * PROXY_LEASE_S
    shard.hear_again(back_at)
    shard.tick(back_at + PROXY_LEASE_S + 0.1)
    assert endpoints_of(settle(shard)) == ()


def test_a_draining_proxy_serves_nothing() -> None:
    shard = make_shard()
    feed(shard, SERVICE, WORKLOAD)
    shard.put_lease(lease(), 0.0)
    settle(shard)
    shard.tick(PROXY_LEASE_S + 1.0)
    shard.put_lease(lease("DRAINING"), PROXY_LEASE_S + 1.0)
    assert endpoints_of(settle(shard)) in ((), None)


def test_a_workload_is_served_when_all_proxies_of_its_node_can() -> None:
    shard = make_shard()
    feed(shard, SERVICE, WORKLOAD)
    shard.put_lease(lease(), 0.0)
    shard.put_lease(replace(lease("STARTING", ()), proxy="p2"), 0.0)
    assert len(endpoints_of(settle(shard)) or ()) == 1, "a proxy that starts does not accept yet"
    shard.put_lease(replace(lease(ready=()), proxy="p2"), 0.1)
    shard.tick(PROXY_LEASE_S + 0.05)
    shard.put_lease(lease(), PROXY_LEASE_S + 0.05)
    shard.put_lease(replace(lease(ready=()), proxy="p2"), PROXY_LEASE_S + 0.05)
    assert endpoints_of(settle(shard)) == (), "p2 takes connections and could not answer"
    shard.put_lease(replace(lease(), proxy="p2"), PROXY_LEASE_S + 0.1)
    assert len(endpoints_of(settle(shard)) or ()) == 1


def test_a_new_shard_keeps_the_endpoints_it_finds_for_one_lease_period() -> None:
    before = make_shard()
    feed(before, SERVICE, WORKLOAD)
    before.put_lease(lease(), 0.0)
    stored = {write.stored_key: write for write in settle(before)}

    after = make_shard(started_at=100.0)
    feed(after, SERVICE, WORKLOAD)
    for key, write in stored.items():
        after.put_stored(key, write.revision + 1, partial(lambda one: one, write.compiled))
    after.tick(100.5)
    assert endpoints_of(settle(after)) is None, "nothing was rewritten"
    after.tick(100.0 + PROXY_LEASE_S + 0.1)
    assert endpoints_of(settle(after)) == (), "nobody claimed the endpoint in time"


def test_a_shard_reads_only_the_stored_resources_that_are_its_own() -> None:
    members = ("a", "b")
    shard, other = make_shard(*members), make_shard(*members)
    read: list[str] = []

    def reader(write: Write) -> Compiled:
        read.append(write.stored_key)
        return write.compiled

    feed(other, SERVICE, WORKLOAD)
    other.set_members(("a",))
    written = settle(other)
    feed(shard, SERVICE, WORKLOAD)
    for write in written:
        shard.put_stored(write.stored_key, write.revision + 1, partial(reader, write))
    assert settle(shard) == []
    assert sorted(read) == sorted(one.stored_key for one in written if owner(one.stored_key, members) == "a")
    assert 0 < len(read) < len(written)


def test_a_stored_resource_that_cannot_be_trusted_is_written_again_over_its_revision() -> None:
    shard = make_shard()
    feed(shard, SERVICE)
    shard.put_stored("service.default.reviews", 41, lambda: None)
    shard.put_stored("service.default.gone", 42, lambda: None)
    again = {write.stored_key: write for write in settle(shard)}
    assert again["service.default.reviews"].revision == 41
    assert again["service.default.gone"].revision == 42
    assert again["service.default.gone"].compiled.removed


def test_shards_divide_the_keys_and_a_survivor_takes_over() -> None:
    members = ("a", "b")
    shard = make_shard(*members)
    feed(shard, SERVICE, WORKLOAD)
    mine = {write.stored_key for write in settle(shard)}
    assert all(owner(key, members) == "a" for key in mine)
    shard.set_members(("a",))
    rest = {write.stored_key for write in settle(shard)}
    assert mine.isdisjoint(rest)
    assert mine | rest >= {"service.default.reviews", "endpoints.default.reviews", "n1.node.mesh.n1"}


def test_a_failed_write_is_looked_at_again() -> None:
    shard = make_shard()
    feed(shard, SERVICE)
    (first, *_) = shard.step(1000.0)
    shard.retry([first.stored_key])
    assert first.stored_key in {write.stored_key for write in shard.step(1000.0)}


def test_a_bucket_that_was_made_anew_is_filled_again() -> None:
    shard = make_shard()
    feed(shard, SERVICE, WORKLOAD)
    before = {write.stored_key for write in settle(shard)}
    shard.forget_stored(shared=True)
    after = settle(shard, 2000.0)
    assert {write.stored_key for write in after} == {key for key in before if not key.startswith("n1.")}
    assert {write.revision for write in after} == {0}


def test_a_store_that_is_lost_with_the_leases_drops_no_endpoint_and_brings_removals_back() -> None:
    shard = make_shard()
    feed(shard, SERVICE, WORKLOAD)
    shard.put_lease(lease(), 0.0)
    versions = {write.stored_key: write.compiled.version for write in settle(shard)}
    (gone,) = documents(SERVICE.replace("reviews", "gone"))
    shard.put_document(gone.key, gone, 8)
    settle(shard)
    shard.put_document(gone.key, None, 9)
    removed = {write.stored_key for write in settle(shard) if write.compiled.removed}
    assert removed
    # The broker was away for longer than a lease, and comes back with nothing.
    shard.hear_again(100.0)
    shard.tick(100.0)
    shard.forget_stored(shared=True)
    after = settle(shard, wall_at=0.0)
    assert [one.workload for one in endpoints_of(after) or ()] == ["workload.default.reviews-v1"]
    assert {write.stored_key for write in after if write.compiled.removed} == removed
    for write in after:
        assert write.compiled.version > versions.get(write.stored_key, 0)


def test_a_broker_that_is_stuck_but_connected_ends_no_lease() -> None:
    shard = make_shard()
    feed(shard, SERVICE, WORKLOAD)
    shard.put_lease(lease(), 0.0)
    shard.hear_echo(0.0)
    shard.tick(0.5)
    assert endpoints_of(settle(shard))
    for at in (3.5, 9.0, 15.0):
        shard.tick(at)
        assert settle(shard) == []
    # It goes on; the proxies are heard with it, or get the time to be.
    shard.hear_echo(15.1)
    shard.tick(15.2)
    assert settle(shard) == []
    shard.hear_echo(18.3)
    shard.tick(18.4)
    assert endpoints_of(settle(shard)) == ()


def stored_by_another(shard: Shard, text: str, through: int) -> Write:
    """What another shard, which knows more of desired state, has written."""
    other = make_shard()
    feed(other, text, revision=through)
    (write,) = [one for one in settle(other) if one.stored_key == "service.default.reviews"]
    shard.put_stored(write.stored_key, 50, lambda: write.compiled)
    return write


def test_a_shard_that_was_stalled_does_not_undo_what_later_desired_state_made() -> None:
    shard = make_shard()
    feed(shard, SERVICE, revision=7)
    settle(shard)
    shard.tick(10.0)
    newer = stored_by_another(shard, SERVICE.replace("9080", "9090"), through=9)
    assert settle(shard) == []
    assert not shard.is_through
    shard.tick(11.0)
    assert settle(shard) == []
    feed(shard, SERVICE.replace("9080", "9090"), revision=9)
    shard.tick(11.1)
    assert settle(shard) == []
    assert shard.is_through
    feed(shard, SERVICE.replace("9080", "9099"), revision=10)
    (write,) = settle(shard)
    assert write.revision == 50
    assert write.compiled.version > newer.compiled.version


def test_a_shard_waits_for_later_desired_state_only_so_long() -> None:
    """Desired state that was made anew may have smaller revisions."""
    shard = make_shard()
    feed(shard, SERVICE, revision=7)
    settle(shard)
    stored_by_another(shard, SERVICE.replace("9080", "9090"), through=9_000)
    shard.tick(1.0)
    assert settle(shard) == []
    shard.tick(1.1 + FENCE_S)
    assert {write.stored_key for write in settle(shard)} == {"service.default.reviews"}
    assert shard.is_through


def test_a_shard_that_does_not_hear_itself_may_not_write() -> None:
    shard = make_shard()
    shard.hear_echo(0.0)
    assert shard.hears(1.0)
    assert not shard.hears(20.0)
    shard.hear_echo(20.1)
    assert shard.hears(20.1)


def test_in_pieces_moved_endpoints_are_first_dependencies_next_and_removals_last() -> None:
    shard = make_shard()
    feed(shard, SERVICE, WORKLOAD)
    settle(shard)
    for document in documents(WORKLOAD):
        shard.put_document(document.key, None, 8)
    feed(shard, *(SERVICE.replace("reviews", name) for name in ("b", "c")), revision=8)
    shard.put_lease(lease(), 1.0)
    written: list[tuple[str, bool]] = []
    while not shard.idle:
        writes = shard.step(1000.0, 1)
        assert len(writes) <= 1
        for write in writes:
            shard.wrote(write, write.revision + 1)
            written.append((snapshot.kind_of(write.compiled.key), write.compiled.removed))
    assert written[0] == ("endpoints", False), "the lease came, and the document has not been taken up"
    kinds = [kind for kind, removed in written[1:] if not removed]
    assert kinds == sorted(kinds, key=["endpoints", "service", "node"].index)
    assert [removed for _, removed in written] == sorted(removed for _, removed in written)
    assert ("workload", True) in written


def test_a_workload_that_drains_leaves_the_endpoints_and_stays_on_its_node() -> None:
    shard = make_shard()
    feed(shard, SERVICE, WORKLOAD.replace("port: 7000", "weight: 3, locality: eu/a, port: 7000"))
    shard.put_lease(lease(), 0.0)
    (endpoint,) = endpoints_of(settle(shard)) or ()
    assert (endpoint.weight, endpoint.locality) == (3, "eu/a")
    feed(shard, WORKLOAD.replace("port: 7000", "draining: true, port: 7000"), revision=8)
    writes = settle(shard)
    assert {write.compiled.key for write in writes} == {"endpoints.default.reviews"}
    assert endpoints_of(writes) == ()


def test_a_workload_that_does_not_pass_its_probe_is_not_served() -> None:
    shard = make_shard()
    feed(shard, SERVICE, WORKLOAD)
    sick = replace(lease(), unhealthy=("workload.default.reviews-v1",))
    shard.put_lease(sick, 0.0)
    assert endpoints_of(settle(shard)) == ()
    shard.put_lease(lease(), 0.5)
    assert len(endpoints_of(settle(shard)) or ()) == 1
    shard.put_lease(sick, 4.0)
    shard.tick(4.0)
    assert endpoints_of(settle(shard)) == ()


def test_what_cannot_be_stored_is_told_until_the_key_is_compiled_anew() -> None:
    shard = make_shard()
    feed(shard, SERVICE, WORKLOAD)
    settle(shard)
    feed(shard, SERVICE.replace("9080", "9090"), revision=8)
    writes = {write.stored_key: write for write in shard.step(2000.0)}
    shard.refuse(writes["service.default.reviews"], "it is too large")
    told = shard.refused
    assert [(one.key, one.reason) for one in told] == [("service.default.reviews", "it is too large")]
    assert shard.is_through, "others must not wait for it"
    feed(shard, WORKLOAD, revision=9)
    settle(shard)
    assert shard.refused == told
    feed(shard, SERVICE, revision=10)
    assert [write.compiled.key for write in settle(shard)] == [], "it is what is stored"
    assert shard.refused == ()


def test_who_does_not_own_a_key_any_more_says_nothing_of_it() -> None:
    shard = make_shard()
    feed(shard, SERVICE)
    (refused,) = (one for one in shard.step(1000.0) if one.stored_key == "service.default.reviews")
    shard.refuse(refused, "it is too large")
    members = ("a", *(f"b{number}" for number in range(20)))
    assert owner("service.default.reviews", members) != "a"
    shard.set_members(members)
    settle(shard)
    assert shard.refused == ()
