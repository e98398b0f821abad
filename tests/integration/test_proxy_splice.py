"""TCP without TLS on either side: after a while the kernel moves the bytes."""

from __future__ import annotations

import asyncio
import random
import socket
import time

import pytest
from proxy_mesh import DEADLINE_S, Client, Handler, Mesh, credential, free_port, mesh, until  # noqa: F401

from ray_mesh import snapshot
from ray_mesh.proxy import tcp_relay
from ray_mesh.proxy.tcp_connection import TcpConnection

# ruff: noqa: F811

HOST = "db.example.com"


async def to_outside(mesh: Mesh, handler: Handler) -> Client:
    """A tunnel of a workload to a host outside."""
    port = await mesh.workload("client", free_port(), node="one")
    app = await mesh.app("outside", handler)
    endpoint = snapshot.Endpoint(
        "serviceentry.default.db", "127.0.0.1", app.port, "", "", (), "", "plaintext", 5432
    )
    ports = (snapshot.Port(5432, "tcp", "tcp"),)
    service = snapshot.Service(HOST, "default", "db", ports, (), (), plaintext=True)
    plane = mesh.planes["one"]
    plane.apply(snapshot.key_for("service", HOST), service)
    plane.apply(snapshot.key_for("endpoints", HOST), snapshot.Endpoints(HOST, (endpoint,)))
    client = await Client.connect(port)
    target = f"{HOST}:5432"
    await client.send(
        f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: {credential()}\r\n\r\n".encode()
    )
    assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    return client


def relay(mesh: Mesh) -> tcp_relay.Relay:
    """The only one."""
    (connection,) = mesh.planes["one"].connections
    assert isinstance(connection, TcpConnection)
    assert connection.relay is not None
    return connection.relay


async def settled(mesh: Mesh) -> None:
    """Wait until no connection is open."""
    await until(lambda: not len(mesh.planes["one"].connections), "all are closed")


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


@pytest.mark.parametrize("seed", range(4))
async def test_bytes_stay_what_they_are(mesh: Mesh, seed: int) -> None:
    client = await to_outside(mesh, echo)
    draw = random.Random(seed)
    sent = draw.randbytes(draw.randint(2_000_000, 9_000_000))
    await until(lambda: len(mesh.planes["one"].connections) == 1, "the tunnel is open")
    relayed = relay(mesh)

    async def send() -> None:
        start = 0
        while start < len(sent):
            step = draw.choice((1, 100, 5_000, 70_000, 300_000))
            await client.send(sent[start : start + step])
            start += step
        client.writer.write_eof()

    async def receive() -> bytes:
        async with asyncio.timeout(DEADLINE_S):
            return await client.reader.read()

    _, received = await asyncio.gather(send(), receive())
    assert received == sent
    assert relayed.is_spliced
    await client.close()
    await settled(mesh)
    (series,) = mesh.planes["one"].series.totals()
    assert (series.edge.flags, series.opened, series.requests) == ("", 1, 1)
    assert series.request_bytes == series.response_bytes == len(sent)


async def spliced(mesh: Mesh, handler: Handler) -> Client:
    """A tunnel that is spliced, after it moved a megabyte of zeros that the handler takes."""
    client = await to_outside(mesh, handler)
    await client.send(bytes(1_000_000))
    await until(lambda: relay(mesh).is_spliced, "the kernel moves the bytes")
    return client


async def test_each_direction_ends_by_itself(mesh: Mesh) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1_000_000)
        writer.write(b"all")
        writer.write_eof()
        heard.put_nowait(await reader.read())

    client = await spliced(mesh, serve)
    async with asyncio.timeout(DEADLINE_S):
        assert await client.reader.read() == b"all"
        await client.send(b"late" * 100_000)
        client.writer.write_eof()
        assert await heard.get() == b"late" * 100_000
    await client.close()
    await settled(mesh)


@pytest.mark.parametrize("breaker", ["client", "server"])
async def test_a_break_reaches_the_other_end(mesh: Mesh, breaker: str) -> None:
    broken: asyncio.Queue[bool] = asyncio.Queue()
    go_on = asyncio.Event()

    def cut(writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1_000_000)
        if breaker == "server":
            await go_on.wait()
            cut(writer)
            return
        try:
            await reader.read()
            broken.put_nowait(False)
        except ConnectionResetError:
            broken.put_nowait(True)

    client = await spliced(mesh, serve)
    go_on.set()
    if breaker == "client":
        cut(client.writer)
        async with asyncio.timeout(DEADLINE_S):
            assert await broken.get()
    else:
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(ConnectionResetError):
                await client.reader.read()
    await settled(mesh)
    assert mesh.series("one")[-1][1] == ("DC" if breaker == "client" else "UC")


async def test_who_does_not_read_stops_who_sends(mesh: Mesh) -> None:
    go_on = asyncio.Event()
    received = 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        received += len(await reader.readexactly(1_000_000))
        await go_on.wait()
        while data := await reader.read(1 << 20):
            received += len(data)

    client = await spliced(mesh, slow)
    connection = client.writer.get_extra_info("socket").dup()
    connection.setblocking(False)
    sent, block = 1_000_000, bytes(1 << 18)
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < 0.5:
        try:
            sent += connection.send(block)
            idle_since = time.monotonic()
        except BlockingIOError:
            await asyncio.sleep(0.01)
    assert sent < 64 << 20  # the buffers of the machine, and one pipe
    go_on.set()
    connection.shutdown(socket.SHUT_WR)
    connection.close()
    await until(lambda: received == sent, "the rest arrives")
    await client.close()
    await settled(mesh)


async def test_it_ends_with_its_plane_and_when_it_is_idle(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp_relay, "IDLE_S", 0.4)
    monkeypatch.setattr(tcp_relay, "TICK_S", 0.1)

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1_000_000)
        await asyncio.Event().wait()

    client = await spliced(mesh, take)
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(ConnectionResetError):
            await client.reader.read()
    await settled(mesh)
    assert mesh.series("one")[-1][1] == "SI"
