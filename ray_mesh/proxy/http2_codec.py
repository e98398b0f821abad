"""HTTP/2 framing without sockets: what a codec does, and whom it tells.

A connection (:mod:`.http2_server`, :mod:`.http2_client`) gives a :class:`Codec` the bytes that came, is
told by calls of its :class:`Sink` what they mean, and writes what :meth:`Codec.take` returns, once per turn
of the loop. Two codecs do the same: :mod:`.http2_ngh2` (libnghttp2), and :mod:`.http2_pure` (Python) where
the first is not installed.

Limits are the same for both. What a peer may make us hold is bounded by the windows; what it may make us
do, by the rates of resets, settings, pings and of frames without effect; a peer over them gets GOAWAY with
ENHANCE_YOUR_CALM. A block of fields of more than twice ``MAX_HEADER_BYTES`` or ``MAX_HEADER_FIELDS`` ends
the connection, too; between once and twice it is the sink that refuses it, so that no request can end the
others of its connection by what a proxy adds to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

Headers = Sequence[tuple[bytes, bytes]]
"""Fields of one block in order, names in lower case, pseudo-headers first."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_STREAMS = 1024
"""How many requests a client may have under way on one connection."""
STREAM_WINDOW = 256 * 1024
CONNECTION_WINDOW = 16 * 1024 * 1024
"""How much of bodies may be here that was not passed on."""
SHARED_WINDOW = 64 * 1024 * 1024
"""The same of a connection between proxies or to a server, which has requests of many clients: 100 streams
that stand still, each with its window full, must not hold up the others, even while half of the window was
passed on and not announced yet."""
EDGE_STREAMS = 128
EDGE_WINDOW = 4 * 1024 * 1024
"""Both for clients from outside the mesh, who may be anybody. Envoy advises as much for its edge."""
MAX_HEADER_BYTES = 60 * 1024
MAX_HEADER_FIELDS = 110
TAKE_BYTES = 64 * 1024
"""How much is framed at a time."""

NO_ERROR = 0x0
PROTOCOL_ERROR = 0x1
INTERNAL_ERROR = 0x2
FLOW_CONTROL_ERROR = 0x3
STREAM_CLOSED = 0x5
FRAME_SIZE_ERROR = 0x6
REFUSED_STREAM = 0x7
CANCEL = 0x8
COMPRESSION_ERROR = 0x9
ENHANCE_YOUR_CALM = 0xB
HTTP_1_1_REQUIRED = 0xD


class NoStream(Exception):
    """No further request can be started on the connection; nothing was sent."""


class Sink(Protocol):
    """The connection. It may call its codec while it is told something."""

    def on_headers(self, stream_id: int, headers: Headers, ended: bool) -> None:
        """A request (to a server) or the final response (to a client) began; ``ended``: without body."""

    def on_interim(self, stream_id: int, headers: Headers) -> None:
        """A 1xx response came."""

    def on_data(self, stream_id: int, payload: bytes, ended: bool) -> None:
        """More of a body came (perhaps nothing, with its end): :meth:`Codec.consumed` is due."""

    def on_trailers(self, stream_id: int, headers: Headers) -> None:
        """The body is over, with these fields after it."""

    def on_closed(self, stream_id: int, code: int) -> None:
        """A stream is over: with 0 when both sides ended it or it was reset without an error.

        It is called once for each stream that began and was not over when the connection ended.
        """

    def on_goaway(self, last_stream_id: int, code: int) -> None:
        """The peer wants no new requests; those above ``last_stream_id`` were not looked at."""

    def on_pong(self) -> None:
        """The peer answered a :meth:`Codec.ping`."""

    def on_end(self, code: int) -> None:
        """The connection is over; write what :meth:`Codec.take` still gives, then close."""


class Codec(Protocol):
    """One side of one connection. A method that names a stream which is over does nothing."""

    is_over: bool

    def receive(self, data: bytes) -> None:
        """Understand what came, and tell the sink; what breaks the protocol is answered by itself."""

    def take(self) -> bytes:
        """What to write now, about ``TAKE_BYTES`` at most; empty when there is nothing.

        It may tell the sink, which may ask for more to be written: call again until it is empty.
        """

    def request(self, headers: Headers, ended: bool) -> int:
        """Start a request (clients only); its stream. Raises NoStream."""

    def respond(self, stream_id: int, headers: Headers, ended: bool) -> None:
        """Send the head of the final response (servers only)."""

    def interim(self, stream_id: int, headers: Headers) -> None:
        """Send a 1xx response (servers only)."""

    def send(self, stream_id: int, payload: bytes, ended: bool) -> None:
        """Send more of a body. What the windows do not let through is kept, see :meth:`queued`."""

    def trailers(self, stream_id: int, headers: Headers) -> None:
        """End a body with fields after it."""

    def reset(self, stream_id: int, code: int) -> None:
        """End a stream at once; what it had queued is dropped."""

    def consumed(self, stream_id: int, size: int) -> None:
        """So much of what :meth:`Sink.on_data` gave was passed on: the peer may send as much again."""

    def queued(self, stream_id: int) -> int:
        """Bytes of a stream's body that were not framed yet."""

    def room(self) -> int:
        """How many more requests the peer allows now (clients only); 0 after its GOAWAY."""

    def ping(self) -> None:
        """Ask the peer for a sign of life."""

    def notice(self) -> None:
        """Tell the peer to start no more requests, while those on their way are still served."""

    def goaway(self, code: int) -> None:
        """Tell the peer which of its requests were the last; later ones are not looked at.

        With an error the connection is over once this is written.
        """
