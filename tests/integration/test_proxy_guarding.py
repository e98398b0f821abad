"""What must hold wherever a request comes in, and whatever changed while a connection was open."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from proxy_mesh import (
    DEADLINE_S,
    Client,
    Mesh,
    credential,
    fetch,
    free_port,
    host_of,
    mesh,  # noqa: F401
    request_bytes,
    until,
)

from ray_mesh.snapshot import (
    Destination,
    Gateway,
    GatewayServer,
    Operation,
    Policy,
    RateLimit,
    Route,
    Rule,
    Source,
    ValueMatch,
    VirtualHost,
)

# ruff: noqa: F811


async def gateway(mesh: Mesh) -> int:
    """``edge`` on node one lets everything through to ``reviews`` on node two; the port it listens on."""
    bound = free_port()
    app = await mesh.app("reviews")
    await mesh.workload("edge", free_port(), node="one", gateway_ports=((80, bound),))
    await mesh.workload("reviews", app.port, services=(host_of("reviews"),))
    mesh.service("reviews", [mesh.endpoint("reviews")])
    host = VirtualHost(("*",), (Route("all", "", (), (Destination(host_of("reviews")),)),))
    served = Gateway("default", "edge", (GatewayServer(80, (host,)),))
    mesh.planes["one"].apply("gateway.default.edge", served)
    return bound


async def test_a_policy_of_a_gateway_workload_holds_for_what_comes_from_outside(mesh: Mesh) -> None:
    port = await gateway(mesh)
    client = await Client.connect(port)
    await client.send(request_bytes("GET", "/admin", "site", token=""))
    assert (await client.answer()).status == 200
    admin = Operation(paths=(ValueMatch("prefix", "/admin"),), ports=(80,))
    deny = Policy("default/no-admin", "DENY", (Rule(operations=(admin,)),))
    edge = replace(mesh.workloads["edge"], policies=(deny,))
    mesh.planes["one"].apply("workload.default.edge", edge)
    await client.send(request_bytes("GET", "/x/../admin", "site", token=""))
    answer = await client.answer()
    assert (answer.status, answer.field("x-mesh-policy")) == (403, None), "the outside learns no names"
    assert mesh.planes["one"].access_records()[-1].policy == "default/no-admin"
    assert (await fetch(port, "/", "site", token="")).status == 200
    anyone = Source(principals=(ValueMatch("present"),))
    allow = Policy("default/known", "ALLOW", (Rule(sources=(anyone,)),))
    mesh.planes["one"].apply("workload.default.edge", replace(edge, policies=(allow,)))
    assert (await fetch(port, "/", "site", token="")).status == 403, "the outside has no identity"
    assert (403, "UAEX", "default/edge", "", 2) in mesh.series("one")
    await client.close()


async def test_a_rate_limit_of_a_gateway_workload_holds_for_what_comes_from_outside(mesh: Mesh) -> None:
    port = await gateway(mesh)
    limit = RateLimit("default/none", 1, 1, "CLOSED")
    plane = mesh.planes["one"]
    plane.apply("workload.default.edge", replace(mesh.workloads["edge"], rate_limits=(limit,)))
    waiting = asyncio.ensure_future(fetch(port, "/", "site", token=""))
    await until(plane.quota_demand, "tokens are asked for")
    plane.grant("default/none", 1, time.monotonic() + 1.0)
    assert (await waiting).status == 200
    assert (await fetch(port, "/", "site", token="")).status == 429


async def test_open_connections_of_a_gateway_port_that_is_gone_are_served_no_more(mesh: Mesh) -> None:
    port = await gateway(mesh)
    client = await Client.connect(port)
    await client.send(request_bytes("GET", "/", "site", token=""))
    assert (await client.answer()).status == 200
    gone = replace(mesh.workloads["edge"], gateway_ports=())
    mesh.planes["one"].apply("workload.default.edge", gone)
    await client.send(request_bytes("GET", "/", "site", token=""))
    assert (await client.answer()).status == 404
    await client.close()


async def test_connections_to_an_application_that_moved_are_not_kept_for_the_new_one(mesh: Mesh) -> None:
    port, _ = await mesh.pair()
    assert (await fetch(port, "/", "reviews")).status == 200
    inbound = mesh.planes["two"]._hosting.locals["workload.default.reviews"].inbound
    before = inbound._cluster.members[0]
    assert inbound.pool(before) is inbound._pool
    new = await mesh.app("moved")
    moved = replace(mesh.workloads["reviews"], app_port=new.port)
    mesh.planes["two"].apply("workload.default.reviews", moved)
    stale = inbound.pool(before)
    assert stale is not inbound._pool
    assert stale.max_idle == 0
    assert (await fetch(port, "/", "reviews")).json()["app"] == "moved"


async def test_a_peer_that_is_not_who_it_must_be_is_not_counted_as_a_connection(mesh: Mesh) -> None:
    port, _ = await mesh.pair()
    wrong = mesh.endpoint("reviews", identity="spiffe://mesh.local/ns/default/sa/other")
    mesh.service("reviews", [wrong])
    for _ in range(3):
        assert (await fetch(port, "/", "reviews")).status == 503
    source = mesh.planes["one"]._hosting.locals["workload.default.client"].source
    await until(lambda: all(pool.count == 0 for pool in source.pools.values()), "the count is exact")
    await asyncio.sleep(0.05)
    assert [pool.count for pool in source.pools.values()] == [0]


async def test_an_application_that_answers_early_and_does_not_read_costs_no_connection(mesh: Mesh) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(0.2)
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await asyncio.sleep(3600)

    port, _ = await mesh.pair(serve)
    client = await Client.connect(port)
    auth = f"Proxy-Authorization: {credential()}\r\n".encode()
    head = b"POST / HTTP/1.1\r\nHost: reviews\r\n" + auth + b"Content-Length: 50000000\r\n\r\n"
    client.writer.write(head + b"x" * 20_000_000)
    assert (await client.answer()).status == 413
    pool = mesh.planes["two"]._hosting.locals["workload.default.reviews"].inbound._pool
    await until(lambda: pool.count == 0, "the connection to the application is given up")
    client.writer.transport.abort()


async def test_a_client_that_never_reads_is_given_up(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_mesh.proxy.http1_server.TICK_S", 0.05)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000)
            await writer.drain()

    port, _ = await mesh.pair(serve)
    client = await Client.connect(port)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    plane = mesh.planes["one"]
    many = request_bytes("GET", "/", "reviews") * 400
    client.writer.write(many)
    end = time.monotonic() + DEADLINE_S
    while len(plane.connections):
        assert time.monotonic() < end, "a connection that nobody reads is kept for ever"
        await asyncio.sleep(0.05)
    client.writer.transport.abort()
