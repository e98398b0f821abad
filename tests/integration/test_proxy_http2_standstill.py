"""Clients that do not take what they asked for, and applications that do not read, hold up nobody else."""

from __future__ import annotations

import asyncio

from http2_frames import Peer, headers
from proxy_mesh import Client, Mesh, fetch, mesh, request_bytes, until  # noqa: F401
from routing_mesh import callee, client
from rule_mesh import apply_rule
from test_proxy_http2_upstreams import ask_fields

# ruff: noqa: F811

SIZE = 1024 * 1024


class Slow:
    """An application: ``/stuck`` is a body that is not read, all else is answered with many bytes."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        while head := await reader.readuntil(b"\r\n\r\n"):
            self.asked += 1
            if b"/stuck" in head:
                await asyncio.Event().wait()
            size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            await reader.readexactly(size)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + bytes(SIZE))
            await writer.drain()


async def shared(mesh: Mesh) -> tuple[int, Slow]:
    """``client`` calls ``reviews`` by HTTP/2, on one connection."""
    port, app = await client(mesh), Slow()
    await callee(mesh, handler=app)
    apply_rule(mesh, "{connectionPool: {tcp: {maxConnections: 1}, http: {h2UpgradePolicy: UPGRADE}}}")
    return port, app


async def test_responses_that_nobody_takes_hold_up_no_others(mesh: Mesh) -> None:
    port, app = await shared(mesh)
    lazy = await Peer.connect(port)  # which grants 64 KiB for all of its streams
    for number in range(90):
        lazy.send(headers(2 * number + 1, ask_fields("reviews"), True))
    await until(lambda: app.asked == 90, "all of them at the application")
    for _ in range(40):
        answer = await fetch(port, "/", "reviews")
        assert (answer.status, len(answer.body)) == (200, SIZE)
    lazy.close()


async def test_bodies_that_the_application_does_not_read_hold_up_no_others(mesh: Mesh) -> None:
    port, app = await shared(mesh)
    stuck = [await Client.connect(port) for _ in range(90)]
    for one in stuck:
        one.writer.write(request_bytes("POST", "/stuck", "reviews", bytes(4 * SIZE)))
    await until(lambda: app.asked == 90, "all of them at the application")
    for _ in range(40):
        assert (await fetch(port, "/", "reviews", "POST", bytes(SIZE))).status == 200
    for one in stuck:
        one.writer.transport.abort()
