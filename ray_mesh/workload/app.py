"""One replica of an application: a Ray actor that serves it on loopback and knows nothing of the mesh."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import aiohttp

from ray_mesh.sdk.attachment import NOT_PROXIED
from ray_mesh.workload.hosting import HOST, Hosted, host, resolve

HEALTH_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Serving:
    """Where a replica runs: the id of its Ray node, its loopback port, its process."""

    ray_node: str
    port: int
    pid: int


class AppActor:
    """Serves one application on the loop of its actor. It owns the environment of its process."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._hosted: Hosted | None = None
        self._port = 0

    async def start(self) -> Serving:
        """Serve, if it does not yet.

        Raises:
            MeshError: it is no application, or did not start.
        """
        import ray

        if self._hosted is None:
            self._hosted, self._port = await host(resolve(self._app))
        return Serving(ray.get_runtime_context().get_node_id(), self._port, os.getpid())

    async def use_proxy(self, url: str) -> None:
        """Send what the application calls from now on through its proxy. Loopback is left out."""
        set_proxy(url)

    async def problem(self, path: str) -> str:
        """Empty when healthy: it answers, and ``path`` (if any) with less than 400. Else what is wrong."""
        if not path:
            return ""
        timeout = aiohttp.ClientTimeout(total=HEALTH_TIMEOUT_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
                session.get(f"http://{HOST}:{self._port}{path}", allow_redirects=False) as response,
            ):
                return "" if response.status < 400 else f"{path} answers {response.status}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"{path} does not answer: {error or 'timeout'}"

    async def stop(self, drain_s: float) -> None:
        """Give requests under way ``drain_s`` seconds and end serving."""
        hosted, self._hosted = self._hosted, None
        if hosted is not None:
            await hosted.stop(drain_s)


def set_proxy(url: str) -> None:
    """What HTTP clients of this process read: all but loopback goes through ``url``."""
    os.environ.update(http_proxy=url, HTTP_PROXY=url, no_proxy=NOT_PROXIED, NO_PROXY=NOT_PROXIED)
