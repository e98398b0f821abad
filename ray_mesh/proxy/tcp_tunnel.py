"""CONNECT on a workload's outbound listener: how an application calls what is not HTTP."""

from __future__ import annotations

import asyncio
import time

from ray_mesh.proxy import replies
from ray_mesh.proxy.hosts import bare, meanings, split_authority
from ray_mesh.proxy.match import Scope
from ray_mesh.proxy.passing import BLACKHOLE, PASSTHROUGH, why_not_passed
from ray_mesh.proxy.replies import Reply
from ray_mesh.proxy.sniff import DETECTION_TIMEOUT_S, spoken
from ray_mesh.proxy.tcp_caller import TcpCaller
from ray_mesh.proxy.tcp_connection import TcpConnection, TcpRefused
from ray_mesh.proxy.tcp_relay import Side
from ray_mesh.proxy.tcp_routes import needs_sni
from ray_mesh.proxy.timers import Closing, Wheel
from ray_mesh.proxy.view import seen_by, why_unknown
from ray_mesh.snapshot import Port, Service

ESTABLISHED = b"HTTP/1.1 200 Connection Established\r\n\r\n"
LINGER_S = 1.0


class TunnelSide(Side):
    """The application's side of a tunnel."""

    is_answered = False

    def answer(self) -> None:
        """The tunnel is open; said once."""
        if not self.is_answered:
            self.is_answered = True
            self.send(ESTABLISHED)


class Tunnels:
    """The tunnels of one workload. ``entry`` is its outbound entry."""

    def __init__(self, entry: object, caller: TcpCaller) -> None:
        self._entry = entry
        self._caller = caller

    def open(self, transport: asyncio.Transport, target: bytes, rest: bytes, inside: object) -> None:
        """Take a connection over on which CONNECT came, with the token; ``rest`` followed the request.

        ``inside`` is the entry of the requests in it, where it turns out to be HTTP.
        """
        side = TunnelSide()
        side.take(transport, rest)
        side.pause()
        connection = self._caller.begin(self._entry, target.decode("latin-1"))
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        connection.ends = (peer[:2] if peer else None, own[:2] if own else None)
        connection.task = self._caller.effects.tcp.run(self._serve(connection, side, target, inside))

    async def _serve(
        self, connection: TcpConnection, side: TunnelSide, target: bytes, inside: object
    ) -> None:
        try:
            upstream = await self._reach(connection, side, target)
            if upstream is None:
                connection.forget()
                self._caller.effects.tcp.serve_http(side.transport, inside, side.early)
                return
        except TcpRefused as error:
            self._caller.refuse(connection, error.reply)
            if side.is_answered:
                side.reset()
            else:
                _answer(side, error.reply, self._caller.effects.wheel)
            return
        except asyncio.CancelledError:
            side.reset()
            connection.end("DR")
            raise
        side.answer()
        self._caller.relay(connection, side, upstream)

    async def _reach(self, connection: TcpConnection, side: TunnelSide, target: bytes) -> Side | None:
        """The upstream; None when requests come through the tunnel: to a port of HTTP/2, since clients of
        gRPC know no other way through a proxy, or to one of which nobody had declared that it is HTTP."""
        authority = split_authority(target) if b":" in target else None
        if authority is None:
            raise TcpRefused(replies.bad_request(400, "the target of CONNECT is not host:port"))
        service = await self._service(connection, authority[0])
        port = called_port(service, authority[1])
        if isinstance(port, Reply):
            raise TcpRefused(port)
        workload = self._caller.source.workload
        scope = Scope(workload.namespace, frozenset(workload.labels), port.number)
        if port.is_http:
            side.answer()
            return None
        if port.protocol == "tls":
            return await self._reach_tls(connection, side, service, scope)
        if port.protocol == "auto" and await _is_http(side):
            return None
        route = self._caller.route(connection, service, scope, "")
        return await self._caller.connect(connection, route, port.number)

    async def _reach_tls(
        self, connection: TcpConnection, side: TunnelSide, service: Service, scope: Scope
    ) -> Side:
        """As the TLS routes say, for which the tunnel has to be open: then a refusal can only break it.

        What leaves the mesh must be for the host that was asked for.
        """
        upstream: Side | None = None
        if not needs_sni(service, scope):
            route = self._caller.route(connection, service, scope, "")
            upstream = await self._caller.connect(connection, route, scope.port)
        side.answer()
        try:
            name = await self._caller.server_name(side)
            if upstream is None:
                route = self._caller.route(connection, service, scope, name)
                upstream = await self._caller.connect(connection, route, scope.port)
            member = connection.member
            is_outside = member is not None and member.endpoint.transport == "plaintext"
            if is_outside and name not in ("", service.host, connection.requested):
                raise TcpRefused(replies.other_name(connection.requested, name))
        except BaseException:
            if upstream is not None:
                self._caller.drop(connection, upstream)
            raise
        return upstream

    async def _service(self, connection: TcpConnection, host: str) -> Service:
        """The service that a host means to this workload. Raises TcpRefused."""
        client = self._caller.source.client
        registry, boundary = self._caller.effects.registry, self._caller.effects.boundary
        passes = client.policy(boundary.policy) == "ALLOW_ANY"
        connection.requested = bare(host)
        hidden = ""
        for meaning in (*meanings(host, client.namespace), *boundary.beyond(host)):
            if passes and registry.was_unknown(meaning) and not registry.is_unknown(meaning):
                registry.ask_again(meaning)
                continue
            found = await self._caller.known(meaning)
            if found is None or found.service is None:
                continue
            reason = why_unknown(found.service, client, host)
            if found.service.is_dynamic and (refusal := why_not_passed(connection.requested)):
                raise TcpRefused(replies.not_passed(host, refusal))
            if not reason:
                connection.service = meaning
                return seen_by(found.service, client)
            hidden = hidden or reason
        refusal = why_not_passed(connection.requested) if passes else ""
        connection.service = BLACKHOLE if refusal or not passes else PASSTHROUGH
        if refusal:
            raise TcpRefused(replies.not_passed(host, refusal))
        if not passes:
            raise TcpRefused(replies.not_in_mesh(host, hidden))
        return registry.passthrough


def called_port(service: Service, number: int) -> Port | Reply:
    """The port that a tunnel is for, which must not be one of HTTP/1.1; else the refusal."""
    if not service.ports and service.is_dynamic:
        return Port(number, "", "tcp")
    port = next((each for each in service.ports if each.number == number), None)
    if port is None:
        return replies.no_port(service.host, number, [each.number for each in service.ports])
    if port.protocol == "http":
        return replies.not_a_tunnel(service.host, number)
    return port


async def _is_http(side: TunnelSide) -> bool:
    """Whether what the client says first is HTTP; who says nothing for a while waits for the server."""
    side.answer()
    try:
        async with asyncio.timeout(DETECTION_TIMEOUT_S):
            while (found := spoken(side.early)) is None:
                if not await side.more():
                    return False
    except TimeoutError:
        return False
    return found == "http"


def _answer(side: Side, reply: Reply, wheel: Wheel) -> None:
    """Say why not, and close once the client has had time to read it."""
    if side.is_lost:
        return
    side.send(reply.render(close=True))
    side.transport.set_protocol(_Deaf())
    side.finish()
    side.resume()
    wheel.add(time.monotonic() + LINGER_S, Closing(side.transport))


class _Deaf(asyncio.Protocol):
    """Takes what a client sends that was refused, so that the answer is not lost to a reset."""
