"""A mesh on a simulated Ray cluster: several raylets of one machine, each a node of its own.

The nodes share one address, one kernel and one disk, so what the network between machines does is not
tested here. A crash ends every process of a node at once; the kernel then closes their connections,
where a machine that loses its power would leave them open.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import ray
from mesh_site import Site
from ray.cluster_utils import Cluster

from ray_mesh import launch
from ray_mesh.actors.placement import node_name
from ray_mesh.demo.deployment import Deployment
from ray_mesh.launch import LaunchOptions, RunningMesh
from ray_mesh.sdk import AsyncMesh, Mesh
from ray_mesh.sdk.answers import Proxy

HEALTH_CHECKS = {
    # Ray then takes about 8 s to notice a node that crashed: longer than the mesh may take.
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 8,
}
PROXIES = 2
untyped_ray: Any = ray
"""Some of its functions have no annotations."""


@dataclass(slots=True)
class Nodes:
    """The cluster, and the mesh and Bookinfo on it."""

    cluster: Cluster
    site: Site

    @property
    def mesh(self) -> Mesh:
        """The client of the mesh."""
        return self.site.mesh

    def names(self) -> set[str]:
        """The nodes that Ray holds to be alive, as the mesh calls them."""
        return {node_name(row["NodeID"]) for row in untyped_ray.nodes() if row["Alive"]}

    def proxies(self, node: str) -> list[Proxy]:
        """The live proxies of a node."""
        return [one for one in self.mesh.proxies() if one.node == node]

    def is_covered(self, node: str) -> bool:
        """Whether the node has all its proxies, and each takes connections."""
        return [one.state for one in self.proxies(node)] == ["HEALTHY"] * PROXIES

    def add(self) -> tuple[Any, float]:
        """Add a node; returns it and when (monotonic) Ray was first seen to know it."""
        node = self.cluster.add_node(num_cpus=1, wait=False)
        while node_name(node.node_id) not in self.names():
            time.sleep(0.01)
        return node, time.monotonic()

    def crash(self, node: Any) -> float:
        """End every process of a node at once; returns when (monotonic)."""
        (raylet,) = node.all_processes["raylet"]
        victims = psutil.Process(raylet.process.pid).children(recursive=True)
        crashed_at = time.monotonic()
        raylet.process.kill()
        for victim in victims:
            try:
                victim.kill()
            except psutil.NoSuchProcess:
                continue
        self.cluster.remove_node(node, allow_graceful=False)
        return crashed_at


@contextmanager
def nodes_site(count: int, replicas: int) -> Iterator[Nodes]:
    """A cluster of ``count`` nodes, a mesh on it, and Bookinfo spread over it."""
    assert not ray.is_initialized(), "these tests bring a Ray cluster of their own"
    folder = Path(tempfile.mkdtemp(prefix="rmn-"))
    before = os.environ.get("RAY_TMPDIR")
    os.environ["RAY_TMPDIR"] = str(folder / "ray")
    (folder / "ray").mkdir()
    cluster: Any = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False, "_system_config": HEALTH_CHECKS},
    )
    try:
        for _ in range(count - 1):
            cluster.add_node(num_cpus=1, wait=False)
        cluster.wait_for_nodes()
        options = LaunchOptions(
            replicas=replicas, proxies=PROXIES, state_file=folder / "mesh.json", address=cluster.address
        )
        running = launch.start(options)
        try:
            deployment = asyncio.run(_deploy(running))
            with Mesh(running.state, timeout_s=30.0) as mesh:
                yield Nodes(cluster, Site(running, mesh, running.state.ingress["8080"], deployment))
        finally:
            running.stop()
    finally:
        untyped_ray.shutdown()
        cluster.shutdown()
        os.environ.pop("RAY_TMPDIR") if before is None else os.environ.update(RAY_TMPDIR=before)
        shutil.rmtree(folder, ignore_errors=True)


async def _deploy(running: RunningMesh) -> Deployment:
    async with AsyncMesh(running.state) as mesh:
        deployment = Deployment(mesh)
        await mesh.wait(await deployment.start(), timeout_s=30.0)
        return deployment
