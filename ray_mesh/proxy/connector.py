"""How connections to endpoints are made. The plane is given one way; the mesh's is :class:`MutualTls`,
and :class:`.outside.Outside` for what has no proxy."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Coroutine
from typing import Protocol

from ray_mesh.errors import PeerError
from ray_mesh.proxy import replies
from ray_mesh.proxy.cluster import Member
from ray_mesh.proxy.http1_client import BUFFER_BYTES, Http1Client
from ray_mesh.proxy.kernel_buffers import bound_inside
from ray_mesh.proxy.pipeline import Request
from ray_mesh.proxy.pool import Pool
from ray_mesh.proxy.tls import Identity, chain_deadline, verified_peer
from ray_mesh.snapshot import Endpoint


class UpstreamConnector(Protocol):
    """Makes a connection to an endpoint on behalf of an identity (None: the caller has none yet)."""

    async def connect(self, endpoint: Endpoint, identity: Identity | None, pool: Pool) -> Http1Client:
        """A connection that is ready for requests.

        Raises:
            OSError, PeerError: nothing was sent.
        """


class Plaintext:
    """TCP without TLS: for the application beside the proxy (and for measuring the proxy alone)."""

    async def connect(self, endpoint: Endpoint, identity: Identity | None, pool: Pool) -> Http1Client:
        """See :class:`UpstreamConnector`."""
        loop = asyncio.get_running_loop()
        transport, connection = await loop.create_connection(
            lambda: Http1Client(pool), endpoint.address, endpoint.port
        )
        bound_inside(transport.get_extra_info("socket"))
        return connection


class MutualTls:
    """TLS with both sides' SVIDs; the endpoint must prove the identity that configuration gives it."""

    async def connect(self, endpoint: Endpoint, identity: Identity | None, pool: Pool) -> Http1Client:
        """See :class:`UpstreamConnector`."""
        if identity is None:
            raise PeerError("this workload has no certificate yet")
        if identity.expires_at <= time.monotonic():
            raise PeerError("this workload's certificate has expired and was not renewed")
        loop = asyncio.get_running_loop()
        transport, connection = await loop.create_connection(
            lambda: Http1Client(pool, is_mesh_peer=True),
            endpoint.address,
            endpoint.port,
            ssl=identity.client,
            server_hostname=endpoint.sni,
            ssl_handshake_timeout=pool.connect_timeout_s,
        )
        try:
            peer, chain = verified_peer(transport.get_extra_info("ssl_object"), identity.trust)
            if str(peer) != endpoint.identity:
                raise PeerError(f"{endpoint.workload} must be {endpoint.identity}, but the peer is {peer}")
        except PeerError:
            transport.abort()
            raise
        transport.set_write_buffer_limits(BUFFER_BYTES)
        bound_inside(transport.get_extra_info("socket"))
        connection.security = "mutual_tls"
        connection.expires_at = min(identity.expires_at, chain_deadline(chain))
        return connection


class Upstreams:
    """To each endpoint the way that it needs: mutual TLS, or plain TCP where it has no proxy."""

    def __init__(self, mesh: UpstreamConnector, outside: UpstreamConnector) -> None:
        self._mesh = mesh
        self._outside = outside

    async def connect(self, endpoint: Endpoint, identity: Identity | None, pool: Pool) -> Http1Client:
        """See :class:`UpstreamConnector`."""
        way = self._mesh if endpoint.transport == "mutual_tls" else self._outside
        return await way.connect(endpoint, identity, pool)


class Dialer:
    """Runs connects as tasks, off the path of requests that find a connection."""

    def __init__(self, connector: UpstreamConnector) -> None:
        self._connector = connector
        self._tasks: set[asyncio.Task[None]] = set()

    def dial(self, request: Request, pool: Pool, member: Member, identity: Identity | None) -> None:
        """Connect to the member and start the request there, or tell it why not."""
        if not pool.admit():
            request.refuse(replies.overflow(member.workload))
            return
        self._run(self._dial(request, pool, member, identity, pool.generation, request.attempts))

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
        return await self._connector.connect(member.endpoint, identity, Pool())

    async def stop(self) -> None:
        """Give up every connect under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _warm(self, pool: Pool, member: Member, identity: Identity | None, generation: int) -> None:
        try:
            connection = await self._open(pool, member, identity)
        except (OSError, PeerError):
            return
        now = time.monotonic()
        connection.join(generation)
        pool.prepare(connection, now)
        connection.is_reused = True
        pool.give_back(connection, generation, now)

    async def _open(self, pool: Pool, member: Member, identity: Identity | None) -> Http1Client:
        """A connection that the pool has admitted. Raises OSError, PeerError when there is none after all."""
        try:
            async with asyncio.timeout(pool.connect_timeout_s):
                connection = await self._connector.connect(member.endpoint, identity, pool)
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
        request: Request,
        pool: Pool,
        member: Member,
        identity: Identity | None,
        generation: int,
        attempt: int,
    ) -> None:
        """``attempt`` is which of the request's this is: it may have gone on to another meanwhile."""
        try:
            connection = await self._open(pool, member, identity)
        except (OSError, PeerError) as error:
            if request.attempts == attempt:
                request.connect_failed(member, _cause(error, pool.connect_timeout_s))
            return
        connection.join(generation)
        now = time.monotonic()
        pool.prepare(connection, now)
        if request.done or request.attempts != attempt:
            connection.is_reused = True  # by the time it is used it has waited like one
            pool.give_back(connection, generation, now)
        else:
            request.start_on(connection)


def _cause(error: Exception, timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no connection within {timeout_s:g} s"
    if isinstance(error, ssl.SSLError):
        return f"TLS handshake failed: {error.reason or error}"
    return str(error) or type(error).__name__
