"""Bookinfo's ratings service: ``GET`` and ``POST /ratings/{id}``, ratings kept in memory."""

from __future__ import annotations

import json

from aiohttp import web

from ray_mesh.demo.outgoing import answer_health

DEFAULT = {"Reviewer1": 5, "Reviewer2": 4}
MOST_PRODUCTS = 1000


class Ratings:
    """The ratings that people posted, by product."""

    def __init__(self) -> None:
        self._posted: dict[int, dict[str, int]] = {}

    async def get(self, request: web.Request) -> web.Response:
        product = _product(request)
        return web.json_response({"id": product, "ratings": self._posted.get(product, DEFAULT)})

    async def post(self, request: web.Request) -> web.Response:
        product = _product(request)
        if product not in self._posted and len(self._posted) >= MOST_PRODUCTS:
            raise web.HTTPInsufficientStorage(
                text='{"error": "too many products"}', content_type="application/json"
            )
        self._posted[product] = _stars(await request.text())
        return await self.get(request)


def app(version: str = "v1") -> web.Application:
    """The service. There is one version: every instance answers the same."""
    ratings = Ratings()
    application = web.Application(client_max_size=64 * 1024)
    application.add_routes(
        [
            web.get("/ratings/{id}", ratings.get),
            web.post("/ratings/{id}", ratings.post),
            web.get("/health", answer_health),
        ]
    )
    return application


def _product(request: web.Request) -> int:
    product = request.match_info["id"]
    if not product.isdecimal():
        raise _bad_request("please provide a numeric product id")
    return int(product)


def _stars(body: str) -> dict[str, int]:
    try:
        stars = json.loads(body)
    except ValueError:
        stars = None
    if not isinstance(stars, dict) or not all(type(count) is int for count in stars.values()):
        raise _bad_request('please provide ratings as {"Reviewer1": 5, "Reviewer2": 4}')
    return stars


def _bad_request(message: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=json.dumps({"error": message}), content_type="application/json")
