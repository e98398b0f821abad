"""One Bookinfo instance as a process: a Ray actor whose loop serves the app.

Attaching to a mesh needs the app's port first, and the app needs the mesh's proxy URL after that. So:
``start`` binds a port, the caller attaches it, and ``use_proxy`` sets ``http_proxy`` for the process,
which is all the app ever sees of the mesh.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web

from ray_mesh.demo.bookinfo import make_app
from ray_mesh.errors import ConfigError

if TYPE_CHECKING:
    import grpc.aio
    from ray.actor import ActorHandle

HOST = "127.0.0.1"
DRAIN_S = 1.0

Served = tuple[int, Callable[[], Awaitable[None]]]
"""A port, and what ends serving there."""


class AppProcess:
    """Serves one app on the loop that it is called from. It owns the environment of its process."""

    def __init__(self, service: str, version: str) -> None:
        self._service = service
        self._version = version
        self._stop: Callable[[], Awaitable[None]] | None = None
        self._port = 0

    async def start(self, port: int = 0, env: Mapping[str, str] | None = None) -> int:
        """Set ``env``, serve on loopback, and return the port (0 asks for a free one).

        Raises:
            ConfigError: it is started already, or Bookinfo has no such instance.
            OSError: the port is taken.
        """
        if self._stop is not None:
            raise ConfigError(f"{self._service}-{self._version} is started already, on port {self._port}")
        os.environ.update(env or {})
        app = make_app(self._service, self._version)
        self._port, self._stop = await (
            _serve(app, port) if isinstance(app, web.Application) else _serve_calls(app, port)
        )
        return self._port

    async def use_proxy(self, url: str) -> None:
        """Send what the app calls from now on through the proxy at ``url``.

        Loopback is left out: Ray's own connections on this machine must not take that way.
        """
        os.environ["no_proxy"] = f"{HOST},localhost"
        os.environ["http_proxy"] = url

    async def health(self) -> dict[str, Any]:
        """What runs here: ``service``, ``version``, ``port`` (0 when stopped) and ``pid``."""
        return {"service": self._service, "version": self._version, "port": self._port, "pid": os.getpid()}

    async def ray_node(self) -> str:
        """The id of the Ray node that the process is on."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    async def stop(self) -> None:
        """Stop serving; requests under way get :data:`DRAIN_S` seconds to end."""
        stop, self._stop, self._port = self._stop, None, 0
        if stop is not None:
            await stop()


def spawn(service: str, version: str) -> ActorHandle[AppProcess]:
    """Start an actor for one instance on the connected Ray cluster; it ends with its caller.

    Ray spreads them: each is put on the next node.
    """
    import ray

    actor = ray.remote(AppProcess).options(
        num_cpus=0, max_restarts=0, enable_task_events=False, scheduling_strategy="SPREAD"
    )
    return cast("ActorHandle[AppProcess]", actor.remote(service, version))


def end(process: ActorHandle[AppProcess]) -> None:
    """End an actor that :func:`spawn` started."""
    import ray

    ray.kill(process)


async def node_of(process: ActorHandle[AppProcess]) -> str:
    """What the mesh calls the node that ``process`` is on."""
    from ray_mesh.actors.placement import node_name

    return node_name(await process.ray_node.remote())


async def _serve(app: web.Application, port: int) -> Served:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=DRAIN_S)
    await runner.setup()
    listener = _bind(port)
    await web.SockSite(runner, listener).start()
    return listener.getsockname()[1], runner.cleanup


async def _serve_calls(server: grpc.aio.Server, port: int) -> Served:
    try:
        bound = server.add_insecure_port(f"{HOST}:{port}")
    except RuntimeError as error:
        raise OSError(str(error)) from error
    await server.start()
    return bound, lambda: server.stop(DRAIN_S)


def _bind(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError:
        listener.close()
        raise
    return listener
