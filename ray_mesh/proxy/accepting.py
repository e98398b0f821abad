"""Accepting connections one by one, so that each can go to the worker of the node that has fewest."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

MOST_AT_ONCE = 64
REST_S = 0.1
"""How long to wait when the process has no descriptors left."""
HANDSHAKE_TIMEOUT_S = 10.0
TLS_SHUTDOWN_TIMEOUT_S = 2.0


class Acceptor:
    """Accepts on a listening socket; ``pass_on`` may give a connection away before a byte is read."""

    def __init__(
        self,
        listening: socket.socket,
        make: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext | None,
        pass_on: Callable[[socket.socket], bool],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._make = make
        self._context = context
        self._pass_on = pass_on
        self._starting: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @property
    def starting(self) -> int:
        """Connections that are in their handshake."""
        return len(self._starting)

    def start(self) -> None:
        """Accept from now on."""
        if not self._is_closed:
            self._loop.add_reader(self._listening, self._accept)

    def close(self) -> None:
        """Accept no more; the socket is closed."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.remove_reader(self._listening)
            self._listening.close()

    def serve(self, accepted: socket.socket) -> None:
        """Serve a connection here."""
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = self._loop.create_task(self._serve(accepted))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    def _accept(self) -> None:
        for _ in range(MOST_AT_ONCE):
            try:
                accepted, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError:
                self._loop.remove_reader(self._listening)
                self._loop.call_later(REST_S, self.start)
                return
            if not self._pass_on(accepted):
                self.serve(accepted)

    async def _serve(self, accepted: socket.socket) -> None:
        is_tls = self._context is not None
        try:
            await self._loop.connect_accepted_socket(
                self._make,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S if is_tls else None,
                ssl_shutdown_timeout=TLS_SHUTDOWN_TIMEOUT_S if is_tls else None,
            )
        except (OSError, asyncio.CancelledError):
            return  # the peer is gone, or broke the handshake off
