"""One process's data plane: what its owner calls, and the state that all connections share."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ray_mesh import addresses, snapshot
from ray_mesh.errors import ConfigError, PeerError
from ray_mesh.proxy.admin import Admin
from ray_mesh.proxy.allocation import keep_read_buffers
from ray_mesh.proxy.caller import Effects, Explaining, Topology
from ray_mesh.proxy.cluster import Destination
from ray_mesh.proxy.configuration import Configuration
from ray_mesh.proxy.connections import Connections
from ray_mesh.proxy.connector import Dialer, MutualTls, Plaintext, UpstreamConnector, Upstreams
from ray_mesh.proxy.events import Events, OnEvent, Severity
from ray_mesh.proxy.handshaken import Handshaken
from ray_mesh.proxy.health import HealthChecks
from ray_mesh.proxy.hosting import Hosting
from ray_mesh.proxy.http1_server import Admitted, Http1Server, ServerEntry
from ray_mesh.proxy.http2_server import Http2Server
from ray_mesh.proxy.journal import AccessRecord, Journal
from ray_mesh.proxy.kernel_buffers import bound_inside
from ray_mesh.proxy.listener import LOOPBACK, Listener, Reservations, bind
from ray_mesh.proxy.outside import Lookup, Outside, Resolver, is_here, system_lookup
from ray_mesh.proxy.overload import USUAL, Level, Overload, OverloadLimits
from ray_mesh.proxy.pages import pages_of
from ray_mesh.proxy.passing import Boundary
from ray_mesh.proxy.path import BASE
from ray_mesh.proxy.probe import Prober
from ray_mesh.proxy.registry import Registry
from ray_mesh.proxy.source import Source
from ray_mesh.proxy.stats import PlaneStats
from ray_mesh.proxy.tcp_connection import TcpConnection
from ray_mesh.proxy.tcp_dialer import TcpDialer
from ray_mesh.proxy.timers import PAUSE_SLOT_S, Wheel
from ray_mesh.proxy.tls import Trust, server_context
from ray_mesh.proxy.vitals import Vitals, usual_limits
from ray_mesh.proxy.workers import Workers
from ray_mesh.security.bundle import Bundle
from ray_mesh.security.svid import Svid
from ray_mesh.telemetry.table import SeriesTable

SWEEP_S = 5.0
_FULL = 1 << 30


@dataclass(frozen=True, slots=True)
class PlaneConfig:
    """Where a plane runs. ``inbound_port`` 0 takes any free port; the planes of a node share one.
    ``admin_port`` is the plane's own, on loopback; 0 takes any, None opens none. ``shares_load`` is
    for the planes of a node: new connections go to the one that has fewest. A host is told to
    ``on_idle_host`` when nobody has asked for it in ``idle_host_s``."""

    name: str
    node: str
    trust_domain: str
    bind_address: str = LOOPBACK
    inbound_port: int = 0
    admin_port: int | None = 0
    shares_load: bool = False
    limits: OverloadLimits = USUAL
    idle_host_s: float = 600.0


class DataPlane:
    """Serves the workloads it is given. All methods belong to one event loop (uvloop).

    ``connector`` makes the connections to endpoints with a proxy; in a mesh that is mutual TLS.
    ``lookup`` resolves the names of endpoints without.
    """

    def __init__(
        self,
        config: PlaneConfig,
        connector: UpstreamConnector | None = None,
        lookup: Lookup = system_lookup,
    ) -> None:
        keep_read_buffers()
        self.config = config
        self.connections = Connections()
        self.paths = BASE
        self.is_draining = False
        self.on_idle_host: Callable[[str], None] | None = None
        self.ends_connections = False
        self.trust = Trust()
        self.wheel = Wheel(asyncio.get_running_loop())
        self._pauses = Wheel(asyncio.get_running_loop(), PAUSE_SLOT_S)
        self._journal = Journal()
        self._overload = Overload(usual_limits(config.limits))
        self._registry = Registry(self.wheel)
        self._resolver = Resolver(lookup)
        outside = Outside(self._why_unfit, self._resolver)
        self._dialer = Dialer(Upstreams(connector or MutualTls(), outside))
        self._app_dialer = Dialer(Plaintext())
        self._tcp = TcpDialer(outside, self._serve_http)
        self._effects = Effects(
            self.wheel,
            self._pauses,
            self._dialer,
            self._registry,
            self._journal,
            Explaining(),
            Topology(),
            Boundary(),
            self._overload,
            self._tcp,
            self.connections,
        )
        self._events = Events()
        self._reservations = Reservations(self.wheel)
        self._hosting = Hosting(
            self, self._effects, self._app_dialer, self.trust, self._reservations, self._events
        )
        self._configuration = Configuration(self, self._effects, self._hosting)
        self._base_context = server_context(self.trust)
        self._base_context.sni_callback = self._hosting.choose_context
        self._inbound: Listener | None = None
        prober = Prober(self._dialer, self._tcp, self._checking_source)
        self._health = HealthChecks(self._registry, self.wheel, prober.probe)
        self._vitals = Vitals(self.wheel, self._overload, lambda: len(self.connections), self._take_level)
        self._overload.on_change = self._tell_level
        self._admin: Admin | None = None
        self.workers: Workers | None = None

    # Life.

    async def start(self) -> None:
        """Bind the node's inbound port and serve at once. Raises ConfigError."""
        self.bind()
        await self.accept()

    def bind(self) -> None:
        """Bind the node's inbound port without accepting on it. Raises ConfigError.

        The planes of a node share the port, and the kernel hands connections to whoever listens: one
        that does not know the node's workloads yet must not.
        """
        address, port = self.config.bind_address, self.config.inbound_port
        bound = self._reservations.claim(port, address) or bind(address, port)
        bound_inside(bound)
        if self.config.shares_load:
            meeting = f"{address}-{bound.getsockname()[1]}"
            self.workers = Workers(meeting, self._count, self._take)
            self.connections.on_change = self.workers.tell
        self._inbound = Listener(bound, lambda: Handshaken(self, self._hosting), self.workers)
        self.wheel.add(time.monotonic() + SWEEP_S, self)
        self._health.start(time.monotonic())
        self._vitals.start()
        if self.config.admin_port is not None:
            self._admin = Admin(self.config.admin_port, self.wheel, pages_of(self))
            self._admin.open()

    async def accept(self) -> None:
        """Accept on the inbound port that :meth:`bind` bound."""
        assert self._inbound is not None, "bind() comes first"
        await self._inbound.start(self._base_context)
        if self.workers is not None:
            self.workers.start()

    def adopt(self, sockets: Iterable[socket.socket]) -> None:
        """Before :meth:`bind`: listen on these, of a plane that ends, where their ports are needed."""
        for one in sockets:
            self._reservations.adopt(one)

    def sockets(self) -> list[socket.socket]:
        """Copies of all sockets that this plane accepts on, for the one that takes its place."""
        return [one.duplicate() for one in self._listeners if one.is_open]

    async def retire(self, patience_s: float) -> None:
        """Accept no more, and ask clients to connect again, for ``patience_s`` or until all have.

        A client that keeps a connection of HTTP/1.1 learns it from its next response: to close an idle one
        could cross a request under way. With HTTP/2 it is told at once. Follow with :meth:`drain`.
        """
        self.is_draining = self.ends_connections = True
        await self._close_listeners()
        for connection in self.connections:
            connection.dismiss()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self.connections.wait_empty()

    async def drain(self, timeout_s: float) -> bool:
        """Accept no more and let requests finish; whether all did within ``timeout_s``."""
        self.is_draining = self.ends_connections = True
        await self._close_listeners()
        for connection in self.connections:
            connection.drain()
        try:
            async with asyncio.timeout(timeout_s):
                await self.connections.wait_empty()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """End everything now."""
        self.is_draining = self.ends_connections = True
        await self._close_listeners()
        self._reservations.close()
        for connection in self.connections:
            connection.abort()
        await self._health.stop()
        await self._dialer.stop()
        await self._tcp.stop()
        await self._resolver.stop()
        await self._app_dialer.stop()
        for local in self._hosting:
            local.retire()
        if self._admin is not None:
            await self._admin.stop()
        if self.workers is not None:
            self.workers.stop()
        self._vitals.stop()
        self.wheel.stop()
        self._pauses.stop()

    @property
    def admits_more(self) -> bool:
        """Whether another connection may come."""
        limit = self._overload.limits.max_connections
        return self._overload.level < Level.NO_CONNECTIONS and len(self.connections) < limit

    @property
    def inbound_port(self) -> int:
        """The mTLS port, once started."""
        return self._inbound.port if self._inbound is not None else 0

    @property
    def admin_port(self) -> int:
        """The port of the admin endpoint, on loopback; 0 when there is none."""
        return self._admin.port if self._admin is not None else 0

    def why_unready(self) -> str:
        """Why it should get no new connections; empty when it should."""
        if self.is_draining:
            return "it drains"
        if not self.trust.bundles:
            return "it has no trust bundle yet"
        if self._inbound is None or not self._inbound.is_open:
            return "it has no complete configuration yet"
        return "" if self.admits_more else "it is overloaded"

    # Configuration.

    def apply(self, key: str, resource: snapshot.Resource | None) -> None:
        """Take one resource into force, or out of it (None); the next request sees it.

        Raises:
            PeerError: the resource does not belong to the key or to this mesh; what was before stays.
            ConfigError: it cannot be served here (a port is taken); what was before stays.
        """
        self._configuration.apply(key, resource)

    def unknown(self, full_host: str) -> None:
        """Answer to ``on_unknown_host``: the mesh has no such service."""
        self._registry.set_unknown(full_host)

    def set_bundles(self, bundles: Mapping[str, Bundle]) -> None:
        """Trust these roots from now on; connections are verified again or given up."""
        self.trust.replace(bundles)
        self.trust.load_into(self._base_context)
        self._hosting.renew_contexts()
        for connection in self.connections:
            if isinstance(connection, (TcpConnection, Http2Server)):
                connection.verify()

    def set_identity(self, workload_key: str, svid: Svid) -> None:
        """Put a certificate into use; old connections end after their current request.

        Raises:
            PeerError: the certificate is another workload's, or the workload is not here.
        """
        local = self._hosting.locals.get(workload_key)
        if local is None:
            raise PeerError(f"{workload_key} does not run on {self.config.name}")
        self._hosting.set_identity(local, svid)

    def ready(self) -> tuple[str, ...]:
        """The keys of workloads that have their listeners and a certificate."""
        return tuple(key for key, local in self._hosting.locals.items() if local.is_ready)

    def reserve(
        self, outbound: int, gateway_ports: tuple[tuple[int, int], ...] = ()
    ) -> tuple[int, tuple[tuple[int, int], ...]]:
        """Bind ports for a workload that is about to come (0: any free one); held for 30 s.

        ``gateway_ports`` maps gateway port numbers to ports; so does the answer, with the bound ones.

        Raises:
            ConfigError: a port is taken.
        """
        held: list[int] = []
        try:
            held.append(self._reservations.hold(LOOPBACK, outbound))
            bound = []
            for number, port in gateway_ports:
                held.append(self._reservations.hold(self.config.bind_address, port))
                bound.append((number, held[-1]))
        except ConfigError:
            for port in held:
                self._reservations.drop(port)
            raise
        return held[0], tuple(bound)

    # Quotas, telemetry, events.

    def quota_demand(self) -> Mapping[str, int]:
        """Tokens wanted now, by limit; poll about every 50 ms."""
        return self._hosting.limits.demand(time.monotonic())

    def grant(self, limit_name: str, tokens: int, expires_at: float) -> None:
        """A lease came: ``tokens`` until ``expires_at`` (monotonic), or none until then."""
        self._hosting.limits.grant(limit_name, tokens, expires_at, time.monotonic())

    @property
    def series(self) -> SeriesTable:
        """Everything measured since this plane began."""
        return self._journal.series

    def access_records(self) -> tuple[AccessRecord, ...]:
        """The newest finished requests, oldest first."""
        return self._journal.records()

    def resources(self) -> dict[str, snapshot.Resource]:
        """The configuration in force, by key."""
        return self._configuration.resources()

    def destinations(self) -> tuple[Destination, ...]:
        """The hosts in use, with their clusters."""
        return tuple(self._registry)

    def stats(self) -> PlaneStats:
        """See :class:`PlaneStats`."""
        return PlaneStats(
            connections=len(self.connections),
            in_flight=sum(not connection.is_idle for connection in self.connections),
            workloads=len(self._hosting.locals),
            hosts=len(self._registry),
            flaws=self._journal.flaws.count,
            overload_level=self._overload.level,
            pressure=self._overload.pressure,
            memory_bytes=self._vitals.sample.memory_bytes,
            lag_s=self._vitals.sample.lag_s,
            lag_max_s=self._vitals.max_lag_s,
            handed_over=self.workers.handed_over if self.workers is not None else 0,
            taken=self.workers.taken if self.workers is not None else 0,
            gc_pauses=self._vitals.pauses.count,
            gc_pause_max_s=self._vitals.pauses.max_s,
            gc_pause_total_s=self._vitals.pauses.total_s,
            events=dict(self._events.counts),
        )

    @property
    def on_unknown_host(self) -> Callable[[str], None] | None:
        """Called with the full host when a request waits for a host that is not here yet."""
        return self._registry.on_unknown_host

    @on_unknown_host.setter
    def on_unknown_host(self, callback: Callable[[str], None] | None) -> None:
        self._registry.on_unknown_host = callback

    @property
    def on_event(self) -> OnEvent | None:
        """Called with a reason word, a severity and a sentence."""
        return self._events.on_event

    @on_event.setter
    def on_event(self, callback: OnEvent | None) -> None:
        self._events.on_event = callback

    def on_deadline(self, now: float) -> None:
        """Close what is stale, regularly (see :class:`.timers.Timed`)."""
        self._hosting.forget(self._registry.drop_idle())
        if self.on_idle_host is not None:
            for host in self._registry.idle(now, self.config.idle_host_s):
                self.on_idle_host(host)
        for local in self._hosting:
            local.close_stale(now)
        self.wheel.add(now + SWEEP_S, self)

    def _checking_source(self) -> Source | None:
        """The workload as which endpoints are checked: the first that can call."""
        for _, local in sorted(self._hosting.locals.items()):
            if local.identity is not None:
                return local.source
        return None

    def _why_unfit(self, address: str, port: int) -> str:
        """What is wrong with an endpoint without proxy at an address, where this plane is."""
        own = self.config.bind_address
        is_loopback = addresses.is_loopback(address)
        if is_loopback and not addresses.is_loopback(own):
            return "loopback, and the mesh is not on loopback alone"
        if self._registry.is_endpoint(address, port):
            return "a port of the mesh itself"
        if not (is_loopback or address == own or is_here(address)):
            return ""
        if port == self.inbound_port or any(port in local.ports for local in self._hosting):
            return "a port of the mesh itself or of one of its workloads"
        return ""

    def _serve_http(self, transport: asyncio.Transport, entry: ServerEntry, early: bytes) -> None:
        """See :data:`.tcp_dialer.ServeHttp`."""

        def admit(server: Admitted, transport: asyncio.Transport) -> ServerEntry:
            server.client = str(transport.get_extra_info("peername")[0]).encode()
            return entry

        server = Http1Server(self, admit)
        transport.set_protocol(server)
        server.connection_made(transport)
        transport.resume_reading()
        server.data_received(early)

    @property
    def _listeners(self) -> list[Listener]:
        own = [self._inbound] if self._inbound is not None else []
        return own + [one for local in self._hosting for one in local.listeners.values()]

    def _count(self) -> int:
        """Connections, as the node's other workers are told; a plane that may take no more is full."""
        if not self.admits_more:
            return _FULL
        return len(self.connections) + sum(one.starting for one in self._listeners)

    def _take(self, accepted: socket.socket) -> bool:
        """A connection that another worker of the node accepted; whether it is served here."""
        if not self.admits_more:
            return False
        port = accepted.getsockname()[1]
        listener = next((one for one in self._listeners if one.port == port), None)
        return listener is not None and listener.take(accepted)

    def _take_level(self, level: Level) -> None:
        self.ends_connections = self.is_draining or level >= Level.NO_KEEP_ALIVE

    def _tell_level(self, level: Level, cause: str) -> None:
        severity: Severity = "warning" if level else "info"
        if self.workers is not None:
            self.workers.tell()
        self._events.report("overload", severity, f"{level.name} from now on: {cause}")

    async def _close_listeners(self) -> None:
        if self.workers is not None:
            self.workers.leave()
        if self._inbound is not None:
            self._inbound.close()
        await self._hosting.close()
