"""Two connections joined after ``101 Switching Protocols``: bytes pass unread, both ways, until both end.

Each direction ends by itself. Where a connection is plain TCP, its half is shut down. TLS as asyncio has it
cannot shut down one half, so between two proxies of the mesh the bytes travel in chunks
(RFC 9112 section 7.1) and the last chunk ends a direction; both say ``x-mesh-tunnel: framed``. On any other
TLS connection the end of one direction ends both.

A connection whose reader is slow holds the other one back. A tunnel on which nothing moves is cut after
five minutes, as a request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import inf

from ray_mesh.proxy import body
from ray_mesh.proxy.body import BadBody, ChunkedReader
from ray_mesh.proxy.connections import Connections
from ray_mesh.proxy.pipeline import Request
from ray_mesh.proxy.timers import Wheel

TICK_S = 10.0
IDLE_TICKS = 30  # Envoy's stream_idle_timeout
DRAIN_S = 30.0
"""How long a tunnel goes on when its plane drains or its workload is removed."""
FRAMED = b"x-mesh-tunnel: framed\r\n"


class Side(asyncio.Protocol):
    """One connection of a tunnel. ``on_lost`` is called when it is closed."""

    __slots__ = (
        "_can_shut_half",
        "_on_lost",
        "_reader",
        "has_ended",
        "other",
        "received",
        "transport",
        "tunnel",
    )

    other: Side
    tunnel: Tunnel

    def __init__(
        self, transport: asyncio.Transport, *, is_framed: bool, on_lost: Callable[[], None] | None = None
    ) -> None:
        self.transport = transport
        self.received = 0  # bytes of payload
        self.has_ended = False  # nothing more comes from it
        self._on_lost = on_lost
        self._reader = ChunkedReader() if is_framed else None
        self._can_shut_half = transport.can_write_eof()

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        tunnel = self.tunnel
        tunnel.activity += 1
        if self._reader is None:
            self.received += len(data)
            self.other.send(data)
            return
        if self.has_ended:
            tunnel.break_off("UPE" if self is tunnel.far else "DPE")
            return
        try:
            payload, rest = self._reader.feed(data)
        except BadBody:
            tunnel.break_off("UPE" if self is tunnel.far else "DPE")
            return
        self.received += len(payload)
        if payload:
            self.other.send(payload)
        if rest is not None:
            self._end()

    def send(self, payload: bytes) -> None:
        """Write what came from the other side."""
        if not self.transport.is_closing():
            self.transport.write(payload if self._reader is None else body.frame(payload))

    def shut(self) -> None:
        """The other side sends no more: say so, or close when that cannot be said."""
        if self.transport.is_closing():
            return
        if self._reader is not None:
            self.transport.write(body.LAST_CHUNK)
        elif self._can_shut_half:
            self.transport.write_eof()
        else:
            self.tunnel.close()

    def _end(self) -> None:
        self.has_ended = True
        self.other.shut()
        if self.other.has_ended:
            self.tunnel.close()

    def eof_received(self) -> bool:
        """See :class:`asyncio.Protocol`. The connection stays open for what the other side still sends."""
        if self._reader is not None or not self._can_shut_half:
            return False
        self._end()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        if self._on_lost is not None:
            self._on_lost()
        self.tunnel.lose(self, is_clean=error is None and self._reader is None)

    def pause_writing(self) -> None:
        """See :class:`asyncio.Protocol`."""
        if not self.other.has_ended and not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """See :class:`asyncio.Protocol`."""
        if not self.other.has_ended and not self.other.transport.is_closing():
            self.other.transport.resume_reading()


class Tunnel:
    """The sides of an exchange that switched protocols, ``near`` to the client and ``far``.

    The request is recorded when it ends, with the bytes of both directions. ``is_trusted`` is asked now and
    then whether the client's certificate is still good.
    """

    __slots__ = (
        "_connections",
        "_ends_at",
        "_is_trusted",
        "_request",
        "_seen",
        "_ticks",
        "_wheel",
        "activity",
        "entry",
        "far",
        "near",
    )

    is_idle = False

    def __init__(
        self,
        request: Request,
        near: Side,
        far: Side,
        connections: Connections,
        wheel: Wheel,
        is_trusted: Callable[[float], bool] | None = None,
    ) -> None:
        self._is_trusted = is_trusted
        self._ends_at = inf
        self._request: Request | None = request
        self._connections = connections
        self._wheel = wheel
        self._seen = (0, 0)
        self._ticks = 0
        self.entry: object = request.entry
        self.activity = 0
        self.near, self.far = near, far
        near.other, far.other = far, near
        near.tunnel = far.tunnel = self
        near.transport.set_protocol(near)
        far.transport.set_protocol(far)
        connections.add(self)
        wheel.add(time.monotonic() + TICK_S, self)

    def __repr__(self) -> str:
        return f"<Tunnel {self.near.received} bytes out, {self.far.received} in>"

    def dismiss(self) -> None:
        """See :class:`.connections.Open`. Nothing in its protocol says so."""

    def drain(self) -> None:
        """See :class:`.connections.Open`. Only its ends know when it is complete, so it is given a while."""
        self._ends_at = min(self._ends_at, time.monotonic() + DRAIN_S)

    def abort(self) -> None:
        """See :class:`.connections.Open`."""
        self.break_off("DR")

    def close(self) -> None:
        """Both directions are complete: close when what was written is sent."""
        self._record("")
        self.near.transport.close()
        self.far.transport.close()

    def break_off(self, flag: str) -> None:
        """Cut both connections so that both ends notice."""
        self._record(flag)
        self.near.transport.abort()
        self.far.transport.abort()

    def lose(self, side: Side, *, is_clean: bool) -> None:
        """A connection is closed."""
        if side is self.near:
            self._connections.discard(self)
        if self._request is None:
            return
        if is_clean:
            self.close()
        else:
            self.break_off("DC" if side is self.near else "UC")

    def on_deadline(self, now: float) -> None:
        """Cut it when nothing moves or it may not go on (see :class:`.timers.Timed`).

        Also when it is complete: closing waits until the last of it was taken, perhaps for ever.
        """
        unsent = self.near.transport.get_write_buffer_size() + self.far.transport.get_write_buffer_size()
        if self._request is None and not unsent:
            return
        seen = (self.activity, unsent)
        self._ticks = self._ticks + 1 if seen == self._seen else 0
        self._seen = seen
        if self._ticks >= IDLE_TICKS:
            self.break_off("SI")
        elif now >= self._ends_at:
            self.break_off("DR")
        elif self._is_trusted is not None and not self._is_trusted(now):
            self.break_off("UAEX")
        else:
            self._wheel.add(now + TICK_S, self)

    def _record(self, flag: str) -> None:
        request, self._request = self._request, None
        if request is not None:
            request.end_tunnel(self.near.received, self.far.received, flag)
