"""A simulated cluster whose raylets die, and a node that joins and leaves ten times, under traffic."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from damage import RECOVERED_WITHIN_S, under_traffic
from mesh_site import eventually
from nodes_site import PROXIES, Nodes, nodes_site

from ray_mesh.actors.placement import node_name

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROUNDS = 10


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with nodes_site(count=2, replicas=2) as site:
        yield site


def joined(nodes: Nodes) -> tuple[Any, str]:
    """A node that is covered, and its name."""
    node, _ = nodes.add()
    name = node_name(node.node_id)
    eventually(lambda: nodes.is_covered(name), timeout_s=RECOVERED_WITHIN_S)
    return node, name


def is_gone(nodes: Nodes, name: str) -> bool:
    return name not in nodes.mesh.status().nodes


def has_proxies(nodes: Nodes, names: set[str]) -> bool:
    return {one.proxy for one in nodes.mesh.proxies()} == names


def test_a_raylet_that_is_killed_takes_its_node_out_and_fails_no_request_elsewhere(nodes: Nodes) -> None:
    with under_traffic(nodes.site, "raylet killed") as case:
        node, name = joined(nodes)
        (raylet,) = node.all_processes["raylet"]
        case.began_at = time.monotonic()
        raylet.process.kill()
        eventually(lambda: not nodes.proxies(name), timeout_s=RECOVERED_WITHIN_S)
        case.note("proxies_gone_s")
        eventually(partial(is_gone, nodes, name), timeout_s=RECOVERED_WITHIN_S)
        case.note("told_s")
        nodes.cluster.remove_node(node, allow_graceful=False)
        case.more_requests()
    assert not case.tally.failures, case.tally.problems


def test_a_node_that_joins_and_leaves_ten_times_leaves_nothing_behind(nodes: Nodes) -> None:
    before = {one.proxy for one in nodes.mesh.proxies()}
    covered_s, gone_s = [], []
    with under_traffic(nodes.site, f"a node joins and leaves {ROUNDS} times") as case:
        for number in range(ROUNDS):
            began_at = time.monotonic()
            node, name = joined(nodes)
            covered_s.append(round(time.monotonic() - began_at, 1))
            began_at = time.monotonic()
            if number % 2:
                nodes.crash(node)
            else:
                nodes.cluster.remove_node(node)
            eventually(partial(is_gone, nodes, name), timeout_s=RECOVERED_WITHIN_S)
            gone_s.append(round(time.monotonic() - began_at, 1))
        eventually(
            lambda: {one.proxy for one in nodes.mesh.proxies()} == before, timeout_s=RECOVERED_WITHIN_S
        )
        eventually(lambda: not nodes.mesh.status().problems, timeout_s=RECOVERED_WITHIN_S)
        case.more_requests()
    print(json.dumps({"covered_s": covered_s, "gone_s": gone_s}))
    assert not case.tally.failures, case.tally.problems
    states = [one.state for one in nodes.mesh.status().actors if one.role == "proxy"]
    assert states == ["HEALTHY"] * 2 * PROXIES
