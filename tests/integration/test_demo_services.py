"""Bookinfo on real loopback sockets: its services calling each other directly, and through a proxy."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from ray_mesh.demo import details, load, pages, productpage, ratings, recommendations, reviews
from ray_mesh.demo.load import Load
from ray_mesh.demo.process import AppProcess
from ray_mesh.errors import ConfigError, Unavailable


class Host:
    """Serves apps on free loopback ports until it is closed."""

    def __init__(self) -> None:
        self._runners: list[web.AppRunner] = []

    async def serve(self, app: web.Application) -> str:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self._runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def close(self) -> None:
        for runner in self._runners:
            await runner.cleanup()


@dataclass
class Seen:
    """What a recording stand-in of a service was sent."""

    requests: list[web.Request] = field(default_factory=list)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    host = Host()
    yield host
    await host.close()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session


async def bookinfo(
    host: Host, reviews_version: str = "v2", ratings_url: str = "", recommendations_at: str = ""
) -> str:
    """Details, reviews and ratings behind a productpage, whose URL is returned."""
    ratings_url = ratings_url or await host.serve(ratings.app())
    return await host.serve(
        productpage.app(
            details=await host.serve(details.app()),
            reviews=await host.serve(reviews.app(reviews_version, ratings=ratings_url)),
            ratings=ratings_url,
            recommendations=recommendations_at,
        )
    )


def recorder(seen: Seen, answer: web.Application) -> web.Application:
    """``answer``, with every request noted in ``seen``."""

    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        seen.requests.append(request)
        return await handler(request)

    answer.middlewares.append(note)
    return answer


@pytest.mark.parametrize(("version", "stars", "color"), [("v1", 0, ""), ("v2", 9, "black"), ("v3", 9, "red")])
async def test_the_page_shows_the_stars_of_its_reviews_version(
    host: Host, client: aiohttp.ClientSession, version: str, stars: int, color: str
) -> None:
    async with client.get(f"{await bookinfo(host, version)}/productpage") as response:
        page = await response.text()
    assert response.status == 200
    assert "William Shakespeare" in page
    assert f'<section id="reviews" data-version="{version}">' in page
    assert page.count("\u2605") == stars
    assert f'class="{color}"' in page if color else "\u2605" not in page


async def test_the_api_answers_with_what_the_services_say(host: Host, client: aiohttp.ClientSession) -> None:
    base = f"{await bookinfo(host)}/api/v1/products"
    async with client.get(base) as response:
        assert [product["id"] for product in await response.json()] == [0]
    async with client.get(f"{base}/0") as response:
        assert (await response.json())["author"] == "William Shakespeare"
    async with client.get(f"{base}/0/ratings") as response:
        assert await response.json() == {"id": 0, "ratings": {"Reviewer1": 5, "Reviewer2": 4}}
    async with client.get(f"{base}/0/reviews") as response:
        answer = await response.json()
    assert (answer["version"], answer["podname"]) == ("v2", "reviews-v2")
    assert [review["rating"]["stars"] for review in answer["reviews"]] == [5, 4]
    async with client.get(f"{base}/none") as response:
        assert response.status == 404


async def test_a_login_is_forwarded_as_end_user_down_to_ratings(
    host: Host, client: aiohttp.ClientSession
) -> None:
    seen = Seen()
    base = await bookinfo(host, ratings_url=await host.serve(recorder(seen, ratings.app())))
    trace = {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01", "x-request-id": "r-1"}
    async with client.get(f"{base}/productpage", headers={**trace, "end-user": "mallory"}):
        assert "end-user" not in seen.requests[-1].headers
    async with client.post(f"{base}/login", data={"username": "jason"}, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (302, "/productpage")
    async with client.get(f"{base}/productpage", headers=trace) as response:
        assert "jason" in await response.text()
    assert seen.requests[-1].headers["end-user"] == "jason"
    assert {name: seen.requests[-1].headers[name] for name in trace} == trace
    async with client.get(f"{base}/logout"):
        assert "end-user" not in seen.requests[-1].headers


@pytest.mark.parametrize(
    "cookie", ["6a61736f6e", "6a61736f6e.", "6a61736f6e." + "0" * 64, ".", "\u00e9.\u00e9"]
)
async def test_a_cookie_that_was_not_signed_here_is_nobody(
    host: Host, client: aiohttp.ClientSession, cookie: str
) -> None:
    headers = {"cookie": f"session={cookie}"}
    async with client.get(f"{await bookinfo(host)}/productpage", headers=headers) as response:
        assert response.status == 200
        assert "sign out" not in await response.text()


async def test_without_reviews_and_details_the_page_says_so_and_is_still_a_page(
    host: Host, client: aiohttp.ClientSession, unused_tcp_port: int
) -> None:
    nobody = f"http://127.0.0.1:{unused_tcp_port}"
    target = nobody.removeprefix("http://")
    app = productpage.app(details=nobody, reviews=nobody, ratings=nobody, recommendations=target)
    base = await host.serve(app)
    async with client.get(f"{base}/productpage") as response:
        page = await response.text()
    assert response.status == 200
    assert pages.DETAILS_ERROR in page
    assert pages.REVIEWS_ERROR in page
    assert pages.RECOMMENDATIONS_ERROR in page
    assert "UNAVAILABLE" in page
    async with client.get(f"{base}/api/v1/products/0/reviews") as response:
        assert response.status == 503


async def test_reviews_are_tried_twice_and_details_once(host: Host, client: aiohttp.ClientSession) -> None:
    seen = Seen()
    failing = await host.serve(recorder(seen, web.Application()))
    app = productpage.app(details=failing, reviews=failing, ratings=failing, recommendations="")
    base = await host.serve(app)
    async with client.get(f"{base}/productpage"):
        paths = sorted(request.path for request in seen.requests)
    assert paths == ["/details/0", "/reviews/0", "/reviews/0"]


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_recommendations_come_by_grpc(host: Host, client: aiohttp.ClientSession, version: str) -> None:
    process = AppProcess("recommendations", version)
    port = await process.start()
    try:
        base = await bookinfo(host, recommendations_at=f"127.0.0.1:{port}")
        hostile = {"cookie": "\u00e9=1", "x-request-id": "r-1"}
        async with client.get(f"{base}/productpage", headers=hostile) as response:
            page = await response.text()
        assert (response.status, load.read_page(200, page).problem) == (200, "")
        assert f'<section id="recommendations" data-version="{version}">' in page
        assert page.count("<li>") == len(recommendations.TITLES[version])
        with pytest.raises(OSError, match=str(port)):
            await AppProcess("recommendations", "v1").start(port)
    finally:
        await process.stop()


async def test_ratings_can_be_posted_and_are_validated(host: Host, client: aiohttp.ClientSession) -> None:
    url = f"{await host.serve(ratings.app())}/ratings/7"
    async with client.post(url, json={"Reviewer1": 1}) as response:
        assert await response.json() == {"id": 7, "ratings": {"Reviewer1": 1}}
    for body in ("no json", "[]", '{"Reviewer1": "5"}', '{"Reviewer1": true}'):
        async with client.post(url, data=body) as response:
            assert response.status == 400
    async with client.get(f"{url}x") as response:
        assert response.status == 400


async def test_calls_go_through_http_proxy_with_its_token(
    host: Host, client: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    seen = Seen()
    proxy = await host.serve(recorder(seen, ratings.app()))
    process = AppProcess("reviews", "v3")
    port = await process.start()
    try:
        await process.use_proxy(proxy.replace("http://", "http://reviews-v3:secret@"))
        async with client.get(f"http://127.0.0.1:{port}/reviews/0") as response:
            answer = await response.json()
        assert [review["rating"]["stars"] for review in answer["reviews"]] == [5, 4]
        assert (await process.health())["port"] == port
        with pytest.raises(ConfigError, match=f"started already, on port {port}"):
            await process.start()
    finally:
        await process.stop()
    (request,) = seen.requests
    assert request.headers["Host"] == "ratings:9080"
    token = request.headers["Proxy-Authorization"].removeprefix("Basic ")
    assert base64.b64decode(token) == b"reviews-v3:secret"
    assert (await process.health())["port"] == 0


async def test_the_load_counts_views_versions_and_failures(host: Host) -> None:
    load = Load(await bookinfo(host, "v3"), rate=100.0)
    try:
        await load.open(deadline_s=5.0)
        await load.run(duration_s=0.3)
    finally:
        await load.close()
    assert 0 < load.tally.requests == load.tally.reviews_split["v3"] <= 30
    assert load.tally.failures == 0


async def test_the_load_gives_up_with_the_last_cause(host: Host, unused_tcp_port: int) -> None:
    nobody = f"http://127.0.0.1:{unused_tcp_port}"
    load = Load(await host.serve(productpage.app(nobody, nobody, nobody)))
    try:
        with pytest.raises(
            Unavailable, match=r"did not answer whole in 0\.1 s: Error fetching product details"
        ):
            await load.open(deadline_s=0.1)
    finally:
        await load.close()


async def test_a_cancelled_load_leaves_nothing_behind(host: Host) -> None:
    load = Load(await bookinfo(host), rate=200.0)
    try:
        await load.open(deadline_s=5.0)
        running = asyncio.create_task(load.run())
        async with asyncio.timeout(10):
            while load.tally.requests < 10:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    finally:
        await load.close()
    assert [task for task in asyncio.all_tasks() if "_count_view" in repr(task)] == []
