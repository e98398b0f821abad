"""Ray's GCS is away for longer than the minute after which Ray would end every worker, and comes back: with
its state on disk and a longer patience of its clients, as docs/cluster.md says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from mesh_site import eventually
from nodes_site import Nodes, nodes_site

from ray_mesh.errors import MeshError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

AWAY_S = 70.0


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_gcs_storage", "rocksdb")
        patch.setenv("RAY_gcs_storage_path", str(tmp_path_factory.mktemp("gcs")))
        patch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "180")
        with nodes_site(count=2, replicas=1) as site:
            yield site


def pids(nodes: Nodes) -> dict[str, int]:
    """The process of each actor that the controller knows."""
    try:
        return {one.name: one.pid for one in nodes.mesh.status().actors}
    except MeshError:
        return {}


def is_told(nodes: Nodes) -> bool:
    try:
        return any("GCS does not answer" in one for one in nodes.mesh.status().problems)
    except MeshError:
        return False


def test_a_gcs_that_is_back_after_70_s_finds_every_actor_where_it_was(nodes: Nodes) -> None:
    before = pids(nodes)
    head: Any = nodes.cluster.head_node
    with nodes.site.traffic() as tally:
        killed_at = time.monotonic()
        head.kill_gcs_server(check_alive=False)
        eventually(lambda: is_told(nodes), timeout_s=60.0)
        told_s = time.monotonic() - killed_at
        nodes.mesh.wait(nodes.site.touch(), timeout_s=30.0)
        eventually(lambda: time.monotonic() > killed_at + AWAY_S, timeout_s=AWAY_S + 10.0)
        head.start_gcs_server()
        back_at = time.monotonic()
        eventually(lambda: not nodes.mesh.status().problems, timeout_s=60.0)
        well_s = time.monotonic() - back_at
        nodes.mesh.wait(nodes.site.touch(), timeout_s=30.0)
    print({"told_s": told_s, "well_s": well_s, "views": tally.requests, "failed": tally.failures})
    assert not tally.failures, tally.problems
    assert pids(nodes) == before
