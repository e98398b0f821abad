"""The decisions of MeshView: who lives, what is applied, what a refusal means."""

from __future__ import annotations

from dataclasses import replace

from ray_mesh.bus.messages import Acknowledgement, Beacon, ProxyLease, Rejection, RoleLease
from ray_mesh.gateway.view import MeshView, ProxyRow

NOW = 100.0


def routing(instance: str, *, leaving: bool = False) -> RoleLease:
    return RoleLease("routing", instance, "e", "0.1.0", 1, leaving)


def beacon(
    shard: str,
    number: int,
    through: int,
    members: tuple[str, ...] = ("r0",),
    changed: dict[str, int] | None = None,
    at: float | None = None,
) -> Beacon:
    return Beacon(shard, number, float(number) if at is None else at, through, members, changed or {})


def proxy(
    name: str = "p0",
    applied: dict[str, int] | None = None,
    rejected: tuple[Rejection, ...] = (),
    *,
    state: str = "HEALTHY",
    node: str = "n1",
    ready: tuple[str, ...] = (),
) -> ProxyLease:
    assert state in ("STARTING", "HEALTHY", "DRAINING")
    return ProxyLease(
        proxy=name,
        epoch="e",
        node=node,
        address="127.0.0.1",
        inbound_port=15006,
        version="0.1.0",
        state=state,  # type: ignore[arg-type]
        ready=ready,
        applied=applied or {},
        rejected=rejected,
        pid=7,
        svid_expires_at=1e9,
        admin_port=15021,
    )


def listening() -> MeshView:
    """A view that has listened long enough, with the routing shard r0 alive."""
    view = MeshView(NOW - 10)
    view.observe_role(routing("r0"), NOW)
    return view


def only_row(view: MeshView, now: float = NOW) -> ProxyRow:
    (row,) = view.proxies(now)
    return row


def test_a_row_says_where_a_proxy_is() -> None:
    view = listening()
    view.observe_proxy(proxy(), NOW)
    row = only_row(view)
    assert (row.address, row.inbound_port, row.admin_port) == ("127.0.0.1", 15006, 15021)


def test_no_live_proxy_is_applied_once_compiled() -> None:
    view = listening()
    view.observe_beacon(beacon("r0", 1, 5), NOW)
    assert view.progress(5, NOW).applied


def test_not_compiled_yet_names_the_shard() -> None:
    view = listening()
    view.observe_beacon(beacon("r0", 1, 4), NOW)
    assert view.progress(5, NOW).waiting_for == ("shard r0: compiled through 4",)


def test_no_live_shard_is_never_applied() -> None:
    view = MeshView(NOW - 10)
    progress = view.progress(0, NOW)
    assert not progress.applied
    assert "none is alive" in progress.waiting_for[0]


def test_a_view_that_just_started_does_not_conclude() -> None:
    view = MeshView(NOW - 1)
    view.observe_role(routing("r0"), NOW)
    view.observe_beacon(beacon("r0", 1, 5), NOW)
    assert not view.progress(5, NOW).applied
    view.observe_role(routing("r0"), NOW + 2)
    assert view.progress(5, NOW + 2).applied
    view.restart(NOW + 2)
    assert not view.progress(5, NOW + 2).applied


def test_members_must_be_exactly_the_live_shards() -> None:
    view = listening()
    view.observe_role(routing("r1"), NOW)
    view.observe_beacon(beacon("r0", 1, 5), NOW)
    view.observe_beacon(beacon("r1", 1, 5, ("r0", "r1")), NOW)
    assert "knows the shards ['r0']" in view.progress(5, NOW).waiting_for[0]
    view.observe_beacon(beacon("r0", 2, 5, ("r0", "r1")), NOW)
    assert view.progress(5, NOW).applied


def test_waits_for_the_first_beacon_that_fulfils_not_for_the_newest() -> None:
    view = listening()
    for number, through in ((1, 4), (2, 5), (3, 5), (4, 6)):
        view.observe_beacon(beacon("r0", number, through), NOW)
    view.observe_proxy(proxy(applied={"r0": 1}), NOW)
    assert view.progress(5, NOW).waiting_for == ("proxy p0: applied beacon 1 of r0, needs 2",)
    view.observe_proxy(proxy(applied={"r0": 2}), NOW)
    assert view.progress(5, NOW).applied
    assert not view.progress(6, NOW).applied


def test_a_change_of_members_starts_over() -> None:
    view = listening()
    view.observe_beacon(beacon("r0", 1, 5, ("r0", "r1")), NOW)
    view.observe_beacon(beacon("r0", 2, 5), NOW)
    view.observe_proxy(proxy(applied={"r0": 1}), NOW)
    assert not view.progress(5, NOW).applied
    view.observe_proxy(proxy(applied={"r0": 2}), NOW)
    assert view.progress(5, NOW).applied


def test_a_shard_that_started_again_is_not_believed_by_its_old_numbers() -> None:
    view = listening()
    view.observe_beacon(beacon("r0", 900, 5), NOW)
    view.observe_proxy(proxy(applied={"r0": 900}), NOW)
    view.observe_beacon(beacon("r0", 1, 6, at=2000.0), NOW)
    assert not view.progress(6, NOW).applied
    view.observe_proxy(proxy(applied={"r0": 1}), NOW)
    assert view.progress(6, NOW).applied


def test_old_and_repeated_beacons_are_ignored() -> None:
    view = listening()
    view.observe_beacon(beacon("r0", 5, 9), NOW)
    view.observe_beacon(beacon("r0", 5, 3), NOW)
    view.observe_beacon(beacon("r0", 4, 3), NOW)
    assert view.progress(9, NOW).applied


def test_draining_and_dead_proxies_do_not_hold_up() -> None:
    view = listening()
    view.observe_beacon(beacon("r0", 3, 5), NOW)
    view.observe_proxy(proxy("draining", state="DRAINING"), NOW)
    view.observe_proxy(proxy("dead"), NOW - 3.0)
    assert view.progress(5, NOW).applied
    assert only_row(view).proxy == "draining"


def test_a_starting_proxy_does_hold_up() -> None:
    view = listening()
    view.observe_beacon(beacon("r0", 3, 5), NOW)
    view.observe_proxy(proxy(state="STARTING"), NOW)
    assert not view.progress(5, NOW).applied


def test_refusal_of_the_newest_version_ends_the_wait_with_the_reason() -> None:
    view = listening()
    view.observe_beacon(beacon("r0", 3, 5, changed={"service.default.a": 7}), NOW)
    view.observe_proxy(proxy(rejected=(Rejection("service.default.a", 7, "bad weight"),)), NOW)
    progress = view.progress(5, NOW)
    assert not progress.applied
    assert progress.rejected == ("proxy p0 refuses service.default.a version 7: bad weight",)
    assert only_row(view).sync == "REJECTED"


def test_refusal_of_a_replaced_version_is_waited_out() -> None:
    view = listening()
    refused = (Rejection("service.default.a", 7, "bad weight"),)
    view.observe_beacon(beacon("r0", 3, 5, changed={"service.default.a": 7}), NOW)
    view.observe_beacon(beacon("r0", 4, 6, changed={"service.default.a": 8}), NOW)
    view.observe_proxy(proxy(applied={"r0": 3}, rejected=refused), NOW)
    progress = view.progress(6, NOW)
    assert not progress.applied
    assert not progress.rejected


def test_a_version_for_another_node_replaces_nothing() -> None:
    view = listening()
    key = "workload.default.a"
    view.observe_beacon(beacon("r0", 3, 5, changed={f"n1.{key}": 7, f"n2.{key}": 9}), NOW)
    view.observe_proxy(proxy(rejected=(Rejection(key, 7, "bad port"),)), NOW)
    assert view.progress(5, NOW).rejected == (f"proxy p0 refuses {key} version 7: bad port",)


def test_rows_tell_synced_from_stale() -> None:
    view = listening()
    view.observe_beacon(beacon("r0", 3, 5, changed={"mesh.mesh.mesh": 1}), NOW)
    view.observe_beacon(beacon("r0", 4, 5), NOW)
    view.observe_proxy(proxy(applied={"r0": 2}), NOW)
    assert (only_row(view).sync, only_row(view).reason) == ("STALE", "r0: applied beacon 2, changed at 3")
    view.observe_proxy(proxy(applied={"r0": 3}), NOW)
    assert only_row(view).sync == "SYNCED"
    view.observe_proxy(proxy(applied={"r0": 3}), NOW + 2.5)
    assert "no routing shard is alive" in only_row(view, NOW + 2.5).reason


def test_a_proxy_is_stale_for_a_moment_after_each_change_and_trouble_only_when_it_stays_so() -> None:
    view = listening()
    view.observe_beacon(beacon("r0", 3, 5, changed={"mesh.mesh.mesh": 1}), NOW)
    view.observe_proxy(proxy(applied={"r0": 2}), NOW)
    assert (only_row(view).behind_s, only_row(view).is_trouble) == (0.0, False)
    view.observe_role(routing("r0"), NOW + 1.5)
    view.observe_proxy(proxy(applied={"r0": 3}), NOW + 1.5)
    assert (only_row(view, NOW + 1.5).sync, only_row(view, NOW + 1.5).behind_s) == ("SYNCED", 0.0)
    view.observe_beacon(beacon("r0", 4, 6, changed={"mesh.mesh.mesh": 2}), NOW + 3.0)
    view.observe_role(routing("r0"), NOW + 3.0)
    view.observe_proxy(proxy(applied={"r0": 3}), NOW + 3.0)
    assert not only_row(view, NOW + 3.5).is_trouble
    for later in (4.5, 6.0):
        view.observe_role(routing("r0"), NOW + later)
        view.observe_proxy(proxy(applied={"r0": 3}), NOW + later)
    row = only_row(view, NOW + 6.0)
    assert (row.sync, row.behind_s, row.is_trouble) == ("STALE", 3.0, True)


def test_an_acknowledgement_counts_at_once_and_a_lease_that_it_overtook_takes_nothing_back() -> None:
    view = listening()
    view.observe_beacon(beacon("r0", 3, 5, changed={"mesh.mesh.mesh": 1}), NOW)
    view.observe_acknowledgement(Acknowledgement("p0", "e", 1, {"r0": 3}, ()), NOW)
    assert view.proxies(NOW) == (), "nothing is known of it yet"
    view.observe_proxy(proxy(applied={"r0": 2}), NOW)
    assert not view.is_decided(5, NOW)
    view.observe_acknowledgement(Acknowledgement("p0", "e", 2, {"r0": 3}, ()), NOW)
    assert view.is_applied(5, NOW)
    view.observe_proxy(replace(proxy(applied={"r0": 2}), number=1), NOW)
    view.observe_acknowledgement(Acknowledgement("p0", "e", 1, {"r0": 2}, ()), NOW)
    view.observe_acknowledgement(Acknowledgement("p0", "of another life", 9, {"r0": 9}, ()), NOW)
    assert view.is_applied(5, NOW)
    assert only_row(view).applied == {"r0": 3}
    view.observe_proxy(replace(proxy(applied={}), epoch="restarted"), NOW)
    assert not view.is_applied(5, NOW)


def test_a_stale_proxy_is_behind_by_so_many_announcements() -> None:
    view = listening()
    for number in (3, 4, 5):
        view.observe_beacon(beacon("r0", 2 * number, number, changed={"mesh.mesh.mesh": 1}), NOW + number)
        view.observe_beacon(beacon("r0", 2 * number + 1, number), NOW + number)
    view.observe_role(routing("r0"), NOW + 6.0)
    view.observe_proxy(proxy(applied={"r0": 7}), NOW + 6.0)
    row = only_row(view, NOW + 6.0)
    assert (row.sync, row.behind, row.behind_s) == ("STALE", 2, 2.0)
    view.observe_acknowledgement(Acknowledgement("p0", "e", 1, {"r0": 10}, ()), NOW + 6.0)
    assert (only_row(view, NOW + 6.0).sync, only_row(view, NOW + 6.0).behind) == ("SYNCED", 0)


def test_a_workload_is_ready_when_every_proxy_of_its_node_serves_it() -> None:
    view = listening()
    view.observe_beacon(beacon("r0", 3, 5), NOW)
    key = "workload.default.a"
    assert not view.workload_progress(key, "n1", 5, NOW).applied
    view.observe_proxy(proxy("p0", {"r0": 3}, ready=(key,)), NOW)
    view.observe_proxy(proxy("p1", {"r0": 3}), NOW)
    view.observe_proxy(proxy("p2", {}, node="n2"), NOW)
    assert "proxy p1" in view.workload_progress(key, "n1", 5, NOW).waiting_for[0]
    view.observe_proxy(proxy("p1", {"r0": 3}, ready=(key,)), NOW)
    assert view.workload_progress(key, "n1", 5, NOW).applied


def test_roles_leave_at_once_or_by_silence() -> None:
    view = MeshView(NOW)
    view.observe_role(routing("r1"), NOW)
    view.observe_role(routing("r0"), NOW)
    view.observe_role(RoleLease("telemetry", "t0", "e", "0.1.0", 2), NOW)
    assert [lease.instance for lease in view.roles(NOW, "routing")] == ["r0", "r1"]
    view.observe_role(routing("r1", leaving=True), NOW)
    assert [lease.instance for lease in view.roles(NOW)] == ["r0", "t0"]
    assert view.roles(NOW + 2.0) == ()


def test_a_workload_is_served_when_all_healthy_proxies_of_its_node_are_ready_for_it() -> None:
    view = listening()
    view.observe_proxy(proxy("p0", ready=("workload.default.a", "workload.default.b")), NOW)
    view.observe_proxy(proxy("p1", ready=("workload.default.a",)), NOW)
    view.observe_proxy(proxy("p2", state="DRAINING"), NOW)
    view.observe_proxy(proxy("p3", node="n2", ready=("workload.default.c",)), NOW)
    assert [(one.key, one.node) for one in view.served(NOW)] == [
        ("workload.default.a", "n1"),
        ("workload.default.c", "n2"),
    ]
    assert view.served(NOW + 60) == []


def test_what_a_shard_cannot_store_ends_the_wait() -> None:
    view = listening()
    large = Rejection("service.default.a", 3, "it is too large")
    of_node = Rejection("n2.gateway.default.edge", 3, "it is too large")
    view.observe_beacon(replace(beacon("r0", 1, 5), refused=(large,)), NOW)
    view.observe_proxy(proxy(applied={"r0": 1}), NOW)
    assert not view.is_decided(6, NOW), "who waits for more waits for the shard first"
    assert view.is_decided(5, NOW)
    assert not view.is_applied(5, NOW)
    progress = view.progress(5, NOW)
    assert progress.rejected == ("shard r0 cannot store service.default.a: it is too large",)
    assert not progress.applied
    view.observe_beacon(replace(beacon("r0", 2, 6), refused=(of_node,)), NOW)
    view.observe_proxy(proxy(applied={"r0": 2}), NOW)
    assert view.progress(6, NOW, node="n1").applied
    assert view.progress(6, NOW, node="n2").rejected
    assert view.progress(6, NOW).rejected
    view.observe_beacon(beacon("r0", 3, 6), NOW)
    view.observe_proxy(proxy(applied={"r0": 3}), NOW)
    assert view.progress(6, NOW).applied
    assert view.is_applied(6, NOW)
