"""A workload as the source of calls: its identity, its connections, its telemetry."""

from __future__ import annotations

from ray_mesh.proxy.breaker import Breaker
from ray_mesh.proxy.cluster import Member
from ray_mesh.proxy.journal import Journal, security_of
from ray_mesh.proxy.limited import LimitedPool
from ray_mesh.proxy.pipeline import Request
from ray_mesh.proxy.places import Place
from ray_mesh.proxy.pool import APP_FRESH_S, IDLE_S, Pool
from ray_mesh.proxy.tcp_connection import TcpConnection
from ray_mesh.proxy.tls import Identity
from ray_mesh.proxy.view import client_of
from ray_mesh.snapshot import Workload, locality_of
from ray_mesh.telemetry.series import Edge
from ray_mesh.telemetry.table import Recorder

_MAX_RECORDERS = 20_000


class Source:
    """Shared by the outbound listener and the gateway listeners of one workload."""

    def __init__(self, workload: Workload, journal: Journal) -> None:
        self.identity: Identity | None = None
        self.pools: dict[Member, Pool] = {}
        self._shared: dict[Member, Pool] = {}  # of HTTP/2
        self._limited: dict[tuple[Member, Breaker, bool], LimitedPool] = {}
        self._journal = journal
        self._recorders: dict[tuple[object, Member | None, int, str, str], Recorder] = {}
        self.set_workload(workload)

    def set_workload(self, workload: Workload) -> None:
        """Take a new version of the workload."""
        labels = dict(workload.labels)
        self.workload = workload
        self.place = Place(locality_of(labels), workload.labels)
        self.client = client_of(workload)
        self.name = f"{workload.namespace}/{workload.name}"
        self.app = labels.get("app", "")
        self.version = labels.get("version", "")
        self.announced = f"{self.name};{self.app};{self.version}".encode()
        self._recorders.clear()

    def pool(self, member: Member, breaker: Breaker | None = None, is_http2: bool = False) -> Pool:
        """The connections to one member; those that a breaker counts are its own."""
        if breaker is not None:
            return self._limited_pool(member, breaker, is_http2)
        pools = self._shared if is_http2 else self.pools
        pool = pools.get(member)
        if pool is None:
            pool = pools[member] = Pool(_fresh_s(member), is_http2)
            if member.is_gone:
                pool.shut()
        return pool

    def _limited_pool(self, member: Member, breaker: Breaker, is_http2: bool) -> LimitedPool:
        pool = self._limited.get((member, breaker, is_http2))
        if pool is None:
            pool = LimitedPool(breaker, member, _fresh_s(member), is_http2)
            self._limited[member, breaker, is_http2] = pool
            if member.is_gone:
                pool.shut()
        return pool

    def set_identity(self, identity: Identity | None) -> None:
        """Call with a new certificate from now on; old connections end after their request."""
        self.identity = identity
        self.retire()

    def retire(self) -> None:
        """Give up every connection after its current request."""
        for pool in self._all():
            pool.retire()

    def _all(self) -> tuple[Pool, ...]:
        return (*self.pools.values(), *self._shared.values(), *self._limited.values())

    def forget(self, members: tuple[Member, ...]) -> None:
        """Members are gone: close what is idle, let the rest finish."""
        for member in members:
            for pools in (self.pools, self._shared):
                pool = pools.pop(member, None)
                if pool is not None:
                    pool.shut()
        for key in [key for key in self._limited if key[0] in members]:
            self._limited.pop(key).shut()
        if members:
            self._recorders.clear()

    def forget_routes(self) -> None:
        """The caller's routes are made anew: what was remembered by route is of no use any more."""
        self._recorders.clear()

    def close_stale(self, now: float) -> None:
        """Close connections that nobody should use any more."""
        for pool in self._all():
            pool.close_stale(now)
        # A retry may ask for the pool of a member just after the member went.
        members = {*self.pools, *self._shared, *(key[0] for key in self._limited)}
        self.forget(tuple(member for member in members if member.is_gone))

    def record(self, request: Request) -> None:
        """Count a finished request (reporter ``source``)."""
        key = (request.route, request.member, request.status, request.flags, request.grpc_status)
        recorder = self._recorders.get(key)
        if recorder is None:
            recorder = self._recorder(request)
            if len(self._recorders) >= _MAX_RECORDERS:
                self._recorders.clear()
            self._recorders[key] = recorder
        recorder.record(request.duration_s, request.request_bytes, request.response_bytes)
        self._journal.keep((request, recorder.edge))

    def tcp_recorder(self, connection: TcpConnection) -> Recorder:
        """The totals of a TCP connection with the flags that it has now."""
        return self._journal.series.series(self._edge(connection, connection.route, "tcp", ""))

    def record_tcp(self, connection: TcpConnection) -> None:
        """Count a TCP connection that is over; its bytes were counted as they moved."""
        recorder = self.tcp_recorder(connection)
        recorder.record(connection.duration_s, 0, 0)
        self._journal.keep((connection, recorder.edge))

    def _recorder(self, request: Request) -> Recorder:
        status = request.grpc_status
        route = getattr(request.route, "name", "")
        return self._journal.series.series(self._edge(request, route, "grpc" if status else "http", status))

    def _edge(self, request: Request | TcpConnection, route: str, protocol: str, grpc_status: str) -> Edge:
        member = request.member
        return Edge(
            reporter="source",
            source_workload=self.name,
            source_app=self.app,
            source_version=self.version,
            source_principal=self.workload.identity.removeprefix("spiffe://"),
            destination_service=request.service,
            destination_workload=member.workload if member is not None else "",
            destination_app=member.app if member is not None else "",
            destination_version=member.version if member is not None else "",
            destination_principal=member.principal if member is not None else "",
            route=route,
            protocol=protocol,
            code=request.status,
            flags=request.flags,
            security=security_of(request),
            grpc_status=grpc_status,
        )


def _fresh_s(member: Member) -> float:
    """How long a connection may have been idle to carry a request that cannot be sent again."""
    return IDLE_S if member.endpoint.transport == "mutual_tls" else APP_FRESH_S
