"""Bookinfo's reviews service: ``GET /reviews/{id}``. v1 has no stars, v2 black ones, v3 red ones.

The stars come from the ratings service. As in Istio's sample, v2 waits for them for 10 s, longer than
productpage waits for v2: delay ratings by some seconds and productpage gives up, which is what fault
injection is there to find. v3 waits 2.5 s and then answers without stars.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from ray_mesh.demo.outgoing import SESSION, address, answer_health, forwarded, get_json, open_session

TEXTS = (
    ("Reviewer1", "Two pairs of twins, one town, and not a dull minute: I laughed all evening."),
    ("Reviewer2", "Short and silly in the best way, though less deep than his later plays."),
)
COLORS = {"v2": "black", "v3": "red"}
PATIENCE_S = {"v2": 10.0, "v3": 2.5}
NO_RATINGS = "Ratings service is currently unavailable"


def app(version: str = "v1", ratings: str = address("ratings")) -> web.Application:
    """The service in ``version``, which finds ratings at the URL ``ratings``."""

    async def stars(request: web.Request, product: int) -> dict[str, Any]:
        status, answer = await get_json(
            request.app[SESSION],
            f"{ratings}/ratings/{product}",
            forwarded(request, "end-user"),
            PATIENCE_S[version],
        )
        return dict(answer["ratings"]) if status == 200 else {}

    async def reviews(request: web.Request) -> web.Response:
        product = request.match_info["id"]
        if not product.isdecimal():
            return web.json_response({"error": "please provide a numeric product id"}, status=400)
        written: list[dict[str, Any]] = [{"reviewer": name, "text": text} for name, text in TEXTS]
        if version in COLORS:
            ratings_by_name = await stars(request, int(product))
            for review in written:
                review["rating"] = _rating(ratings_by_name.get(review["reviewer"]), COLORS[version])
        return web.json_response(
            {"id": product, "podname": f"reviews-{version}", "version": version, "reviews": written}
        )

    application = web.Application()
    application.cleanup_ctx.append(open_session)
    application.add_routes([web.get("/reviews/{id}", reviews), web.get("/health", answer_health)])
    return application


def _rating(stars: int | None, color: str) -> dict[str, Any]:
    return {"error": NO_RATINGS} if stars is None else {"stars": stars, "color": color}
