"""Serves connections at the doors of gateways: ends their TLS, lets it through, or relays TCP."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from typing import TypeVar

from ray_mesh.errors import PeerError
from ray_mesh.proxy import replies
from ray_mesh.proxy.accepting import HANDSHAKE_TIMEOUT_S, TLS_SHUTDOWN_TIMEOUT_S
from ray_mesh.proxy.caller import Effects
from ray_mesh.proxy.client_hello import BadHello
from ray_mesh.proxy.doors import PEEK_S, Door, SecureEntry, peek_name, refuse_name, take_header
from ray_mesh.proxy.events import Events
from ray_mesh.proxy.http1_server import Admitted, Http1Server, Listening, ServerEntry
from ray_mesh.proxy.inbound import Peer
from ray_mesh.proxy.local import Local
from ray_mesh.proxy.match import Scope
from ray_mesh.proxy.overload import Level
from ray_mesh.proxy.peer_chain import peer_chain
from ray_mesh.proxy.proxy_protocol import BadProxyHeader
from ray_mesh.proxy.server_tls import ServerContexts, has_name, mesh_context
from ray_mesh.proxy.tcp_caller import TcpCaller
from ray_mesh.proxy.tcp_connection import Address, TcpConnection, TcpRefused
from ray_mesh.proxy.tcp_inbound import spend
from ray_mesh.proxy.tcp_relay import Side, TlsSide
from ray_mesh.proxy.tcp_routes import first_route
from ray_mesh.proxy.tls import Trust
from ray_mesh.snapshot import ConnectionRoute, SecureServer

P = TypeVar("P", bound=asyncio.Protocol)


class Gatekeeper:
    """Serves the doors of all gateways of a plane."""

    def __init__(self, listening: Listening, effects: Effects, trust: Trust, events: Events) -> None:
        self._listening = listening
        self._effects = effects
        self._trust = trust
        self._events = events
        self._opening = 0  # connections of which is not known yet whose they are
        self.contexts = ServerContexts(lambda why: events.report("gateway_certificate", "error", why))

    def serve(self, local: Local, door: Door, connection: socket.socket, address: bytes) -> None:
        """Take a connection that came to a door, unless there are too many with those that only come."""
        limit = self._effects.overload.limits.max_connections
        if len(self._effects.connections) + self._opening >= limit:
            connection.close()
            return
        self._opening += 1
        task = self._effects.tcp.run(self._serve(local, door, connection, address))
        task.add_done_callback(self._opened)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening -= 1

    async def _serve(self, local: Local, door: Door, connection: socket.socket, address: bytes) -> None:
        server = door.server
        if self._effects.topology.proxy_protocol:
            behind = await self._behind(local, door, connection, address)
            if behind is None:
                return
            address = behind
        if door.is_plain:
            await self._http(local, door, connection, address)
        elif server is None:
            connection.close()
        elif server.is_tcp:
            await self._relay(local, door, connection, address, f":{door.port}", server.tcp_routes, "", None)
        else:
            await self._by_name(local, door, connection, address)

    async def _behind(
        self, local: Local, door: Door, connection: socket.socket, address: bytes
    ) -> bytes | None:
        """The address that a connection's PROXY protocol header names; None: it has none and is closed."""
        try:
            async with asyncio.timeout(PEEK_S):
                header = await take_header(connection)
        except (BadProxyHeader, OSError, TimeoutError) as error:
            where = f"gateway port {door.port} of {local.source.name}"
            self._events.report("bad_proxy_header", "info", f"{where}: {error or 'no header in time'}")
            connection.close()
            return None
        except asyncio.CancelledError:
            connection.close()
            raise
        return header.source.encode() or address

    async def _http(self, local: Local, door: Door, connection: socket.socket, address: bytes) -> None:
        """Plain HTTP."""

        def admit(server: Admitted, transport: asyncio.Transport) -> ServerEntry | None:
            server.client = address
            return local.ingresses.get(door.port) if self._is_open else None

        server = Http1Server(self._listening, admit)
        await asyncio.get_running_loop().connect_accepted_socket(lambda: server, connection)

    @property
    def _is_open(self) -> bool:
        return self._effects.overload.level < Level.NO_CONNECTIONS

    async def _by_name(self, local: Local, door: Door, connection: socket.socket, address: bytes) -> None:
        try:
            async with asyncio.timeout(PEEK_S):
                name = await peek_name(connection)
        except (BadHello, OSError, TimeoutError) as error:
            where = f"gateway port {door.port} of {local.source.name}"
            self._events.report("bad_client_hello", "info", f"{where}: {error or 'no ClientHello in time'}")
            connection.close()
            return
        except asyncio.CancelledError:
            connection.close()
            raise
        entry = door.choose(name)
        if entry is None:
            refuse_name(connection)
            return
        secure = entry.server
        if secure.tls.mode == "PASSTHROUGH":
            host = f"{name}:{door.port}"
            await self._relay(local, door, connection, address, host, secure.routes, name, None)
        else:
            context = self._context(local, secure)
            if context is None:
                refuse_name(connection)
            elif secure.virtual_hosts is None:
                host = f"{name}:{door.port}"
                await self._relay(
                    local, door, connection, address, host, secure.routes, name, (secure, context)
                )
            else:
                await self._end_tls(local, door, entry, connection, address, context)

    def _context(self, local: Local, secure: SecureServer) -> ssl.SSLContext | None:
        is_http = secure.virtual_hosts is not None
        if secure.tls.mode == "ISTIO_MUTUAL":
            identity = local.identity
            return mesh_context(secure.tls, identity, is_http) if identity is not None else None
        return self.contexts.context(secure.tls, is_http)

    async def _end_tls(
        self,
        local: Local,
        door: Door,
        entry: SecureEntry,
        connection: socket.socket,
        address: bytes,
        context: ssl.SSLContext,
    ) -> None:
        """HTTP inside TLS."""

        def admit(server: Admitted, transport: asyncio.Transport) -> ServerEntry | None:
            server.client = address
            try:
                peer = server.peer = self._caller(entry.server, transport, address)
            except PeerError as error:
                self._refused(local, door, address, error)
                return None
            if peer is not None:
                server.expires_at = peer.deadline
            return entry.ingress if self._is_open else None

        await self._handshake(lambda: Http1Server(self._listening, admit), connection, context)

    def _caller(self, secure: SecureServer, transport: asyncio.Transport, address: bytes) -> Peer | None:
        """Who a caller proved to be, where it had to. Raises PeerError."""
        proof: ssl.SSLObject = transport.get_extra_info("ssl_object")
        if not has_name(proof, secure.tls.names):
            raise PeerError("its certificate has none of the names that subjectAltNames asks for")
        if secure.tls.mode != "ISTIO_MUTUAL":
            return None
        chain = peer_chain(proof)
        return Peer(self._trust.verify(chain), chain, self._trust, address)

    def _refused(self, local: Local, door: Door, address: bytes, error: PeerError) -> None:
        where = f"gateway port {door.port} of {local.source.name}"
        self._events.report("peer_refused", "warning", f"a caller at {address.decode()} of {where}: {error}")

    async def _handshake(
        self, make: Callable[[], P], connection: socket.socket, context: ssl.SSLContext
    ) -> P | None:
        """The connection with its TLS ended here; None when the handshake failed."""
        protocol = make()
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                ssl_shutdown_timeout=TLS_SHUTDOWN_TIMEOUT_S,
            )
        except (OSError, TimeoutError):
            connection.close()
            return None
        return protocol

    async def _relay(
        self,
        local: Local,
        door: Door,
        connection: socket.socket,
        address: bytes,
        host: str,
        routes: tuple[ConnectionRoute, ...],
        name: str,
        ends: tuple[SecureServer, ssl.SSLContext] | None,
    ) -> None:
        """A connection whose bytes are not HTTP, with TLS or without."""
        caller = TcpCaller(local.source, self._effects)
        record = caller.begin(local.inbound, host)
        record.task = asyncio.current_task()
        record.ends = _ends(connection, address)
        side: Side | None = None
        try:
            side, peer = await self._side(local, door, connection, address, ends)
            if side is None:
                record.end("DPE")
                return
            upstream = await self._reach(local, door, caller, record, routes, name, peer)
        except TcpRefused as error:
            caller.refuse(record, error.reply)
            if side is not None:
                side.reset()
            return
        except asyncio.CancelledError:
            record.end("DR")
            if side is not None:
                side.reset()
            else:
                connection.close()
            raise
        if peer is not None:
            record.is_trusted = _both(record.is_trusted, peer)
        caller.relay(record, side, upstream)

    async def _side(
        self,
        local: Local,
        door: Door,
        connection: socket.socket,
        address: bytes,
        ends: tuple[SecureServer, ssl.SSLContext] | None,
    ) -> tuple[Side | None, Peer | None]:
        if ends is None:
            _, side = await asyncio.get_running_loop().connect_accepted_socket(Side, connection)
            return side, None
        secure, context = ends
        found = await self._handshake(TlsSide, connection, context)
        if found is None:
            return None, None
        try:
            return found, self._caller(secure, found.transport, address)
        except PeerError as error:
            self._refused(local, door, address, error)
            found.reset()
            return None, None

    async def _reach(
        self,
        local: Local,
        door: Door,
        caller: TcpCaller,
        record: TcpConnection,
        routes: tuple[ConnectionRoute, ...],
        name: str,
        peer: Peer | None,
    ) -> Side:
        """The upstream, past the policies and rate limits of the gateway. Raises TcpRefused."""
        if self._effects.overload.level >= Level.NO_INGRESS:
            raise TcpRefused(replies.OVERLOADED)
        workload = local.workload
        scope = Scope(workload.namespace, frozenset(workload.labels), door.port, is_gateway=True)
        route = first_route(routes, scope, name)
        if route is None:
            raise TcpRefused(replies.no_tls_route(local.source.name, door.port, name))
        principal, namespace = (peer.principal, peer.namespace) if peer is not None else ("", "")
        guard = local.inbound.guard
        denied = guard.check_connection(principal, namespace, door.port)
        if denied is not None:
            reply, record.policy = denied
            raise TcpRefused(reply)
        refused = await spend(guard)
        if refused is not None:
            raise TcpRefused(refused)
        record.route = route.name
        return await caller.connect(record, route, door.port)


def _both(is_trusted: Callable[[], bool] | None, peer: Peer) -> Callable[[], bool]:
    """Whether the caller of a connection is trusted still, and so is whom it leads to."""
    seen_at = time.time()
    return lambda: peer.is_vouched_for(seen_at) and (is_trusted is None or is_trusted())


def _ends(connection: socket.socket, address: bytes) -> tuple[Address | None, Address | None]:
    """The client's address, and the gateway's; the port of a client behind a load balancer is not kept."""
    try:
        peer, own = connection.getpeername(), connection.getsockname()
    except OSError:
        return None, None
    client = address.decode()
    return (client, peer[1] if client == peer[0] else 0), (own[0], own[1])
