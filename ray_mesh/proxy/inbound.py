"""Calls to a workload: from verified peers only, past its policies and rate limits, to its application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ray_mesh.errors import PeerError
from ray_mesh.proxy import replies
from ray_mesh.proxy.breaker import Breaker
from ray_mesh.proxy.caller import Effects
from ray_mesh.proxy.cluster import Cluster, Destination, Member
from ray_mesh.proxy.connector import Dialer
from ray_mesh.proxy.guard import Guard
from ray_mesh.proxy.head import BadHead, RequestHead, read_request
from ray_mesh.proxy.hosts import split_authority
from ray_mesh.proxy.overload import Level
from ray_mesh.proxy.pipeline import Request
from ray_mesh.proxy.pool import APP_FRESH_S, Pool
from ray_mesh.proxy.replies import Reply
from ray_mesh.proxy.tcp_connection import TcpConnection
from ray_mesh.proxy.tcp_wire import Hello
from ray_mesh.proxy.tls import Trust, chain_deadline
from ray_mesh.proxy.trace import child_of, new_request_id
from ray_mesh.quota import LeaseBucket
from ray_mesh.security.identity import SpiffeId
from ray_mesh.snapshot import Endpoint, RateLimit, Service, Workload
from ray_mesh.telemetry.series import Edge
from ray_mesh.telemetry.table import Recorder

_DROPPED = frozenset({b"x-forwarded-for", b"x-forwarded-client-cert"})
_MAX_RECORDERS = 20_000
_MAX_CLAIMS = 64

Claim = tuple[str, str, str]
"""Workload (``<namespace>/<name>``), app and version that a peer says it is."""
_UNCLAIMED: Claim = ("", "", "")


class Peer:
    """Who is on the other side of one inbound connection, as its certificate proves."""

    __slots__ = (
        "_chain",
        "_claims",
        "_trust",
        "address",
        "expires_at",
        "generation",
        "namespace",
        "principal",
    )

    def __init__(self, identity: SpiffeId, chain: tuple[bytes, ...], trust: Trust, address: bytes) -> None:
        self.principal = identity.principal
        self.namespace = identity.namespace
        self.address = address
        self.generation = trust.generation
        self.expires_at = chain_deadline(chain, margin=False)
        self._chain = chain
        self._trust = trust
        self._claims: dict[bytes, Claim] = {}

    def is_current(self, now: float) -> bool:
        """Whether its certificate is still good under the bundles in force now."""
        if self.generation != self._trust.generation:
            try:
                self._trust.verify(self._chain)
            except PeerError:
                return False
            self.generation = self._trust.generation
        return now < self.expires_at

    @property
    def deadline(self) -> float:
        """When (monotonic) to ask the peer to connect again."""
        return chain_deadline(self._chain)

    def is_vouched_for(self, at: float) -> bool:
        """Whether its certificate, accepted at a time (wall clock), would be so under the bundles of now."""
        return self._trust.vouches(self._chain, at)

    def claim(self, announced: bytes) -> Claim:
        """What the peer's proxy announces; believed only inside the namespace that it proved."""
        known = self._claims.get(announced)
        if known is None:
            if len(self._claims) >= _MAX_CLAIMS:
                self._claims.clear()
            known = self._claims[announced] = _read_claim(announced, self.namespace)
        return known


def _read_claim(announced: bytes, namespace: str) -> Claim:
    parts = announced.decode("latin-1").split(";")
    if len(parts) != 3 or not namespace or not parts[0].startswith(f"{namespace}/"):
        return _UNCLAIMED
    return parts[0], parts[1], parts[2]


class Inbound:
    """The entry of one workload on the node's mTLS port. Its requests carry their :class:`Peer`."""

    is_brief = False
    is_edge = False
    recent = None

    def __init__(
        self,
        workload: Workload,
        effects: Effects,
        dialer: Dialer,
        bucket: Callable[[RateLimit], LeaseBucket],
    ) -> None:
        self._effects = effects
        self._dialer = dialer
        self._recorders: dict[tuple[Claim, str, str, int, str, str], Recorder] = {}
        self._pool, self._shared = _app_pools()
        self._app_at = ("", 0, "")
        self.guard = Guard(workload, effects.wheel, bucket)
        self._take(workload)

    def set_workload(self, workload: Workload) -> None:
        """Take a new version: policies and limits hold from the next request on."""
        self.guard.set_workload(workload)
        self._take(workload)

    def _take(self, workload: Workload) -> None:
        self.workload = workload
        labels = dict(workload.labels)
        self._name = f"{workload.namespace}/{workload.name}"
        self._app, self._version = labels.get("app", ""), labels.get("version", "")
        self._services = frozenset(workload.services)
        self._only_service = workload.services[0] if len(workload.services) == 1 else ""
        self._recorders.clear()
        app = (workload.app_address, workload.app_port, workload.app_protocol)
        if app != self._app_at:
            self._app_at = app
            self._cluster = _app_cluster(workload)
            self._member = self._cluster.members[0]
            self._pool.shut()
            self._shared.shut()
            self._pool, self._shared = _app_pools()

    def retire(self) -> None:
        """Give up idle connections to the application."""
        self._pool.retire()
        self._shared.retire()

    def close_stale(self, now: float) -> None:
        """Close connections that nobody should use any more."""
        self._pool.close_stale(now)
        self._shared.close_stale(now)

    def read_head(self, block: bytes) -> RequestHead:
        """See :class:`.http1_server.ServerEntry`. Policies judge hosts, so there is one meaning of each."""
        head = read_request(block, _DROPPED)
        if split_authority(head.host) is None:
            raise BadHead("the Host field is not a host and port")
        return head

    def tunnel(
        self, transport: asyncio.Transport, target: bytes, head: RequestHead, rest: bytes
    ) -> Reply | None:
        """See :class:`.http1_server.ServerEntry`."""
        return replies.NO_TUNNELS

    def begin(self, request: Request) -> None:
        """See :class:`.sides.Entry`."""
        if self._effects.overload.level >= Level.NO_INBOUND:
            request.refuse(replies.OVERLOADED)
            return
        peer = request.peer
        head = request.head
        if not isinstance(peer, Peer) or not peer.is_current(request.started_at):
            request.refuse(replies.EXPIRED)
            return
        request.security = "mutual_tls"
        request.source = peer.claim(head.source)
        service = head.service.decode("latin-1")
        request.service = service if service in self._services else self._only_service
        guard = self.guard
        if guard.is_open:
            self._forward(request)
        else:
            guard.check(request, peer.principal, peer.namespace, self.workload.app_port, self._forward)

    def _forward(self, request: Request) -> None:
        head = request.head
        peer = request.peer
        assert isinstance(peer, Peer)
        request.traceparent = child_of(request.parent)
        if not request.request_id:
            request.request_id = new_request_id()
        forwarded_for = head.forwarded_for + b", " + peer.address if head.forwarded_for else peer.address
        proto = b"" if head.has_proto else b"x-forwarded-proto: https\r\n"
        request.extra = b"x-forwarded-for: %b\r\n%b" % (forwarded_for, proto)
        request.forward(self._cluster)

    def pool(self, member: Member, breaker: Breaker | None = None, is_http2: bool = False) -> Pool:
        """See :class:`.sides.Entry`. A request may still be on its way to where the application was."""
        if member is self._member:
            return self._shared if is_http2 else self._pool
        gone = Pool(is_http2=is_http2)
        gone.shut()
        return gone

    def dial(self, request: Request, pool: Pool, member: Member) -> None:
        """See :class:`.sides.Entry`."""
        self._dialer.dial(request, pool, member, None)

    def eject(self, cluster: Cluster, member: Member) -> None:
        """See :class:`.sides.Entry`. There is only one application; its callers eject us."""

    def judge(self, cluster: Cluster, member: Member, status: int, has_answered: bool) -> None:
        """See :class:`.sides.Entry`. The application is judged by its callers."""

    def record(self, request: Request) -> None:
        """Count a finished request (reporter ``destination``)."""
        claim = request.source if isinstance(request.source, tuple) else _UNCLAIMED
        principal = request.peer.principal if isinstance(request.peer, Peer) else ""
        status = request.grpc_status
        key = (claim, principal, request.service, request.status, request.flags, status)
        recorder = self._recorders.get(key)
        if recorder is None:
            if len(self._recorders) >= _MAX_RECORDERS:
                self._recorders.clear()
            edge = self._edge(*key[:5], "grpc" if status else "http", status)
            recorder = self._recorders[key] = self._effects.journal.series.series(edge)
        recorder.record(request.duration_s, request.request_bytes, request.response_bytes)
        self._effects.journal.keep((request, recorder.edge))

    def record_flaw(self, request: Request) -> None:
        """See :class:`.http1_server.ServerEntry`."""
        if self._effects.journal.flaws.admits(request.started_at):
            self.record(request)

    def tcp_recorder(self, connection: TcpConnection, peer: Peer, hello: Hello | None) -> Recorder:
        """The totals of a TCP connection with the flags that it has now."""
        claim = peer.claim(hello.source.encode()) if hello is not None else _UNCLAIMED
        edge = self._edge(claim, peer.principal, connection.service, 0, connection.flags, "tcp", "")
        return self._effects.journal.series.series(edge)

    def record_tcp(self, connection: TcpConnection, peer: Peer, hello: Hello | None) -> None:
        """Count a TCP connection that is over; its bytes were counted as they moved."""
        recorder = self.tcp_recorder(connection, peer, hello)
        recorder.record(connection.duration_s, 0, 0)
        self._effects.journal.keep((connection, recorder.edge))

    def _edge(
        self,
        claim: Claim,
        principal: str,
        service: str,
        code: int,
        flags: str,
        protocol: str,
        grpc_status: str,
    ) -> Edge:
        return Edge(
            reporter="destination",
            source_workload=claim[0],
            source_app=claim[1],
            source_version=claim[2],
            source_principal=principal,
            destination_service=service,
            destination_workload=self._name,
            destination_app=self._app,
            destination_version=self._version,
            destination_principal=self.workload.identity.removeprefix("spiffe://"),
            route="",
            protocol=protocol,
            code=code,
            flags=flags,
            security="mutual_tls",
            grpc_status=grpc_status,
        )


def _app_pools() -> tuple[Pool, Pool]:
    """The connections to an application, of HTTP/1.1 and of HTTP/2."""
    return Pool(APP_FRESH_S), Pool(APP_FRESH_S, is_http2=True)


def _app_cluster(workload: Workload) -> Cluster:
    """The application as a cluster of one, reached without TLS."""
    name = f"{workload.namespace}/{workload.name}"
    app = Endpoint(
        workload=name,
        address=workload.app_address,
        port=workload.app_port,
        sni="",
        identity="",
        labels=workload.labels,
        node=workload.node,
    )
    destination = Destination(name)
    destination.set_service(Service(name, workload.namespace, workload.name, (), (), ()), 0.0)
    destination.set_endpoints((app,), 0.0)
    cluster = destination.cluster("", 0.0)
    assert cluster is not None
    cluster.speaks = "" if workload.app_protocol == "client" else workload.app_protocol
    return cluster
