"""How a Bookinfo service calls another: plain aiohttp, which honours ``http_proxy``.

This is all that the services know of a mesh. The names that they call (``http://reviews:9080``) mean
something only to the proxy behind ``http_proxy``; without it they are looked up as any other host.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
from aiohttp import web

FORWARDED = (
    "x-request-id",
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "user-agent",
    "cookie",
    "authorization",
)
"""Headers that every service passes on, so that a trace stays whole."""

SESSION: web.AppKey[aiohttp.ClientSession] = web.AppKey("session", aiohttp.ClientSession)
SERVICE_PORT = 9080


def address(service: str) -> str:
    """Where a service is found unless it is told otherwise."""
    return f"http://{service}:{SERVICE_PORT}"


def forwarded(request: web.Request, *also: str) -> dict[str, str]:
    """The headers of ``request`` that travel on: :data:`FORWARDED` and the names in ``also``."""
    return {name: request.headers[name] for name in (*FORWARDED, *also) if name in request.headers}


async def open_session(app: web.Application) -> AsyncIterator[None]:
    """Cleanup context of an app: one client session, without a cookie jar (cookies are the callers')."""
    session = aiohttp.ClientSession(trust_env=True, cookie_jar=aiohttp.DummyCookieJar())
    app[SESSION] = session
    yield
    await session.close()


async def get_json(
    session: aiohttp.ClientSession, url: str, headers: Mapping[str, str], timeout_s: float
) -> tuple[int, Any]:
    """GET ``url``: its status and its JSON, or ``(503, None)`` when no usable answer came in time."""
    try:
        async with session.get(
            url, headers=headers, timeout=aiohttp.ClientTimeout(total=timeout_s)
        ) as response:
            return response.status, await response.json() if response.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return 503, None


async def answer_health(request: web.Request) -> web.Response:
    """``GET /health`` of every service."""
    return web.json_response({"status": "healthy"})
