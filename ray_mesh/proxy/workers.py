"""The proxies of a node tell each other how many connections they have, and pass new ones on.

The kernel spreads connections over the processes that share a port by hash, whatever they carry; with few
long connections one process gets four and another none. So whoever accepts a connection looks at who has
least, and may hand the socket over (``SCM_RIGHTS``, unix(7)) before a byte is read.

They meet at abstract Unix sockets, whose names follow from the node's mTLS port; only processes of the
same user are spoken to. When one cannot be reached or is busy, connections stay where they came.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress

from ray_mesh.proxy.spread import better_place

MOST = 32
"""Workers of a node that find each other."""
QUIET_S = 0.002
"""Loads are told at most this often."""
_LOAD = struct.Struct("!II")
_CREDENTIALS = struct.Struct("3i")
_GONE = 0xFFFFFFFF

_CONNECTION, _RETURNED = b"c", b"r"

Take = Callable[[socket.socket], bool]
"""Serves a connection; False when this worker is full, or does not listen on its port (yet, or any more)."""


class _Link:
    """Another worker. ``sent`` counts connections given to it, ``acknowledged`` those that are part of
    the load it told; ``taken`` those that came from it."""

    __slots__ = ("acknowledged", "is_open", "load", "sent", "socket", "taken")

    def __init__(self, opened: socket.socket) -> None:
        self.socket = opened
        self.is_open = False
        self.load = self.sent = self.acknowledged = self.taken = 0

    @property
    def expected(self) -> int:
        """Its connections, with those that it has not heard of yet."""
        return self.load + self.sent - self.acknowledged


class Workers:
    """This worker among those of its node. ``open_connections`` counts its own; ``take`` gets sockets."""

    def __init__(self, meeting: str, open_connections: Callable[[], int], take: Take) -> None:
        self.handed_over = 0
        self.taken = 0
        self._meeting = meeting
        self._open_connections = open_connections
        self._take = take
        self._links: set[_Link] = set()
        self._server: socket.socket | None = None
        self._told_at = 0.0
        self._is_due = False

    def start(self) -> None:
        """Meet the others; take connections from now on."""
        slots = [f"\0ray-mesh-workers-{os.getuid()}-{self._meeting}-{slot}" for slot in range(MOST)]
        own = self._claim(slots)
        for slot in slots:
            if slot != own:
                opened = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                opened.setblocking(False)
                try:
                    opened.connect(slot)
                except OSError:
                    opened.close()
                else:
                    self._add(opened)
        self.tell()

    def leave(self) -> None:
        """Take no more; what is on its way to us is still taken."""
        self._send_all(_GONE)
        if self._server is not None:
            asyncio.get_running_loop().remove_reader(self._server)
            self._server.close()
            self._server = None

    def stop(self) -> None:
        """End every link."""
        self.leave()
        for link in tuple(self._links):
            self._drop(link)

    def pass_on(self, accepted: socket.socket) -> bool:
        """Hand a new connection to a worker that has fewer; False: it is ours."""
        if not self._links:
            return False
        loads = {link: link.expected for link in self._links if link.is_open}
        other = better_place(self._open_connections(), loads)
        if other is None:
            asyncio.get_running_loop().call_soon(self.tell)
            return False
        try:
            socket.send_fds(other.socket, [_CONNECTION], [accepted.fileno()], socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            self._drop(other)
            return False
        other.sent += 1
        self.handed_over += 1
        accepted.close()
        return True

    def tell(self) -> None:
        """The number of our connections changed."""
        if not self._links or self._server is None:
            return
        now = time.monotonic()
        if now - self._told_at >= QUIET_S:
            self._told_at = now
            self._send_all(self._open_connections())
        elif not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(QUIET_S, self._tell_late)

    def _tell_late(self) -> None:
        self._is_due = False
        self.tell()

    def _claim(self, slots: list[str]) -> str:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server.setblocking(False)
        for slot in slots:
            with suppress(OSError):
                server.bind(slot)
                server.listen(MOST)
                self._server = server
                asyncio.get_running_loop().add_reader(server, self._welcome)
                return slot
        server.close()
        return ""

    def _welcome(self) -> None:
        assert self._server is not None
        with suppress(OSError):
            opened, _ = self._server.accept()
            opened.setblocking(False)
            self._add(opened)

    def _add(self, opened: socket.socket) -> None:
        raw = opened.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, user, _ = _CREDENTIALS.unpack(raw)
        if user != os.getuid():
            opened.close()
            return
        link = _Link(opened)
        self._links.add(link)
        asyncio.get_running_loop().add_reader(opened, self._hear, link)
        self._send(link, self._open_connections())

    def _hear(self, link: _Link) -> None:
        try:
            said, numbers, _, _ = socket.recv_fds(link.socket, _LOAD.size, 1)
        except BlockingIOError:
            return
        except OSError:
            said, numbers = b"", []
        if numbers:
            for number in numbers:
                self._receive(link, said, socket.socket(fileno=number))
        elif len(said) == _LOAD.size:
            load, link.acknowledged = _LOAD.unpack(said)
            link.is_open = load != _GONE
            link.load = load
        else:
            self._drop(link)

    def _receive(self, link: _Link, said: bytes, accepted: socket.socket) -> None:
        link.taken += said == _CONNECTION
        if self._take(accepted):
            self.taken += said == _CONNECTION
            self.tell()
            return
        if said == _CONNECTION:
            with suppress(OSError):  # whoever accepted it listens on its port, and serves it
                socket.send_fds(link.socket, [_RETURNED], [accepted.fileno()], socket.MSG_DONTWAIT)
        accepted.close()
        self.tell()

    def _drop(self, link: _Link) -> None:
        if link in self._links:
            self._links.remove(link)
            asyncio.get_running_loop().remove_reader(link.socket)
            link.socket.close()

    def _send_all(self, load: int) -> None:
        for link in tuple(self._links):
            self._send(link, load)

    def _send(self, link: _Link, load: int) -> None:
        try:
            link.socket.send(_LOAD.pack(load, link.taken), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return  # it is busy, and hears the next one
        except OSError:
            self._drop(link)
