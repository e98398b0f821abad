"""Requests on shared connections: what becomes of them when the other side refuses, breaks off or is full."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

import pytest
from http2_frames import DATA, PING, RST_STREAM, Peer, body, frame, headers
from http2_server_peer import OK, Connection, Http2Server, outside
from proxy_mesh import (  # noqa: F401
    TRUST_DOMAIN,
    Client,
    Mesh,
    credential,
    fetch,
    free_port,
    host_of,
    mesh,
    request_bytes,
    until,
)
from routing_mesh import callee, client
from rule_mesh import Gate, apply_rule, ask
from test_proxy_breakers import breaker_of

from ray_mesh import snapshot
from ray_mesh.proxy.source import Source
from ray_mesh.security.bundle import Bundle
from ray_mesh.security.ca import Authority
from ray_mesh.snapshot import ConnectionLimits, TrafficPolicy

# ruff: noqa: F811

REFUSED = (7).to_bytes(4)
CANCELLED = (8).to_bytes(4)


def source_of(mesh: Mesh, name: str = "client") -> Source:
    return mesh.planes["one"]._hosting.locals[f"workload.default.{name}"].source


def answer(connection: Connection, stream_id: int) -> None:
    """200 with the request's body."""
    connection.send(headers(stream_id, OK, False), body(stream_id, connection.bodies.get(stream_id, b"ok")))


def limits(**changes: Any) -> TrafficPolicy:
    return TrafficPolicy("default/shop", ConnectionLimits(**changes))


async def test_a_stream_refused_in_the_midst_of_its_response_is_not_asked_for_again(mesh: Mesh) -> None:
    """A second response would go on in the midst of the first, and its end be the next request's."""

    def refuse(connection: Connection, stream_id: int) -> None:
        fields = (*OK, (b"content-length", b"100"))
        connection.send(
            headers(stream_id, fields, False),
            frame(DATA, 0, stream_id, b"0123456789"),
            frame(RST_STREAM, 0, stream_id, REFUSED),
        )

    server = Http2Server(on_ended=refuse)
    port = await client(mesh)
    await outside(mesh, server)
    one = await Client.connect(port)
    await one.send(request_bytes("GET", "/", "shop"))
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await one.answer()
    await one.close()
    assert len(server.requests) == 1


async def test_requests_that_find_the_connection_full_keep_their_bodies(mesh: Mesh) -> None:
    """One more wait for the first connection than it may carry at a time."""
    port = await client(mesh)
    await outside(mesh, Http2Server(on_ended=answer), traffic=limits(max_connections=1))
    clients = [await Client.connect(port) for _ in range(150)]
    for number, one in enumerate(clients):
        await one.send(request_bytes("POST", "/", "shop", b"body %d" % number))
    found = [await one.answer() for one in clients]
    for one in clients:
        await one.close()
    assert [each.body for each in found] == [b"body %d" % number for number in range(150)]
    assert {each.status for each in found} == {200}


async def test_who_waits_behind_a_dial_that_fails_may_dial(mesh: Mesh) -> None:
    port = await client(mesh)
    nobody = snapshot.Endpoint("default/shop", "127.0.0.1", free_port(), "", "", (), "", "plaintext")
    ports = (snapshot.Port(80, "http2", "http2"),)
    mesh.service("shop", [nobody], ports=ports, plaintext=True, traffic=limits(max_connections=1))
    found = await asyncio.gather(*(fetch(port, "/", "shop") for _ in range(20)))
    assert {each.status for each in found} == {503}
    (pool,) = source_of(mesh)._limited.values()
    assert (pool.count, pool.breaker.connections, pool.breaker.requests, pool.breaker.pending) == (0, 0, 0, 0)


async def test_more_requests_than_connections_may_carry_wait_and_are_not_refused(mesh: Mesh) -> None:
    port = await client(mesh)
    held: list[tuple[Connection, int]] = []
    server = Http2Server(on_ended=lambda connection, stream_id: held.append((connection, stream_id)))
    await outside(mesh, server, traffic=limits(max_connections=2, max_streams=10))
    asked = [asyncio.ensure_future(fetch(port, "/", "shop")) for _ in range(60)]
    await until(lambda: len(held) == 20, "as many requests at the server as may be")
    (pool,) = source_of(mesh)._limited.values()
    await until(lambda: pool.breaker.pending == 40, "the others wait")
    server.on_ended = answer
    for each in held:
        answer(*each)
    assert {each.status for each in await asyncio.gather(*asked)} == {200}
    assert len(server.connections) == 2


async def test_a_request_of_http1_gets_the_only_connection_after_those_of_http2(mesh: Mesh) -> None:
    """Requests that cannot use a connection wait until it makes way, not until it is idle for minutes."""
    port, gate = await client(mesh), Gate()
    await callee(mesh, handler=gate)
    apply_rule(mesh, "{connectionPool: {tcp: {maxConnections: 1}}}")
    one = await Peer.connect(port)
    one.send(headers(1, ask_fields("reviews"), True))
    await until(lambda: gate.arrived == 1, "a request of HTTP/2 at the application")
    two = await ask(port)
    breaker = breaker_of(mesh)
    await until(lambda: breaker.waiting, "one of HTTP/1.1 waits")
    gate.open.set()
    assert (await one.ending(1)).status == 200
    assert (await two.answer()).status == 200
    one.close()
    await two.close()
    assert (breaker.requests, breaker.pending, breaker.connections) == (0, 0, 1)


def ask_fields(host: str, path: str = "/", method: str = "GET") -> list[tuple[bytes, bytes]]:
    """The header list of a request to the outbound port of ``client``."""
    return [
        (b":method", method.encode()),
        (b":scheme", b"http"),
        (b":authority", host.encode()),
        (b":path", path.encode()),
        (b"proxy-authorization", credential().encode()),
    ]


async def test_who_cancels_many_requests_ends_none_of_the_others(mesh: Mesh) -> None:
    """Servers end connections on which too many streams are reset, and others have requests there too."""
    port = await client(mesh)
    server = Http2Server()
    await outside(mesh, server)
    patient = await Client.connect(port)
    await patient.send(request_bytes("GET", "/patient", "shop"))
    await until(lambda: len(server.requests) == 1, "a request that has time")
    hasty = await Peer.connect(port)
    streams = iter(range(1, 2000, 2))
    for turn in range(1, 10):
        mine = [next(streams) for _ in range(90)]
        for stream_id in mine:
            hasty.send(headers(stream_id, ask_fields("shop"), True))
        await until(partial(has_come, server, 1 + 90 * turn), "all of them at the server")
        for stream_id in mine:
            hasty.send(frame(RST_STREAM, 0, stream_id, CANCELLED))
        await until(partial(is_cancelled, server, 90 * turn), "all of them cancelled")
    hasty.close()
    assert len(server.connections) == 2
    assert max(len(one.seen(RST_STREAM)) for one in server.connections) < 700, "fewer than any server bears"
    first = server.connections[0]
    answer(first, next(iter(first.requests)))
    assert (await patient.answer()).status == 200
    await patient.close()


def has_come(server: Http2Server, count: int) -> bool:
    return len(server.requests) == count


def is_cancelled(server: Http2Server, count: int) -> bool:
    return sum(len(one.seen(RST_STREAM)) for one in server.connections) == count


async def test_servers_outside_the_mesh_get_no_pings_unless_somebody_says_so(mesh: Mesh) -> None:
    """grpcio ends a connection whose silent calls are pinged, after the third."""
    port = await client(mesh)
    for name, traffic, pings in (("quiet", limits(), False), ("said", limits(ping_interval_s=30.0), True)):
        server = Http2Server()
        await outside(mesh, server, name, traffic=traffic)
        one = await Client.connect(port)
        await one.send(request_bytes("GET", "/", name))
        await until(partial(has_come, server, 1), "a request at the server")
        pool = next(pool for pool in source_of(mesh)._limited.values() if pool.shared)
        now = time.monotonic()
        for after_s in (0.0, 31.0, 40.0):
            pool.close_stale(now + after_s)
        await one.close()
        await until(partial(is_cancelled, server, 1), "the request is given up")
        assert bool(server.connections[0].seen(PING)) is pings
        pool.retire()


async def test_what_an_interim_response_says_of_the_mesh_or_of_a_body_stays_behind(mesh: Mesh) -> None:
    def early(connection: Connection, stream_id: int) -> None:
        fields = [(b":status", b"103"), (b"link", b"</a>"), (b"x-mesh-policy", b"forged")]
        connection.send(headers(stream_id, fields, False))
        answer(connection, stream_id)

    port = await client(mesh)
    await outside(mesh, Http2Server(on_ended=early))
    one = await Client.connect(port)
    await one.send(request_bytes("GET", "/", "shop"))
    interim = await one.reader.readuntil(b"\r\n\r\n")
    assert b"103" in interim
    assert b"link: </a>" in interim
    assert b"x-mesh" not in interim
    assert (await one.answer()).status == 200
    await one.close()


async def test_a_call_ends_with_the_trust_in_whom_it_is_made_to(mesh: Mesh) -> None:
    """Also one whose connection was given up before, for a new certificate: calls may last for days."""
    port, gate = await client(mesh), Gate()
    await callee(mesh, handler=gate)
    apply_rule(mesh, "{connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}")
    one = await ask(port, "POST")
    await until(lambda: gate.arrived == 1, "a request at the application")
    plane = mesh.planes["one"]
    plane.set_identity("workload.default.client", mesh.svid("client"))
    other = Authority.create_root(TRUST_DOMAIN, time.time())
    both = Bundle(TRUST_DOMAIN, (mesh.root.certificate, other.certificate))
    plane.set_bundles({TRUST_DOMAIN: both})
    assert len(plane.trust.proven) == 1, "both vouch for it still"
    plane.set_bundles({TRUST_DOMAIN: other.bundle()})
    assert (await one.answer()).status == 503
    assert not plane.trust.proven
    await one.close()


async def test_a_route_with_retries_has_them_for_streams_that_are_refused_as_well(mesh: Mesh) -> None:
    def refuse(connection: Connection, stream_id: int) -> None:
        if len(server.requests) < 6:
            connection.send(frame(RST_STREAM, 0, stream_id, REFUSED))
        else:
            answer(connection, stream_id)

    server = Http2Server(on_ended=refuse)
    port = await client(mesh)
    to_shop = (snapshot.Destination(host_of("shop")),)
    retries = snapshot.Retries(5, ("refused-stream",), backoff_s=0.001)
    await outside(mesh, server, routes=(snapshot.Route("shop", "", (), to_shop, retries=retries),))
    found = await fetch(port, "/", "shop", "POST", b"body")
    assert (found.status, found.body, len(server.requests)) == (200, b"body", 6)
