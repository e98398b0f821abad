"""A server of HTTP/2 that sends the frames that a test wants and remembers what came."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hpack import Decoder
from http2_frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from proxy_mesh import Mesh

from ray_mesh import snapshot
from ray_mesh.proxy.http2_codec import PREFACE

OK = ((b":status", b"200"),)


class Connection:
    """One connection; ``requests`` are the fields of requests by stream, ``bodies`` what came of them."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.requests: dict[int, dict[bytes, bytes]] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.frames: list[tuple[int, int, int, bytes]] = []

    def send(self, *frames: bytes) -> None:
        """Send frames."""
        self.writer.write(b"".join(frames))

    def seen(self, kind: int) -> list[tuple[int, int, int, bytes]]:
        """The frames of a kind that came."""
        return [each for each in self.frames if each[0] == kind]


class Http2Server:
    """A handler for :class:`proxy_mesh.App`. ``settings`` is the payload of its SETTINGS; ``on_request`` is
    called with each request's head, ``on_ended`` when it came whole."""

    def __init__(
        self,
        on_request: Callable[[Connection, int], None] = lambda connection, stream_id: None,
        on_ended: Callable[[Connection, int], None] = lambda connection, stream_id: None,
        settings: bytes = b"",
    ) -> None:
        self.connections: list[Connection] = []
        self.on_request = on_request
        self.on_ended = on_ended
        self.settings = settings
        self.grants = True

    @property
    def requests(self) -> list[tuple[int, int]]:
        """Which connection and which stream each request came on."""
        return [(number, each) for number, one in enumerate(self.connections) for each in one.requests]

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        assert await reader.readexactly(len(PREFACE)) == PREFACE
        decoder = Decoder()
        one = Connection(writer)
        self.connections.append(one)
        one.send(frame(SETTINGS, 0, 0, self.settings))
        while True:
            head = await reader.readexactly(9)
            kind, flags, stream_id = head[3], head[4], int.from_bytes(head[5:])
            payload = await reader.readexactly(int.from_bytes(head[:3]))
            one.frames.append((kind, flags, stream_id, payload))
            if kind == SETTINGS and not flags & ACK:
                one.send(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                one.send(frame(PING, ACK, 0, payload))
            elif kind == HEADERS:
                assert flags & END_HEADERS
                fields = {bytes(name): bytes(value) for name, value in decoder.decode(payload, raw=True)}
                if stream_id not in one.requests:
                    one.requests[stream_id] = fields
                    self.on_request(one, stream_id)
            elif kind == DATA:
                one.bodies[stream_id] = one.bodies.get(stream_id, b"") + payload
                if payload and self.grants:
                    granted = len(payload).to_bytes(4)
                    one.send(frame(WINDOW_UPDATE, 0, 0, granted), frame(WINDOW_UPDATE, 0, stream_id, granted))
            if kind in (HEADERS, DATA) and flags & END_STREAM:
                one.ended.add(stream_id)
                self.on_ended(one, stream_id)


async def outside(mesh: Mesh, server: Http2Server, name: str = "shop", **changes: object) -> None:
    """Make the server known as a service without proxy that speaks HTTP/2."""
    app = await mesh.app(name, server)
    endpoint = snapshot.Endpoint(f"default/{name}", "127.0.0.1", app.port, "", "", (), "", "plaintext")
    mesh.service(name, [endpoint], ports=(snapshot.Port(80, "http2", "http2"),), plaintext=True, **changes)
