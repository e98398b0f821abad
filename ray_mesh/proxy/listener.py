"""Listening sockets: shared by the processes of a node (SO_REUSEPORT), reserved before they are used."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time
from collections.abc import Callable

from ray_mesh.errors import ConfigError
from ray_mesh.proxy.accepting import HANDSHAKE_TIMEOUT_S, TLS_SHUTDOWN_TIMEOUT_S, Acceptor
from ray_mesh.proxy.kernel_buffers import bound_sending
from ray_mesh.proxy.timers import Wheel
from ray_mesh.proxy.workers import Workers

LOOPBACK = "127.0.0.1"
BACKLOG = 4096
RESERVED_S = 30.0


def bind(address: str, port: int, exclusive: bool = False) -> socket.socket:
    """A bound socket (port 0: any free one) that other processes of this user may bind as well.

    ``exclusive`` first makes sure that nobody listens on the port yet.

    Raises:
        ConfigError: the port or the address cannot be used.
    """
    if exclusive and port:
        _open(address, port, shared=False).close()
    return _open(address, port, shared=True)


def _open(address: str, port: int, shared: bool) -> socket.socket:
    opened = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        opened.setblocking(False)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound_sending(opened)
        opened.bind((address, port))
    except OSError as error:
        opened.close()
        cause = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be bound: {error.strerror}"
        raise ConfigError(f"{address}:{port} {cause}") from error
    return opened


class Listener:
    """Accepts connections on one socket, from :meth:`start` on.

    Before that the kernel gives it none, so that they go to the other processes that share the port.
    With ``workers`` each connection goes to the one of them that has fewest.
    """

    def __init__(
        self, bound: socket.socket, make: Callable[[], asyncio.Protocol], workers: Workers | None = None
    ) -> None:
        self.port: int = bound.getsockname()[1]
        self.is_open = False
        self._bound = bound
        self._make = make
        self._workers = workers
        self._server: asyncio.Server | None = None
        self._acceptor: Acceptor | None = None
        self._is_closed = False
        self._is_started = False

    def duplicate(self) -> socket.socket:
        """The socket once more, for a process that goes on accepting on it. Raises OSError when closed."""
        return self._bound.dup()

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        """Accept from now on, with TLS if a context is given; once is enough. Raises OSError."""
        if self._is_closed or self._is_started:
            return
        self._is_started = True
        if self._workers is not None:
            self._bound.listen(BACKLOG)
            self._acceptor = Acceptor(self._bound, self._make, context, self._workers.pass_on)
            self._acceptor.start()
            self.is_open = True
            return
        is_tls = context is not None
        self._server = await asyncio.get_running_loop().create_server(
            self._make,
            sock=self._bound,
            backlog=BACKLOG,
            ssl=context,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S if is_tls else None,
            ssl_shutdown_timeout=TLS_SHUTDOWN_TIMEOUT_S if is_tls else None,
        )
        self.is_open = True
        if self._is_closed:
            self.close()

    @property
    def starting(self) -> int:
        """Connections that are accepted and not served yet."""
        return self._acceptor.starting if self._acceptor is not None else 0

    def take(self, accepted: socket.socket) -> bool:
        """Serve a connection that another worker accepted; False when this one does not serve (yet)."""
        if self._acceptor is None:
            return False
        self._acceptor.serve(accepted)
        return True

    def close(self) -> None:
        """Accept no more; connections stay."""
        self._is_closed = True
        self.is_open = False
        if self._acceptor is not None:
            self._acceptor.close()
        elif self._server is not None:
            self._server.close()
        else:
            self._bound.close()


class Reservations:
    """Sockets that are bound for a workload which is about to come."""

    def __init__(self, wheel: Wheel) -> None:
        self._wheel = wheel
        self._held: dict[int, tuple[socket.socket, str, float]] = {}

    def hold(self, address: str, port: int) -> int:
        """Bind a port (0: any free one) for ``RESERVED_S``. Raises ConfigError."""
        if port in self._held:
            raise ConfigError(f"{address}:{port} is in use: it is reserved for another workload")
        bound = bind(address, port, exclusive=True)
        number: int = bound.getsockname()[1]
        until = time.monotonic() + RESERVED_S
        self._held[number] = (bound, address, until)
        self._wheel.add(until, self)
        return number

    def adopt(self, bound: socket.socket) -> None:
        """Hold a socket that another process listened on; its port is claimed as any other."""
        address, port = bound.getsockname()[:2]
        self.drop(port)
        until = time.monotonic() + RESERVED_S
        self._held[port] = (bound, address, until)
        self._wheel.add(until, self)

    def claim(self, port: int, address: str) -> socket.socket | None:
        """The socket held for a port on that address, which is then the caller's."""
        held = self._held.get(port)
        if held is None or held[1] != address:
            return None
        return self._held.pop(port)[0]

    def drop(self, port: int) -> None:
        """Release a port."""
        held = self._held.pop(port, None)
        if held is not None:
            held[0].close()

    def on_deadline(self, now: float) -> None:
        """Release what was held for too long (see :class:`.timers.Timed`)."""
        for port in [port for port, held in self._held.items() if held[2] <= now]:
            self.drop(port)

    def close(self) -> None:
        """Release everything."""
        self.on_deadline(float("inf"))
