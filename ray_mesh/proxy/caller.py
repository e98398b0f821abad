"""What outbound and ingress listeners have in common once a route table is found."""

from __future__ import annotations

import functools
import random
import time
from dataclasses import dataclass

from ray_mesh.proxy import replies
from ray_mesh.proxy.change import chain
from ray_mesh.proxy.cluster import Cluster, Member
from ray_mesh.proxy.connections import Connections
from ray_mesh.proxy.connector import Dialer
from ray_mesh.proxy.fault import draw
from ray_mesh.proxy.journal import Journal
from ray_mesh.proxy.mirror import Mirrors
from ray_mesh.proxy.overload import Level, Overload
from ray_mesh.proxy.passing import Boundary
from ray_mesh.proxy.pipeline import Request, goes_by_http2
from ray_mesh.proxy.pool import Pool
from ray_mesh.proxy.registry import Outcome, Registry
from ray_mesh.proxy.replies import Reply
from ray_mesh.proxy.retrying import Retrying
from ray_mesh.proxy.routes import RouteEntry, RouteTable, Target
from ray_mesh.proxy.source import Source
from ray_mesh.proxy.tcp_dialer import TcpDialer
from ray_mesh.proxy.timers import Alarm, Wheel
from ray_mesh.proxy.trace import child_of
from ray_mesh.proxy.view import why_unexported


@dataclass(slots=True)
class Explaining:
    """Who is told why the mesh refused a request: callers inside always, the outside of gateways if set."""

    gateways: bool = False


@dataclass(slots=True)
class Topology:
    """What is in front of the gateways: how many proxies whose ``x-forwarded-for`` is believed, and
    whether connections begin with a PROXY protocol header."""

    trusted_proxies: int = 0
    proxy_protocol: bool = False


@dataclass(frozen=True, slots=True)
class Effects:
    """What a request may cause in the world, shared by the entries of a plane. ``pauses`` is finer than
    ``wheel``."""

    wheel: Wheel
    pauses: Wheel
    dialer: Dialer
    registry: Registry
    journal: Journal
    explaining: Explaining
    topology: Topology
    boundary: Boundary
    overload: Overload
    tcp: TcpDialer
    connections: Connections


class Caller:
    """An entry whose requests go to services of the mesh, as ``source``."""

    def __init__(self, source: Source, effects: Effects) -> None:
        self.source = source
        self.effects = effects
        self.pool = source.pool
        self.record = source.record
        self._mirrors = Mirrors(self, effects.wheel, lambda copy, shadow: self._go(copy, shadow.target))

    def dial(self, request: Request, pool: Pool, member: Member) -> None:
        """See :class:`.sides.Entry`."""
        self.effects.dialer.dial(request, pool, member, self.source.identity)

    def eject(self, cluster: Cluster, member: Member) -> None:
        """See :class:`.sides.Entry`."""
        back_at = cluster.connect_failed(member, time.monotonic())
        if back_at is not None:
            self.effects.wheel.add(back_at, cluster.destination)

    def judge(self, cluster: Cluster, member: Member, status: int, has_answered: bool) -> None:
        """See :class:`.sides.Entry`."""
        judge = cluster.answered if has_answered else cluster.failed
        back_at = judge(member, status, time.monotonic())
        if back_at is not None:
            self.effects.wheel.add(back_at, cluster.destination)

    def record_flaw(self, request: Request) -> None:
        """See :class:`.http1_server.ServerEntry`."""
        if self.effects.journal.flaws.admits(request.started_at):
            self.record(request)

    def route(self, request: Request, table: RouteTable) -> None:
        """Send a request where the table says, with its faults and its timeout."""
        route = table.choose(request)
        if route is None:
            host = request.host.decode("latin-1")
            request.refuse(replies.no_route(host, request.path.decode("latin-1")))
            return
        request.route = route
        if route.is_plain:
            self._follow(request, route)
            return
        request.edit = route.edit
        # Envoy's order: fault, CORS, and what the route says.
        if route.fault is None or not self._is_hit(request, route):
            self._answer(request, route)

    def _is_hit(self, request: Request, route: RouteEntry) -> bool:
        """Draw the route's faults; True when one of them has taken the request over."""
        assert route.fault is not None
        delay_s, abort = draw(route.fault, random.random)
        if not delay_s and abort is None:
            return False
        if route.targets:
            request.service = route.targets[0].host
        if delay_s:
            request.flags = "DI"
            after = functools.partial(self._after_delay, request, route, abort)
            request.deadline = Alarm(self.effects.pauses, delay_s, after)
        elif abort is not None:
            request.refuse(abort)
        return True

    def _after_delay(self, request: Request, route: RouteEntry, abort: Reply | None) -> None:
        request.deadline = None
        if abort is not None:
            request.refuse(abort)
        else:
            self._answer(request, route)

    def _answer(self, request: Request, route: RouteEntry) -> None:
        """Answer here where the route says so, else follow it."""
        met = route.cors.meet(request) if route.cors is not None else None
        if isinstance(met, Reply):
            request.edit = None
            request.refuse(met)
            return
        request.edit = chain(request.edit, met)
        if route.answer is not None:
            request.refuse(route.answer(request))
        else:
            self._follow(request, route)

    def _follow(self, request: Request, route: RouteEntry) -> None:
        target = route.draw()
        if target is None:
            request.refuse(replies.no_route(request.host.decode("latin-1"), "(no destination)"))
            return
        if target.status:
            request.refuse(replies.invalid_backend(target.host, target.status))
            return
        # Envoy starts a route's timeout after its faults.
        if request.is_call:
            request.limit_call(self.effects.wheel, route.timeout_s)
        elif route.timeout_s:
            request.limit(self.effects.wheel, route.timeout_s)
        if route.retries is not None and self.effects.overload.level < Level.NO_EXTRAS:
            request.retrying = Retrying(request, route.retries, self.effects.wheel, self.effects.pauses)
        request.service = target.host
        self._go(request, target)

    def _go(self, request: Request, target: Target) -> None:
        cluster = target.cluster
        if cluster is not None and cluster.is_current:
            self._send(request, target, cluster)
        elif self.effects.registry.find(target.host) is not None:
            self._resolve(request, target, "ready")
        else:
            self.effects.registry.wait(target.host, lambda outcome: self._resolve(request, target, outcome))

    def _resolve(self, request: Request, target: Target, outcome: Outcome) -> None:
        """Find the cluster of a target that is used for the first time."""
        if request.done:
            return
        destination = self.effects.registry.find(target.host)
        if destination is None or destination.service is None:
            unknown = outcome == "unknown"
            request.refuse(
                replies.no_destination(target.host) if unknown else replies.unknown_yet(target.host)
            )
            return
        source = self.source
        if reason := why_unexported(destination.service, source.client):
            request.refuse(replies.no_destination(target.host, reason))
            return
        cluster = destination.cluster(
            target.subset, time.monotonic(), target.port, source.place, source.client, target.requested
        )
        if cluster is None:
            request.refuse(replies.no_subset(target.host, target.subset))
            return
        target.cluster = cluster
        self._send(request, target, cluster)

    def _send(self, request: Request, target: Target, cluster: Cluster) -> None:
        if target.change is not None:
            try:
                target.change.apply(request)
            except ValueError as error:
                request.refuse(replies.bad_rewrite(str(error)))
                return
        copies = None
        if target.shadows and self.effects.overload.level < Level.NO_EXTRAS:
            copies = self._mirrors.copies(request, target.shadows)
        request.traceparent = child_of(request.parent)
        request.announced = target.announcement
        if cluster.cold and self.effects.overload.level < Level.NO_EXTRAS:
            self._warm(cluster, goes_by_http2(request, cluster))
        request.forward(cluster)
        if copies is not None and request.body_done:
            copies.send()

    def _warm(self, cluster: Cluster, is_http2: bool) -> None:
        """Connect to members that have just come to a cluster in use, so that no request waits for that."""
        members, cluster.cold = cluster.cold, ()
        for member in members:
            pool = self.pool(member, cluster.breaker, is_http2)
            self.effects.dialer.warm(pool, member, self.source.identity)
