"""The workloads of a plane: where they listen, how SNI finds them, who may connect to them."""

from __future__ import annotations

import asyncio
import functools
import ssl
import weakref
from collections.abc import Iterator
from typing import Protocol

from ray_mesh.errors import ConfigError, PeerError
from ray_mesh.proxy.caller import Effects
from ray_mesh.proxy.cluster import Member
from ray_mesh.proxy.connector import Dialer
from ray_mesh.proxy.doors import Doorman
from ray_mesh.proxy.events import Events
from ray_mesh.proxy.gatekeeper import Gatekeeper
from ray_mesh.proxy.http1_server import Admit, Admitted, Http1Server, ServerEntry
from ray_mesh.proxy.http1_server import Listening as Shared
from ray_mesh.proxy.inbound import Inbound, Peer
from ray_mesh.proxy.limits import Limits
from ray_mesh.proxy.listener import LOOPBACK, Listener, Reservations, bind
from ray_mesh.proxy.local import Local, workload_ports
from ray_mesh.proxy.tcp_dialer import MessageReader
from ray_mesh.proxy.tls import ALPN, HTTP2_ALPN, TCP_ALPN, Trust, verified_peer
from ray_mesh.proxy.workers import Workers
from ray_mesh.security.svid import Svid
from ray_mesh.snapshot import Gateway, Workload

_UNRECOGNIZED_NAME = ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME


class Listening(Shared, Protocol):
    """What connections share, and whether there may be more of them."""

    @property
    def admits_more(self) -> bool: ...

    @property
    def workers(self) -> Workers | None: ...


class Hosting:
    """Workloads by key. ``listening`` is what their connections share."""

    def __init__(
        self,
        listening: Listening,
        effects: Effects,
        app_dialer: Dialer,
        trust: Trust,
        reservations: Reservations,
        events: Events,
    ) -> None:
        self.locals: dict[str, Local] = {}
        self.limits = Limits()
        self._listening = listening
        self._effects = effects
        self._app_dialer = app_dialer
        self._trust = trust
        self._reservations = reservations
        self._events = events
        self._gateways: dict[str, Gateway] = {}
        self._gatekeeper = Gatekeeper(listening, effects, trust, events)
        self._by_sni: dict[str, Local] = {}
        self._by_context: weakref.WeakKeyDictionary[ssl.SSLContext, Local] = weakref.WeakKeyDictionary()
        self._tasks: set[asyncio.Task[None]] = set()

    def __iter__(self) -> Iterator[Local]:
        return iter(self.locals.values())

    def resources(self) -> dict[str, Workload | Gateway]:
        """What is in force, by key."""
        gateways = {f"gateway.{each.namespace}.{each.name}": each for each in self._gateways.values()}
        return {key: local.workload for key, local in self.locals.items()} | gateways

    def place(self, key: str, workload: Workload) -> None:
        """Take a workload, or a new version of it. Raises PeerError or ConfigError and changes nothing."""
        owner = self._by_sni.get(workload.sni)
        local = self.locals.get(key)
        if owner is not None and owner is not local:
            raise PeerError(f"{key}: SNI {workload.sni} belongs to {owner.source.name}")
        self._check_ports(key, workload)
        listeners = self._listeners(key, workload, local)
        if local is None:
            inbound = Inbound(workload, self._effects, self._app_dialer, self.limits.bucket)
            local = self.locals[key] = Local(workload, self._effects, inbound)
            local.set_gateway(self._gateways.get(key))
        else:
            del self._by_sni[local.workload.sni]
            local.update(workload)
        self._by_sni[workload.sni] = local
        self._keep_limits()
        local.listen(listeners)
        self._accept(local)

    def remove(self, key: str) -> None:
        """Take a workload out: accept no more for it, let its requests finish."""
        local = self.locals.pop(key, None)
        if local is None:
            return
        del self._by_sni[local.workload.sni]
        for context in [context for context, owner in self._by_context.items() if owner is local]:
            del self._by_context[context]
        for listener in local.listeners.values():
            listener.close()
        local.retire()
        self._keep_limits()
        entries = local.entries()
        for connection in self._listening.connections:
            if connection.entry in entries:
                connection.drain()

    def forget(self, gone: tuple[Member, ...]) -> None:
        """Endpoints are gone."""
        for local in self.locals.values() if gone else ():
            local.source.forget(gone)

    def set_gateway(self, key: str, gateway: Gateway | None) -> None:
        """Take what the workload ``key`` serves as an ingress gateway (None: nothing)."""
        if gateway is None:
            self._gateways.pop(key, None)
        else:
            self._gateways[key] = gateway
        local = self.locals.get(key)
        if local is not None:
            local.set_gateway(gateway)
        used = [
            secure.tls
            for one in self._gateways.values()
            for server in one.servers
            for secure in server.secure
        ]
        self._gatekeeper.contexts.keep(frozenset(used))

    def set_identity(self, local: Local, svid: Svid) -> None:
        """Put a certificate into use. Raises PeerError."""
        identity = local.set_identity(svid, self._trust)
        self._by_context[identity.server] = local
        self._accept(local)

    def renew_contexts(self) -> None:
        """The bundles changed."""
        for local in self.locals.values():
            if local.identity is not None:
                self.set_identity(local, local.identity.svid)

    async def close(self) -> None:
        """Accept no more."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for local in self.locals.values():
            for listener in local.listeners.values():
                listener.close()

    # Connections.

    def choose_context(
        self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext
    ) -> int | None:
        """SNI picks the workload and with it the certificate; an unknown name ends the handshake."""
        local = self._by_sni.get((name or "").lower())
        if local is None or local.identity is None:
            self._events.report(
                "unknown_sni", "warning", f"a handshake for {name!r}, which is not served here"
            )
            return _UNRECOGNIZED_NAME
        connection.context = local.identity.server
        return None

    def admit_peer(self, server: Admitted, transport: asyncio.Transport) -> ServerEntry | None:
        """After a handshake on the mTLS port: verify who the peer is."""
        negotiated = transport.get_extra_info("ssl_object").selected_alpn_protocol()
        admitted = self._admit_peer(transport, HTTP2_ALPN if negotiated == HTTP2_ALPN else ALPN)
        if admitted is None:
            return None
        local, peer = admitted
        assert local.identity is not None
        server.peer = peer
        server.client = peer.address
        server.expires_at = min(local.identity.expires_at, peer.deadline)
        return local.inbound

    def admit_tcp(self, reader: MessageReader, transport: asyncio.Transport) -> None:
        """After a handshake for a connection that is not HTTP: verify who the peer is, then serve it."""
        admitted = self._admit_peer(transport, TCP_ALPN)
        if admitted is None:
            transport.abort()
        else:
            local, peer = admitted
            local.tcp_inbound.open(reader, peer)

    def _admit_peer(self, transport: asyncio.Transport, protocol: str) -> tuple[Local, Peer] | None:
        """Whose connection it is and who the peer is; None when it is refused."""
        connection: ssl.SSLObject = transport.get_extra_info("ssl_object")
        local = self._by_context.get(connection.context)
        if local is None or local.identity is None or not self._listening.admits_more:
            return None
        address = _address(transport)
        try:
            if protocol != TCP_ALPN and local.workload.is_tcp_only:
                raise PeerError("it serves no HTTP, all ports of its services are TCP")
            peer, chain = verified_peer(connection, self._trust, protocol)
        except PeerError as error:
            reason = f"a peer at {address.decode()} was refused by {local.source.name}: {error}"
            self._events.report("peer_refused", "warning", reason)
            return None
        return local, Peer(peer, chain, self._trust, address)

    def _admit(
        self, key: str, port: int, server: Admitted, transport: asyncio.Transport
    ) -> ServerEntry | None:
        """A connection to one of a workload's own ports."""
        local = self.locals.get(key) if self._listening.admits_more else None
        server.client = _address(transport)
        return local.entry_of(port) if local is not None else None

    # Listeners.

    def _check_ports(self, key: str, workload: Workload) -> None:
        ports = workload_ports(workload)
        if len(set(ports)) != len(ports):
            raise ConfigError(f"{key}: its ports {ports} are not distinct")
        if workload.app_port in ports and workload.app_address in (LOOPBACK, "localhost"):
            raise ConfigError(f"{key}: application port {workload.app_port} is one of its proxy ports")
        for other_key, other in self.locals.items():
            shared = set(ports) & other.listeners.keys() if other_key != key else set()
            if shared:
                raise ConfigError(f"{key}: port {min(shared)} belongs to {other.source.name}")

    def _listeners(self, key: str, workload: Workload, local: Local | None) -> dict[int, Listener]:
        """Listeners for the ports that the workload has not had yet."""
        opened: dict[int, Listener] = {}
        try:
            for port in workload_ports(workload):
                if local is None or port not in local.listeners:
                    inside = port == workload.outbound_port
                    address = LOOPBACK if inside else self._listening.config.bind_address
                    bound = self._reservations.claim(port, address) or bind(address, port)
                    number = bound.getsockname()[1]
                    make = functools.partial(
                        self._make, key, number, functools.partial(self._admit, key, number)
                    )
                    opened[port] = Listener(bound, make, self._listening.workers)
        except ConfigError:
            for listener in opened.values():
                listener.close()
            raise
        return opened

    def _make(self, key: str, port: int, admit: Admit) -> asyncio.Protocol:
        """The protocol of a new connection to one of a workload's own ports."""
        local = self.locals.get(key)
        door = local.door_of(port) if local is not None else None
        if local is None or door is None or not self._listening.admits_more:
            return Http1Server(self._listening, admit)
        return Doorman(functools.partial(self._gatekeeper.serve, local, door))

    def _accept(self, local: Local) -> None:
        """Accept calls of a workload once it can make them; until then another process may."""
        if local.identity is None:
            return
        for listener in local.listeners.values():
            task = asyncio.get_running_loop().create_task(listener.start())
            self._tasks.add(task)
            task.add_done_callback(self._accepting)

    def _accepting(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._events.report("listen_failed", "error", f"a port cannot be served: {task.exception()}")

    def _keep_limits(self) -> None:
        workloads = [local.workload for local in self.locals.values()]
        self.limits.keep(frozenset(limit.name for each in workloads for limit in each.rate_limits))


def _address(transport: asyncio.Transport) -> bytes:
    peer = transport.get_extra_info("peername")
    return str(peer[0]).encode() if peer else b"unknown"
