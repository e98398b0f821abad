"""Nodes that come and go again and again, and a raylet that dies alone, under traffic."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from mesh_site import eventually
from nodes_site import PROXIES, Nodes, nodes_site

from ray_mesh.actors.placement import node_name

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TIMES = 10
BROKEN_PER_LEAVE = 25
"""A second's worth of page views: what can be on the wire to a node whose processes end."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with nodes_site(count=2, replicas=1) as site:
        yield site


def is_gone(nodes: Nodes, name: str) -> bool:
    """Whether neither proxies nor the controller's list of nodes name it."""
    return not nodes.proxies(name) and name not in nodes.mesh.status().nodes


def come_and_go(nodes: Nodes) -> tuple[float, float]:
    """A node joins and crashes: seconds until it was covered, and until it was forgotten."""
    node, known_at = nodes.add()
    name = node_name(node.node_id)
    eventually(lambda: nodes.is_covered(name), timeout_s=60.0)
    covered_s = time.monotonic() - known_at
    left_at = nodes.crash(node)
    eventually(lambda: is_gone(nodes, name), timeout_s=60.0)
    return covered_s, time.monotonic() - left_at


def test_a_node_that_joins_and_leaves_ten_times_is_covered_each_time(nodes: Nodes) -> None:
    covered: list[float] = []
    gone: list[float] = []
    with nodes.site.traffic() as tally:
        for _ in range(TIMES):
            covered_s, gone_s = come_and_go(nodes)
            covered.append(covered_s)
            gone.append(gone_s)
    print(
        {
            "covered_s": sorted(covered),
            "gone_s": sorted(gone),
            "views": tally.requests,
            "failed": tally.failures,
        }
    )
    assert not tally.failures, "nobody is called on a node without workloads: " + str(tally.problems)
    expected = ["HEALTHY"] * 2 * PROXIES
    eventually(
        lambda: [one.state for one in nodes.mesh.status().actors if one.role == "proxy"] == expected,
        timeout_s=30.0,
    )


def test_a_raylet_that_dies_alone_takes_its_node_out_of_the_mesh_and_nothing_else(nodes: Nodes) -> None:
    node, _ = nodes.add()
    name = node_name(node.node_id)
    eventually(lambda: nodes.is_covered(name), timeout_s=60.0)
    (raylet,) = node.all_processes["raylet"]
    with nodes.site.traffic() as tally:
        killed_at = time.monotonic()
        raylet.process.kill()
        raylet.process.wait()  # else Ray takes the zombie for alive
        eventually(lambda: not nodes.proxies(name), timeout_s=60.0)
        proxies_gone_s = time.monotonic() - killed_at
        eventually(lambda: is_gone(nodes, name), timeout_s=60.0)
        gone_s = time.monotonic() - killed_at
        seen = tally.requests
        eventually(lambda: tally.requests > seen + 50)
    print(
        {
            "proxies_gone_s": proxies_gone_s,
            "gone_s": gone_s,
            "views": tally.requests,
            "failed": tally.failures,
        }
    )
    assert tally.failures <= BROKEN_PER_LEAVE, tally.problems
    nodes.cluster.remove_node(node, allow_graceful=False)
