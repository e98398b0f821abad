"""A host that nobody asks for is idle; one that is asked for, or has a request under way, is not."""

from __future__ import annotations

from ray_mesh.proxy.cluster import Destination
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
