"""One replica of the gateway: hears the mesh, follows desired state, serves the API."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial

from aiohttp import web

from ray_mesh.bus import subjects
from ray_mesh.bus.client import Bus, Message, end_tasks
from ray_mesh.bus.follower import Follower
from ray_mesh.bus.messages import (
    SIGNATURE_HEADER,
    Acknowledgement,
    Beacon,
    Event,
    ProxyLease,
    RoleLease,
    decode,
)
from ray_mesh.bus.store import Entry, Store
from ray_mesh.compile import Grounds, grounds_of
from ray_mesh.errors import ConfigError, MeshError, NotFound, PeerError, Unavailable
from ray_mesh.gateway.admission import Admission
from ray_mesh.gateway.api import Heard, Parts, build_app
from ray_mesh.gateway.changes import Changes
from ray_mesh.gateway.collectors import Collectors
from ray_mesh.gateway.convergence import Convergence
from ray_mesh.gateway.desired import DesiredState
from ray_mesh.gateway.listening import ApiAddress, listen
from ray_mesh.gateway.sidecars import SidecarDesk
from ray_mesh.gateway.view import MeshView
from ray_mesh.gateway.workloads import Workloads
from ray_mesh.security.join import is_of_node
from ray_mesh.security.signing import SigningKey, VerifyKey

log = logging.getLogger(__name__)

EVENTS = 1000
MOST_OF_A_MESSAGE, MOST_OF_A_WORD = 4096, 512
"""Characters of an event that are kept: a proxy that was taken over could send a megabyte each time."""
FRESH_S = 30.0
"""A beacon whose time differs more than this from ours is refused (replay, or a skewed clock)."""
REFRESH_TIMEOUT_S = 5.0
SHUTDOWN_S = 2.0
SWEEP_S = 10.0
"""How often a gateway looks for what writers staged and left."""


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """``port`` 0 takes any free one. ``token_sha256`` is hex; ``compiled_public`` verifies beacons.
    An ``address`` that other machines reach needs ``tls``. ``no_sidecars`` says why there may be none."""

    instance: str
    port: int
    token_sha256: str
    compiled_public: bytes
    address: ApiAddress = field(default_factory=ApiAddress)
    tls: ssl.SSLContext | None = None
    no_sidecars: str = ""


class GatewayService:
    """Runs on the event loop that calls :meth:`start`. Several replicas may share one port."""

    def __init__(self, bus: Bus, config: GatewayConfig, signing: SigningKey) -> None:
        self._bus = bus
        self._config = config
        self._beacons = VerifyKey(config.compiled_public)
        self._store = Store(bus, subjects.DESIRED_BUCKET)
        self._follower = Follower(bus, subjects.DESIRED_BUCKET, self._heard_entry, on_reset=self._reset)
        self._runner: web.AppRunner | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self.port = config.port
        self.state = DesiredState(signing.verify_key)
        self.view = MeshView(time.monotonic())
        self.changes = Changes()
        self.events: deque[Heard] = deque(maxlen=EVENTS)
        self.admission = Admission(self.state, self._store, signing, self.refresh, self.grounds)
        self.workloads = Workloads(self.admission, self.state, self.view, self.changes, bus)
        self.sidecars = SidecarDesk(
            bus, self.workloads, self.state, self.view, self.refresh, refusal=config.no_sidecars
        )
        self.convergence = Convergence()
        self.collectors = Collectors(bus, self.view, self.convergence.durations.snapshot)
        self._measuring: asyncio.Task[None] | None = None
        self._measures = False

    async def start(self) -> None:
        """Listen to the mesh, load desired state, and serve.

        Raises:
            ConfigError: the port is taken, the token's hash is not one, or TLS is needed and missing.
            Unavailable: the broker or its buckets do not answer.
        """
        bus = self._bus
        self.view.restart(time.monotonic())
        bus.on_reconnect(lambda: self.view.restart(time.monotonic()))
        await bus.subscribe(subjects.every("lease"), self._heard_proxy)
        await bus.subscribe(subjects.every("ack"), self._heard_acknowledgement)
        await bus.subscribe(subjects.every("beacon"), self._heard_beacon)
        await bus.subscribe(f"{subjects.ROOT}.role.>", self._heard_role)
        await bus.subscribe(f"{subjects.ROOT}.event.>", self._heard_event)
        await self._follower.start()
        await self._follower.synced()
        self._measures = True
        self._measuring = asyncio.create_task(self._measure(), name="convergence")
        await self._serve()
        self._sweeping = asyncio.get_running_loop().create_task(self._sweep())

    async def stop(self) -> None:
        """Stop serving; requests under way get a moment to end."""
        if self._sweeping is not None:
            await end_tasks([self._sweeping])
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._measuring is not None:
            self._measuring.cancel()
        await self._follower.stop()

    async def refresh(self) -> None:
        """Wait until the copy of desired state is as new as the store: reads see what others wrote.

        Raises:
            Unavailable: the store does not answer, or the copy does not catch up.
        """
        try:
            head = await self._store.head()
        except NotFound as error:
            raise Unavailable(str(error)) from error
        if not await self.changes.wait_until(lambda: self.state.head >= head, REFRESH_TIMEOUT_S):
            raise Unavailable(
                f"desired state is at revision {self.state.head}, the store at {head}: try again"
            )

    def grounds(self) -> Grounds:
        """Where the mesh is now: its live proxies, this API, the broker."""
        proxies = self.view.proxies(time.monotonic())
        places = [(each.node, each.address, each.inbound_port) for each in proxies]
        return grounds_of(places, {self.port, *self._bus.address.ports()})

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                if taken := await self.admission.sets.sweep():
                    log.warning("%d documents of a set that nobody completed were taken back", taken)
            except MeshError as error:
                log.warning("what is left of a set is taken back later: %s", error)

    async def _serve(self) -> None:
        try:
            token_sha256 = bytes.fromhex(self._config.token_sha256)
        except ValueError as error:
            raise ConfigError("the hash of the API's token is not hexadecimal") from error
        address, tls = self._config.address, self._config.tls
        if not address.is_local and tls is None:
            raise ConfigError(f"the API serves {address.host} over TLS only, and has no certificate")
        parts = Parts(
            bus=self._bus,
            store=self._store,
            state=self.state,
            view=self.view,
            changes=self.changes,
            admission=self.admission,
            workloads=self.workloads,
            sidecars=self.sidecars,
            collectors=self.collectors,
            events=self.events,
        )
        app = build_app(parts, token_sha256, lambda: self.port, address.called())
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S, handler_cancellation=True)
        await runner.setup()
        self._runner = runner
        listener = listen(address.host, self._config.port)
        self.port = listener.getsockname()[1]
        await web.SockSite(runner, listener, ssl_context=tls).start()

    def _heard_proxy(self, message: Message) -> None:
        lease = decode(ProxyLease, message.data)
        _check_sender(message, lease.proxy)
        if not is_of_node(lease.proxy, lease.node):
            raise PeerError(f"{lease.proxy} claims to be on node {lease.node}: ignored")
        self.view.observe_proxy(lease, time.monotonic())
        self.changes.notify()

    def _heard_acknowledgement(self, message: Message) -> None:
        told = decode(Acknowledgement, message.data)
        _check_sender(message, told.proxy)
        self.view.observe_acknowledgement(told, time.monotonic())
        self.changes.notify()

    async def _measure(self) -> None:
        """Look after each change how far those before it have come."""
        while True:
            await self.changes.next()
            now = time.monotonic()
            self.convergence.settle(partial(self.view.is_applied, now=now), time.time())

    def _heard_beacon(self, message: Message) -> None:
        self._beacons.verify("beacon", message.data, message.headers.get(SIGNATURE_HEADER, ""))
        beacon = decode(Beacon, message.data)
        _check_sender(message, beacon.shard)
        if abs(time.time() - beacon.at) > FRESH_S:
            raise PeerError(f"the beacon of {beacon.shard} is not of now: replayed, or a clock is wrong")
        self.view.observe_beacon(beacon, time.monotonic())
        self.changes.notify()

    def _heard_role(self, message: Message) -> None:
        lease = decode(RoleLease, message.data)
        _check_sender(message, lease.instance)
        if message.subject != subjects.role(lease.role, lease.instance):
            raise PeerError(f"{message.subject} claims the role {lease.role}")
        self.view.observe_role(lease, time.monotonic())
        self.changes.notify()

    def _heard_event(self, message: Message) -> None:
        event = decode(Event, message.data)
        source = ".".join(message.subject.split(".")[-2:])
        self.events.append(
            Heard(
                at=event.at,
                severity=event.severity,
                reason=event.reason[:MOST_OF_A_WORD],
                message=event.message[:MOST_OF_A_MESSAGE],
                source=source,
                subject=event.subject[:MOST_OF_A_WORD],
            )
        )

    def _heard_entry(self, entry: Entry) -> None:
        if self._measures:
            self.convergence.admit(entry.revision, entry.at)
        try:
            self.state.put(entry)
        finally:
            self.changes.notify()

    def _reset(self) -> None:
        self.state.reset()
        self.convergence.reset()
        self.changes.notify()


def _check_sender(message: Message, name: str) -> None:
    if subjects.last_token(message.subject) != name:
        raise PeerError(f"{message.subject} claims to be {name}: ignored")
