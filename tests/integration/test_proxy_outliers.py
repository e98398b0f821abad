"""Outlier detection with real traffic."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

from proxy_mesh import App, Client, Mesh, fetch, free_port, mesh, request_bytes  # noqa: F401
from routing_mesh import client, host_of
from rule_mesh import answer, apply_rule

# ruff: noqa: F811


class Moody:
    """An application whose status can be changed."""

    def __init__(self, mesh: Mesh, name: str) -> None:
        self.mesh = mesh
        self.name = name
        self.status = 200
        self.app: App

    async def start(self) -> None:
        """Run it as a workload of its own."""
        self.app = await self.mesh.app(self.name, self.serve)
        services = (host_of("reviews"),)
        await self.mesh.workload(f"reviews-{self.name}", self.app.port, services=services)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        while True:
            await self.app.read(reader)
            if self.status == 0:
                return
            writer.write(answer(self.status, self.name.encode()))
            await writer.drain()


async def moody(mesh: Mesh, policy: str, count: int = 2) -> tuple[int, list[Moody]]:
    """The client's port and applications behind ``reviews``."""
    port = await client(mesh)
    apps = [Moody(mesh, f"v{number}") for number in range(count)]
    for app in apps:
        await app.start()
    mesh.service("reviews", [mesh.endpoint(f"reviews-{app.name}") for app in apps])
    apply_rule(mesh, policy)
    return port, apps


async def seen(port: int, count: int) -> Counter[tuple[int, str]]:
    """Statuses, and who answered, or the reason."""
    one = await Client.connect(port)
    found: Counter[tuple[int, str]] = Counter()
    for _ in range(count):
        await one.send(request_bytes("GET", "/", "reviews"))
        said = await one.answer()
        found[said.status, said.body.decode() if said.field("x-mesh-flag") is None else "own"] += 1
    await one.close()
    return found


def outliers(
    ejection: str = "60s", percent: int = 100, errors: str = "consecutive5xxErrors: 3", more: str = ""
) -> str:
    """A traffic policy."""
    fields = f"{errors}, interval: 100ms, baseEjectionTime: {ejection}, maxEjectionPercent: {percent}{more}"
    return f"{{outlierDetection: {{{fields}}}}}"


async def test_an_endpoint_that_fails_is_left_out_and_comes_back(mesh: Mesh) -> None:
    port, (_, bad) = await moody(mesh, outliers(ejection="2s"))
    bad.status = 500
    found = await seen(port, 60)
    assert found == {(500, "v1"): 3, (200, "v0"): 57}
    bad.status = 200
    async with asyncio.timeout(10):
        while (await seen(port, 10))[200, "v1"] == 0:
            await asyncio.sleep(0.05)


async def test_changes_of_the_service_forgive_nothing(mesh: Mesh) -> None:
    port, (_, bad) = await moody(mesh, outliers())
    bad.status = 503
    assert (await seen(port, 40))[503, "v1"] == 3
    apply_rule(mesh, outliers(ejection="30s"))
    assert await seen(port, 20) == {(200, "v0"): 20}


async def test_gateway_errors_count_for_themselves(mesh: Mesh) -> None:
    port, (_, bad) = await moody(
        mesh, outliers(errors="consecutive5xxErrors: 0, consecutiveGatewayErrors: 2")
    )
    bad.status = 500
    assert (await seen(port, 40))[500, "v1"] > 5
    bad.status = 502
    assert (await seen(port, 40))[502, "v1"] == 2


async def test_the_percentage_keeps_the_rest_and_all_of_them_may_be_out(mesh: Mesh) -> None:
    port, apps = await moody(mesh, outliers(percent=50))
    for app in apps:
        app.status = 500
    found = await seen(port, 60)
    assert min(found.values()) < 12, "one of two was left out, the other serves on"
    assert sum(found.values()) == 60
    apply_rule(mesh, outliers())
    await seen(port, 10)
    refused = await fetch(port, "/", "reviews")
    assert (refused.status, refused.field("x-mesh-flag")) == (503, "UH")
    assert refused.json()["error"] == "all_endpoints_ejected"
    apply_rule(mesh, outliers(more=", minHealthPercent: 50"))
    assert {status for status, _ in await seen(port, 10)} == {500}, "panic: all are used"


async def test_failures_of_this_side(mesh: Mesh) -> None:
    split = ", splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2"
    port, _ = await moody(mesh, "{}")
    dead = replace(mesh.endpoint("reviews-v1"), port=free_port())
    mesh.service("reviews", [mesh.endpoint("reviews-v0"), dead])
    never_again = "[{retries: {attempts: 0}, route: [{destination: {host: reviews}}]}]"
    apply_rule(mesh, outliers(more=split), http=never_again)
    assert await seen(port, 40) == {(503, "own"): 2, (200, "v0"): 38}


async def test_timeouts_count(mesh: Mesh) -> None:
    port, (_, slow) = await moody(mesh, "{}")
    never = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await slow.app.read(reader)
        await never.wait()

    slow.app._handler = serve
    soon = "[{timeout: 150ms, route: [{destination: {host: reviews}}]}]"
    apply_rule(mesh, outliers(errors="consecutive5xxErrors: 2"), http=soon)
    assert await seen(port, 20) == {(504, "own"): 2, (200, "v0"): 18}
