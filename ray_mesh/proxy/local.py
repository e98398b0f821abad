"""One workload of this plane: its listeners, its entries, its identity."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ray_mesh.errors import PeerError
from ray_mesh.proxy.caller import Effects
from ray_mesh.proxy.doors import Door, SecureEntry
from ray_mesh.proxy.http1_server import ServerEntry
from ray_mesh.proxy.inbound import Inbound
from ray_mesh.proxy.ingress import Ingress
from ray_mesh.proxy.listener import Listener
from ray_mesh.proxy.outbound import Outbound
from ray_mesh.proxy.source import Source
from ray_mesh.proxy.tcp_inbound import TcpInbound
from ray_mesh.proxy.tls import Identity, Trust
from ray_mesh.security.svid import Svid
from ray_mesh.snapshot import Gateway, GatewayServer, Workload


def workload_ports(workload: Workload) -> list[int]:
    """The ports that a workload's own listeners have."""
    return [workload.outbound_port, *(bound for _, bound in workload.gateway_ports)]


class Local:
    """The running side of a :class:`~ray_mesh.snapshot.Workload`."""

    def __init__(self, workload: Workload, effects: Effects, inbound: Inbound) -> None:
        self.workload = workload
        self.source = Source(workload, effects.journal)
        self.outbound = Outbound(self.source, effects)
        self.inbound = inbound
        self.tcp_inbound = TcpInbound(inbound, effects)
        self.ingresses: dict[int, Ingress] = {}
        self.doors: dict[int, Door] = {}
        self.listeners: dict[int, Listener] = {}
        self._effects = effects
        self._gateway: Gateway | None = None
        self._update_ingresses()

    @property
    def identity(self) -> Identity | None:
        """The certificate in use."""
        return self.source.identity

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports of its listeners and of the application."""
        return (*workload_ports(self.workload), self.workload.app_port)

    @property
    def is_ready(self) -> bool:
        """Whether it can call and be called."""
        identity = self.source.identity
        return (
            identity is not None
            and identity.expires_at > time.monotonic()
            and all(listener.is_open for listener in self.listeners.values())
        )

    def update(self, workload: Workload) -> None:
        """Take a new version; connections stay, and it holds from their next request on."""
        if workload.identity != self.workload.identity:
            self.source.set_identity(None)
        self.workload = workload
        self.source.set_workload(workload)
        self.outbound.set_workload(workload)
        self.inbound.set_workload(workload)
        self._update_ingresses()

    def set_gateway(self, gateway: Gateway | None) -> None:
        """Take a new version of what an ingress workload serves."""
        self._gateway = gateway
        self._update_ingresses()

    def set_identity(self, svid: Svid, trust: Trust) -> Identity:
        """Put a certificate into use.

        Raises:
            PeerError: it is not the workload's.
        """
        if str(svid.id) != self.workload.identity:
            raise PeerError(f"{self.source.name} is {self.workload.identity}, not {svid.id}")
        identity = Identity(svid, trust)
        self.source.set_identity(identity)
        return identity

    def entries(self) -> tuple[ServerEntry, ...]:
        """All of its entries."""
        return (self.outbound, self.inbound, *self.all_ingresses())

    def all_ingresses(self) -> Iterator[Ingress]:
        """The entries of its gateway ports, with TLS and without."""
        yield from self.ingresses.values()
        for door in self.doors.values():
            yield from (entry.ingress for entry in door.entries if entry.ingress is not None)

    def door_of(self, port: int) -> Door | None:
        """The door at one of its ports; None for a port of plain HTTP without PROXY protocol."""
        if port == self.workload.outbound_port:
            return None
        number = next((number for number, bound in self.workload.gateway_ports if bound == port), None)
        door = self.doors.get(number) if number is not None else None
        has_header = self._effects.topology.proxy_protocol
        return door if door is not None and (has_header or not door.is_plain) else None

    def entry_of(self, port: int) -> ServerEntry | None:
        """Whose requests come to one of its ports."""
        if port == self.workload.outbound_port:
            return self.outbound
        number = next((number for number, bound in self.workload.gateway_ports if bound == port), None)
        return self.ingresses.get(number) if number is not None else None

    def listen(self, opened: dict[int, Listener]) -> None:
        """Take new listeners, close those of ports that it has no more."""
        for port in self.listeners.keys() - workload_ports(self.workload):
            self.listeners.pop(port).close()
        self.listeners |= opened

    def forget_views(self) -> None:
        """A service changed. The routes of gateways are not its own."""
        self.source.forget_routes()
        self.outbound.forget_views()

    def retire(self) -> None:
        """Give up every connection to an upstream after its current request."""
        self.source.retire()
        self.inbound.retire()

    def close_stale(self, now: float) -> None:
        """Close connections that nobody should use any more."""
        self.source.close_stale(now)
        self.inbound.close_stale(now)

    def _update_ingresses(self) -> None:
        servers = {server.port: server for server in self._gateway.servers} if self._gateway else {}
        wanted = {port for port, _ in self.workload.gateway_ports}
        for port in self.ingresses.keys() - wanted:
            self.ingresses.pop(port).set_hosts(())  # its connections may still be open
            self.doors.pop(port)
        for port in wanted:
            if port not in self.ingresses:
                self.ingresses[port] = Ingress(self.source, self._effects, port, self.inbound.guard)
                self.doors[port] = Door(port)
            server = servers.get(port)
            self.ingresses[port].set_hosts(server.virtual_hosts if server is not None else ())
            self._update_door(self.doors[port], server)

    def _update_door(self, door: Door, server: GatewayServer | None) -> None:
        """Give each TLS server that ends HTTP an entry; connections to those that go stay with theirs."""
        door.server = server
        before = {(old.server.hosts, old.server.tls): old.ingress for old in door.entries}
        entries = []
        for secure in server.secure if server is not None else ():
            ingress = before.pop((secure.hosts, secure.tls), None)
            if secure.virtual_hosts is not None:
                guard = self.inbound.guard
                ingress = ingress or Ingress(
                    self.source, self._effects, door.port, guard, is_secure=True, owner=door.choose
                )
                ingress.set_hosts(secure.virtual_hosts)
            entries.append(SecureEntry(secure, ingress))
        door.entries = tuple(entries)
        for gone in before.values():
            if gone is not None:
                gone.set_hosts(())
