"""Bookinfo's productpage: the page that people open, and a small JSON API beside it.

A failing service costs its part of the page, not the page: it is answered with 200 and says which part
is missing, as in Istio's sample. Calls are given 3 s, those for reviews and recommendations twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from aiohttp import web

from ray_mesh.demo import pages
from ray_mesh.demo.outgoing import (
    SERVICE_PORT,
    SESSION,
    address,
    answer_health,
    forwarded,
    get_json,
    open_session,
)

if TYPE_CHECKING:
    from ray_mesh.demo.recommendations import Channel

TIMEOUT_S = 3.0
COOKIE = "session"
LONGEST_USER = 64


class Sessions:
    """Signed cookies that say who is logged in. The key lives as long as the process."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def cookie(self, user: str) -> str:
        """The cookie value for ``user``."""
        name = user.encode().hex()
        return f"{name}.{self._sign(name)}"

    def user(self, request: web.Request) -> str:
        """Who sent the request; empty without a cookie or with one that was not made here."""
        name, _, signature = request.cookies.get(COOKIE, "").rpartition(".")
        if not name or not hmac.compare_digest(signature.encode(), self._sign(name).encode()):
            return ""
        return bytes.fromhex(name).decode()

    def _sign(self, name: str) -> str:
        return hmac.new(self._key, name.encode(), hashlib.sha256).hexdigest()


class ProductPage:
    """The handlers, with the URLs of the services that they call, and the one that speaks gRPC."""

    def __init__(self, details: str, reviews: str, ratings: str, recommendations: Channel | None) -> None:
        self._urls = {"details": details, "reviews": reviews, "ratings": ratings}
        self._recommendations = recommendations
        self._sessions = Sessions()

    async def show_page(self, request: web.Request) -> web.Response:
        details, reviews, recommended = await asyncio.gather(
            self._fetch(request, "details", "0"),
            self._fetch(request, "reviews", "0", attempts=2),
            self._recommend(request, 0),
        )
        page = pages.product_page(details, reviews, self._sessions.user(request), recommended)
        return web.Response(text=page, content_type="text/html")

    async def log_in(self, request: web.Request) -> web.Response:
        user = str((await request.post()).get("username", "")).strip()
        if not user or len(user) > LONGEST_USER or not user.isprintable() or not user.isascii():
            raise web.HTTPBadRequest(text="username: 1 to 64 printable ASCII characters")
        response = web.HTTPFound("/productpage")
        response.set_cookie(COOKIE, self._sessions.cookie(user), httponly=True, samesite="Lax")
        raise response

    async def log_out(self, request: web.Request) -> web.Response:
        response = web.HTTPFound("/productpage")
        response.del_cookie(COOKIE)
        raise response

    async def list_products(self, request: web.Request) -> web.Response:
        return web.json_response([pages.PRODUCT])

    async def show_product(self, request: web.Request) -> web.Response:
        return await self._relay(request, "details")

    async def show_reviews(self, request: web.Request) -> web.Response:
        return await self._relay(request, "reviews", attempts=2)

    async def show_ratings(self, request: web.Request) -> web.Response:
        return await self._relay(request, "ratings")

    async def _relay(self, request: web.Request, service: str, attempts: int = 1) -> web.Response:
        status, body = await self._fetch(request, service, request.match_info["id"], attempts)
        return web.json_response(body, status=status)

    async def _fetch(
        self, request: web.Request, service: str, product: str, attempts: int = 1
    ) -> tuple[int, Any]:
        headers = self._forwarded(request)
        status = 503
        for _ in range(attempts):
            url = f"{self._urls[service]}/{service}/{product}"
            status, body = await get_json(request.app[SESSION], url, headers, TIMEOUT_S)
            if status == 200:
                return status, body
        return status, {"error": f"Sorry, product {service} are currently unavailable for this book."}

    async def _recommend(self, request: web.Request, product: int) -> pages.Answer | None:
        if self._recommendations is None:
            return None
        headers = self._forwarded(request).items()
        metadata = {name: value for name, value in headers if value.isascii() and value.isprintable()}
        metadata.pop("user-agent", None)  # grpcio has its own
        return await self._recommendations.recommend(product, metadata, TIMEOUT_S)

    def _forwarded(self, request: web.Request) -> dict[str, str]:
        headers = forwarded(request)
        if user := self._sessions.user(request):
            headers["end-user"] = user
        return headers

    async def close(self, application: web.Application) -> None:
        if self._recommendations is not None:
            await self._recommendations.close()


def app(
    version: str = "v1",
    details: str = address("details"),
    reviews: str = address("reviews"),
    ratings: str = address("ratings"),
    recommendations: str = f"recommendations:{SERVICE_PORT}",
) -> web.Application:
    """The service (there is one version), with the URLs of the services that it calls.

    ``recommendations`` is ``host:port``; nobody is asked for them where it is empty or grpcio is missing.
    """
    page = ProductPage(details, reviews, ratings, _channel(recommendations))
    application = web.Application(client_max_size=64 * 1024)
    application.cleanup_ctx.append(open_session)
    application.on_cleanup.append(page.close)
    application.add_routes(
        [
            web.get("/", _go_to_page),
            web.get("/productpage", page.show_page),
            web.post("/login", page.log_in),
            web.get("/logout", page.log_out),
            web.get("/api/v1/products", page.list_products),
            web.get(r"/api/v1/products/{id:\d+}", page.show_product),
            web.get(r"/api/v1/products/{id:\d+}/reviews", page.show_reviews),
            web.get(r"/api/v1/products/{id:\d+}/ratings", page.show_ratings),
            web.get("/static/bookinfo.css", _show_style),
            web.get("/health", answer_health),
        ]
    )
    return application


def _channel(target: str) -> Channel | None:
    if not target or find_spec("grpc") is None:
        return None
    from ray_mesh.demo.recommendations import Channel

    return Channel(target)


async def _go_to_page(request: web.Request) -> web.Response:
    raise web.HTTPFound("/productpage")


async def _show_style(request: web.Request) -> web.Response:
    return web.Response(text=pages.STYLE, content_type="text/css")
