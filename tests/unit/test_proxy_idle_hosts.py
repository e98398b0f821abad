"""A host that nobody asks for is idle; one that is asked for, or has a request under way, is not."""

from __future__ import annotations

from ray_mesh.proxy.cluster import MAX_REQUESTED, Destination
from ray_mesh.snapshot import Endpoint, Port, Service

SERVICE = Service("a.default.svc.cluster.local", "default", "a", (Port(80, "http"),), (), ())
ENDPOINT = Endpoint("workload.default.a-v1", "127.0.0.1", 7443, "sni", "spiffe://m/ns/default/sa/a", (), "n1")


def test_idle_is_counted_from_the_last_look_at_which_it_was_in_use() -> None:
    destination = Destination(SERVICE.host)
    assert destination.idle_s(100.0) == 0.0
    destination.set_service(SERVICE, 101.0)
    assert destination.idle_s(105.0) == 0.0, "it is not complete"
    destination.set_endpoints([ENDPOINT], 106.0)
    assert destination.idle_s(110.0) == 5.0
    cluster = destination.cluster("", 110.0)
    assert cluster is not None
    member = cluster.choose()
    assert member is not None
    assert destination.idle_s(115.0) == 0.0
    assert destination.idle_s(120.0) == 5.0
    member.active += 1
    assert destination.idle_s(1000.0) == 0.0, "a request is under way"
    member.active -= 1
    assert destination.idle_s(1005.0) == 5.0


def test_a_connection_to_a_host_of_a_pattern_keeps_the_pattern() -> None:
    destination = Destination("*.example.com")
    service = Service("*.example.com", "default", "a", (), (), (), plaintext=True, is_dynamic=True)
    destination.set_service(service, 0.0)
    destination.set_endpoints((), 0.0)
    cluster = destination.cluster("", 0.0, 443, requested="a.example.com")
    assert cluster is not None
    [member] = cluster.members
    member.active = 1
    destination.idle_s(0.0)
    assert destination.idle_s(100.0) == 0.0
    member.active = 0
    assert destination.idle_s(200.0) == 100.0


def test_hosts_of_a_pattern_are_forgotten_when_there_are_many_and_they_are_idle() -> None:
    destination = Destination("*.example.com")
    service = Service("*.example.com", "default", "a", (), (), (), plaintext=True, is_dynamic=True)
    destination.set_service(service, 0.0)
    destination.set_endpoints((), 0.0)
    asked = [
        destination.cluster("", 0.0, 80, requested=f"h{number}.example.com")
        for number in range(MAX_REQUESTED + 1)
    ]
    assert asked[0] is not None
    asked[0].members[0].active = 1
    gone = destination.drop_idle()
    assert len(gone) == MAX_REQUESTED
    assert destination.clusters == (asked[0],)
    assert [one.is_current for one in asked if one is not None] == [True, *[False] * MAX_REQUESTED]
    assert destination.drop_idle() == ()
    assert destination.set_service(None, 0.0) == asked[0].members
