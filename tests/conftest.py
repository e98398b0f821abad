"""What tests share: the loop of the data plane's tests, and one mesh with Bookinfo for tests/mesh."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop
from mesh_site import Site
from own_mesh import own_mesh

from ray_mesh import launch
from ray_mesh.demo.deployment import Deployment
from ray_mesh.launch import LaunchOptions, RunningMesh
from ray_mesh.sdk import AsyncMesh, Mesh

_WITH_A_MESH = ("cluster", "mesh", "chaos")

# Tests start processes while grpcio is in theirs, whose handlers of forks have aborted such a child.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The data plane is tested on uvloop, as in production (see pytest-asyncio)."""
    if item.path.name.startswith("test_proxy_"):
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts a whole mesh comes last: it runs until the end, and takes processor time from the rest."""
    items.sort(
        key=lambda item: (
            _WITH_A_MESH.index(folder) if (folder := item.path.parent.name) in _WITH_A_MESH else -1
        )
    )


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two of each role, two proxies, and certificates of 20 seconds."""
    folder: Path = tmp_path_factory.mktemp("mesh")
    options = LaunchOptions(replicas=2, proxies=2, svid_ttl_s=20, state_file=folder / "mesh.json")
    running = launch.start(options)
    try:
        deployment = asyncio.run(_deploy(running))
        with Mesh(running.state, timeout_s=30.0) as mesh:
            yield Site(running, mesh, running.state.ingress["8080"], deployment)
    finally:
        running.stop()


@pytest.fixture(scope="session")
def breakable() -> Iterator[Site]:
    """Two of each role, two proxies, and certificates of an hour, for tests/chaos. It has its Ray in another
    process, so that no other test finds one here."""
    with own_mesh() as site:
        yield site


async def _deploy(running: RunningMesh) -> Deployment:
    async with AsyncMesh(running.state) as mesh:
        deployment = Deployment(mesh)
        await mesh.wait(await deployment.start(), timeout_s=30.0)
        return deployment
