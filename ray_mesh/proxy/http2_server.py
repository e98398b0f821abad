"""The downstream side of HTTP/2: a connection, and the requests under way on it.

Each stream is a :class:`.sides.Stream` of its own, so that a request knows nothing of the others; its body
comes and its response goes as fast as the other side of the same request takes them.

A connection that shall end tells its client with GOAWAY twice (RFC 9113 section 6.8): first that no more
requests should be started, and once the client has that, which one was the last. Then it closes when the last
response is out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from ray_mesh.proxy import http2_head, replies
from ray_mesh.proxy.grpc import grpc_reply, is_grpc
from ray_mesh.proxy.head import BadHead, ResponseHead
from ray_mesh.proxy.http2_choice import server_codec
from ray_mesh.proxy.http2_codec import CANCEL, INTERNAL_ERROR, NO_ERROR, Codec, Headers, Sink
from ray_mesh.proxy.http2_connection import Http2Connection
from ray_mesh.proxy.http2_head import Pairs
from ray_mesh.proxy.http2_requests import RequestReader
from ray_mesh.proxy.pipeline import Request, flaw
from ray_mesh.proxy.replies import Reply
from ray_mesh.proxy.timers import Place

if TYPE_CHECKING:
    from ray_mesh.proxy.http1_server import Admit, Listening, ServerEntry
    from ray_mesh.proxy.tunnel import Side

TICK_S = 10.0
"""How often a connection is looked at. Its limits in ticks:"""
FIRST_TICKS = 8  # until the first request
IDLE_TICKS = 60  # without request, whatever else comes; longer than the callers' proxies keep theirs
PING_TICKS = 3  # requests, and not a byte from the client: it is asked for a sign of life
DEAD_TICKS = 6  # there was none
STALL_TICKS = 30  # a request without a byte either way; calls of gRPC may be silent, if their bytes are taken
DRAIN_S = 2.0
"""How long a client has to see that it should start no more requests."""


class Http2Server(Http2Connection):
    """A downstream connection. Its attributes that an ``Admit`` sets are those of Http1Server."""

    __slots__ = (
        "_accepted_at",
        "_admit",
        "_early",
        "_entry",
        "_fields",
        "_is_draining",
        "_is_last_named",
        "_last_id",
        "_lines",
        "_listening",
        "_pairs",
        "_place",
        "_reader",
        "_seen_activity",
        "_seen_id",
        "_seen_unsent",
        "_streams",
        "_ticks",
        "_trailer",
        "_trailer_pairs",
        "_unused_ticks",
        "client",
        "expires_at",
        "peer",
    )

    def __init__(
        self, listening: Listening, admit: Admit, codec: Callable[[Sink], Codec] = server_codec
    ) -> None:
        super().__init__(codec)
        self._listening = listening
        self._admit = admit
        self._entry: ServerEntry | None = None
        self._place: Place | None = None
        self._streams: dict[int, Http2Stream] = {}
        self._early: list[Http2Stream] = []  # answered before all of the request came
        self._reader = RequestReader()
        self._lines = self._trailer = b""  # sent last, as lines
        self._pairs: Pairs = ()
        self._trailer_pairs: Pairs = ()
        self._is_draining = self._is_last_named = False
        self._seen_activity = self._seen_unsent = self._ticks = 0
        self._last_id = self._seen_id = self._unused_ticks = 0
        self._accepted_at = time.time()
        self.expires_at = inf
        self.peer: object = None
        self.client = b""

    def __repr__(self) -> str:
        return f"<Http2Server {len(self._streams)} streams>"

    @property
    def entry(self) -> ServerEntry | None:
        """Whose requests it carries; None once closed."""
        return self._entry

    @property
    def is_idle(self) -> bool:
        """Whether no request is in flight."""
        return not self._streams

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        super().connection_made(transport)
        self._entry = self._admit(self, self.transport)
        if self._entry is None:
            self.transport.abort()
            return
        self._listening.connections.add(self)
        self._place = Place(self)
        self._listening.wheel.add(time.monotonic() + TICK_S, self._place)

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        if self._entry is not None:
            super().data_received(data)

    def connection_lost(self, error: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        self._listening.connections.discard(self)
        if self._place is not None:
            self._place.leave()
        self._entry = None
        self._cancel_all()

    def _cancel_all(self) -> None:
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.cancel()

    def on_deadline(self, now: float) -> None:
        """Look after the connection (see :class:`.timers.Timed`)."""
        if self._entry is None:
            return
        assert self._place is not None
        unsent = self.transport.get_write_buffer_size()
        is_quiet = self._activity == self._seen_activity and unsent == self._seen_unsent
        self._ticks = self._ticks + 1 if is_quiet else 0
        self._seen_activity, self._seen_unsent = self._activity, unsent
        is_unused = not self._streams and self._last_id == self._seen_id
        self._unused_ticks = self._unused_ticks + 1 if is_unused else 0
        self._seen_id = self._last_id
        if now >= self.expires_at and not self._is_draining:
            self.drain()
        if unsent and self._ticks >= STALL_TICKS:
            self.transport.abort()  # closing would wait for a client that does not read
        elif not self._streams:
            if self._unused_ticks >= (IDLE_TICKS if self._reader.has_read else FIRST_TICKS):
                self.drain()
        elif not unsent and self._ticks >= DEAD_TICKS:
            self.transport.abort()
        elif self._ticks >= PING_TICKS:
            self.codec.ping()
            self.mark()
        for stream in tuple(self._streams.values()):
            stream.look()
        self._listening.wheel.add(now + TICK_S, self._place)

    # From the codec.

    def on_headers(self, stream_id: int, headers: Headers, ended: bool) -> None:
        """See :class:`.http2_codec.Sink`."""
        entry = self._entry
        assert entry is not None
        self._last_id = stream_id
        stream = self._streams[stream_id] = Http2Stream(self, stream_id, ended)
        try:
            request = self._reader.read(entry, stream, headers, ended, self._listening.paths)
        except BadHead as error:
            self._refuse(stream, replies.bad_request(error.code, str(error)))
            return
        stream.begin(request)
        entry.begin(request)

    def _refuse(self, stream: Http2Stream, reply: Reply) -> None:
        """Answer what is no request."""
        entry = self._entry
        assert entry is not None
        entry.record_flaw(flaw(entry, stream, reply))
        stream.answer(reply, is_brief=entry.is_brief)

    def on_data(self, stream_id: int, payload: bytes, ended: bool) -> None:
        """See :class:`.http2_codec.Sink`."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.take(payload, ended)
        elif payload:
            self.codec.consumed(stream_id, len(payload))

    def on_trailers(self, stream_id: int, headers: Headers) -> None:
        """See :class:`.http2_codec.Sink`."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            stream.take_trailer(headers)

    def on_closed(self, stream_id: int, code: int) -> None:
        """See :class:`.http2_codec.Sink`."""
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self.forget(stream)
            stream.cancel()
        if self._is_last_named and not self._streams:
            self.mark()

    def on_goaway(self, last_stream_id: int, code: int) -> None:
        """See :class:`.http2_codec.Sink`. A client that goes away starts nothing more, and is held to it."""
        self._is_draining = True
        self.name_last()

    def on_pong(self) -> None:
        """See :class:`.http2_codec.Sink`."""
        self.name_last()

    def on_end(self, code: int) -> None:
        """See :class:`.http2_codec.Sink`."""
        self._cancel_all()
        self.mark()

    def on_flushed(self) -> None:
        """See :class:`.http2_connection.Http2Connection`."""
        if self._early and not self._is_blocked:
            early, self._early = self._early, []
            for stream in early:
                if self.codec.queued(stream.stream_id):
                    self._early.append(stream)
                else:
                    self.codec.reset(stream.stream_id, NO_ERROR)
                    self.mark()
        if self._is_last_named and not self._streams:
            self.transport.close()

    # Ending.

    def dismiss(self) -> None:
        """Ask the client to go; its requests are served."""
        self.drain()

    def drain(self) -> None:
        """Close now when idle, else after the responses."""
        if self._is_draining:
            return
        self._is_draining = True
        self.codec.notice()
        self.codec.ping()
        self.mark()
        self._listening.wheel.add(time.monotonic() + DRAIN_S, _Naming(self))

    def name_last(self) -> None:
        """The client has seen the notice, or had its time to: tell it which request was the last."""
        if self._is_draining and not self._is_last_named and not self.codec.is_over:
            self._is_last_named = True
            self.codec.goaway(NO_ERROR)
            self.mark()

    def abort(self) -> None:
        """Close now."""
        self.transport.abort()

    def verify(self) -> None:
        """The trust changed: close when who the client proved to be would not be believed any more."""
        vouched = getattr(self.peer, "is_vouched_for", None)
        if vouched is not None and not vouched(self._accepted_at):
            self.abort()

    # From its streams.

    @property
    def ends_soon(self) -> bool:
        """Whether the client should connect again for its next request."""
        return self._listening.ends_connections

    def lines_as_pairs(self, lines: bytes) -> Pairs:
        """A response's fields; responses that repeat the last one's are not taken apart again."""
        if lines != self._lines:
            self._pairs = http2_head.pairs(lines)
            self._lines = lines
        return self._pairs

    def trailer_as_pairs(self, lines: bytes) -> Pairs:
        """A trailer's fields, in the same way."""
        if lines != self._trailer:
            self._trailer_pairs = http2_head.pairs(lines)
            self._trailer = lines
        return self._trailer_pairs

    def end_early(self, stream: Http2Stream) -> None:
        """The response is complete and the request is not: want no more of it (RFC 9113 section 8.1)."""
        self._early.append(stream)
        self.mark()

    def is_brief_for(self, request: Request) -> bool:
        """Whether a reply says nothing of the inside."""
        return request.head.is_brief or (self._entry is not None and self._entry.is_brief)


class _Naming:
    """The second GOAWAY at its time."""

    def __init__(self, server: Http2Server) -> None:
        self._server = server

    def on_deadline(self, now: float) -> None:
        """See :class:`.timers.Timed`."""
        self._server.name_last()


class Http2Stream:
    """One request of a connection: a :class:`.sides.Stream`."""

    __slots__ = (
        "_activity",
        "_held",
        "_is_complete",
        "_is_ended",
        "_is_paused",
        "_request",
        "_seen_activity",
        "_seen_unsent",
        "_server",
        "_ticks",
        "client",
        "peer",
        "stream_id",
    )

    is_http2 = True

    def __init__(self, server: Http2Server, stream_id: int, ended: bool) -> None:
        self._server = server
        self.stream_id = stream_id
        self.peer = server.peer
        self.client = server.client
        self._request: Request | None = None
        self._held = 0  # bytes of the request that were not granted again
        self._is_paused = False
        self._is_complete = ended  # the request came whole
        self._is_ended = False  # and is complete
        self._activity = self._seen_activity = self._seen_unsent = self._ticks = 0

    # From the connection.

    def begin(self, request: Request) -> None:
        """A request came."""
        self._request = request

    def take(self, payload: bytes, ended: bool) -> None:
        """More of the body came."""
        self._activity += 1
        if ended:
            self._is_complete = True
        request = self._request
        if request is not None and not request.done and not request.body_done:
            request.feed(payload, ended)
            if self._is_paused:
                self._held += len(payload)
                return
        if payload:
            self._server.codec.consumed(self.stream_id, len(payload))

    def take_trailer(self, headers: Headers) -> None:
        """The body is over."""
        request = self._request
        self._is_complete = True
        if request is None or request.done or request.body_done:
            return
        try:
            request.trailer = http2_head.trailer(headers)
        except BadHead as error:
            request.refuse(replies.bad_request(400, str(error)))
            return
        request.feed(b"", True)

    def cancel(self) -> None:
        """The stream is over; the request with it, if it is not."""
        request, self._request = self._request, None
        if request is not None and not request.done:
            request.cancel()

    def go_on(self) -> None:
        """See :class:`.http2_connection.Sender`."""
        request = self._request
        if request is not None and request.connection is not None:
            request.connection.resume()

    def look(self) -> None:
        """Refuse the request, or give up a response that nobody takes, when nothing has moved for long."""
        request = self._request
        unsent = self._server.codec.queued(self.stream_id)
        is_quiet = self._activity == self._seen_activity and unsent == self._seen_unsent
        self._ticks = self._ticks + 1 if is_quiet else 0
        self._seen_activity, self._seen_unsent = self._activity, unsent
        if self._ticks < STALL_TICKS:
            return
        if request is None or request.done:
            self._server.codec.reset(self.stream_id, CANCEL)
            self._server.mark()
        elif unsent or not is_grpc(request.head):
            request.refuse(replies.stalled(STALL_TICKS * TICK_S))

    # Stream.

    def reply(self, reply: Reply) -> None:
        """See :class:`.sides.Stream`."""
        request = self._request
        if request is None:
            return
        server = self._server
        self.answer(reply, request=request, is_brief=server.is_brief_for(request))
        if server.ends_soon or (reply.closes and reply.flag != "DPE"):
            server.drain()  # a malformed request says nothing of the others

    def answer(self, reply: Reply, *, is_brief: bool, request: Request | None = None) -> None:
        """Send a reply of our own, as gRPC expects it where the request is of gRPC."""
        request_id = request.request_id.decode("latin-1") if request is not None else ""
        codec = self._server.codec
        if request is not None and is_grpc(request.head):
            codec.respond(self.stream_id, grpc_reply(reply, is_brief=is_brief, request_id=request_id), True)
        else:
            fields, content = reply.parts(is_brief=is_brief, request_id=request_id)
            if request is not None and request.method == b"HEAD":
                content = b""
            lines = "".join(f"{field}\r\n" for field in fields).encode("latin-1", "replace")
            headers = ((b":status", b"%d" % reply.status), *http2_head.pairs(lines))
            codec.respond(self.stream_id, headers, not content)
            if content:
                codec.send(self.stream_id, content, True)
        self._finish()

    def send_whole(self, response: bytes) -> bool:
        """See :class:`.sides.Stream`. It has to be taken apart."""
        return False

    def respond(self, line: bytes, head: ResponseHead, length: int | None, payload: bytes) -> None:
        """See :class:`.sides.Stream`."""
        if self._request is None:
            return
        server = self._server
        self._activity += 1
        headers = ((b":status", line[9:12]), *server.lines_as_pairs(head.fields))
        server.codec.respond(self.stream_id, headers, length == 0)
        if length == 0:
            self._is_ended = True
        else:
            self.send_body(payload)
        server.mark()

    def interim(self, line: bytes, fields: bytes) -> None:
        """See :class:`.sides.Stream`."""
        self._server.codec.interim(self.stream_id, ((b":status", line[9:12]), *http2_head.pairs(fields)))
        self._server.mark()

    def switch(self, line: bytes, fields: bytes, far: Side) -> None:
        """See :class:`.sides.Stream`. Nothing that asks for it can come here."""
        raise AssertionError("HTTP/2 has no Upgrade")

    def send_body(self, payload: bytes) -> None:
        """See :class:`.sides.Stream`."""
        if not payload or self._is_ended:
            return
        self._activity += 1
        if not self._server.send(self, payload, False):
            request = self._request
            if request is not None and request.connection is not None:
                request.connection.pause()

    def end(self) -> None:
        """See :class:`.sides.Stream`."""
        if not self._is_ended:
            codec = self._server.codec
            request = self._request
            lines = request.response_trailer if request is not None else b""
            if lines:
                codec.trailers(self.stream_id, self._server.trailer_as_pairs(lines))
            else:
                codec.send(self.stream_id, b"", True)
        self._finish()
        if self._server.ends_soon:
            self._server.drain()

    def _finish(self) -> None:
        """The response is complete."""
        self._is_ended = True
        self._request = None
        self._release()
        if not self._is_complete:
            self._server.end_early(self)
        self._server.mark()

    def abort(self) -> None:
        """See :class:`.sides.Stream`."""
        self._request = None
        self._is_ended = True
        self._release()
        self._server.codec.reset(self.stream_id, INTERNAL_ERROR)
        self._server.mark()

    def pause(self) -> None:
        """See :class:`.sides.Stream`."""
        self._is_paused = True

    def resume(self) -> None:
        """See :class:`.sides.Stream`."""
        self._is_paused = False
        self._release()

    def _release(self) -> None:
        held, self._held = self._held, 0
        self._is_paused = False
        if held:
            self._server.codec.consumed(self.stream_id, held)
            self._server.mark()
