"""Clients of HTTP/2 that do not read, do not go, or go in their own way."""

from __future__ import annotations

import asyncio

from http2_frames import GOAWAY, PING, RST_STREAM, SETTINGS, Peer, body, frame, headers
from http2_frames import WINDOW_UPDATE as WINDOW
from proxy_mesh import Mesh, free_port, host_of, mesh, until  # noqa: F401
from routing_mesh import callee, client
from rule_mesh import Gate
from test_proxy_http2_upstreams import ask_fields

from ray_mesh.proxy.http2_codec import EDGE_STREAMS, REFUSED_STREAM
from ray_mesh.proxy.http2_server import FIRST_TICKS, STALL_TICKS, Http2Server
from ray_mesh.snapshot import Destination, Gateway, GatewayServer, Route, VirtualHost

# ruff: noqa: F811

MUCH = 16 * 1024 * 1024
NO_LIMIT = frame(SETTINGS, 0, 0, b"\x00\x04\x7f\xff\xff\xff") + frame(WINDOW, 0, 0, (1 << 30).to_bytes(4))


async def answer_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """``/much`` is a lot; the rest is answered without a body, and before the request has come whole."""
    while head := await reader.readuntil(b"\r\n\r\n"):
        if b"/much" in head:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MUCH + bytes(MUCH))
        else:
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()


def server_of(mesh: Mesh) -> Http2Server:
    (server,) = mesh.planes["one"].connections
    assert isinstance(server, Http2Server)
    return server


def is_blocked(mesh: Mesh) -> bool:
    return any(isinstance(one, Http2Server) and one._is_blocked for one in mesh.planes["one"].connections)


async def test_an_early_answer_reaches_a_client_that_reads_late(mesh: Mesh) -> None:
    port = await client(mesh)
    await callee(mesh, handler=answer_early)
    late = await Peer.connect(port)
    late.send(NO_LIMIT + headers(1, ask_fields("reviews", "/much"), True))
    await until(lambda: is_blocked(mesh), "nothing is read")
    late.send(headers(3, ask_fields("reviews", "/", "POST"), False))
    await until(
        lambda: any(one.edge.code == 204 for one in mesh.planes["one"].access_records()), "an early answer"
    )
    ending = await late.ending(3)
    assert (ending.status, ending.reset) == (204, None)
    late.close()


async def test_a_client_that_goes_away_starts_nothing_more(mesh: Mesh) -> None:
    """A drain would not end its connection otherwise, and what it is a client of may be gone."""
    port, gate = await client(mesh), Gate()
    await callee(mesh, handler=gate)
    going = await Peer.connect(port)
    going.send(headers(1, ask_fields("reviews"), True))
    await until(lambda: gate.arrived == 1, "a request at the application")
    going.send(frame(GOAWAY, 0, 0, bytes(8)))
    server = server_of(mesh)
    await until(lambda: server._is_last_named, "it is known that it goes")
    going.send(headers(3, ask_fields("reviews"), True))
    going.send(headers(5, ask_fields("reviews"), True))
    gate.open.set()
    assert (await going.ending(1)).status == 200
    assert (await going.ending(3)).status == 0
    assert gate.arrived == 1
    await until(lambda: not mesh.planes["one"].connections, "the connection is closed")
    going.close()


async def test_a_client_that_does_not_read_is_cut_off_in_the_end(mesh: Mesh) -> None:
    """Also when it has given up its requests: closing would wait for it for ever."""
    port = await client(mesh)
    await callee(mesh, handler=answer_early)
    deaf = await Peer.connect(port)
    deaf.send(NO_LIMIT + headers(1, ask_fields("reviews", "/much"), True))
    await until(lambda: is_blocked(mesh), "nothing is read")
    server = server_of(mesh)
    deaf.send(frame(RST_STREAM, 0, 1, (8).to_bytes(4)))
    await until(lambda: server.is_idle, "its request is given up")
    server.drain()
    server.name_last()
    for _ in range(STALL_TICKS + 2):
        server.on_deadline(0.0)
    await until(lambda: not mesh.planes["one"].connections, "it is cut off")
    deaf.close()


async def test_a_body_that_was_announced_empty_may_end_late(mesh: Mesh) -> None:
    port = await client(mesh)
    await callee(mesh)
    one = await Peer.connect(port)
    one.send(headers(1, [*ask_fields("reviews", "/", "POST"), (b"content-length", b"0")], False))
    assert (await one.ending(1)).status == 200
    server = server_of(mesh)
    await until(lambda: server.is_idle, "the stream is over though its client did not end it")
    one.send(body(1, b""))
    one.send(headers(3, ask_fields("reviews"), True))
    assert (await one.ending(3)).status == 200
    one.close()


async def test_pings_alone_keep_no_connection(mesh: Mesh) -> None:
    port = await client(mesh)
    idle = await Peer.connect(port)
    connections = mesh.planes["one"].connections
    await until(lambda: any(isinstance(one, Http2Server) for one in connections), "it came")
    server = server_of(mesh)
    for _ in range(FIRST_TICKS):
        seen = server._activity
        idle.send(frame(PING, 0, 0, bytes(8)))
        await until(lambda seen=seen: server._activity > seen, "a ping")  # type: ignore[misc]
        server.on_deadline(0.0)
    assert server._is_draining
    server.name_last()
    await until(lambda: not mesh.planes["one"].connections, "it is closed")
    idle.close()


async def test_clients_from_outside_have_fewer_requests_at_a_time(mesh: Mesh) -> None:
    """Who is behind a gateway's port may be anybody; what the limit lets through is served."""
    gate = Gate()
    await callee(mesh, handler=gate)
    port = free_port()
    await mesh.workload("edge", free_port(), node="one", gateway_ports=((80, port),))
    route = Route("all", "", (), (Destination(host_of("reviews")),))
    server = GatewayServer(80, (VirtualHost(("shop.example.com",), (route,)),))
    mesh.planes["one"].apply("gateway.default.edge", Gateway("default", "edge", (server,)))
    asking = ask_fields("shop.example.com")[:-1]
    last = 2 * EDGE_STREAMS - 1
    outside = await Peer.connect(port)
    outside.send(b"".join(headers(number, asking, True) for number in range(1, last + 1, 2)))
    await until(lambda: gate.arrived == EDGE_STREAMS, "as many requests as may come")
    outside.send(headers(last + 2, asking, True))
    assert (await outside.ending(last + 2)).reset == REFUSED_STREAM
    gate.open.set()
    assert (await outside.ending(last)).status == 200
    outside.send(headers(last + 4, asking, True))
    assert (await outside.ending(last + 4)).status == 200
    outside.close()
