"""The upstream side of HTTP/2: a connection that carries many requests, each as an exchange of its own.

What the peer did not look at (GOAWAY, REFUSED_STREAM) is sent again whatever it is; a stream that was reset,
or lost with its connection, is what a lost connection is in HTTP/1.1: see :mod:`.pipeline`.
"""

from __future__ import annotations

import asyncio
import time
from math import inf
from typing import TYPE_CHECKING

from ray_mesh.proxy import http2_head
from ray_mesh.proxy.head import BadHead, ResponseHead
from ray_mesh.proxy.http2_choice import client_codec
from ray_mesh.proxy.http2_codec import CANCEL, NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM, Headers, NoStream
from ray_mesh.proxy.http2_connection import Http2Connection
from ray_mesh.proxy.http2_head import Pairs
from ray_mesh.proxy.http2_limits import OWN_RESETS, Bucket
from ray_mesh.proxy.pipeline import Request
from ray_mesh.proxy.pool import PING_INTERVAL_S, Pool

if TYPE_CHECKING:
    from ray_mesh.proxy.tls import Trust

MAX_INTERIMS = 32
"""How many 1xx responses may come before the final one."""
_BODILESS = (204, 304)
_now = time.monotonic


class Http2Client(Http2Connection):
    """An upstream connection. ``is_mesh_peer`` says that the other side is a verified proxy."""

    __slots__ = (
        "_announced",
        "_announced_pairs",
        "_authority",
        "_block_of",
        "_exchanges",
        "_extra",
        "_extra_pairs",
        "_fields",
        "_fields_pairs",
        "_generation",
        "_head",
        "_is_mesh_peer",
        "_is_pooled",
        "_is_retired",
        "_pool",
        "_proof",
        "_resets",
        "_seen_activity",
        "_silent_since",
        "_trailer",
        "_trailer_of",
        "expires_at",
        "idle_since",
        "is_open",
        "is_reused",
        "scheme",
        "security",
        "served",
    )

    def __init__(self, pool: Pool, is_mesh_peer: bool = False) -> None:
        super().__init__(client_codec)
        self._pool = pool
        self._generation = -1
        self._is_pooled = False
        self._is_mesh_peer = is_mesh_peer
        self._is_retired = False
        self._exchanges: dict[int, Http2Exchange] = {}
        self._fields = self._authority = b""  # of the request sent last
        self._fields_pairs: Pairs = ()
        self._announced = b""
        self._announced_pairs: Pairs = ()
        self._extra = b""
        self._extra_pairs: Pairs = ()
        self._trailer_of: Headers = ()
        self._trailer = b""
        self._head: ResponseHead | None = None  # of the response that came last,
        self._block_of: tuple[Headers, bool] = ((), False)  # and what it was read from
        self._proof: tuple[Trust, tuple[bytes, ...], float] | None = None
        self._resets = Bucket(OWN_RESETS)
        self._seen_activity = -1
        self._silent_since = inf
        self.scheme = b"http"
        self.security = "none"
        self.expires_at = inf
        self.idle_since = _now()
        self.is_open = False
        self.is_reused = False
        self.served = 0  # requests

    def __repr__(self) -> str:
        return f"<Http2Client {len(self._exchanges)} streams>"

    @property
    def active(self) -> int:
        """Requests under way."""
        return len(self._exchanges)

    @property
    def has_room(self) -> bool:
        """Whether one more request may be started."""
        pool = self._pool
        return (
            self.is_open
            and len(self._exchanges) < pool.max_streams
            and self.served < pool.max_served
            and self.codec.room() > 0
        )

    # From the pool.

    def exchange(self) -> Http2Exchange:
        """One request's part of the connection, which :meth:`Http2Exchange.start` begins."""
        made = Http2Exchange(self, self.is_reused)
        self.is_reused = True
        self.served += 1
        return made

    def join(self, generation: int) -> None:
        """Count as a connection of the pool until it is lost; it was asked for in that generation."""
        self._is_pooled = True
        self._generation = generation

    def set_option(self, level: int, option: int, value: int) -> None:
        """Set an option of its socket."""
        self.transport.get_extra_info("socket").setsockopt(level, option, value)

    def retire(self) -> None:
        """Carry no more requests, and close after the last."""
        self.is_open = False
        self._is_retired = True
        self.mark()

    def depend_on(self, trust: Trust, chain: tuple[bytes, ...]) -> None:
        """Its peer was verified now: live as long as these bundles, or those after them, would do so."""
        self._proof = (trust, chain, time.time())
        if self.is_open:
            trust.proven.add(self)

    def verify(self) -> None:
        """See :class:`.tls.Proven`. Calls of gRPC may last for days."""
        assert self._proof is not None
        trust, chain, seen_at = self._proof
        if not trust.vouches(chain, seen_at):
            self.kill()

    def close(self) -> None:
        """Close an idle connection."""
        self.retire()

    def is_dead(self, now: float, interval_s: float, timeout_s: float) -> bool:
        """Whether the peer has shown no sign of life though it was asked to; asks when it is time.

        Unless somebody said an interval only proxies are asked: servers of gRPC take pings on a silent call
        for an attack (``too_many_pings``).
        """
        interval_s = interval_s or (PING_INTERVAL_S if self._is_mesh_peer else inf)
        if self._activity != self._seen_activity or not self._exchanges:
            self._seen_activity = self._activity
            self._silent_since = now
        elif now - self._silent_since >= interval_s + timeout_s:
            return True
        elif now - self._silent_since >= interval_s:
            self.codec.ping()
            self.mark()
        return False

    def kill(self) -> None:
        """Close at once; its requests are told."""
        self.is_open = False
        self.transport.abort()

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        super().connection_made(transport)
        self.is_open = True

    def eof_received(self) -> bool:
        """See :class:`asyncio.Protocol`."""
        self.is_open = False
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        self.is_open = False
        if self._proof is not None:
            self._proof[0].proven.discard(self)
        if self._is_pooled:
            self._is_pooled = False
            self._pool.forget(self)
        self._lose_all()

    def _lose_all(self) -> None:
        exchanges, self._exchanges = self._exchanges, {}
        for exchange in exchanges.values():
            exchange.lose()

    # From the codec.

    def on_headers(self, stream_id: int, headers: Headers, ended: bool) -> None:
        """See :class:`.http2_codec.Sink`."""
        exchange = self._exchanges.get(stream_id)
        if exchange is None:
            return
        try:
            status, line = http2_head.status_line(headers[0][1])
            head = self._read(headers[1:], ended)
        except BadHead as error:
            self._break(exchange, str(error))
            return
        exchange.answer(status, line, head, ended)

    def _read(self, fields: Headers, ended: bool) -> ResponseHead:
        head = self._head
        if head is None or self._block_of != (fields, ended):
            head = self._head = http2_head.answered(fields, ended, self._is_mesh_peer)
            self._block_of = (fields, ended)
        return head

    def on_interim(self, stream_id: int, headers: Headers) -> None:
        """See :class:`.http2_codec.Sink`."""
        exchange = self._exchanges.get(stream_id)
        if exchange is None:
            return
        try:
            _, line = http2_head.status_line(headers[0][1])
            fields = http2_head.interim(headers[1:], self._is_mesh_peer)
        except BadHead as error:
            self._break(exchange, str(error))
            return
        exchange.interim(line, fields)

    def on_data(self, stream_id: int, payload: bytes, ended: bool) -> None:
        """See :class:`.http2_codec.Sink`."""
        exchange = self._exchanges.get(stream_id)
        if exchange is not None:
            exchange.take(payload, ended)
        elif payload:
            self.codec.consumed(stream_id, len(payload))

    def on_trailers(self, stream_id: int, headers: Headers) -> None:
        """See :class:`.http2_codec.Sink`."""
        exchange = self._exchanges.get(stream_id)
        if exchange is None:
            return
        try:
            if headers != self._trailer_of:
                self._trailer, self._trailer_of = http2_head.trailer(headers), headers
        except BadHead as error:
            self._break(exchange, str(error))
            return
        exchange.end(self._trailer)

    def on_closed(self, stream_id: int, code: int) -> None:
        """See :class:`.http2_codec.Sink`."""
        exchange = self._exchanges.get(stream_id)
        if exchange is not None:
            self._let_go(exchange)
            if code == REFUSED_STREAM:
                exchange.turn_away()
            else:
                exchange.is_reused = False  # it was this request that the peer did not like
                exchange.lose()
        self._pool.stream_ended(self)

    def on_goaway(self, last_stream_id: int, code: int) -> None:
        """See :class:`.http2_codec.Sink`."""
        self.is_open = False
        self._pool.drop(self)
        for exchange in tuple(self._exchanges.values()):
            if exchange.stream_id > last_stream_id:
                self._let_go(exchange)
                exchange.turn_away()
        self.retire()

    def on_end(self, code: int) -> None:
        """See :class:`.http2_codec.Sink`."""
        self.is_open = False
        self._lose_all()
        self.mark()

    def on_flushed(self) -> None:
        """See :class:`.http2_connection.Http2Connection`."""
        if self._is_retired and not self._exchanges:
            self.codec.goaway(NO_ERROR)
            if data := self.codec.take():
                self.transport.write(data)
            self.transport.close()

    def _break(self, exchange: Http2Exchange, cause: str) -> None:
        """A response breaks HTTP: nothing of it travels on."""
        self._reset(exchange, PROTOCOL_ERROR)
        self._let_go(exchange)
        exchange.complain(cause)

    def _reset(self, exchange: Http2Exchange, code: int) -> None:
        """End a stream before its time. A connection that has seen many of these is replaced."""
        self.codec.reset(exchange.stream_id, code)
        self.mark()
        if not self._resets.take():
            self._pool.drop(self)
            self.retire()

    # From its exchanges.

    def open(self, exchange: Http2Exchange, request: Request, ended: bool) -> int:
        """Send the head of a request. Raises NoStream."""
        stream_id = self.codec.request(self._headers(request), ended)
        self._exchanges[stream_id] = exchange
        self.mark()
        return stream_id

    def _headers(self, request: Request) -> Headers:
        """The header list of a request; what it has in common with the one before is known."""
        fields = request.fields
        if fields != self._fields:
            self._authority, self._fields_pairs = http2_head.request_pairs(fields)
            self._fields = fields
        headers = [
            (b":method", request.method),
            (b":scheme", self.scheme),
            (b":authority", self._authority),
            (b":path", request.path + request.query),
            *self._fields_pairs,
        ]
        if request.is_http2:
            headers.append((b"te", b"trailers"))
        if self._is_mesh_peer and request.announced:
            if request.announced != self._announced:
                self._announced, self._announced_pairs = (
                    request.announced,
                    http2_head.pairs(request.announced),
                )
            headers += self._announced_pairs
        extra = request.extra
        if extra != self._extra:
            self._extra, self._extra_pairs = extra, http2_head.pairs(extra)
        headers += self._extra_pairs
        headers.append((b"x-request-id", request.request_id))
        headers.append((b"traceparent", request.traceparent))
        return headers

    def _let_go(self, exchange: Http2Exchange) -> None:
        """A stream is over."""
        del self._exchanges[exchange.stream_id]
        self.forget(exchange)
        if not self._exchanges:
            self.idle_since = _now()
            if self._is_retired:
                self.mark()

    def finish(self, exchange: Http2Exchange, is_complete: bool) -> None:
        """The response is complete, or nobody wants it any more; the request perhaps is not."""
        if self._exchanges.get(exchange.stream_id) is exchange:
            if is_complete:
                self._resets.give()
            else:
                self._reset(exchange, CANCEL)
            self._let_go(exchange)


class Http2Exchange:
    """One request on a connection: a :class:`.sides.Connection`."""

    __slots__ = (
        "_client",
        "_held",
        "_interims",
        "_is_paused",
        "_request",
        "is_reused",
        "security",
        "stream_id",
    )

    def __init__(self, client: Http2Client, is_reused: bool) -> None:
        self._client = client
        self._request: Request | None = None
        self._held = 0  # bytes of the response that were not granted again
        self._interims = 0
        self._is_paused = False
        self.is_reused = is_reused
        self.security = client.security
        self.stream_id = 0

    # From the request.

    def start(self, request: Request) -> None:
        """See :class:`.sides.Connection`."""
        self._request = request
        has_body = request.head.length != 0
        try:
            self.stream_id = self._client.open(self, request, not has_body)
        except NoStream:
            asyncio.get_running_loop().call_soon(self.turn_away)
            return
        if has_body:
            payload = request.take_pending()
            if payload or request.body_done:
                self.send_body(payload, request.body_done)

    def send_body(self, payload: bytes, done: bool) -> None:
        """See :class:`.sides.Connection`."""
        request = self._request
        if request is None or not self.stream_id:
            return
        lines = request.trailer if done else b""
        if payload or not lines:
            goes_on = self._client.send(self, payload, done and not lines)
            if not goes_on and request.stream is not None:
                request.stream.pause()
        if lines:
            self._client.codec.trailers(self.stream_id, http2_head.pairs(lines))
            self._client.mark()

    def abandon(self) -> None:
        """See :class:`.sides.Connection`."""
        self._request = None
        self._client.finish(self, False)

    def pause(self) -> None:
        """See :class:`.sides.Connection`."""
        self._is_paused = True

    def resume(self) -> None:
        """See :class:`.sides.Connection`."""
        self._is_paused = False
        held, self._held = self._held, 0
        if held:
            self._client.codec.consumed(self.stream_id, held)
            self._client.mark()

    # From the connection.

    def go_on(self) -> None:
        """See :class:`.http2_connection.Sender`."""
        if self._request is not None and self._request.stream is not None:
            self._request.stream.resume()

    def answer(self, status: int, line: bytes, head: ResponseHead, ended: bool) -> None:
        """The final response began."""
        request = self._request
        assert request is not None
        length = 0 if request.method == b"HEAD" or status in _BODILESS else head.length
        request.on_response(status, line, head, length, b"")
        if ended:
            self.end(b"")

    def interim(self, line: bytes, fields: bytes) -> None:
        """An interim response came."""
        request = self._request
        assert request is not None
        self._interims += 1
        if self._interims > MAX_INTERIMS:
            self._client.finish(self, False)
            self.complain(f"more than {MAX_INTERIMS} interim responses")
        elif request.stream is not None:
            request.stream.interim(line, fields)

    def take(self, payload: bytes, ended: bool) -> None:
        """More of the body came."""
        request = self._request
        if payload:
            if request is not None:
                request.on_body(payload)
            if self._is_paused and not ended:
                self._held += len(payload)
            else:
                self._client.codec.consumed(self.stream_id, len(payload))
        if ended:
            self.end(b"")

    def end(self, trailer: bytes) -> None:
        """The response is complete."""
        request, self._request = self._request, None
        if request is None:  # it was held back, and the next try is under way
            return
        if self._held:
            self.resume()
        request.response_trailer = trailer
        request.connection = None
        is_sent = request.head.length == 0 or not self._client.codec.queued(self.stream_id)
        self._client.finish(self, request.body_done and is_sent)
        request.on_end()

    def lose(self) -> None:
        """The stream was reset, or its connection is lost."""
        request, self._request = self._request, None
        if request is not None:
            request.connection_lost()

    def turn_away(self) -> None:
        """The peer did not look at the request."""
        request, self._request = self._request, None
        if request is not None:
            request.turned_away()

    def complain(self, cause: str) -> None:
        """The response breaks HTTP."""
        request, self._request = self._request, None
        if request is not None:
            request.bad_response(cause)
