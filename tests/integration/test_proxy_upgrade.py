"""Upgrades through two proxies: the tunnel, its two ends, its limits, and upgrades that are not accepted."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from dataclasses import replace
from pathlib import Path

import pytest
from certificates import Issuer
from proxy_mesh import DEADLINE_S, TRUST_DOMAIN, Client, Mesh, credential, free_port, host_of, mesh, until  # noqa: F401
from test_proxy_gateway_tls import edge, files, https, secure

from ray_mesh.proxy import tunnel
from ray_mesh.security.ca import Authority
from ray_mesh.snapshot import (
    Destination,
    Gateway,
    GatewayServer,
    Operation,
    Policy,
    Route,
    Rule,
    ValueMatch,
    VirtualHost,
)

# ruff: noqa: F811

AUTH = f"Proxy-Authorization: {credential()}\r\n".encode()
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\nX-App: yes\r\n\r\n"


def asking(path: bytes = b"/chat", upgrade: bytes = b"chat", more: bytes = b"") -> bytes:
    """A request for an upgrade."""
    return (
        b"GET %b HTTP/1.1\r\nHost: reviews\r\nConnection: keep-alive, Upgrade\r\nUpgrade: %b\r\n%b%b\r\n"
        % (path, upgrade, AUTH, more)
    )


async def head_of(reader: asyncio.StreamReader) -> bytes:
    """The bytes up to the end of a head."""
    async with asyncio.timeout(DEADLINE_S):
        return await reader.readuntil(b"\r\n\r\n")


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection so that the other end sees a reset."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Switches, then answers everything in upper case until the client has ended, and says goodbye."""
    assert b"upgrade: chat\r\n" in (await reader.readuntil(b"\r\n\r\n")).lower()
    writer.write(SWITCH)
    while data := await reader.read(65536):
        writer.write(data.upper())
        await writer.drain()
    writer.write(b"(bye)")
    writer.write_eof()
    await writer.drain()


async def test_bytes_pass_both_ways_and_each_direction_ends_by_itself(mesh: Mesh) -> None:
    port, _ = await mesh.pair(upper)
    client = await Client.connect(port)
    await client.send(asking())
    head = await head_of(client.reader)
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"\r\nconnection: upgrade\r\nupgrade: chat\r\n" in head
    assert b"X-App: yes" in head
    assert b"x-mesh" not in head
    for word in (b"one", b"two"):
        await client.send(word)
        async with asyncio.timeout(DEADLINE_S):
            assert await client.reader.readexactly(3) == word.upper()
    client.writer.write_eof()
    async with asyncio.timeout(DEADLINE_S):
        assert await client.reader.read() == b"(bye)"
    for plane in mesh.planes.values():
        await until(plane.access_records, "it is recorded")
        (record,) = plane.access_records()
        assert (record.edge.code, record.edge.flags) == (101, "")
        assert (record.request_bytes, record.response_bytes) == (6, 11)
        await asyncio.wait_for(plane.connections.wait_empty(), DEADLINE_S)
    await client.close()


async def test_an_application_that_ends_first_still_hears_the_client(mesh: Mesh) -> None:
    heard = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH + b"all I say")
        writer.write_eof()
        heard.set_result(await reader.read())

    port, _ = await mesh.pair(serve)
    client = await Client.connect(port)
    await client.send(asking())
    await head_of(client.reader)
    async with asyncio.timeout(DEADLINE_S):
        assert await client.reader.read() == b"all I say"
        await client.send(b"more")
        client.writer.write_eof()
        assert await heard == b"more"
    await client.close()


async def test_what_follows_the_head_waits_for_the_switch(mesh: Mesh) -> None:
    go_on = asyncio.Event()
    early: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await go_on.wait()
        early.append(bytes(reader._buffer))  # type: ignore[attr-defined]
        writer.write(SWITCH)
        writer.write(await reader.readexactly(5))
        await writer.drain()
        await reader.read()

    asked = asyncio.Event()
    port, _ = await mesh.pair(serve)
    client = await Client.connect(port)
    await client.send(asking() + b"early")
    await asyncio.wait_for(asked.wait(), DEADLINE_S)
    go_on.set()
    await head_of(client.reader)
    async with asyncio.timeout(DEADLINE_S):
        assert await client.reader.readexactly(5) == b"early"
    assert early == [b""]
    await client.close()


async def test_an_upgrade_that_is_not_accepted_is_a_request_as_any(mesh: Mesh) -> None:
    port, app = await mesh.pair()
    client = await Client.connect(port)
    await client.send(asking(b"/1") + asking(b"/2"))
    for number in (1, 2):
        answer = await client.answer()
        assert (answer.status, answer.json()["line"]) == (200, f"GET /{number} HTTP/1.1")
    assert all(b"\r\nupgrade: chat\r\n" in head for head in app.heads)
    assert app.connections == 1
    await client.close()


@pytest.mark.parametrize("upgrade", [b"h2c", b"H2C", b"HTTP/2.0", b"h2c, HTTP/3"])
async def test_another_http_is_never_asked_for(mesh: Mesh, upgrade: bytes) -> None:
    port, app = await mesh.pair()
    client = await Client.connect(port)
    await client.send(asking(upgrade=upgrade, more=b"HTTP2-Settings: AAMAAABk\r\n"))
    assert (await client.answer()).status == 200
    assert b"upgrade" not in app.heads[0].lower()
    await client.send(b"GET / HTTP/1.1\r\nHost: reviews\r\nUpgrade: chat\r\n" + AUTH + b"\r\n")
    assert (await client.answer()).status == 200
    assert b"upgrade" not in app.heads[1].lower(), "Connection did not name it"
    await client.close()


@pytest.mark.parametrize(
    "more", [b"Content-Length: 4\r\n", b"Transfer-Encoding: chunked\r\n", b"Upgrade: a b\r\n"]
)
async def test_an_upgrade_with_a_body_is_refused(mesh: Mesh, more: bytes) -> None:
    port, app = await mesh.pair()
    client = await Client.connect(port)
    await client.send(asking(more=more) + b"body")
    answer = await client.answer()
    assert (answer.status, answer.json()["flag"]) == (400, "DPE")
    assert await client.is_closed()
    assert app.heads == []
    await client.close()


@pytest.mark.parametrize(
    "response",
    [
        SWITCH.replace(b"Upgrade: chat", b"Upgrade: other"),
        SWITCH.replace(b"Upgrade: chat\r\n", b""),
        SWITCH.replace(b"Connection: Upgrade\r\n", b""),
        SWITCH.replace(b"X-App: yes", b"Content-Length: 3"),
        SWITCH.replace(b"X-App: yes", b"Transfer-Encoding: chunked"),
    ],
)
async def test_a_switch_that_was_not_asked_for_is_refused(mesh: Mesh, response: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await app.read(reader)
        writer.write(response + b"abc")
        await writer.drain()
        await reader.read()

    port, app = await mesh.pair(serve)
    client = await Client.connect(port)
    await client.send(asking())
    answer = await client.answer()
    assert (answer.status, answer.json()["flag"]) == (502, "UPE")
    await client.close()


async def test_policies_hold_for_upgrades(mesh: Mesh) -> None:
    allowed = Rule(operations=(Operation(paths=(ValueMatch("exact", "/chat"),)),))
    port, _ = await mesh.pair(upper, policies=(Policy("default/chat", "ALLOW", (allowed,)),))
    client = await Client.connect(port)
    await client.send(asking(b"/other"))
    assert (await client.answer()).status == 403
    await client.send(asking())
    assert (await head_of(client.reader)).startswith(b"HTTP/1.1 101 ")
    await client.close()


async def test_an_upgrade_at_the_gateway(mesh: Mesh) -> None:
    bound = free_port()
    app = await mesh.app("reviews", upper)
    await mesh.workload("edge", free_port(), node="one", gateway_ports=((80, bound),))
    await mesh.workload("reviews", app.port, services=(host_of("reviews"),))
    mesh.service("reviews", [mesh.endpoint("reviews")])
    routes = (Route("all", "", (), (Destination(host_of("reviews")),)),)
    servers = (GatewayServer(80, (VirtualHost(("reviews",), routes),)),)
    mesh.planes["one"].apply("gateway.default.edge", Gateway("default", "edge", servers))
    client = await Client.connect(bound)
    await client.send(asking() + b"hi")
    await head_of(client.reader)
    client.writer.write_eof()
    async with asyncio.timeout(DEADLINE_S):
        assert await client.reader.read() == b"HI(bye)"
    await client.close()


async def test_a_client_that_breaks_off_ends_the_tunnel(mesh: Mesh) -> None:
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH)
        try:
            await reader.read()
        finally:
            gone.set()

    port, _ = await mesh.pair(serve)
    client = await Client.connect(port)
    await client.send(asking())
    await head_of(client.reader)
    reset(client.writer)
    await asyncio.wait_for(gone.wait(), DEADLINE_S)
    await until(lambda: mesh.planes["one"].access_records(), "it is recorded")
    assert [each[:2] for each in mesh.series("one")] == [(101, "DC")]


async def test_an_application_that_breaks_off_ends_the_tunnel(mesh: Mesh) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH)
        await reader.readexactly(1)
        reset(writer)

    port, _ = await mesh.pair(serve)
    client = await Client.connect(port)
    await client.send(asking())
    await head_of(client.reader)
    await client.send(b"x")
    assert await client.is_closed()
    await until(lambda: mesh.planes["two"].access_records(), "it is recorded")
    assert [each[:2] for each in mesh.series("two")] == [(101, "UC")]
    await client.close()


async def test_a_slow_end_holds_the_other_back(mesh: Mesh) -> None:
    size, piece = 64 * 1024 * 1024, b"x" * 65536
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH)
        while sent < size:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
        writer.write_eof()
        await reader.read()

    port, _ = await mesh.pair(serve)
    client = await Client.connect(port)
    await client.send(asking())
    await head_of(client.reader)
    last, quiet_since = -1, time.monotonic()
    while time.monotonic() - quiet_since < 0.3:
        if sent != last:
            last, quiet_since = sent, time.monotonic()
        await asyncio.sleep(0.01)
    assert 0 < sent < size // 2
    async with asyncio.timeout(DEADLINE_S):
        assert len(await client.reader.read()) == size
    await client.close()


async def test_a_quiet_tunnel_is_cut(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "TICK_S", 0.05)
    monkeypatch.setattr(tunnel, "IDLE_TICKS", 3)
    port, _ = await mesh.pair(upper)
    client = await Client.connect(port)
    await client.send(asking())
    await head_of(client.reader)
    assert await client.is_closed()
    await until(lambda: mesh.planes["one"].access_records(), "it is recorded")
    flags = {each[1] for node in ("one", "two") for each in mesh.series(node)}
    assert "SI" in flags
    await client.close()


async def test_a_complete_tunnel_whose_end_nobody_takes_is_cut(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH)
        await reader.read()
        writer.write(bytes(16 * 1024 * 1024))
        writer.write_eof()
        await writer.drain()

    monkeypatch.setattr(tunnel, "TICK_S", 0.1)
    monkeypatch.setattr(tunnel, "IDLE_TICKS", 10)
    port, _ = await mesh.pair(serve)
    client = await Client.connect(port)
    await client.send(asking())
    await head_of(client.reader)
    (joined,) = mesh.planes["one"].connections
    assert isinstance(joined, tunnel.Tunnel)
    joined.near.transport.set_write_buffer_limits(high=1 << 30)  # so that the end comes in spite of it
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    client.writer.write_eof()
    await until(lambda: not len(mesh.planes["one"].connections), "the tunnel is gone")
    assert [each[:2] for each in mesh.series("one")] == [(101, "")]
    client.writer.transport.abort()


async def test_a_route_timeout_ends_with_the_switch(mesh: Mesh) -> None:
    port, _ = await mesh.pair(upper)
    route = Route("short", "", (), (Destination(host_of("reviews")),), timeout_s=0.2)
    mesh.service("reviews", [mesh.endpoint("reviews")], routes=(route,))
    client = await Client.connect(port)
    await client.send(asking())
    await head_of(client.reader)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await client.reader.read(1)
    await client.send(b"still here")
    async with asyncio.timeout(DEADLINE_S):
        assert await client.reader.readexactly(10) == b"STILL HERE"
    await client.close()


async def test_a_tunnel_ends_a_while_after_its_workload(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "TICK_S", 0.05)
    monkeypatch.setattr(tunnel, "DRAIN_S", 0.2)
    port, _ = await mesh.pair(upper)
    client = await Client.connect(port)
    await client.send(asking())
    await head_of(client.reader)
    mesh.planes["two"].apply("workload.default.reviews", None)
    await client.send(b"word")
    async with asyncio.timeout(DEADLINE_S):
        assert await client.reader.readexactly(4) == b"WORD"
    assert await client.is_closed()
    await until(mesh.planes["two"].access_records, "it is recorded")
    assert [each[:2] for each in mesh.series("two")] == [(101, "DR")]
    await client.close()


async def test_a_tunnel_ends_when_its_peer_is_trusted_no_more(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel, "TICK_S", 0.05)
    port, _ = await mesh.pair(upper)
    client = await Client.connect(port)
    await client.send(asking())
    await head_of(client.reader)
    other = Authority.create_root(TRUST_DOMAIN, time.time())
    mesh.planes["two"].set_bundles({TRUST_DOMAIN: other.bundle()})
    assert await client.is_closed()
    await until(mesh.planes["two"].access_records, "it is recorded")
    assert [each[:2] for each in mesh.series("two")] == [(101, "UAEX")]
    await client.close()


async def test_an_upgrade_at_a_gateway_that_ends_tls(mesh: Mesh, tmp_path: Path) -> None:
    """TLS to a client has no halves: what the application said last arrives, then both directions end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH)
        writer.write((await reader.readexactly(5)).upper() * 100_000)
        writer.write_eof()
        await reader.read()

    issuer = Issuer(tmp_path)
    app = await mesh.app("reviews", serve)
    ports = await edge(mesh, GatewayServer(443, (), (https(files(issuer, "reviews"), "reviews"),)))
    workload = replace(mesh.workloads["reviews"], app_port=app.port)
    mesh.planes["two"].apply("workload.default.reviews", workload)
    client = await secure(ports[443], issuer.client(), "reviews")
    await client.send(asking() + b"hello")
    assert (await head_of(client.reader)).startswith(b"HTTP/1.1 101 ")
    async with asyncio.timeout(DEADLINE_S):
        assert await client.reader.read() == b"HELLO" * 100_000
    for plane in mesh.planes.values():
        await until(plane.access_records, "it is recorded")
        (record,) = plane.access_records()
        assert (record.edge.code, record.request_bytes, record.response_bytes) == (101, 5, 500_000)
    client.writer.transport.abort()
