"""TCP connections to a workload: from verified peers, past policies and rate limits, to its application."""

from __future__ import annotations

import asyncio
import math
import time

from ray_mesh import codec
from ray_mesh.errors import PeerError
from ray_mesh.proxy import replies
from ray_mesh.proxy.caller import Effects
from ray_mesh.proxy.guard import RETRY_LIMIT_S, Guard
from ray_mesh.proxy.inbound import Inbound, Peer
from ray_mesh.proxy.overload import Level
from ray_mesh.proxy.replies import Reply
from ray_mesh.proxy.tcp_caller import cause
from ray_mesh.proxy.tcp_connection import TcpConnection, TcpRefused
from ray_mesh.proxy.tcp_dialer import MessageReader
from ray_mesh.proxy.tcp_relay import FramedSide, Relay, Side
from ray_mesh.proxy.tcp_wire import Hello, Verdict, message

HELLO_S = 5.0
"""How long the caller's proxy has to say what it wants."""
APP_CONNECT_S = 5.0


class TcpInbound:
    """The TCP connections to one workload."""

    def __init__(self, inbound: Inbound, effects: Effects) -> None:
        self._inbound = inbound
        self._effects = effects

    def open(self, reader: MessageReader, peer: Peer) -> None:
        """Serve a connection after its handshake."""
        connection = TcpConnection(self._inbound, "", self._effects.connections.discard)
        self._effects.connections.add(connection)
        seen_at = time.time()
        connection.is_trusted = lambda: peer.is_vouched_for(seen_at)
        connection.task = self._effects.tcp.run(self._serve(connection, reader, peer))

    async def _serve(self, connection: TcpConnection, reader: MessageReader, peer: Peer) -> None:
        transport = reader.transport
        assert transport is not None
        hello: Hello | None = None
        try:
            async with asyncio.timeout(HELLO_S):
                raw, early = await reader.read()
            hello = codec.unpack(Hello, raw)
            connection.host = f"{hello.service}:{hello.port}"
            app = await self._admit(connection, hello, peer)
        except TcpRefused as error:
            reply = error.reply
            transport.write(
                message(Verdict(reply.status, reply.flag, reply.reason, reply.message, reply.fields))
            )
            transport.close()
            connection.refuse(reply)
            self._inbound.record_tcp(connection, peer, hello)
            return
        except (PeerError, TimeoutError):
            transport.abort()
            connection.end("DPE")
            return
        except asyncio.CancelledError:
            transport.abort()
            connection.end("DR")
            raise
        side = FramedSide()
        reader.hand_over(side, early)
        transport.write(message(Verdict()))
        self._relay(connection, side, app, peer, hello)

    async def _admit(self, connection: TcpConnection, hello: Hello, peer: Peer) -> Side:
        """The application's side. Raises TcpRefused."""
        if self._effects.overload.level >= Level.NO_INBOUND:
            raise TcpRefused(replies.OVERLOADED)
        workload = self._inbound.workload
        name = f"{workload.namespace}/{workload.name}"
        if (hello.service, hello.port) not in workload.tcp_ports:
            raise TcpRefused(replies.no_tcp_port(name, hello.service, hello.port))
        connection.service = hello.service
        if not peer.is_current(time.monotonic()):
            raise TcpRefused(replies.EXPIRED)
        await self._guard(connection, peer)
        try:
            async with asyncio.timeout(APP_CONNECT_S):
                connection.attempts += 1
                return await self._effects.tcp.app(workload.app_address, workload.app_port)
        except OSError as error:
            raise TcpRefused(replies.connect_failed(name, cause(error))) from error

    async def _guard(self, connection: TcpConnection, peer: Peer) -> None:
        """Ask the policies, then take a token of each rate limit. Raises TcpRefused."""
        port = self._inbound.workload.app_port
        denied = self._inbound.guard.check_connection(peer.principal, peer.namespace, port)
        if denied is not None:
            reply, connection.policy = denied
            raise TcpRefused(reply)
        refused = await spend(self._inbound.guard)
        if refused is not None:
            raise TcpRefused(refused)

    def _relay(
        self, connection: TcpConnection, side: FramedSide, app: Side, peer: Peer, hello: Hello
    ) -> None:
        connection.relay = Relay(
            side, app, self._effects.wheel, connection.count, lambda relay: over(relay.flags)
        )

        def over(flags: str) -> None:
            connection.end(flags)
            self._inbound.record_tcp(connection, peer, hello)

        connection.security = "mutual_tls"
        connection.open(self._inbound.tcp_recorder(connection, peer, hello))
        connection.relay.start()


async def spend(guard: Guard) -> Reply | None:
    """A token of each rate limit for one connection; held while a first lease is on its way."""
    for limit, bucket in guard.limits:
        while not bucket.take(now := time.monotonic()):
            if not bucket.is_waiting(now):
                return replies.rate_limited(limit, max(1, math.ceil(bucket.refused_until - now)))
            await asyncio.sleep(RETRY_LIMIT_S)
    return None
