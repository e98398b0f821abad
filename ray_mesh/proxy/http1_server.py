"""The downstream side of HTTP/1.1: reads requests one after the other, answers them in order.

While a request is being answered, what the client sends after it is kept and reading is paused, so
that a client that pipelines cannot make us hold more than one read's worth.

HTTP/1.0 clients get one answer per connection; a body of unknown length ends with it, and one that breaks
off is a reset. What 1.0 does not have (chunks, interim responses, upgrades) they are not sent.

``Expect: 100-continue`` travels on and the application answers it: only it knows whether it wants the body.
An answer that comes before all of the body does closes the connection after it.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import time
from collections.abc import Callable
from math import inf
from typing import Protocol, cast

import httptools

from ray_mesh.proxy import body, replies
from ray_mesh.proxy.body import BadBody, BodyReader
from ray_mesh.proxy.connections import Connections
from ray_mesh.proxy.head import (
    CHUNKED,
    MAX_HEAD_BYTES,
    BadHead,
    RequestHead,
    ResponseHead,
    parent_of,
    set_apart,
    without,
)
from ray_mesh.proxy.http2_choice import edge_codec, server_codec
from ray_mesh.proxy.http2_codec import PREFACE
from ray_mesh.proxy.http2_server import Http2Server
from ray_mesh.proxy.path import Paths, split_absolute
from ray_mesh.proxy.pipeline import Request, flaw
from ray_mesh.proxy.replies import Reply
from ray_mesh.proxy.sides import Entry
from ray_mesh.proxy.timers import Closing, Place, Wheel
from ray_mesh.proxy.trace import is_valid
from ray_mesh.proxy.tunnel import FRAMED, Side, Tunnel

BUFFER_BYTES = 64 * 1024
TICK_S = 10.0
"""How often a connection is looked at. Its limits in ticks, so that no clock is read per request:"""
HEAD_TICKS = 2  # a head that is not complete
IDLE_TICKS = 8  # no request
STALL_TICKS = 30  # a request without a byte either way (Envoy's stream_idle_timeout)
LINGER_S = 1.0
LINGER_BYTES = 4 * 1024 * 1024
"""How long and how much of an unwanted body is read after an early answer, so that the answer is not
lost to a reset."""

_HEAD_END = b"\r\n\r\n"
_HTTP2_HEAD = PREFACE[: PREFACE.index(_HEAD_END) + 4]
_NO_CALLBACKS = object()
_METHOD = re.compile(rb"[A-Z]+(?:-[A-Z]+)*")
_VERSION = re.compile(rb" HTTP/1\.[01]\Z")
_RESET = struct.pack("ii", 1, 0)
"""As SO_LINGER: closing is a reset."""
_NOT_HTTP10 = frozenset((b"expect", b"upgrade"))


class Recent:
    """The head that an entry understood last, and what followed its request line: clients that open a
    connection for each request repeat it too."""

    __slots__ = ("head", "tail")

    def __init__(self) -> None:
        self.head: RequestHead | None = None
        self.tail = b""


class ServerEntry(Entry, Protocol):
    """What the server side needs of an entry. ``is_brief``: its replies say nothing of the inside.
    ``is_edge``: its clients are outside the mesh.

    ``recent`` is for entries whose connections are all of one trust; without it each connection learns
    from its own requests only, since how long a comparison takes tells of what others sent.
    """

    @property
    def is_brief(self) -> bool: ...

    @property
    def is_edge(self) -> bool: ...

    @property
    def recent(self) -> Recent | None: ...

    def read_head(self, block: bytes) -> RequestHead:
        """Understand a block of fields with the entry's rules; raises BadHead."""

    def tunnel(
        self, transport: asyncio.Transport, target: bytes, head: RequestHead, rest: bytes
    ) -> Reply | None:
        """Take the connection over for CONNECT (None), or say why not. ``rest`` followed the head."""

    def record_flaw(self, request: Request) -> None:
        """Count what was no request, and record it unless there are too many."""


class ListeningConfig(Protocol):
    """Where listeners for other machines are bound."""

    @property
    def bind_address(self) -> str: ...


class Listening(Protocol):
    """What connections share: the wheel, who is open, and whether they end after their request."""

    @property
    def config(self) -> ListeningConfig: ...

    wheel: Wheel
    connections: Connections
    paths: Paths
    ends_connections: bool


class Admitted(Protocol):
    """A new connection, of which ``Admit`` says whose it is and how long it may last."""

    peer: object
    client: bytes
    expires_at: float


Admit = Callable[[Admitted, asyncio.Transport], ServerEntry | None]
"""Names the entry of a new connection, or None to refuse it."""


class Http1Server(asyncio.Protocol):
    """A downstream connection; the :class:`.sides.Stream` of its current request.

    One that begins with the preface of HTTP/2 becomes :class:`.http2_server.Http2Server`.
    """

    is_http2 = False

    __slots__ = (
        "_activity",
        "_admit",
        "_closing",
        "_discarding",
        "_entry",
        "_head",
        "_is_blocked",
        "_is_chunked",
        "_is_http10",
        "_is_new",
        "_is_paused",
        "_is_unread",
        "_listening",
        "_parser",
        "_place",
        "_reader",
        "_request",
        "_rest",
        "_seen_activity",
        "_seen_unsent",
        "_tail",
        "_ticks",
        "_transport",
        "client",
        "expires_at",
        "peer",
    )

    def __init__(self, listening: Listening, admit: Admit) -> None:
        self._listening = listening
        self._admit = admit
        self._entry: ServerEntry | None = None
        self._transport: asyncio.Transport | None = None
        self._place: Place | None = None  # in the wheel
        self._parser: httptools.HttpRequestParser | None = None
        self._head: RequestHead | None = None  # of the request before, or of this one
        self._tail = b""  # what followed the request line of that head
        self._request: Request | None = None
        self._reader: BodyReader | None = None  # while the request's body is incomplete
        self._rest = b""  # an incomplete head, or what came after the current request
        self._closing = False
        self._discarding = 0  # bytes that may still be read and thrown away
        self._is_blocked = False  # the client does not read
        self._is_chunked = False
        self._is_http10 = False  # the connection's only request
        self._is_new = True  # no request came
        self._is_paused = False
        self._is_unread = False
        self._activity = self._seen_activity = self._seen_unsent = self._ticks = 0
        self.expires_at = inf
        self.peer: object = None
        self.client = b""

    def __repr__(self) -> str:
        state = "idle" if self._request is None else f"{self._request.method.decode()} in flight"
        return f"<Http1Server {state}>"

    @property
    def transport(self) -> asyncio.Transport:
        """The transport, once connected."""
        assert self._transport is not None
        return self._transport

    @property
    def entry(self) -> ServerEntry | None:
        """Whose requests it carries; None once closed."""
        return self._entry

    @property
    def is_idle(self) -> bool:
        """Whether no request is in flight."""
        return self._request is None and not self._rest

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)
        self._entry = self._admit(self, self._transport)
        if self._entry is None:
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(BUFFER_BYTES)
        recent = self._entry.recent
        if recent is not None:
            self._head, self._tail = recent.head, recent.tail
        self._listening.connections.add(self)
        self._place = Place(self)
        self._listening.wheel.add(time.monotonic() + TICK_S, self._place)

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        self._activity += 1
        if self._entry is None:
            return
        if self._discarding:
            self._discard(data)
        elif self._reader is not None:
            self._take_body(data)
        elif self._request is not None or self._is_blocked:
            self._rest += data
            self._pause_reading()
        else:
            self._take_head(self._rest + data if self._rest else data)

    def eof_received(self) -> bool:
        """See :class:`asyncio.Protocol`. A half-closed client counts as gone, as in Envoy."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        self._listening.connections.discard(self)
        if self._place is not None:
            self._place.leave()
        self._entry = None
        self._rest = b""
        request, self._request = self._request, None
        if request is not None:
            request.cancel()

    def pause_writing(self) -> None:
        """See :class:`asyncio.Protocol`."""
        self._is_blocked = True
        if self._request is not None and self._request.connection is not None:
            self._request.connection.pause()

    def resume_writing(self) -> None:
        """See :class:`asyncio.Protocol`."""
        self._is_blocked = False
        if self._request is None:
            self._go_on()
        elif self._request.connection is not None:
            self._request.connection.resume()

    def on_deadline(self, now: float) -> None:
        """Look after a connection that nothing happens on (see :class:`.timers.Timed`)."""
        if self._entry is None:
            return
        assert self._place is not None
        unsent = self.transport.get_write_buffer_size()
        is_quiet = self._activity == self._seen_activity and unsent == self._seen_unsent
        self._ticks = self._ticks + 1 if is_quiet or self._is_in_head else 0
        self._seen_activity, self._seen_unsent = self._activity, unsent
        if self._request is not None:
            if self._ticks >= STALL_TICKS:
                self._request.refuse(replies.stalled(STALL_TICKS * TICK_S))
        elif self._is_in_head:
            if self._ticks >= HEAD_TICKS:
                self._refuse(replies.bad_request(408, "the head did not arrive in time"))
        elif unsent:
            if self._ticks >= STALL_TICKS:
                self.transport.abort()  # closing would wait for a client that does not read
        elif self._ticks >= IDLE_TICKS:
            self.close()
        self._listening.wheel.add(now + TICK_S, self._place)

    @property
    def _is_in_head(self) -> bool:
        return self._request is None and bool(self._rest) and not self._is_blocked

    # Reading.

    def _take_head(self, data: bytes) -> None:
        while data[:2] == b"\r\n":
            data = data[2:]  # RFC 9112 section 2.2: empty lines before a request are ignored
        end = data.find(_HEAD_END) + 4
        if end < 4 or end > MAX_HEAD_BYTES:
            self._keep_partial(data)
            return
        if end == len(data):
            rest = b""
        else:
            data, rest = data[:end], data[end:]
        plain, parent, request_id = set_apart(data)
        head = self._head
        if head is not None and plain.endswith(self._tail):
            found = self._listening.paths.line.fullmatch(plain, 0, len(plain) - len(self._tail))
            if found is not None and (found[2] is None or found[2].lower() == head.host):
                self._begin(found[1], found[3], found[4] or b"", head, parent, request_id, rest)
                return
        if self._is_new and data == _HTTP2_HEAD:
            self._become_http2(data + rest)
            return
        try:
            self._read(data, plain, parent, request_id, rest)
        except BadHead as error:
            self._refuse(replies.bad_request(error.code, str(error)))

    def _begin(
        self,
        method: bytes,
        path: bytes,
        query: bytes,
        head: RequestHead,
        parent: bytes,
        request_id: bytes,
        rest: bytes,
    ) -> None:
        """A request has come; ``rest`` is what followed its head."""
        entry = self._entry
        assert entry is not None
        self._is_new = False
        request = self._request = Request(entry, self, method, path, query, head, parent, request_id)
        if head.length == 0:
            self._rest = rest
            entry.begin(request)
            if rest:
                self._pause_reading()
            return
        self._rest = b""
        self._reader = body.reader(head.length)
        if rest:
            self._take_body(rest)
        if not request.done:
            entry.begin(request)

    def _become_http2(self, data: bytes) -> None:
        """Leave the connection to HTTP/2; ``data`` is all that came."""
        entry, self._entry = self._entry, None
        self._rest = b""
        self._listening.connections.discard(self)
        if self._place is not None:
            self._place.leave()
        codec = edge_codec if entry is not None and entry.is_edge else server_codec
        server = Http2Server(self._listening, lambda server, transport: entry, codec)
        server.peer, server.client, server.expires_at = self.peer, self.client, self.expires_at
        self.transport.set_protocol(server)
        server.connection_made(self.transport)
        server.data_received(data)

    def _keep_partial(self, data: bytes) -> None:
        is_preface = self._is_new and _HTTP2_HEAD.startswith(data)
        flaw = None if is_preface else _flaw_of_partial(data)
        if flaw is not None:
            self._refuse(replies.bad_request(flaw.code, str(flaw)))
            return
        if not self._rest:
            self._ticks = 0
        self._rest = data

    def _read(self, raw: bytes, plain: bytes, parent: bytes, request_id: bytes, rest: bytes) -> None:
        """Understand a complete head, and remember it without what was set apart."""
        assert self._entry is not None
        line_end = plain.find(b"\r\n")
        method, target, version = self._validate(plain[:line_end], raw)
        absolute = split_absolute(target)
        block = plain[line_end:-2]
        if version == b"HTTP/1.0":
            self._is_http10 = True
            block = _http10_block(block, absolute)
        head = self._entry.read_head(block)
        if method == b"CONNECT":
            self._tunnel(target, head, rest)
            return
        if head.length:
            self._parser = None  # it expects a body now, which is read without it
        if not (head.traceparent or head.request_id or head.has_trace or self._is_http10):
            self._remember(head, plain[line_end:])
        elif not parent and is_valid(head.traceparent):
            parent = head.traceparent
        request_id = request_id or head.request_id
        if absolute is not None:
            target, head = self._to_origin(*absolute, head)
        if head.has_trace and not parent:
            parent = parent_of(head)
        try:
            path, query = self._listening.paths.split(target)
        except ValueError as error:
            raise BadHead(str(error)) from error
        self._begin(method, path, query, head, parent, request_id, rest)

    def _remember(self, head: RequestHead, tail: bytes) -> None:
        self._head, self._tail = head, tail
        recent = self._entry.recent if self._entry is not None else None
        if recent is not None:
            recent.head, recent.tail = head, tail

    def _tunnel(self, target: bytes, head: RequestHead, rest: bytes) -> None:
        """Leave the connection to the entry, which makes a tunnel of it."""
        assert self._entry is not None
        refused = self._entry.tunnel(self.transport, target, head, rest)
        if refused is not None:
            self._refuse(refused)
            return
        self._entry = None
        self._listening.connections.discard(self)

    def _validate(self, line: bytes, raw: bytes) -> tuple[bytes, bytes, bytes]:
        """Have llhttp accept the head; method, target and version."""
        parser = self._parser
        if parser is None:
            parser = self._parser = httptools.HttpRequestParser(_NO_CALLBACKS)
        try:
            parser.feed_data(raw)
        except httptools.HttpParserUpgrade:
            self._parser = None
        except httptools.HttpParserError as error:
            raise BadHead(str(error)) from error
        parts = line.split(b" ")
        if len(parts) != 3 or parts[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
            raise BadHead("the request line is not 'method target HTTP/1.1'")
        if _METHOD.fullmatch(parts[0]) is None:
            raise BadHead("the method is no word")  # llhttp skips line ends before it
        if parts[1] == b"*" and parts[0] != b"OPTIONS":
            raise BadHead("the target * is for OPTIONS only")
        return parts[0], parts[1], parts[2]

    def _to_origin(self, authority: bytes, target: bytes, head: RequestHead) -> tuple[bytes, RequestHead]:
        """What an absolute target means: its authority wins over Host (RFC 9112 section 3.2.2)."""
        assert self._entry is not None
        if authority.lower() == head.host:
            return target, head
        kept = [line for line in head.block.split(b"\r\n") if line[:5].lower() != b"host:"]
        return target, self._entry.read_head(b"\r\n".join([kept[0], b"Host: " + authority, *kept[1:]]))

    def _take_body(self, data: bytes) -> None:
        request, reader = self._request, self._reader
        assert request is not None
        assert reader is not None
        try:
            payload, rest = reader.feed(data)
        except BadBody as error:
            self._is_unread = True
            request.refuse(replies.bad_request(400, str(error)))
            return
        if rest is not None:
            self._reader = None
            self._rest = rest
            request.trailer = reader.trailer
            if rest:
                self._pause_reading()
        request.feed(payload, rest is not None)

    def _pause_reading(self) -> None:
        if not self._is_paused and not self.transport.is_closing():
            self._is_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._is_paused and not self.transport.is_closing():
            self._is_paused = False
            self.transport.resume_reading()

    def _go_on(self) -> None:
        """Read on after a response, unless the client does not read it."""
        if self._is_blocked:
            self._pause_reading()
        elif self._rest:
            asyncio.get_running_loop().call_soon(self._take_rest)
        else:
            self._resume_reading()

    def _take_rest(self) -> None:
        if self._request is None and self._rest and not self._is_blocked and not self._discarding:
            data, self._rest = self._rest, b""
            self._take_head(data)
        if self._request is None and not self._is_blocked:
            self._resume_reading()

    # Ending.

    def dismiss(self) -> None:
        """See :class:`.connections.Open`. The client learns it from its next response."""

    def close(self) -> None:
        """Close when what was written is sent."""
        self._closing = True
        self.transport.close()

    def drain(self) -> None:
        """Close now when idle, else after the response."""
        self._closing = True
        if self.is_idle:
            self.transport.close()

    def _refuse(self, reply: Reply) -> None:
        """Answer bytes that are no request, and close."""
        self._rest = b""
        entry = self._entry
        if entry is not None:
            entry.record_flaw(flaw(entry, self, reply))
        is_brief = entry is not None and entry.is_brief
        self._write(reply.render(close=True, is_brief=is_brief))
        self._linger()

    def _linger(self) -> None:
        """Close, but take what the client still sends for a moment."""
        self._closing = True
        self._discarding = LINGER_BYTES
        if self.transport.is_closing():
            return
        self._is_paused = True
        self._resume_reading()
        self._listening.wheel.add(time.monotonic() + LINGER_S, Closing(self.transport))

    def _discard(self, data: bytes) -> None:
        self._discarding -= len(data)
        if self._discarding <= 0:
            self._discarding = 1
            self.transport.close()

    # Stream.

    def reply(self, reply: Reply) -> None:
        """See :class:`.sides.Stream`."""
        request = self._request
        if request is None:
            return
        self._closing = reply.closes or self._closes_after(request)
        entry = self._entry
        answer = reply.render(
            close=self._closing,
            without_body=request.method == b"HEAD",
            is_brief=request.head.is_brief or (entry is not None and entry.is_brief),
            request_id=request.request_id.decode("latin-1"),
        )
        self._write(answer)
        self.end()

    def send_whole(self, response: bytes) -> bool:
        """See :class:`.sides.Stream`."""
        request = self._request
        if request is None or self._closes_after(request):
            return False
        self._transport.write(response)  # type: ignore[union-attr]
        self._request = None
        if self._rest or self._is_paused or self._is_blocked:
            self._go_on()
        return True

    def respond(self, line: bytes, head: ResponseHead, length: int | None, payload: bytes) -> None:
        """See :class:`.sides.Stream`."""
        request = self._request
        if request is None:
            return
        close = self._closing = self._closes_after(request)
        framing = b"connection: close\r\n" if close else b""
        if (length is None or length == CHUNKED) and not self._is_http10:
            self._is_chunked = True
            framing += b"transfer-encoding: chunked\r\n"
            payload = body.frame(payload)
        elif length == 0 and _lacks_length(request.method, line, head.fields):
            framing += b"content-length: 0\r\n"
        self._write(b"HTTP/1.1%b%b%b\r\n%b" % (line[8:], head.fields, framing, payload))
        if self._is_blocked and request.connection is not None:
            request.connection.pause()

    def interim(self, line: bytes, fields: bytes) -> None:
        """See :class:`.sides.Stream`."""
        if not self._is_http10:
            self._write(b"HTTP/1.1%b%b\r\n" % (line[8:], fields))

    def switch(self, line: bytes, fields: bytes, far: Side) -> None:
        """See :class:`.sides.Stream`."""
        request, self._request = self._request, None
        rest, self._rest = self._rest, b""
        assert request is not None
        self._entry = None
        is_framed = request.head.is_framed and self.peer is not None
        self._write(b"HTTP/1.1%b%b%b\r\n" % (line[8:], fields, FRAMED if is_framed else b""))
        near = Side(self.transport, is_framed=is_framed)
        listening = self._listening
        is_trusted = getattr(self.peer, "is_current", None)
        Tunnel(request, near, far, listening.connections, listening.wheel, is_trusted)
        listening.connections.discard(self)
        if rest:
            near.data_received(rest)
        self._resume_reading()
        if self._is_blocked:
            near.pause_writing()

    def send_body(self, payload: bytes) -> None:
        """See :class:`.sides.Stream`."""
        self._activity += 1
        self._write(body.frame(payload) if self._is_chunked else payload)

    def end(self) -> None:
        """See :class:`.sides.Stream`."""
        if self._is_chunked:
            self._is_chunked = False
            self._write(body.last_chunk(self._request.response_trailer if self._request else b""))
        self._request = None
        if self._closing:
            if self._reader is not None or self._is_unread or self._rest:
                self._linger()
            else:
                self._transport.close()  # type: ignore[union-attr]
        elif self._reader is not None:
            self._linger()
        elif self._rest or self._is_paused or self._is_blocked:
            self._go_on()

    def abort(self) -> None:
        """See :class:`.sides.Stream`."""
        self._request = None
        if self._is_http10:
            made = self.transport.get_extra_info("socket")
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def pause(self) -> None:
        """See :class:`.sides.Stream`."""
        self._pause_reading()

    def resume(self) -> None:
        """See :class:`.sides.Stream`."""
        if not self._rest:
            self._resume_reading()

    def _closes_after(self, request: Request) -> bool:
        return (
            self._closing
            or request.head.closes
            or self._is_http10
            or self._listening.ends_connections
            or self._reader is not None
            or self._is_unread
            or request.started_at >= self.expires_at
        )

    def _write(self, data: bytes) -> None:
        if data and not self.transport.is_closing():
            self.transport.write(data)


def _flaw_of_partial(data: bytes) -> BadHead | None:
    """Why an incomplete head can become no good one, if so."""
    if len(data) > MAX_HEAD_BYTES:
        return BadHead(f"the head is larger than {MAX_HEAD_BYTES} bytes", 431)
    line, is_whole, _ = data.partition(b"\r\n")
    if is_whole and _VERSION.search(line) is None:
        return BadHead("the request line does not end with HTTP/1.1 or HTTP/1.0")
    if data.count(b"\n") != data.count(b"\r\n"):
        return BadHead("a line is not ended by CRLF")
    if data != b"\r" and not data[:1].isalpha() and data:
        return BadHead("this is no HTTP request")
    return None


def _http10_block(block: bytes, absolute: tuple[bytes, bytes] | None) -> bytes:
    """The fields of an HTTP/1.0 request as those of 1.1. What only 1.1 has means nothing in 1.0."""
    block = without(block, _NOT_HTTP10)
    lower = block.lower()
    if b"\ntransfer-encoding:" in lower:
        raise BadHead("Transfer-Encoding in HTTP/1.0")
    if b"\nhost:" in lower:
        return block
    if absolute is None:
        raise BadHead("no Host field: a mesh routes by host, so HTTP/1.0 needs it too")
    return b"\r\nHost: " + absolute[0] + block


def _lacks_length(method: bytes, line: bytes, fields: bytes) -> bool:
    """Whether a response that is over with its head does not say so, as HTTP/2 need not."""
    has_none = method == b"HEAD" or line[9:12] in (b"204", b"304")
    return not has_none and b"\ncontent-length:" not in fields.lower()
