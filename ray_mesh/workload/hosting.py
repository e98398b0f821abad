"""Runs one application on a free loopback port: aiohttp's own way, or ASGI by uvicorn."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import socket
from collections.abc import Callable
from typing import Any, Protocol

from aiohttp import web

from ray_mesh.errors import ConfigError, Unavailable

HOST = "127.0.0.1"
BACKLOG = 1024
START_TIMEOUT_S = 60.0
_ASGI_PARAMETERS = 3


class Hosted(Protocol):
    """An application that serves."""

    async def stop(self, drain_s: float) -> None:
        """Accept no more, give requests under way ``drain_s`` seconds, and end."""


def check_app(app: object) -> None:
    """Refuse what cannot be sent to another process, before anything is started.

    Raises:
        ConfigError: it is no application, nor a function or a name that gives one.
    """
    if isinstance(app, web.Application):
        raise ConfigError(
            "an aiohttp Application cannot be sent to another process: pass the function that makes it"
        )
    if isinstance(app, str) and ":" not in app:
        raise ConfigError(f"{app!r} does not name an application: use MODULE:NAME")
    if not isinstance(app, str) and not callable(app):
        raise ConfigError(f"{type(app).__name__} is neither an application nor a function that makes one")


def resolve(app: Any) -> Any:
    """The application itself: an aiohttp one, or a callable that speaks ASGI 3.

    Raises:
        ConfigError: what was named or made is neither.
    """
    made = _named(app) if isinstance(app, str) else app
    if not isinstance(made, web.Application) and not _is_asgi(made):
        made = made()
    if isinstance(made, web.Application) or _is_asgi(made):
        return made
    raise ConfigError(f"{app!r} gave {type(made).__name__}, which is neither an aiohttp Application nor ASGI")


async def host(app: Any) -> tuple[Hosted, int]:
    """Serve an application that :func:`resolve` gave; returns it with its port.

    Raises:
        ConfigError: it is ASGI and uvicorn is not installed.
        Unavailable: it did not start; its log has the reason.
    """
    listener = socket.socket()
    listener.bind((HOST, 0))
    try:
        hosted = await (_host_aiohttp if isinstance(app, web.Application) else _host_asgi)(app, listener)
    except BaseException:
        listener.close()
        raise
    return hosted, listener.getsockname()[1]


async def _host_aiohttp(app: web.Application, listener: socket.socket) -> Hosted:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener, backlog=BACKLOG).start()
    return _Aiohttp(runner)


class _Aiohttp:
    def __init__(self, runner: web.AppRunner) -> None:
        self._runner = runner

    async def stop(self, drain_s: float) -> None:
        """See :class:`Hosted`."""
        for site in self._runner.sites:
            await site.stop()
        server = self._runner.server
        if server is not None:
            server.pre_shutdown()
            await server.shutdown(drain_s)
        await self._runner.cleanup()


async def _host_asgi(app: Any, listener: socket.socket) -> Hosted:
    try:
        import uvicorn
    except ImportError as error:
        raise ConfigError("an ASGI application needs uvicorn: pip install 'ray-mesh[asgi]'") from error
    config = uvicorn.Config(app, log_config=None, access_log=False, backlog=BACKLOG, server_header=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="uvicorn")
    async with asyncio.timeout(START_TIMEOUT_S):
        while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.01)
    if serving.done():
        raise Unavailable("the application did not start; its log says why")
    return _Asgi(config, server, serving)


class _Asgi:
    def __init__(self, config: Any, server: Any, serving: asyncio.Task[None]) -> None:
        self._config = config
        self._server = server
        self._serving = serving

    async def stop(self, drain_s: float) -> None:
        """See :class:`Hosted`."""
        self._config.timeout_graceful_shutdown = max(1, round(drain_s))
        self._server.should_exit = True
        await self._serving


def _named(name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"there is no application {name!r}: {error}") from error


def _is_asgi(made: object) -> bool:
    if not callable(made) or inspect.isclass(made):
        return False
    call: Callable[..., Any] = made if inspect.isroutine(made) else made.__call__
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in positional for one in parameters) == _ASGI_PARAMETERS
