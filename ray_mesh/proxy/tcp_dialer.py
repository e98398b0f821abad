"""Connections for TCP: to another proxy, to the application beside this one, to endpoints without proxy."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Coroutine
from typing import Any

from ray_mesh import codec
from ray_mesh.errors import PeerError
from ray_mesh.proxy.kernel_buffers import bound_inside
from ray_mesh.proxy.outside import Outside
from ray_mesh.proxy.tcp_relay import FramedSide, Side
from ray_mesh.proxy.tcp_wire import Hello, Message, Verdict, message
from ray_mesh.proxy.tls import TCP_ALPN, Identity, verified_peer
from ray_mesh.snapshot import Endpoint

CONNECT_TIMEOUT_S = 10.0
"""For TCP, TLS and the callee's answer together."""

Still = Callable[[], bool]
"""Whether the peer of a connection is still trusted."""


ServeHttp = Callable[[asyncio.Transport, Any, bytes], None]
"""Serves HTTP on a connection as an entry (:class:`.http1_server.ServerEntry`), with what it has read."""


class MessageReader(asyncio.Protocol):
    """Reads the message that comes before the bytes of a connection, then hands the connection on."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._message = Message()
        self._read: asyncio.Future[tuple[bytes, bytes]] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "pause_reading")
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        try:
            found = self._message.feed(data)
        except PeerError as error:
            self._fail(error)
            return
        if found is not None:
            assert self.transport is not None
            self.transport.pause_reading()
            if not self._read.done():
                self._read.set_result(found)

    def eof_received(self) -> bool:
        """See :class:`asyncio.Protocol`."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        self._fail(PeerError("the other proxy closed the connection without a word"))

    async def read(self) -> tuple[bytes, bytes]:
        """The message and what came after it.

        Raises:
            PeerError: it did not come.
        """
        return await self._read

    def hand_over(self, side: FramedSide, early: bytes) -> None:
        """Give the connection to a side of a relay."""
        assert self.transport is not None
        side.take(self.transport, early)

    def _fail(self, error: PeerError) -> None:
        if not self._read.done():
            self._read.set_exception(error)
            self._read.exception()  # whoever waited may have given up
        if self.transport is not None and not self.transport.is_closing():
            self.transport.abort()


class Refused(PeerError):
    """The callee's proxy refuses a connection."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict


class TcpDialer:
    """Makes connections, and runs the tasks of those that are being made."""

    def __init__(self, outside: Outside, serve_http: ServeHttp) -> None:
        self.serve_http = serve_http
        self._outside = outside
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run the making of one connection."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def stop(self) -> None:
        """Give up every connection that is being made."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def mesh(self, endpoint: Endpoint, identity: Identity | None, hello: Hello) -> tuple[Side, Still]:
        """A connection through the endpoint's proxy to its application, and whether its peer is trusted.

        Raises:
            OSError, PeerError: there is none.
            Refused: the proxy refuses it.
        """
        if identity is None:
            raise PeerError("this workload has no certificate yet")
        if identity.expires_at <= time.monotonic():
            raise PeerError("this workload's certificate has expired and was not renewed")
        transport, reader = await asyncio.get_running_loop().create_connection(
            MessageReader,
            endpoint.address,
            endpoint.port,
            ssl=identity.tcp_client,
            server_hostname=endpoint.sni,
            ssl_handshake_timeout=CONNECT_TIMEOUT_S,
        )
        try:
            connection: ssl.SSLObject = transport.get_extra_info("ssl_object")
            peer, chain = verified_peer(connection, identity.trust, TCP_ALPN)
            if str(peer) != endpoint.identity:
                raise PeerError(f"{endpoint.workload} must be {endpoint.identity}, but the peer is {peer}")
            transport.write(message(hello))
            raw, early = await reader.read()
            verdict = codec.unpack(Verdict, raw)
            if verdict.reason:
                raise Refused(verdict)
        except BaseException:
            transport.abort()
            raise
        bound_inside(transport.get_extra_info("socket"))
        side = FramedSide()
        reader.hand_over(side, early)
        trust, seen_at = identity.trust, time.time()
        return side, lambda: trust.vouches(chain, seen_at)

    async def outside(self, endpoint: Endpoint) -> Side:
        """A connection to an endpoint without proxy. Raises OSError, PeerError."""
        return await self._outside.reach(endpoint, Side)

    async def app(self, address: str, port: int) -> Side:
        """A connection to an application. Raises OSError."""
        transport, side = await asyncio.get_running_loop().create_connection(Side, address, port)
        bound_inside(transport.get_extra_info("socket"))
        return side
