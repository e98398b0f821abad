"""Bookinfo's details service: ``GET /details/{id}``."""

from __future__ import annotations

from aiohttp import web

from ray_mesh.demo.outgoing import answer_health


def app(version: str = "v1") -> web.Application:
    """The service; both versions know the same book, v2 from its second edition."""

    async def details(request: web.Request) -> web.Response:
        product = request.match_info["id"]
        if not product.isdecimal():
            return web.json_response({"error": "please provide a numeric product id"}, status=400)
        return web.json_response(
            {
                "id": int(product),
                "author": "William Shakespeare",
                "year": 1595,
                "type": "paperback",
                "pages": 200 if version == "v1" else 216,
                "publisher": "PublisherA",
                "language": "English",
                "ISBN-10": "1234567890",
                "ISBN-13": "123-1234567890",
                "version": version,
            }
        )

    application = web.Application()
    application.add_routes([web.get("/details/{id}", details), web.get("/health", answer_health)])
    return application
