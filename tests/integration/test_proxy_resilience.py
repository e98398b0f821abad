"""Retries, ejection, timeouts, faults, splits."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace

import pytest
from proxy_mesh import Client, Mesh, fetch, free_port, host_of, mesh, request_bytes, until  # noqa: F401

from ray_mesh import snapshot
from ray_mesh.snapshot import Destination, Fault, NamedMatch, RequestMatch, Route, StringMatch, Subset

# ruff: noqa: F811


async def versions(mesh: Mesh, count: int = 2) -> int:
    """Workloads reviews-v1, reviews-v2 ... behind one service; the client's outbound port."""
    port = await mesh.workload("client", free_port(), node="one")
    endpoints = []
    for number in range(1, count + 1):
        app = await mesh.app(f"v{number}")
        await mesh.workload(
            f"reviews-v{number}", app.port, labels={"app": "reviews", "version": f"v{number}"}
        )
        endpoints.append(mesh.endpoint(f"reviews-v{number}"))
    mesh.service("reviews", endpoints)
    return port


def subsets() -> tuple[Subset, ...]:
    return tuple(Subset(name, (("version", name),)) for name in ("v1", "v2"))


async def apps(port: int, count: int, user: str = "nobody") -> Counter[str]:
    """Which application answered, over one connection."""
    client = await Client.connect(port)
    seen: Counter[str] = Counter()
    for _ in range(count):
        await client.send(request_bytes("GET", "/", "reviews", end_user=user))
        seen[(await client.answer()).json()["app"]] += 1
    await client.close()
    return seen


async def test_split_and_header_match_choose_subsets(mesh: Mesh) -> None:
    port = await versions(mesh)
    host = host_of("reviews")
    jason = RequestMatch(headers=(NamedMatch("end-user", StringMatch("exact", "jason")),))
    split = (Destination(host, "v1", weight=75), Destination(host, "v2", weight=25))
    routes = (Route("jason", "", (jason,), (Destination(host, "v2"),)), Route("rest", "", (), split))
    mesh.service(
        "reviews",
        [mesh.endpoint("reviews-v1"), mesh.endpoint("reviews-v2")],
        routes=routes,
        subsets=subsets(),
    )
    assert await apps(port, 10, user="jason") == {"v2": 10}
    seen = await apps(port, 200)
    assert 110 <= seen["v1"] <= 185
    assert {each.edge.route for each in mesh.planes["one"].series.totals()} == {"jason", "rest"}


async def test_no_route_and_no_subset(mesh: Mesh) -> None:
    port = await versions(mesh, 1)
    endpoints = [mesh.endpoint("reviews-v1")]
    only_api = RequestMatch(uri=StringMatch("prefix", "/api"))
    mesh.service(
        "reviews", endpoints, routes=(Route("api", "", (only_api,), (Destination(host_of("reviews")),)),)
    )
    answer = await fetch(port, "/other", "reviews")
    assert (answer.status, answer.json()["flag"]) == (404, "NR")
    mesh.service("reviews", endpoints, routes=(Route("x", "", (), (Destination(host_of("reviews"), "v9"),)),))
    answer = await fetch(port, "/", "reviews")
    assert (answer.status, answer.json()["error"]) == (503, "no_such_subset")
    mesh.service("reviews", [])
    answer = await fetch(port, "/", "reviews")
    assert (answer.status, answer.json()["flag"]) == (503, "UH")


async def test_a_dead_endpoint_costs_no_request_and_is_ejected(mesh: Mesh) -> None:
    port = await versions(mesh, 1)
    live = mesh.endpoint("reviews-v1")
    dead = replace(live, workload="default/dead", port=free_port())
    mesh.service("reviews", [live, dead])
    assert await apps(port, 30) == {"v1": 30}
    answer = await fetch(port, "/", "reviews", "POST", b"not idempotent, but never sent twice")
    assert answer.status == 200
    mesh.service("reviews", [dead])
    answer = await fetch(port, "/", "reviews")
    assert (answer.status, answer.json()["flag"]) == (503, "UF")
    assert "default/dead" in answer.json()["message"]


async def test_a_wrong_identity_is_never_talked_to(mesh: Mesh) -> None:
    port = await versions(mesh, 1)
    wrong = replace(mesh.endpoint("reviews-v1"), identity="spiffe://mesh.local/ns/default/sa/other")
    mesh.service("reviews", [wrong])
    answer = await fetch(port, "/", "reviews")
    assert answer.status == 503
    assert "must be spiffe://mesh.local/ns/default/sa/other" in answer.json()["message"]
    assert mesh.apps[0].heads == []


async def test_a_reused_connection_that_died_is_retried_when_that_is_safe(mesh: Mesh) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await app.read(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        await app.read(reader)  # then the connection ends without an answer

    port, app = await mesh.pair(serve)
    client = await Client.connect(port)
    for number in range(4):
        await client.send(request_bytes("PUT", f"/{number}", "reviews", b"body"))
        assert (await client.answer()).status == 200
    assert app.connections == 4
    await client.send(request_bytes("POST", "/post", "reviews", b"body"))
    answer = await client.answer()
    assert (answer.status, answer.json()["flag"]) == (503, "UC")
    assert sum(head.startswith(b"POST") for head in app.heads) == 1
    await client.close()


async def test_nothing_is_sent_twice_after_a_response_began(mesh: Mesh) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await app.read(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx")
        await writer.drain()

    port, app = await mesh.pair(serve)
    client = await Client.connect(port)
    await client.send(request_bytes("GET", "/", "reviews"))
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await client.answer()
    assert len(app.heads) == 1
    await client.close()


async def test_timeouts(mesh: Mesh) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await app.read(reader)
        await reader.read()

    port, app = await mesh.pair(serve)
    route = Route("slow", "", (), (Destination(host_of("reviews")),), timeout_s=0.2)
    mesh.service("reviews", [mesh.endpoint("reviews")], routes=(route,))
    began = time.monotonic()
    answer = await fetch(port, "/", "reviews")
    assert (answer.status, answer.json()["flag"]) == (504, "UT")
    assert 0.2 <= time.monotonic() - began < 2.0
    await until(lambda: mesh.series("two"), "the call was cancelled at its destination")
    assert mesh.series("two")[0][:2] == (0, "DC")


async def test_faults(mesh: Mesh) -> None:
    port, app = await mesh.pair()

    def fault(fault: Fault) -> None:
        route = Route("faulty", "", (), (Destination(host_of("reviews")),), fault=fault, timeout_s=0.2)
        mesh.service("reviews", [mesh.endpoint("reviews")], routes=(route,))

    fault(Fault(abort_status=418, abort_percent=100.0))
    answer = await fetch(port, "/", "reviews")
    assert (answer.status, answer.field("x-mesh-flag")) == (418, "FI")
    fault(Fault(delay_s=0.4, delay_percent=100.0))
    began = time.monotonic()
    assert (await fetch(port, "/", "reviews")).status == 200
    assert time.monotonic() - began >= 0.4
    fault(Fault(delay_s=0.1, delay_percent=100.0, abort_status=503, abort_percent=100.0))
    assert (await fetch(port, "/", "reviews")).status == 503
    assert len(app.heads) == 1
    flags = {each.edge.flags for each in mesh.planes["one"].series.totals()}
    assert flags == {"FI", "DI", "DI,FI"}


async def test_endpoints_may_change_under_load(mesh: Mesh) -> None:
    port = await versions(mesh)
    both = [mesh.endpoint("reviews-v1"), mesh.endpoint("reviews-v2")]
    host = host_of("reviews")
    plane = mesh.planes["one"]
    statuses: Counter[int] = Counter()

    async def load() -> None:
        client = await Client.connect(port)
        for _ in range(100):
            await client.send(request_bytes("GET", "/", "reviews"))
            statuses[(await client.answer()).status] += 1
        await client.close()

    async def change() -> None:
        for number in range(60):
            listed = both if number % 3 == 0 else [both[number % 2]]
            plane.apply(snapshot.key_for("endpoints", host), snapshot.Endpoints(host, tuple(listed)))
            await asyncio.sleep(0.002)

    await asyncio.gather(*[load() for _ in range(4)], change())
    assert statuses == {200: 400}
