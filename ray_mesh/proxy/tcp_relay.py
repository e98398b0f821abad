"""Bytes between two connections, both ways, as they are: the downstream's and the upstream's.

Each direction ends by itself (half-close). A connection that breaks breaks the other one with a reset, so
that nobody takes a part for the whole. A side that does not read stops the other from being read, so that
a relay holds at most the buffers of its two transports.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
import time
from collections.abc import Callable
from typing import cast

from ray_mesh.errors import PeerError
from ray_mesh.proxy.tcp_splice import Splice, take_socket
from ray_mesh.proxy.tcp_wire import END, Frames, header
from ray_mesh.proxy.timers import SLOT_S, Wheel

BUFFER_BYTES = 64 * 1024
TICK_S = 5.0
"""How often a relay is looked at: what it moved is counted, and whether it is idle."""
IDLE_S = 3600.0
"""Without a byte either way for so long it is closed (Envoy's and Istio's default)."""
SPLICE_BYTES = 256 * 1024
"""After so many bytes from one side the kernel moves the rest, where there is no TLS."""
SPLICE_TRIES = 50
SPLICE_WAIT_S = 0.002
DRAIN_S = 30.0
"""What a relay still has when its workload is gone."""
KEEPALIVE_S = 60
"""A peer that is silent for so long is asked whether it is still there, three times at most."""


class Side(asyncio.Protocol):
    """One connection of a relay. Before it is linked it keeps what comes, and stops reading."""

    ends_both = False
    may_splice = True
    """Whether it carries the bytes as they are, in a socket that the kernel can move them from."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._relay: Relay | None = None
        self._waiting: asyncio.Future[None] | None = None
        self.received = 0
        self.is_blocked = False  # it does not take what is sent to it
        self.is_lost = False
        self.has_ended = False  # nothing more comes from it
        self.is_finished = False  # nothing more goes to it

    @property
    def transport(self) -> asyncio.Transport:
        """The transport, once connected."""
        assert self._transport is not None
        return self._transport

    def take(self, transport: asyncio.Transport, early: bytes = b"") -> None:
        """Take a connection over from another protocol, with what it had read already."""
        if early:
            self._early.append(early)
        self.connection_made(transport)
        transport.set_protocol(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(BUFFER_BYTES)
        keep_alive(self._transport)

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        if self._relay is None:
            self._early.append(data)
            if not self.transport.is_closing():
                self.transport.pause_reading()
            self._wake()
            return
        self.received += len(data)
        self._relay.other(self).send(data)
        if self.received >= SPLICE_BYTES:
            self._relay.splice()

    def eof_received(self) -> bool:
        """See :class:`asyncio.Protocol`: the other direction goes on."""
        self.has_ended = True
        self._wake()
        if self._relay is not None:
            self._relay.ended(self)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        self.is_lost = True
        self._wake()
        if self._relay is not None:
            self._relay.lost(self)

    @property
    def early(self) -> bytes:
        """What came before it was linked."""
        return b"".join(self._early)

    async def more(self) -> bool:
        """Wait until more came before it is linked; False when nothing will."""
        if self.has_ended or self.is_lost:
            return False
        self._waiting = asyncio.get_running_loop().create_future()
        self.resume()
        await self._waiting
        return not (self.has_ended or self.is_lost)

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def pause_writing(self) -> None:
        """See :class:`asyncio.Protocol`."""
        self.is_blocked = True
        if self._relay is not None:
            self._relay.other(self).pause()

    def resume_writing(self) -> None:
        """See :class:`asyncio.Protocol`."""
        self.is_blocked = False
        if self._relay is not None:
            self._relay.other(self).resume()

    def count(self, size: int) -> None:
        """Bytes came from it that the kernel moved."""
        self.received += size

    def pause(self) -> None:
        """Read no more for now."""
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def link(self, relay: Relay) -> None:
        """From now on its bytes go to the other side."""
        self._relay = relay

    def begin(self, relay: Relay) -> None:
        """Pass on what came before it was linked, and read on."""
        early, self._early = self._early, []
        for data in early:
            self.data_received(data)
        if not relay.other(self).is_blocked:
            self.resume()
        if self.has_ended:
            relay.ended(self)

    def send(self, data: bytes | memoryview) -> None:
        """Pass bytes on to the connection."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def finish(self) -> None:
        """Nothing more goes to it."""
        self.is_finished = True
        if not self.transport.is_closing():
            with contextlib.suppress(OSError, RuntimeError):
                self.transport.write_eof()

    def reset(self) -> None:
        """End it so that its other end notices that something is missing."""
        transport = self.transport
        connection = transport.get_extra_info("socket")
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    def close(self) -> None:
        """End it after what was written."""
        self.transport.close()

    @property
    def is_sent(self) -> bool:
        """Whether it may be closed: closing sends what was written."""
        return True


class TlsSide(Side):
    """A connection whose TLS ends here. TLS has no half-close: the end of one direction is that of both."""

    ends_both = True
    may_splice = False

    def eof_received(self) -> bool:
        """See :class:`asyncio.Protocol`."""
        super().eof_received()
        return False

    def finish(self) -> None:
        """Nothing more goes to it, so nothing more comes from it."""
        self.is_finished = True
        if not self.has_ended:
            self.has_ended = True
            if self._relay is not None:
                self._relay.ended(self)

    @property
    def is_sent(self) -> bool:
        """See :attr:`FramedSide.is_sent`."""
        return has_sent(self.transport)


class FramedSide(Side):
    """The connection to another proxy: see :mod:`.tcp_wire`."""

    may_splice = False

    def __init__(self) -> None:
        super().__init__()
        self._frames = Frames()

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        if self._relay is None:
            super().data_received(data)
            return
        try:
            for part in self._frames.feed(data):
                self.received += len(part)
                self._relay.other(self).send(part)
        except PeerError:
            self.transport.abort()
            return
        if self._frames.has_ended and not self.has_ended:
            self.has_ended = True
            self._relay.ended(self)

    def eof_received(self) -> bool:
        """See :class:`asyncio.Protocol`. TLS ends both directions at once."""
        return False

    def send(self, data: bytes | memoryview) -> None:
        """Pass bytes on to the connection."""
        if not self.transport.is_closing():
            self.transport.writelines((header(len(data)), data))

    def finish(self) -> None:
        """Nothing more goes to it."""
        self.is_finished = True
        if not self.transport.is_closing():
            self.transport.write(END)

    @property
    def is_sent(self) -> bool:
        """Whether the peer's machine has everything. Closing TLS waits a short while for that only."""
        return has_sent(self.transport)


def has_sent(transport: asyncio.Transport) -> bool:
    """Whether the other end's machine has everything that was written."""
    if transport.is_closing():
        return True
    if transport.get_write_buffer_size():
        return False
    connection = transport.get_extra_info("socket")
    try:
        return fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0\0\0\0") == b"\0\0\0\0"
    except (OSError, ValueError, AttributeError):
        return True


OnMoved = Callable[["Relay"], None]


class Relay:
    """Two linked sides. ``on_tick`` is called now and then and at the end, to count what moved."""

    def __init__(
        self, downstream: Side, upstream: Side, wheel: Wheel, on_tick: OnMoved, on_end: OnMoved
    ) -> None:
        self.downstream = downstream
        self.upstream = upstream
        self.flags = ""
        self.idle_s = IDLE_S
        self.is_over = False
        self._wheel = wheel
        self._on_tick = on_tick
        self._on_end = on_end
        self._seen = -1
        self._moved_at = time.monotonic()
        self._splices = False
        self._spliced: Splice | None = None
        self._ends_at = 0.0
        self._end_flag = "DR"

    def start(self) -> None:
        """Link the two."""
        self._tick_after(time.monotonic())
        sides = (self.upstream, self.downstream)
        for side in sides:
            side.link(self)
        for side in sides:
            side.begin(self)
        for side in sides:
            if side.is_lost:
                self.lost(side)

    def splice(self) -> None:
        """Much goes through here: let the kernel move it, if there is no TLS and both directions are open."""
        if self._splices:
            return
        self._splices = True
        sides = (self.downstream, self.upstream)
        if all(side.may_splice for side in sides):
            for side in sides:
                side.pause()
            self._splice_when_sent(SPLICE_TRIES)

    def _splice_when_sent(self, tries: int) -> None:
        """What was written has to be sent first. Whoever does not read has no need for speed."""
        sides = (self.downstream, self.upstream)
        if any(side.has_ended or side.is_finished or side.transport.is_closing() for side in sides):
            self._go_on()
        elif all(side.transport.get_write_buffer_size() == 0 for side in sides):
            sockets = (take_socket(self.downstream.transport), take_socket(self.upstream.transport))
            moved = (self.downstream.count, self.upstream.count)
            try:
                self._spliced = Splice(sockets, moved, self._splice_over)
            except OSError:  # no more file descriptors
                for one in sockets:
                    one.close()
                self.flags = "UO"
                self._splice_over(None)
            else:
                self._spliced.start()
        elif tries:
            loop = asyncio.get_running_loop()
            loop.call_later(SPLICE_WAIT_S, self._splice_when_sent, tries - 1)
        else:
            self._splices = False
            self._go_on()

    def _go_on(self) -> None:
        for side in (self.downstream, self.upstream):
            if not self.other(side).is_blocked:
                side.resume()

    def _splice_over(self, broken: int | None) -> None:
        if broken is not None and not self.flags:
            self.flags = ("DC", "UC")[broken]
        for side in (self.downstream, self.upstream):
            side.is_lost = True
        self.is_over = True
        self._on_tick(self)
        self._on_end(self)

    def other(self, side: Side) -> Side:
        """The other of the two."""
        return self.upstream if side is self.downstream else self.downstream

    def ended(self, side: Side) -> None:
        """One direction is at its end."""
        other = self.other(side)
        if not other.is_finished:
            other.finish()
        if self.is_complete:
            self.leave()

    @property
    def is_spliced(self) -> bool:
        """Whether the kernel moves its bytes."""
        return self._spliced is not None

    @property
    def is_complete(self) -> bool:
        """Whether both directions are at their end."""
        return self.downstream.has_ended and self.upstream.has_ended

    def lost(self, side: Side) -> None:
        """A side's connection is closed; before the end of both directions that breaks the other one."""
        other = self.other(side)
        if side.ends_both and side.has_ended and not other.is_lost and not self.is_complete:
            other.resume()  # what it still sends is for nobody
            return
        if not self.is_complete and not self.flags:
            self.flags = "DC" if side is self.downstream else "UC"
        if self.flags and not other.is_lost:
            other.reset()
        if other.is_lost and not self.is_over:
            self.is_over = True
            self._on_tick(self)
            self._on_end(self)

    def close(self, flags: str) -> None:
        """Break both connections now."""
        self.flags = self.flags or flags
        if self._spliced is not None:
            self._spliced.abort()
            return
        for side in (self.downstream, self.upstream):
            if not side.is_lost:
                side.reset()

    def limit(self, duration_s: float) -> None:
        """Close after this time; say so before :meth:`start`."""
        self._ends_at, self._end_flag = time.monotonic() + duration_s, "DT"

    def drain(self) -> None:
        """Close in a while."""
        at = time.monotonic() + DRAIN_S
        if not self._ends_at or at < self._ends_at:
            self._ends_at, self._end_flag = at, "DR"

    def _tick_after(self, now: float) -> None:
        """Look again soon. Not at an end that is far away: the wheel would hold what is over until then."""
        soon = now + TICK_S
        self._wheel.add(min(soon, self._ends_at) if self._ends_at else soon, self)

    def on_deadline(self, now: float) -> None:
        """See :class:`.timers.Timed`."""
        if self.is_over:
            return
        moved = self.downstream.received + self.upstream.received
        if moved != self._seen:
            self._seen, self._moved_at = moved, now
            self._on_tick(self)
        if self._ends_at and now >= self._ends_at:
            self.close(self._end_flag)
        elif now - self._moved_at >= self.idle_s:
            self.close("SI")
        else:
            self._tick_after(now)

    def leave(self) -> None:
        """Both directions are at their end: close what has sent everything, look again at what has not."""
        waits = False
        for side in (self.downstream, self.upstream):
            if side.is_lost:
                continue
            if side.is_sent:
                side.close()
            else:
                waits = True
        if waits:
            self._wheel.add(time.monotonic() + SLOT_S, _Leaving(self))


class _Leaving:
    """Looks again after a relay that could not close yet."""

    __slots__ = ("_relay",)

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def on_deadline(self, now: float) -> None:
        """See :class:`.timers.Timed`."""
        self._relay.leave()


def keep_alive(transport: asyncio.Transport) -> None:
    """Notice a peer that is gone without a word."""
    connection = transport.get_extra_info("socket")
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S // 4)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
