"""What counts as an application, before and after it was sent to its process."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from aiohttp import web

from ray_mesh.errors import ConfigError
from ray_mesh.workload.hosting import check_app, host, resolve
from ray_mesh.workload.plan import ServePlan


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """The smallest ASGI application."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


class Callable3:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await asgi(scope, receive, send)


def make_aiohttp() -> web.Application:
    async def ok(request: web.Request) -> web.Response:
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_get("/", ok)
    return app


def make_asgi() -> Any:
    return asgi


@pytest.mark.parametrize(
    "app",
    [asgi, Callable3(), Callable3, make_asgi, make_aiohttp, f"{__name__}:asgi", f"{__name__}:make_aiohttp"],
)
async def test_every_form_of_an_application_is_served(app: Any) -> None:
    check_app(app)
    hosted, port = await host(resolve(app))
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/") as response:
            assert (response.status, await response.text()) == (200, "ok")
    finally:
        await hosted.stop(1.0)


@pytest.mark.parametrize("app", [web.Application(), 5, "no_colon", None])
def test_what_cannot_be_sent_is_refused_at_once(app: Any) -> None:
    with pytest.raises(ConfigError):
        check_app(app)


@pytest.mark.parametrize("app", ["no.such.module:app", f"{__name__}:nothing", lambda: 5])
def test_what_gives_no_application_is_told(app: Any) -> None:
    with pytest.raises(ConfigError, match=r"[Aa]pplication"):
        resolve(app)


@pytest.mark.parametrize(
    "wrong",
    [{"replicas": 0}, {"replicas": 100_000}, {"health_path": "healthz"}, {"num_cpus": -1}, {"drain_s": -1}],
)
def test_a_plan_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ServePlan("a", "v1", **wrong)
