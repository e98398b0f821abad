"""TCP connections that leave a workload: by which route, to which endpoint, and how they are counted.

The connection of an application (CONNECT) or of the outside (a TCP server of a gateway) is relayed to an
endpoint's proxy, or to an endpoint without. Nothing is sent twice: another endpoint is tried only as long
as there is no connection to one.
"""

from __future__ import annotations

import asyncio
import random
import time

from ray_mesh.errors import PeerError
from ray_mesh.proxy import replies
from ray_mesh.proxy.caller import Effects
from ray_mesh.proxy.client_hello import BadHello, server_name
from ray_mesh.proxy.cluster import Cluster, Destination, Member
from ray_mesh.proxy.limited import set_keepalive
from ray_mesh.proxy.match import Scope
from ray_mesh.proxy.pipeline import MAX_ATTEMPTS, breaker_open
from ray_mesh.proxy.proxy_protocol import write_header
from ray_mesh.proxy.registry import Outcome
from ray_mesh.proxy.replies import Reply
from ray_mesh.proxy.source import Source
from ray_mesh.proxy.tcp_connection import TcpConnection, TcpRefused
from ray_mesh.proxy.tcp_dialer import CONNECT_TIMEOUT_S, Refused
from ray_mesh.proxy.tcp_relay import Relay, Side
from ray_mesh.proxy.tcp_routes import choose_route, draw
from ray_mesh.proxy.tcp_wire import Hello
from ray_mesh.proxy.view import why_unexported
from ray_mesh.snapshot import ConnectionRoute, Service

HELLO_S = 10.0
"""How long a client has for its ClientHello, where that decides."""


class TcpCaller:
    """Makes the connections of one workload."""

    def __init__(self, source: Source, effects: Effects) -> None:
        self.source = source
        self.effects = effects

    def begin(self, entry: object, host: str) -> TcpConnection:
        """A connection was asked for. Follow with :meth:`relay` or :meth:`refuse`."""
        connection = TcpConnection(entry, host, self._forget)
        self.effects.connections.add(connection)
        return connection

    def refuse(self, connection: TcpConnection, reply: Reply) -> None:
        """A connection is not made."""
        connection.refuse(reply)
        self.source.record_tcp(connection)

    async def known(self, host: str) -> Destination | None:
        """What is known of a full host, waiting for it if need be; None when the mesh has no such host.

        Raises:
            TcpRefused: nobody said in time.
        """
        registry = self.effects.registry
        if registry.is_unknown(host):
            return None
        found = registry.find(host)
        if found is None:
            told: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

            def tell(outcome: Outcome) -> None:
                if not told.done():
                    told.set_result(outcome)

            registry.wait(host, tell)
            outcome = await told
            if outcome == "late":
                raise TcpRefused(replies.unknown_yet(host))
            found = registry.find(host)
        return found

    def route(self, connection: TcpConnection, service: Service, scope: Scope, sni: str) -> ConnectionRoute:
        """The route of a connection to a port of a service. Raises TcpRefused."""
        route = choose_route(service, scope, sni)
        if route is None:
            raise TcpRefused(replies.no_tls_route(service.host, scope.port, sni))
        connection.route = route.name
        return route

    async def connect(self, connection: TcpConnection, route: ConnectionRoute, port: int) -> Side:
        """A connection to an endpoint of the route's destination.

        Raises:
            TcpRefused: there is none.
        """
        chosen = draw(route.destinations, random.random())
        if chosen is None:
            raise TcpRefused(replies.no_route(connection.service, "(no destination)"))
        requested = connection.requested if chosen.host == connection.service else ""
        connection.service = chosen.host
        if chosen.status:
            raise TcpRefused(replies.invalid_backend(chosen.host, chosen.status))
        port = chosen.port or port
        destination = await self.known(chosen.host)
        if destination is None or destination.service is None:
            raise TcpRefused(replies.not_in_mesh(chosen.host))
        source = self.source
        if reason := why_unexported(destination.service, source.client):
            raise TcpRefused(replies.no_destination(chosen.host, reason))
        cluster = destination.cluster(
            chosen.subset, time.monotonic(), port, source.place, source.client, requested
        )
        if cluster is None:
            raise TcpRefused(replies.no_subset(chosen.host, chosen.subset))
        hello = Hello(self.source.announced.decode(), chosen.host, port)
        tried: tuple[Member, ...] = ()
        failure = ""
        while connection.attempts < MAX_ATTEMPTS:
            member = cluster.choose(tried)
            if member is None:
                break
            tried = (*tried, member)
            connection.attempts += 1
            connection.member = member
            try:
                return await self._dial(connection, cluster, member, hello)
            except Refused as error:
                verdict = error.verdict
                raise TcpRefused(
                    Reply(verdict.status, verdict.flag, verdict.reason, verdict.message, verdict.fields)
                ) from error
            except (OSError, PeerError) as error:
                failure = cause(error, connection.limits.connect_timeout_s or CONNECT_TIMEOUT_S)
                self._wait_for(cluster, cluster.connect_failed(member, time.monotonic()))
        if connection.member is None:
            raise TcpRefused(_nobody(cluster))
        raise TcpRefused(replies.connect_failed(connection.member.workload or connection.service, failure))

    async def server_name(self, side: Side) -> str:
        """The name in the ClientHello with which the side begins, empty for none. Raises TcpRefused."""
        try:
            async with asyncio.timeout(HELLO_S):
                while (name := server_name(side.early)) is None:
                    if not await side.more():
                        raise TcpRefused(replies.bad_hello("the connection ended before its ClientHello"))
        except BadHello as error:
            raise TcpRefused(replies.bad_hello(str(error))) from error
        except TimeoutError as error:
            raise TcpRefused(replies.bad_hello(f"no ClientHello within {HELLO_S:g} s")) from error
        return name

    def relay(self, connection: TcpConnection, downstream: Side, upstream: Side) -> None:
        """Let the bytes flow."""
        connection.relay = Relay(
            downstream, upstream, self.effects.wheel, connection.count, lambda relay: self._over(connection)
        )
        limits = connection.limits
        if limits.tcp_idle_timeout_s:
            connection.relay.idle_s = limits.tcp_idle_timeout_s
        if limits.max_duration_s:
            connection.relay.limit(limits.max_duration_s)
        connection.open(self.source.tcp_recorder(connection))
        connection.relay.start()

    def drop(self, connection: TcpConnection, upstream: Side) -> None:
        """The connection that was made is not used."""
        upstream.reset()
        self._release(connection)

    def _over(self, connection: TcpConnection) -> None:
        relay = connection.relay
        assert relay is not None
        self._release(connection)
        connection.end(relay.flags)
        self.source.record_tcp(connection)

    def _release(self, connection: TcpConnection) -> None:
        if connection.member is not None and connection.pool is not None:
            connection.member.active -= 1
            connection.pool.forget(None)

    async def _dial(self, connection: TcpConnection, cluster: Cluster, member: Member, hello: Hello) -> Side:
        breaker = cluster.breaker
        pool = connection.pool = self.source.pool(member, breaker)
        if breaker is not None and not breaker.may_connect():
            raise TcpRefused(breaker_open(breaker, "maxConnections", breaker.max_connections))
        if not pool.admit():
            raise TcpRefused(replies.overflow(member.workload))
        if breaker is not None:
            connection.limits = breaker.limits
        member.active += 1
        try:
            async with asyncio.timeout(connection.limits.connect_timeout_s or CONNECT_TIMEOUT_S):
                if member.endpoint.transport == "plaintext":
                    side = await self.effects.tcp.outside(member.endpoint)
                    connection.security = "none"
                else:
                    side, connection.is_trusted = await self.effects.tcp.mesh(
                        member.endpoint, self.source.identity, hello
                    )
                    connection.security = "mutual_tls"
        except BaseException:
            member.active -= 1
            pool.forget(None)
            raise
        if cluster.proxy_protocol:
            side.send(write_header(cluster.proxy_protocol, *connection.ends))
        member.failures = 0
        if cluster.outliers is not None:
            self._wait_for(cluster, cluster.answered(member, 200, time.monotonic()))
        if side.transport.get_extra_info("socket") is not None:
            set_keepalive(connection.limits, side.transport.get_extra_info("socket").setsockopt)
        return side

    def _wait_for(self, cluster: Cluster, back_at: float | None) -> None:
        """Look again at who is left out when that ends."""
        if back_at is not None:
            self.effects.wheel.add(back_at, cluster.destination)

    def _forget(self, connection: TcpConnection) -> None:
        self.effects.connections.discard(connection)


def _nobody(cluster: Cluster) -> Reply:
    host = cluster.destination.host
    without_proxy = [each.workload for each in cluster.withheld]
    if without_proxy:
        return replies.no_proxy(host, without_proxy)
    return replies.no_endpoint(host, cluster.subset)


def cause(error: Exception, timeout_s: float = CONNECT_TIMEOUT_S) -> str:
    """Why there is no connection, in words."""
    if isinstance(error, TimeoutError):
        return f"no connection within {timeout_s:g} s"
    return str(error) or type(error).__name__
