"""The connections of one workload to the members of what it calls."""

from __future__ import annotations

import pytest

from ray_mesh.proxy.breaker import Breaker
from ray_mesh.proxy.cluster import Destination
from ray_mesh.proxy.journal import Journal
from ray_mesh.proxy.source import Source
from ray_mesh.snapshot import Endpoint, TrafficPolicy, Workload


def source() -> Source:
    return Source(
        Workload(
            namespace="default",
            name="client",
            node="one",
            service_account="client",
            identity="spiffe://mesh.local/ns/default/sa/client",
            sni="client.default.workload.mesh",
            labels=(),
            app_address="127.0.0.1",
            app_port=1,
            outbound_port=2,
            token_sha256=b"",
        ),
        Journal(),
    )


@pytest.mark.parametrize("is_limited", [False, True])
def test_a_retry_that_crosses_the_end_of_its_endpoint_leaves_no_pool(is_limited: bool) -> None:
    calling, destination = source(), Destination("reviews")
    breaker = None
    if is_limited:
        breaker = Breaker("reviews")
        breaker.set_policy(TrafficPolicy(""))
    endpoint = Endpoint("default/reviews", "127.0.0.1", 3, "", "", (), "two")
    destination.set_endpoints((endpoint,), 0.0)
    assert destination.members is not None
    member = destination.members[endpoint]
    calling.pool(member, breaker)
    calling.forget(destination.set_endpoints((), 1.0))
    late = calling.pool(member, breaker)
    assert late.max_idle == 0, "it keeps no connection"
    calling.close_stale(2.0)
    assert calling.pool(member, breaker) is not late, "it was forgotten"
    assert breaker is None or breaker.pools == []
