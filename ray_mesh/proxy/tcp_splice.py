"""Bytes between two sockets without TLS, moved by the kernel: ``splice`` through a pipe in each direction.

Two transports give their sockets up once much has gone through them; from then on no byte comes into this
process. A pipe holds at most ``PIPE_BYTES``: a side that does not read stops the other from being read.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Callable

PIPE_BYTES = 512 * 1024
TURNS = 8
"""So often a direction moves bytes before others have their turn."""
_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_NO_LINGER = struct.pack("ii", 1, 0)


class Direction:
    """One direction: from a socket through a pipe to another one."""

    def __init__(
        self,
        source: socket.socket,
        target: socket.socket,
        on_moved: Callable[[int], None],
        on_end: Callable[[], None],
        on_error: Callable[[bool], None],
    ) -> None:
        self.is_over = False
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._target = target
        self._on_moved = on_moved
        self._on_end = on_end
        self._on_error = on_error  # told whether it is the source that broke
        self._out, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._held = 0
        self._has_ended = False
        self._reads = self._writes = False

    def start(self) -> None:
        """Move bytes from now on."""
        self._wait(reads=True)

    def close(self) -> None:
        """Move no more, and forget what the pipe holds."""
        if not self.is_over:
            self.is_over = True
            self._wait()
            os.close(self._out)
            os.close(self._in)

    def _pump(self) -> None:
        try:
            for _ in range(TURNS):
                if not self._fill() or not self._drain():
                    return
        except OSError:
            return
        # There may be more: the poll that is waited for says so at once.

    def _fill(self) -> bool:
        """Take from the source; whether to go on."""
        if self._held or self._has_ended:
            return True
        try:
            taken = os.splice(self._source.fileno(), self._in, PIPE_BYTES, flags=_FLAGS)
        except BlockingIOError:
            self._wait(reads=True)
            return False
        except OSError:
            self._on_error(True)
            return False
        self._held = taken
        self._has_ended = taken == 0
        self._on_moved(taken)
        return True

    def _drain(self) -> bool:
        """Give to the target; whether to go on."""
        while self._held:
            try:
                self._held -= os.splice(self._out, self._target.fileno(), self._held, flags=_FLAGS)
            except BlockingIOError:
                self._wait(writes=True)
                return False
            except OSError:
                self._on_error(False)
                return False
        if self._has_ended:
            with contextlib.suppress(OSError):
                self._target.shutdown(socket.SHUT_WR)
            self.close()
            self._on_end()
            return False
        self._wait(reads=True)
        return True

    def _wait(self, reads: bool = False, writes: bool = False) -> None:
        """Be called when the source has something, or the target takes something, or never."""
        if reads != self._reads:
            self._reads = reads
            if reads:
                self._loop.add_reader(self._source, self._pump)
            else:
                self._loop.remove_reader(self._source)
        if writes != self._writes:
            self._writes = writes
            if writes:
                self._loop.add_writer(self._target, self._pump)
            else:
                self._loop.remove_writer(self._target)


class Splice:
    """Both directions between two sockets, which are its own. ``on_over`` is called once, at the end, with
    the number of the socket (0 or 1) that broke, or None when both directions came to their end."""

    def __init__(
        self,
        sockets: tuple[socket.socket, socket.socket],
        on_moved: tuple[Callable[[int], None], Callable[[int], None]],
        on_over: Callable[[int | None], None],
    ) -> None:
        self._sockets = sockets
        self._on_over: Callable[[int | None], None] | None = on_over
        self._directions = tuple(
            Direction(
                sockets[number],
                sockets[1 - number],
                on_moved[number],
                self._ended,
                lambda is_source, number=number: self.abort(number if is_source else 1 - number),  # type: ignore[misc]
            )
            for number in (0, 1)
        )

    def start(self) -> None:
        """Move bytes from now on."""
        for direction in self._directions:
            direction.start()

    def abort(self, broken: int | None = None) -> None:
        """End both connections so that whoever is there notices."""
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._close(broken)

    def _ended(self) -> None:
        if all(direction.is_over for direction in self._directions):
            self._close(None)

    def _close(self, broken: int | None) -> None:
        on_over, self._on_over = self._on_over, None
        if on_over is None:
            return
        for direction in self._directions:
            direction.close()
        for one in self._sockets:
            one.close()
        on_over(broken)


def take_socket(transport: asyncio.Transport) -> socket.socket:
    """The socket of a transport, which is closed without ending the connection. It must hold nothing to
    send, and not be reading."""
    taken = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
    taken.setblocking(False)
    transport.set_protocol(asyncio.Protocol())
    transport.abort()
    return taken
