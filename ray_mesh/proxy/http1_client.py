"""The upstream side of HTTP/1.1: one connection, one request at a time.

A response head that equals the connection's previous one byte by byte was understood already, and is
not parsed again; applications repeat theirs within a second (the Date field).
"""

from __future__ import annotations

import asyncio
import re
import time
from math import inf
from typing import cast

import httptools

from ray_mesh.proxy import body
from ray_mesh.proxy.body import BadBody, BodyReader
from ray_mesh.proxy.head import (
    CHUNKED,
    MAX_HEAD_BYTES,
    BadHead,
    ResponseHead,
    interim_fields,
    protocols,
    read_response,
)
from ray_mesh.proxy.pipeline import Request
from ray_mesh.proxy.pool import Pool
from ray_mesh.proxy.tunnel import FRAMED, Side

BUFFER_BYTES = 64 * 1024
MAX_INTERIMS = 32
"""How many 1xx responses may come before the final one."""
_HEAD_END = b"\r\n\r\n"
_NO_CALLBACKS = object()
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] [1-9][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*)?")
_BODILESS = (204, 304)
_now = time.monotonic


class Http1Client(asyncio.Protocol):
    """An upstream connection. ``is_mesh_peer`` says that the other side is a verified proxy.

    Response bytes without a request close it: they can only be a mistake or an attack.
    """

    __slots__ = (
        "_generation",
        "_head",
        "_interims",
        "_is_mesh_peer",
        "_is_paused",
        "_is_pooled",
        "_is_verbatim",
        "_kept",
        "_pool",
        "_raw_head",
        "_reader",
        "_request",
        "_status",
        "_transport",
        "expires_at",
        "idle_since",
        "is_open",
        "is_reused",
        "security",
        "served",
    )

    def __init__(self, pool: Pool, is_mesh_peer: bool = False) -> None:
        self._pool = pool
        self._generation = -1
        self._is_pooled = False
        self._is_mesh_peer = is_mesh_peer
        self.security = "none"
        self.expires_at = inf
        self.idle_since = _now()
        self.is_open = False
        self.is_reused = False
        self.served = 0  # requests, where they are limited
        self._is_paused = False
        self._is_verbatim = False
        self._transport: asyncio.Transport | None = None
        self._request: Request | None = None
        self._reader: BodyReader | None = None
        self._kept = b""
        self._raw_head = b""
        self._head: ResponseHead | None = None
        self._status = 0
        self._interims = 0

    @property
    def transport(self) -> asyncio.Transport:
        """The transport, once connected."""
        assert self._transport is not None
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(BUFFER_BYTES)
        self.is_open = True

    def join(self, generation: int) -> None:
        """Count as a connection of the pool until it is lost; it was asked for in that generation."""
        self._is_pooled = True
        self._generation = generation

    def set_option(self, level: int, option: int, value: int) -> None:
        """Set an option of its socket."""
        self.transport.get_extra_info("socket").setsockopt(level, option, value)

    # From the request.

    def start(self, request: Request) -> None:
        """Send the request's head, and its body as far as it is there."""
        self._request = request
        self._reader = None
        self._interims = 0
        head = request.head
        length = head.length
        extra = request.extra
        if self._is_mesh_peer:
            extra = request.announced + extra
            if head.upgrade:
                extra = FRAMED + extra
        start = b"%b %b%b HTTP/1.1%b%bx-request-id: %b\r\ntraceparent: %b\r\n" % (
            request.method,
            request.path,
            request.query,
            request.fields,
            extra,
            request.request_id,
            request.traceparent,
        )
        if length == 0:
            self._transport.write(start + b"\r\n")  # type: ignore[union-attr]
            return
        payload = request.take_pending()
        framing = b""
        if length == CHUNKED:
            framing = b"transfer-encoding: chunked\r\n"
            payload = body.frame(payload) + (body.last_chunk(request.trailer) if request.body_done else b"")
        self._transport.write(b"%b%b\r\n%b" % (start, framing, payload))  # type: ignore[union-attr]

    def send_body(self, payload: bytes, done: bool) -> None:
        """Send more of the request's body."""
        request = self._request
        assert request is not None
        if request.head.length == CHUNKED:
            payload = body.frame(payload) + (body.last_chunk(request.trailer) if done else b"")
        if payload and not self.transport.is_closing():
            self.transport.write(payload)

    def abandon(self) -> None:
        """Close at once; the request hears nothing any more."""
        self._request = None
        self.is_open = False
        self.transport.abort()

    def pause(self) -> None:
        """The client does not keep up: read no more."""
        if not self._is_paused and not self.transport.is_closing():
            self._is_paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._is_paused and not self.transport.is_closing():
            self._is_paused = False
            self.transport.resume_reading()

    def close(self) -> None:
        """Close an idle connection."""
        self.is_open = False
        if self._transport is not None:
            self._transport.close()

    # From the transport.

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        request = self._request
        if request is None:
            self.close()
            return
        try:
            if self._reader is not None:
                self._take_body(request, data)
            elif self._head is not None and not self._kept and data.startswith(self._raw_head):
                self._deliver(request, self._status, self._head, data, len(self._raw_head))
            else:
                self._take_head(request, data)
        except (BadHead, BadBody) as error:
            request.bad_response(str(error))

    def _take_head(self, request: Request, data: bytes) -> None:
        if self._kept:
            data = self._kept + data
            self._kept = b""
        end = data.find(_HEAD_END) + 4
        if end < 4 or end > MAX_HEAD_BYTES:
            _check_partial(data)
            self._kept = data
            return
        raw = data if end == len(data) else data[:end]
        status, head = self._read(raw)
        if status < 200:
            self._pass_interim(request, status, raw, head, data[end:])
            return
        self._status, self._head, self._raw_head = status, head, raw
        self._is_verbatim = head.fields is head.block and not head.closes and status not in _BODILESS
        self._deliver(request, status, head, data, end)

    def _read(self, raw: bytes) -> tuple[int, ResponseHead]:
        line_end = raw.find(b"\r\n")
        head = read_response(raw[line_end:-2], self._is_mesh_peer)
        parser = httptools.HttpResponseParser(_NO_CALLBACKS)
        try:
            parser.feed_data(raw)
        except httptools.HttpParserUpgrade:
            pass  # a 101, which is looked at below
        except httptools.HttpParserError as error:
            raise BadHead(str(error)) from error
        if _STATUS_LINE.fullmatch(raw, 0, line_end) is None:
            raise BadHead("the status line is malformed, or neither of HTTP/1.1 nor of HTTP/1.0")
        if raw[:8] == b"HTTP/1.0":
            if head.length == CHUNKED:
                raise BadHead("Transfer-Encoding in HTTP/1.0")
            head.closes = True
        return int(raw[9:12]), head

    def _pass_interim(
        self, request: Request, status: int, raw: bytes, head: ResponseHead, rest: bytes
    ) -> None:
        line = raw[: raw.find(b"\r\n")]
        fields = interim_fields(head)
        if status == 101:
            self._switch(request, line, fields, head, rest)
            return
        self._interims += 1
        if self._interims > MAX_INTERIMS:
            raise BadHead(f"more than {MAX_INTERIMS} interim responses")
        if request.stream is not None:
            request.stream.interim(line, fields)
        if rest:
            self._take_head(request, rest)

    def _switch(self, request: Request, line: bytes, fields: bytes, head: ResponseHead, rest: bytes) -> None:
        """Give the connection to a tunnel."""
        asked = {each.lower() for each in protocols(request.head.upgrade)}
        if head.upgrade.lower() not in asked:
            raise BadHead("an upgrade that was not asked for")
        is_framed = self._is_mesh_peer and b"\n" + FRAMED in head.block.lower()
        self._request = None
        self.is_open = False
        self.resume()
        far = Side(self.transport, is_framed=is_framed, on_lost=self._forget)
        fields += b"connection: upgrade\r\nupgrade: %b\r\n" % head.upgrade
        request.on_switch(line, fields, far)
        if rest:
            far.data_received(rest)

    def _forget(self) -> None:
        if self._is_pooled:
            self._pool.forget(self)

    def _deliver(self, request: Request, status: int, head: ResponseHead, data: bytes, end: int) -> None:
        size = len(data) - end
        length = head.length
        if request.method == b"HEAD" or status in _BODILESS:
            length = 0
        elif length == size and self._is_verbatim and request.on_whole(status, data, size):
            self._release(request, closes=False)
            return
        line = self._raw_head[: self._raw_head.find(b"\r\n")]
        if length is not None and 0 <= length < size:
            raise BadHead("more bytes than Content-Length says")
        self._reader = body.reader(length)
        payload, rest = self._reader.feed(data[end:]) if size or not length else (b"", None)
        request.on_response(status, line, head, length, payload)
        if rest is not None and self._request is not None:  # else it was held back, and we abandoned
            request.response_trailer = self._reader.trailer
            self._end(request, head.closes, rest)

    def _take_body(self, request: Request, data: bytes) -> None:
        assert self._reader is not None
        assert self._head is not None
        payload, rest = self._reader.feed(data)
        if payload:
            request.on_body(payload)
        if rest is not None:
            request.response_trailer = self._reader.trailer
            self._end(request, self._head.closes, rest)

    def _end(self, request: Request, closes: bool, rest: bytes) -> None:
        self._reader = None
        self._release(request, closes or bool(rest))
        request.on_end()

    def _release(self, request: Request, closes: bool) -> None:
        """Let go of the request; keep the connection when both messages are complete."""
        self._request = None
        request.connection = None
        if not request.body_done:
            self.abandon()  # closing would wait until the rest of the body is taken, perhaps for ever
        elif closes or not self.is_open:
            self.close()
        else:
            self.is_reused = True
            if self._is_paused:
                self.resume()
            self._pool.give_back(self, self._generation, _now())

    def eof_received(self) -> bool:
        """See :class:`asyncio.Protocol`."""
        self.is_open = False  # before connection_lost, so that no request is started on it
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        self.is_open = False
        self._forget()
        request, self._request = self._request, None
        if request is None:
            return
        if error is None and isinstance(self._reader, body.EndlessReader):
            request.connection = None
            request.on_end()
        else:
            request.connection_lost()

    def pause_writing(self) -> None:
        """See :class:`asyncio.Protocol`."""
        if self._request is not None and self._request.stream is not None:
            self._request.stream.pause()

    def resume_writing(self) -> None:
        """See :class:`asyncio.Protocol`."""
        if self._request is not None and self._request.stream is not None:
            self._request.stream.resume()


def _check_partial(data: bytes) -> None:
    """Raise BadHead when an incomplete head can become no good one."""
    if len(data) > MAX_HEAD_BYTES:
        raise BadHead("the head is too large")
    if not data.startswith(b"HTTP/1."[: len(data)]):
        raise BadHead("this is no HTTP response")
    if data.count(b"\n") != data.count(b"\r\n"):
        raise BadHead("a line is not ended by CRLF")
