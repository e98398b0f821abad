"""What both sides of HTTP/2 have in common: a codec on a transport, written to once per turn of the loop.

Bodies are bounded by windows: what the peer may send is granted when the other side took it
(:meth:`.http2_codec.Codec.consumed`), and what the peer does not take stays in the codec, whose sender is
paused above ``HIGH_BYTES`` and goes on below ``LOW_BYTES``. While the transport is full nothing is framed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, cast

from ray_mesh.proxy.http2_codec import Codec, Headers

BUFFER_BYTES = 64 * 1024
HIGH_BYTES = 64 * 1024
LOW_BYTES = 16 * 1024


class Sender(Protocol):
    """A stream whose body the peer does not take as fast as it comes."""

    @property
    def stream_id(self) -> int: ...

    def go_on(self) -> None:
        """There is room again."""


class Http2Connection(asyncio.Protocol):
    """The part of a connection that does not know which side it is. It is its codec's sink."""

    __slots__ = (
        "_activity",
        "_is_blocked",
        "_is_marked",
        "_loop",
        "_transport",
        "_waiting",
        "codec",
    )

    def __init__(self, make_codec: Callable[[Any], Codec]) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._is_blocked = False
        self._is_marked = False
        self._activity = 0
        self._waiting: list[Sender] = []
        self.codec = make_codec(self)

    @property
    def transport(self) -> asyncio.Transport:
        """The transport, once connected."""
        assert self._transport is not None
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(BUFFER_BYTES)
        self.mark()

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        self._activity += 1
        self._is_marked = True  # what is told now may want to write, and that is done at once
        self.codec.receive(data)
        self.flush()

    def pause_writing(self) -> None:
        """See :class:`asyncio.Protocol`."""
        self._is_blocked = True

    def resume_writing(self) -> None:
        """See :class:`asyncio.Protocol`."""
        self._is_blocked = False
        self.flush()

    def mark(self) -> None:
        """There is something to write: do it at the end of this turn of the loop."""
        if not self._is_marked:
            self._is_marked = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what the codec has, as far as the transport takes it."""
        self._is_marked = False
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        while not self._is_blocked:
            data = self.codec.take()
            if not data:
                break
            transport.write(data)
        if self._waiting:
            self._look_again()
        if self.codec.is_over:
            transport.close()
        else:
            self.on_flushed()

    def on_flushed(self) -> None:
        """All is written that could be."""

    def send(self, sender: Sender, payload: bytes, ended: bool) -> bool:
        """Send more of a body; False when the sender should wait until :meth:`Sender.go_on`."""
        codec = self.codec
        codec.send(sender.stream_id, payload, ended)
        self.mark()
        if ended or codec.queued(sender.stream_id) <= HIGH_BYTES:
            return True
        if sender not in self._waiting:
            self._waiting.append(sender)
        return False

    def _look_again(self) -> None:
        waiting, self._waiting = self._waiting, []
        for sender in waiting:
            if self.codec.queued(sender.stream_id) > LOW_BYTES:
                self._waiting.append(sender)
            else:
                sender.go_on()

    def forget(self, sender: Sender) -> None:
        """A stream is over: it waits for nothing."""
        if self._waiting and sender in self._waiting:
            self._waiting.remove(sender)

    # Of the codec, where both sides do the same.

    def on_interim(self, stream_id: int, headers: Headers) -> None:
        """See :class:`.http2_codec.Sink`."""

    def on_pong(self) -> None:
        """See :class:`.http2_codec.Sink`. That bytes came is enough."""
