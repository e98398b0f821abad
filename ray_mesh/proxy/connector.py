"""How connections to endpoints are made. The plane is given one way; the mesh's is :class:`MutualTls`,
and :class:`.outside.Outside` for what has no proxy."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Coroutine
from typing import Protocol, cast

from ray_mesh.errors import PeerError
from ray_mesh.proxy import replies
from ray_mesh.proxy.cluster import Member
from ray_mesh.proxy.http1_client import BUFFER_BYTES, Http1Client
from ray_mesh.proxy.http2_client import Http2Client
from ray_mesh.proxy.kernel_buffers import bound_inside
from ray_mesh.proxy.pipeline import Request
from ray_mesh.proxy.pool import Pool
from ray_mesh.proxy.sides import Connection
from ray_mesh.proxy.tls import ALPN, HTTP2_ALPN, Identity, chain_deadline, verified_peer
from ray_mesh.snapshot import Endpoint

HttpClient = Http1Client | Http2Client
Waiting = list[tuple[Request, int]]
"""Requests that one dial is for, and which of their attempts it is: they may have gone on meanwhile."""


class UpstreamConnector(Protocol):
    """Makes a connection to an endpoint on behalf of an identity (None: the caller has none yet)."""

    async def connect(self, endpoint: Endpoint, identity: Identity | None, pool: Pool) -> HttpClient:
        """A connection ready for requests, of HTTP/2 where the pool asks for that and the peer has it.

        Raises:
            OSError, PeerError: nothing was sent.
        """


class Plaintext:
    """TCP without TLS: for the application beside the proxy (and for measuring the proxy alone)."""

    async def connect(self, endpoint: Endpoint, identity: Identity | None, pool: Pool) -> HttpClient:
        """See :class:`UpstreamConnector`."""
        loop = asyncio.get_running_loop()
        transport, connection = await loop.create_connection(
            lambda: plain_client(pool), endpoint.address, endpoint.port
        )
        bound_inside(transport.get_extra_info("socket"))
        return connection


class MutualTls:
    """TLS with both sides' SVIDs; the endpoint must prove the identity that configuration gives it."""

    async def connect(self, endpoint: Endpoint, identity: Identity | None, pool: Pool) -> HttpClient:
        """See :class:`UpstreamConnector`."""
        if identity is None:
            raise PeerError("this workload has no certificate yet")
        if identity.expires_at <= time.monotonic():
            raise PeerError("this workload's certificate has expired and was not renewed")
        loop = asyncio.get_running_loop()
        transport, handshaken = await loop.create_connection(
            lambda: _Handshaken(pool),
            endpoint.address,
            endpoint.port,
            ssl=identity.http2_client if pool.is_http2 else identity.client,
            server_hostname=endpoint.sni,
            ssl_handshake_timeout=pool.connect_timeout_s,
        )
        connection = handshaken.connection
        try:
            peer, chain = verified_peer(
                transport.get_extra_info("ssl_object"), identity.trust, handshaken.protocol
            )
            if str(peer) != endpoint.identity:
                raise PeerError(f"{endpoint.workload} must be {endpoint.identity}, but the peer is {peer}")
        except PeerError:
            transport.abort()
            raise
        transport.set_write_buffer_limits(BUFFER_BYTES)
        bound_inside(transport.get_extra_info("socket"))
        connection.security = "mutual_tls"
        connection.expires_at = min(identity.expires_at, chain_deadline(chain))
        if isinstance(connection, Http2Client):
            connection.depend_on(identity.trust, chain)
        return connection


def plain_client(pool: Pool) -> HttpClient:
    """A connection without TLS: both sides know the version of HTTP beforehand."""
    return Http2Client(pool) if pool.is_http2 else Http1Client(pool)


class _Handshaken(asyncio.Protocol):
    """A connection after its handshake, which becomes what was negotiated."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.protocol = ALPN
        self.connection: HttpClient = Http1Client(pool, is_mesh_peer=True)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        opened = cast(asyncio.Transport, transport)
        if self._pool.is_http2:
            if opened.get_extra_info("ssl_object").selected_alpn_protocol() == HTTP2_ALPN:
                self.protocol = HTTP2_ALPN
                self.connection = Http2Client(self._pool, is_mesh_peer=True)
                self.connection.scheme = b"https"
            else:
                self._pool.falls_back = True
        opened.set_protocol(self.connection)
        self.connection.connection_made(opened)


class Upstreams:
    """To each endpoint the way that it needs: mutual TLS, or plain TCP where it has no proxy."""

    def __init__(self, mesh: UpstreamConnector, outside: UpstreamConnector) -> None:
        self._mesh = mesh
        self._outside = outside

    async def connect(self, endpoint: Endpoint, identity: Identity | None, pool: Pool) -> HttpClient:
        """See :class:`UpstreamConnector`."""
        way = self._mesh if endpoint.transport == "mutual_tls" else self._outside
        return await way.connect(endpoint, identity, pool)


class Dialer:
    """Runs connects as tasks, off the path of requests that find a connection."""

    def __init__(self, connector: UpstreamConnector) -> None:
        self._connector = connector
        self._tasks: set[asyncio.Task[None]] = set()

    def dial(self, request: Request, pool: Pool, member: Member, identity: Identity | None) -> None:
        """Connect to the member and start the request there, or tell it why not.

        A connection under way is enough for as many of those that come meanwhile as may share it.
        """
        if pool.waiting is not None and not pool.falls_back and len(pool.waiting) < pool.capacity:
            pool.waiting.append((request, request.attempts))
            return
        if not pool.admit():
            request.refuse(replies.overflow(member.workload))
            return
        waiting: Waiting = [(request, request.attempts)]
        if pool.is_http2:
            pool.waiting = waiting
        self._run(self._dial(waiting, pool, member, identity, pool.generation))

    def warm(self, pool: Pool, member: Member, identity: Identity | None) -> None:
        """Put a connection into a pool that has none. Where that fails, requests will see it."""
        if not pool.count and pool.admit():
            self._run(self._warm(pool, member, identity, pool.generation))

    def _run(self, dialing: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(dialing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def connect(self, member: Member, identity: Identity | None) -> Http1Client:
        """A connection of no pool. Raises OSError, PeerError."""
        connection = await self._connector.connect(member.endpoint, identity, Pool())
        assert isinstance(connection, Http1Client)
        return connection

    async def stop(self) -> None:
        """Give up every connect under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _warm(self, pool: Pool, member: Member, identity: Identity | None, generation: int) -> None:
        try:
            connection = await self._open(pool, member, identity, None)
        except (OSError, PeerError):
            return
        now = time.monotonic()
        connection.join(generation)
        pool.prepare(connection, now)
        _keep(connection, pool, generation, now)

    async def _open(
        self, pool: Pool, member: Member, identity: Identity | None, waiting: Waiting | None
    ) -> HttpClient:
        """A connection that the pool has admitted. Raises OSError, PeerError when there is none after all."""
        try:
            try:
                async with asyncio.timeout(pool.connect_timeout_s):
                    connection = await self._connector.connect(member.endpoint, identity, pool)
            finally:
                if pool.waiting is waiting:
                    pool.waiting = None  # who comes from here on, perhaps by forget(), would wait in vain
        except BaseException:
            pool.forget(None)
            raise
        if not connection.is_open:
            connection.close()
            pool.forget(None)
            raise ConnectionError("the connection was closed at once")
        return connection

    async def _dial(
        self,
        waiting: Waiting,
        pool: Pool,
        member: Member,
        identity: Identity | None,
        generation: int,
    ) -> None:
        try:
            connection = await self._open(pool, member, identity, waiting)
        except Exception as error:
            cause = _cause(error, pool.connect_timeout_s)
            for request, attempt in waiting:
                if request.attempts == attempt and request.member is member:
                    request.connect_failed(member, cause)
            if not isinstance(error, (OSError, PeerError)):
                raise
            return
        connection.join(generation)
        now = time.monotonic()
        pool.prepare(connection, now)
        is_used = False
        for request, attempt in waiting:
            if request.done or request.attempts != attempt or request.member is not member:
                continue
            part = _part_of(connection, is_used)
            if part is None:
                request.connect()
            else:
                is_used = True
                request.start_on(part)
        if not is_used or isinstance(connection, Http2Client):
            _keep(connection, pool, generation, now)


def _part_of(connection: HttpClient, is_used: bool) -> Connection | None:
    """What one more request gets of a new connection; there is always something for the first."""
    if isinstance(connection, Http2Client):
        return connection.exchange() if not is_used or connection.has_room else None
    return None if is_used else connection


def _keep(connection: HttpClient, pool: Pool, generation: int, now: float) -> None:
    """Keep a connection for whoever comes next."""
    connection.is_reused = True  # by the time it is used it has waited like one
    if isinstance(connection, Http2Client):
        pool.share(connection, generation)
    else:
        pool.give_back(connection, generation, now)


def _cause(error: Exception, timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no connection within {timeout_s:g} s"
    if isinstance(error, ssl.SSLError):
        return f"TLS handshake failed: {error.reason or error}"
    return str(error) or type(error).__name__
