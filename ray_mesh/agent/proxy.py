"""One proxy: its life from a key pair to serving traffic, without Ray.

Order of a start, each step needing the one before: the process makes its broker key and its
identity key (:class:`ProxyAgent`); whoever starts it registers their public halves; ``attest``
connects with a credential that reaches the proxy's own certificate request and nothing else;
``serve`` uses the full credential: configuration, workload identities, traffic, telemetry.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Literal

from ray_mesh import __version__, snapshot
from ray_mesh.agent.checks import Checks
from ray_mesh.agent.config import ConfigSync
from ray_mesh.agent.handover import Offer
from ray_mesh.agent.heartbeat import Heartbeat
from ray_mesh.agent.identity import Identities, request_svid
from ray_mesh.agent.quota import QuotaLeases
from ray_mesh.agent.thread import DataThread
from ray_mesh.bus import messages, subjects
from ray_mesh.bus.client import Bus, Message
from ray_mesh.bus.credentials import BrokerAddress, Credential, Login
from ray_mesh.errors import MeshError, Unavailable
from ray_mesh.proxy.plane import DataPlane, PlaneConfig
from ray_mesh.security.bundle import Bundle
from ray_mesh.security.ca import public_key_sha256
from ray_mesh.security.identity import SpiffeId
from ray_mesh.security.letter import Letterbox
from ray_mesh.security.registrations import proxy_identity
from ray_mesh.security.signing import VerifyKey
from ray_mesh.security.svid import Svid, new_key
from ray_mesh.telemetry.table import parts

log = logging.getLogger(__name__)

TELEMETRY_INTERVAL_S = 1.0
ATTEST_PATIENCE_S = 20.0
READY_PATIENCE_S = 10.0
READY_POLL_S = 0.02

PlaneState = Literal["STARTING", "HEALTHY", "DRAINING"]
Severity = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Where this proxy is and whom it trusts. ``commands`` are those that it may run as probes."""

    name: str
    node: str
    address: str
    trust_domain: str
    root_der: bytes
    compiled_public: bytes
    commands: tuple[tuple[str, ...], ...] = ()


class ProxyKeys:
    """The keys that a proxy makes for itself. They stay in its process; only the public halves leave."""

    def __init__(self) -> None:
        self.credential = Credential.generate()
        self.key = new_key()
        self.letterbox = Letterbox()

    @property
    def nkey_public(self) -> str:
        """The public half of the broker credential."""
        return self.credential.public

    @property
    def identity_key_sha256(self) -> bytes:
        """SHA-256 of the public key (SubjectPublicKeyInfo DER) of the proxy's own identity."""
        return public_key_sha256(self.key.public_key())


class ProxyAgent:
    """Everything of one proxy process but its Ray actor. Run its methods on one event loop.

    ``keys`` are made here unless their public halves had to be known before the proxy had a name.
    """

    def __init__(self, settings: AgentSettings, keys: ProxyKeys | None = None) -> None:
        self._settings = settings
        self._keys = keys or ProxyKeys()
        self._credential, self._key = self._keys.credential, self._keys.key
        self._bundle = Bundle.from_der(settings.trust_domain, [settings.root_der])
        self._epoch = secrets.token_hex(8)
        self._state: PlaneState = "STARTING"
        self._tasks: list[asyncio.Task[None]] = []
        self._heartbeat: Heartbeat | None = None
        self._sequence = 0
        self._bus: Bus | None = None
        self._thread: DataThread | None = None
        self._plane: DataPlane | None = None
        self._config: ConfigSync | None = None
        self._identities: Identities | None = None
        self._checks: Checks | None = None
        self._expires_at = 0.0

    @property
    def identity(self) -> SpiffeId:
        """The proxy's own SPIFFE ID."""
        return proxy_identity(self._settings.trust_domain, self._settings.name)

    @property
    def nkey_public(self) -> str:
        """The public half of the broker credential."""
        return self._keys.nkey_public

    @property
    def identity_key_sha256(self) -> bytes:
        """SHA-256 of the public key (SubjectPublicKeyInfo DER) of the proxy's own identity."""
        return self._keys.identity_key_sha256

    @property
    def letterbox(self) -> bytes:
        """Where a credential for a NATS that is not ours is sent to."""
        return self._keys.letterbox.public

    @property
    def inbound_port(self) -> int:
        """The node's mTLS port, 0 before :meth:`serve`."""
        return self._plane.inbound_port if self._plane is not None else 0

    async def attest(self, address: BrokerAddress, letter: bytes = b"") -> tuple[bytes, ...]:
        """Connect and get the proxy's own certificate; returns its chain (DER, public).

        ``letter`` holds the credential for a broker that is not embedded.
        """
        credential: Credential | Login = self._credential
        if not address.embedded:
            credential = Login(self._keys.letterbox.open(letter).decode())
        self._bus = await Bus.connect(
            address, "proxy", self._settings.name, credential, on_event=self._report_event
        )
        deadline = time.monotonic() + ATTEST_PATIENCE_S
        while True:
            try:
                svid = await request_svid(
                    self._bus, self._settings.name, "", str(self.identity), self._bundle, self._key, self._key
                )
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                continue
            self._expires_at = svid.expires_at
            return svid.chain_der()

    async def serve(self, inbound_port: int = 0, sockets: Sequence[socket.socket] = ()) -> None:
        """Start the data plane and everything that feeds it. Needs the full broker credential.

        ``inbound_port`` is shared with the node's other proxies; 0 takes any free one. ``sockets`` are
        those of the proxy whose place this one takes.
        """
        bus, settings = self._connected, self._settings
        self._thread = DataThread(f"data {settings.name}")
        self._plane = plane = await self._thread.call(self._make_plane, inbound_port)
        await self._thread.call(plane.adopt, sockets)
        await self._thread.call(plane.bind)
        await self._thread.call(plane.set_bundles, {settings.trust_domain: self._bundle})
        self._identities = Identities(
            bus, settings.name, self._key, self._bundle, self._install, self._report
        )
        self._heartbeat = Heartbeat(bus, self._lease)
        self._checks = Checks(self._hasten, self._report, settings.commands)
        self._config = ConfigSync(
            bus,
            settings.node,
            VerifyKey(settings.compiled_public),
            apply=self._apply,
            unknown=self._unknown,
            changed=self._heartbeat.acknowledge,
            assigned=self._workloads_assigned,
            report=self._report,
        )
        await self._thread.call(self._connect_plane, plane, self._config, asyncio.get_running_loop())
        await self._config.start()
        await bus.serve(subjects.reserve(settings.node), self._reserve, queue="proxies")
        quota = QuotaLeases(bus, settings.name, self._thread, self._plane)
        await quota.start()
        self._run(self._heartbeat.run(), "lease")
        self._run(self._send_telemetry(), "telemetry")
        self._run(quota.run(), "quota")
        await self._become_ready()

    async def offer(self) -> str:
        """Hold copies of all listening sockets ready for one other process; returns the offer's name."""
        thread, plane = self._running
        sockets = await thread.call(plane.sockets)
        offer = Offer(sockets)
        self._offering = asyncio.create_task(self._pass_on(offer, sockets), name="offer")
        return offer.name

    async def drain(self, timeout_s: float, patience_s: float = 0.0) -> None:
        """Leave the registry, stop accepting, let what is in flight finish, report the last totals.

        For ``patience_s`` connections are kept until their clients have learnt that they end.
        """
        self._state = "DRAINING"
        if self._heartbeat is not None:
            await self._heartbeat.send()
        if self._thread is not None and self._plane is not None:
            await self._thread.run(self._plane.retire(patience_s))
            await self._thread.run(self._plane.drain(timeout_s))
            await self._report_totals()

    async def stop(self) -> None:
        """End everything, in the reverse order of its start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._checks is not None:
            await self._checks.stop()
        if self._identities is not None:
            await self._identities.stop()
        if self._config is not None:
            await self._config.stop()
        if self._thread is not None:
            if self._plane is not None:
                await self._thread.run(self._plane.stop())
            self._thread.stop()
        if self._bus is not None:
            await self._bus.close()

    def check(self) -> str:
        """Empty when healthy, else what is wrong."""
        if self._thread is not None and not self._thread.alive:
            return "the data loop has ended"
        broken = [task.get_name() for task in self._tasks if task.done()]
        return f"ended: {', '.join(broken)}" if broken else ""

    async def _pass_on(self, offer: Offer, sockets: Sequence[socket.socket]) -> None:
        try:
            await asyncio.to_thread(offer.serve)
        except (MeshError, OSError) as error:
            self._report("handover_failed", f"{self._settings.name} keeps its sockets: {error}")
        finally:
            for one in sockets:
                one.close()

    @property
    def _connected(self) -> Bus:
        assert self._bus is not None, "attest() comes first"
        return self._bus

    @property
    def _running(self) -> tuple[DataThread, DataPlane]:
        assert self._thread is not None
        assert self._plane is not None
        return self._thread, self._plane

    def _make_plane(self, inbound_port: int) -> DataPlane:
        settings = self._settings
        return DataPlane(
            PlaneConfig(
                name=settings.name,
                node=settings.node,
                trust_domain=settings.trust_domain,
                bind_address=settings.address,
                inbound_port=inbound_port,
                shares_load=True,
            )
        )

    def _connect_plane(self, plane: DataPlane, config: ConfigSync, loop: asyncio.AbstractEventLoop) -> None:
        """Let the data loop call back; what it says crosses to the control loop."""

        def want(host: str) -> None:
            loop.call_soon_threadsafe(config.want, host)

        def tell(reason: str, severity: Severity, message: str) -> None:
            event = messages.Event(time.time(), severity, reason, message, self._settings.name)
            loop.call_soon_threadsafe(self._report_event, event)

        def let_go(host: str) -> None:
            loop.call_soon_threadsafe(config.let_go, host)

        plane.on_unknown_host = want
        plane.on_idle_host = let_go
        plane.on_event = tell

    def _run(self, coroutine: Coroutine[None, None, None], name: str) -> None:
        self._tasks.append(asyncio.create_task(coroutine, name=name))

    async def _apply(self, key: str, resource: snapshot.Resource | None) -> None:
        thread, plane = self._running
        await thread.call(plane.apply, key, resource)

    async def _unknown(self, host: str) -> None:
        thread, plane = self._running
        await thread.call(plane.unknown, host)

    async def _install(self, key: str, svid: Svid) -> None:
        if not key:
            self._expires_at = svid.expires_at
            return
        thread, plane = self._running
        await thread.call(plane.set_identity, key, svid)
        self._hasten()

    def _workloads_assigned(self) -> None:
        assert self._config is not None
        assert self._identities is not None
        assert self._checks is not None
        self._checks.hold(self._config.workloads)
        wanted = {key: workload.identity for key, workload in self._config.workloads.items()}
        self._identities.hold({"": str(self.identity), **wanted})

    async def _become_ready(self) -> None:
        """Accept connections of the node once all its workloads have their certificates.

        A workload that gets none (its binding is gone, say) must not hold back the others for ever.
        """
        thread, plane = self._running
        assert self._config is not None
        deadline = time.monotonic() + READY_PATIENCE_S
        await self._config.assigned_once.wait()
        while time.monotonic() < deadline:
            ready = await thread.call(plane.ready)
            if self._config.workloads.keys() <= set(ready):
                break
            await asyncio.sleep(READY_POLL_S)
        await thread.run(plane.accept())
        self._state = "HEALTHY"
        self._hasten()
        message = f"the admin endpoint is http://127.0.0.1:{plane.admin_port} on node {self._settings.node}"
        self._report_event(messages.Event(time.time(), "info", "proxy_ready", message, self._settings.name))

    async def _reserve(self, message: Message) -> bytes:
        request = messages.decode(messages.ReserveRequest, message.data)
        thread, plane = self._running
        try:
            outbound, gateway_ports = await thread.call(
                plane.reserve, request.outbound, request.gateway_ports
            )
        except (MeshError, OSError) as error:
            return messages.encode(messages.ReserveReply(error=f"{self._settings.name}: {error}"))
        return messages.encode(messages.ReserveReply(outbound, gateway_ports))

    def _hasten(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.hasten()

    async def _lease(self) -> messages.ProxyLease:
        assert self._config is not None
        assert self._checks is not None
        settings = self._settings
        thread, plane = self._running
        return messages.ProxyLease(
            proxy=settings.name,
            epoch=self._epoch,
            node=settings.node,
            address=settings.address,
            inbound_port=plane.inbound_port,
            version=__version__,
            state=self._state,
            ready=tuple(sorted(await thread.call(plane.ready))),
            applied=dict(self._config.applied),
            rejected=tuple(self._config.rejected[key] for key in sorted(self._config.rejected)),
            pid=os.getpid(),
            svid_expires_at=self._expires_at,
            unhealthy=self._checks.unhealthy,
            admin_port=plane.admin_port,
        )

    async def _send_telemetry(self) -> None:
        while True:
            await asyncio.sleep(TELEMETRY_INTERVAL_S)
            await self._report_totals()

    async def _report_totals(self) -> None:
        thread, plane = self._running
        series = await thread.call(plane.series.totals)
        self._sequence += 1
        sequence = self._sequence
        chunks = list(parts(series))
        for part, chunk in enumerate(chunks):
            report = messages.TelemetryReport(
                proxy=self._settings.name,
                epoch=self._epoch,
                sequence=sequence,
                part=part,
                parts=len(chunks),
                at=time.time(),
                series=chunk,
                folded=plane.series.folded,
            )
            self._connected.publish(subjects.telemetry(self._settings.name), messages.encode(report))

    def _report(self, reason: str, message: str) -> None:
        self._report_event(messages.Event(time.time(), "warning", reason, message, self._settings.name))

    def _report_event(self, event: messages.Event) -> None:
        log.log(
            logging.INFO if event.severity == "info" else logging.WARNING,
            "%s: %s",
            event.reason,
            event.message,
        )
        if self._bus is not None:
            self._bus.publish(subjects.event("proxy", self._settings.name), messages.encode(event))
