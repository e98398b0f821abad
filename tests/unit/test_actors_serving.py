"""Which workloads are served, kept up to date lease by lease, against counting them anew."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from ray_mesh.actors.serving import PROXY_LEASE_S, Serving
from ray_mesh.bus.messages import ProxyLease
from ray_mesh.compile import LiveWorkload

KEYS = ("w1", "w2", "w3")
BASE = ProxyLease("p", "e", "n", "127.0.0.1", 7443, "0", "HEALTHY", (), {}, (), 1, 0.0)


@dataclass(frozen=True)
class Heard:
    """A lease, and how long after the one before it."""

    lease: ProxyLease
    after_s: float


LEASES = st.builds(
    lambda proxy, node, state, ready, port: replace(
        BASE, proxy=proxy, node=node, state=state, ready=tuple(sorted(ready)), inbound_port=port
    ),
    st.sampled_from(["p1", "p2", "p3"]),
    st.sampled_from(["n1", "n1", "n2"]),
    st.sampled_from(["HEALTHY", "HEALTHY", "DRAINING", "STARTING"]),
    st.sets(st.sampled_from(KEYS)),
    st.sampled_from([7443, 7444]),
)


def counted(leases: dict[str, tuple[ProxyLease, float]], now: float) -> set[LiveWorkload]:
    """By going through all leases."""
    nodes: dict[str, list[set[LiveWorkload]]] = {}
    for lease, at in leases.values():
        if lease.state == "HEALTHY" and now - at <= PROXY_LEASE_S:
            served = {LiveWorkload(key, lease.node, lease.address, lease.inbound_port) for key in lease.ready}
            nodes.setdefault(lease.node, []).append(served)
    return set().union(*(set.intersection(*each) for each in nodes.values()))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.builds(Heard, LEASES, st.sampled_from([0.0, 0.5, 2.0, 3.5])), max_size=25))
def test_it_says_what_counting_says_and_names_every_workload_that_came_or_went(heard: list[Heard]) -> None:
    serving, now = Serving(), 0.0
    leases: dict[str, tuple[ProxyLease, float]] = {}
    before: set[LiveWorkload] = set()
    for one in heard:
        now += one.after_s
        changed = serving.expire(now) | serving.hear(one.lease, now)
        leases = {name: held for name, held in leases.items() if now - held[1] <= PROXY_LEASE_S}
        leases[one.lease.proxy] = one.lease, now
        after = counted(leases, now)
        assert set(serving.of(KEYS)) == after
        assert {each.key for each in before ^ after} <= changed
        before = after
