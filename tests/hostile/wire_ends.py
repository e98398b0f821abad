"""Both protocol classes without sockets: bytes go in as pieces, what was understood comes out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import Any

from ray_mesh.proxy.body import BadBody, ChunkedReader
from ray_mesh.proxy.connections import Connections
from ray_mesh.proxy.head import RequestHead, ResponseHead, read_request
from ray_mesh.proxy.http1_client import Http1Client
from ray_mesh.proxy.http1_server import Http1Server
from ray_mesh.proxy.path import BASE
from ray_mesh.proxy.pipeline import Request
from ray_mesh.proxy.pool import Pool
from ray_mesh.proxy.replies import Reply
from ray_mesh.proxy.timers import Wheel
from ray_mesh.proxy.tunnel import Side

DONE = Reply(200, "", "seen", "seen")
Seen = list[object]


class Wire(asyncio.Transport):
    """A transport that remembers what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        """See :class:`asyncio.Transport`."""
        self.written.append(bytes(data))

    def close(self) -> None:
        """See :class:`asyncio.Transport`."""
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        """See :class:`asyncio.Transport`."""
        return self.closed

    def get_write_buffer_size(self) -> int:
        """See :class:`asyncio.Transport`."""
        return 0

    def can_write_eof(self) -> bool:
        """See :class:`asyncio.Transport`."""
        return True

    def pause_reading(self) -> None:
        """See :class:`asyncio.Transport`."""

    def resume_reading(self) -> None:
        """See :class:`asyncio.Transport`."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See :class:`asyncio.Transport`."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """See :class:`asyncio.Transport`."""


class Ear:
    """An entry that answers each complete request with 200; and what connections of it share."""

    is_brief = False
    recent = None
    ends_connections = False
    paths = BASE
    config: Any = None

    def __init__(self) -> None:
        self.connections = Connections()
        self.wheel = Wheel(asyncio.get_running_loop())
        self.seen: Seen = []

    def read_head(self, block: bytes) -> RequestHead:
        """See :class:`ray_mesh.proxy.http1_server.ServerEntry`."""
        return read_request(block, frozenset())

    def tunnel(self, transport: object, target: bytes, head: RequestHead, rest: bytes) -> Reply:
        """Refuses."""
        return DONE

    def begin(self, request: Request) -> None:
        """Take the body, then answer."""
        upstream = Upstream(self, request)
        upstream.send_body(request.take_pending(), request.body_done)
        if not request.done:
            request.connection = upstream

    def record(self, request: Request) -> None:
        """Nothing is counted."""

    record_flaw = record

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not for here")


class Upstream:
    """Where a request of an :class:`Ear` goes."""

    is_reused = False
    security = "none"

    def __init__(self, ear: Ear, request: Request) -> None:
        self._ear = ear
        self._request = request
        self._body = b""

    def send_body(self, payload: bytes, done: bool) -> None:
        """See :class:`ray_mesh.proxy.sides.Connection`."""
        self._body += payload
        if done:
            each = self._request
            fields = each.head.fields
            self._ear.seen.append((each.method, each.path, each.query, fields, self._body, each.trailer))
            each.refuse(DONE)

    def abandon(self) -> None:
        """See :class:`ray_mesh.proxy.sides.Connection`."""

    pause = resume = abandon

    def start(self, request: Request) -> None:
        """See :class:`ray_mesh.proxy.sides.Connection`. It has started."""


async def understand_requests(pieces: Iterable[bytes]) -> Seen:
    """The complete requests of a connection, and at the end ``"refused"`` if it was."""
    ear = Ear()
    server = Http1Server(ear, lambda connection, transport: ear)
    wire = Wire()
    server.connection_made(wire)
    for piece in pieces:
        if wire.closed:
            break
        server.data_received(piece)
        await asyncio.sleep(0)
    for _ in range(200):
        answered = len(wire.written)
        await asyncio.sleep(0)
        if answered == len(wire.written):
            break
    codes = re.findall(rb"(?:^|\n)HTTP/1\.1 ([0-9]+) ", b"".join(wire.written))
    assert codes[: len(ear.seen)] == [b"200"] * len(ear.seen)
    ear.wheel.stop()
    return [*ear.seen, "refused"] if any(code >= b"400" for code in codes) else ear.seen


class Listener:
    """A stream that remembers what it is told."""

    peer: object = None
    client = b""
    is_http2 = False

    def __init__(self) -> None:
        self.seen: Seen = []
        self.body = b""
        self.request: Request | None = None

    def reply(self, reply: Reply) -> None:
        """See :class:`ray_mesh.proxy.sides.Stream`."""
        self.seen.append("refused")

    def respond(self, line: bytes, head: ResponseHead, length: int | None, payload: bytes) -> None:
        """See :class:`ray_mesh.proxy.sides.Stream`."""
        self.seen.append((line, head.fields, length))
        self.body = payload

    def send_whole(self, response: bytes) -> bool:
        """See :class:`ray_mesh.proxy.sides.Stream`. It wants everything in parts."""
        return False

    def interim(self, line: bytes, fields: bytes) -> None:
        """See :class:`ray_mesh.proxy.sides.Stream`."""
        self.seen.append((line, fields))

    def switch(self, line: bytes, fields: bytes, far: Side) -> None:
        """See :class:`ray_mesh.proxy.sides.Stream`."""
        raise AssertionError("nobody asked for it")

    def send_body(self, payload: bytes) -> None:
        """See :class:`ray_mesh.proxy.sides.Stream`."""
        self.body += payload

    def end(self) -> None:
        """See :class:`ray_mesh.proxy.sides.Stream`."""
        assert self.request is not None
        self.seen.append((self.body, self.request.response_trailer))

    def abort(self) -> None:
        """See :class:`ray_mesh.proxy.sides.Stream`."""
        self.seen.append("refused")

    def pause(self) -> None:
        """See :class:`ray_mesh.proxy.sides.Stream`."""

    resume = pause


async def understand_response(pieces: Iterable[bytes], method: bytes = b"GET") -> Seen:
    """What the client is told of a response: interim heads, the head, and body and trailer once complete;
    or that it is refused, whatever came before.

    A response that more bytes follow may have gone out already when they come; its connection is closed then.
    That counts as refused.
    """
    ear = Ear()
    listener = Listener()
    head = read_request(b"\r\nHost: a\r\n", frozenset())
    request = listener.request = Request(ear, listener, method, b"/", b"", head, b"", b"")
    client = Http1Client(Pool())
    wire = Wire()
    client.connection_made(wire)
    request.start_on(client)
    for piece in pieces:
        if not wire.closed:
            client.data_received(piece)
    ear.wheel.stop()
    return ["refused"] if wire.closed or "refused" in listener.seen else listener.seen


def understand_chunks(pieces: Iterable[bytes]) -> tuple[bytes, bytes, bytes] | str:
    """Payload, trailer and rest of a chunked body, ``"bad"``, or ``"unfinished"``."""
    reader = ChunkedReader()
    payload, rest = b"", None
    for piece in pieces:
        if rest is not None:
            rest += piece
            continue
        try:
            found, rest = reader.feed(piece)
        except BadBody:
            return "bad"
        payload += found
    return (payload, reader.trailer, rest) if rest is not None else "unfinished"
