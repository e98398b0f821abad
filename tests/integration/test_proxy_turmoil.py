"""Everything at once: retries, their timeouts, breakers and outlier detection under failures, and nothing
that is counted is lost."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter

from proxy_mesh import Client, Mesh, mesh, request_bytes, until  # noqa: F401
from routing_mesh import client, host_of
from rule_mesh import answer, apply_rule

# ruff: noqa: F811

POLICY = (
    "{connectionPool: {tcp: {maxConnections: 3}, http: {http1MaxPendingRequests: 6, http2MaxRequests: 12, "
    "maxRequestsPerConnection: 7}}, retryBudget: {percent: 50, minRetryConcurrency: 2}, "
    "outlierDetection: {consecutive5xxErrors: 6, interval: 50ms, "
    "baseEjectionTime: 60ms, maxEjectionPercent: 50}}"
)
ROUTE = (
    "[{retries: {attempts: 3, retryOn: '5xx,reset', perTryTimeout: 150ms, backoff: 1ms}, timeout: 700ms, "
    "route: [{destination: {host: reviews}}]}]"
)


async def test_nothing_that_is_counted_is_lost(mesh: Mesh) -> None:
    draw = random.Random(1)
    port = await client(mesh)
    names = [f"v{number}" for number in range(3)]
    for name in names:
        app = await mesh.app(name)

        async def serve(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, app: object = app
        ) -> None:
            while True:
                await app.read(reader)  # type: ignore[attr-defined]
                luck = draw.random()
                if luck < 0.1:
                    return
                if luck < 0.2:
                    await asyncio.sleep(0.3)
                if luck < 0.25:
                    writer.write(answer(503, b"x" * 50)[:-20])
                    await writer.drain()
                    return
                writer.write(answer(503 if luck < 0.4 else 200, b"said"))
                await writer.drain()

        app._handler = serve
        await mesh.workload(f"reviews-{name}", app.port, services=(host_of("reviews"),))
    mesh.service("reviews", [mesh.endpoint(f"reviews-{name}") for name in names])
    apply_rule(mesh, POLICY, http=ROUTE)
    seen: Counter[int] = Counter()

    async def call() -> None:
        for _ in range(8):
            one = await Client.connect(port)
            body = b"b" * draw.choice([0, 10, 5000])
            await one.send(request_bytes(draw.choice(["GET", "POST"]), "/", "reviews", body))
            if draw.random() < 0.2:
                await asyncio.sleep(draw.random() * 0.1)
            else:
                with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                    seen[(await one.answer()).status] += 1
            await one.close()

    async def change() -> None:
        for number in range(20):
            apply_rule(
                mesh, POLICY.replace("maxConnections: 3", f"maxConnections: {2 + number % 2}"), http=ROUTE
            )
            await asyncio.sleep(0.03)

    await asyncio.gather(*(call() for _ in range(12)), change())
    assert seen[200] > 20, seen
    plane = mesh.planes["one"]
    destination = plane._registry.find(host_of("reviews"))
    assert destination is not None
    assert destination.members is not None
    members = destination.members.values()
    (breaker,) = destination._breakers.values()
    await until(lambda: breaker.requests == 0, "every request is over")
    assert (breaker.pending, breaker.retries, len(breaker.waiting)) == (0, 0, 0)
    assert [member.active for member in members] == [0, 0, 0]
    source = plane._hosting.locals["workload.default.client"].source
    await until(
        lambda: breaker.connections == sum(pool.count for pool in source._limited.values()),
        "connections are counted alike",
    )
    assert breaker.connections <= 3
    source.retire()
    await until(lambda: breaker.connections == 0, "every connection is counted down")
