"""One health check: a request or a connection to one endpoint, made as one of the plane's workloads."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from ray_mesh.errors import PeerError
from ray_mesh.proxy.breaker import Breaker
from ray_mesh.proxy.cluster import Cluster, Destination, Member
from ray_mesh.proxy.connector import Dialer
from ray_mesh.proxy.head import read_request
from ray_mesh.proxy.mirror import Nowhere
from ray_mesh.proxy.pipeline import Request
from ray_mesh.proxy.pool import Pool
from ray_mesh.proxy.routes import announcement
from ray_mesh.proxy.source import Source
from ray_mesh.proxy.tcp_dialer import TcpDialer
from ray_mesh.proxy.tcp_wire import Hello
from ray_mesh.proxy.trace import child_of, new_request_id
from ray_mesh.snapshot import HealthCheck

_AGENT = b"ray-mesh-health-check"


class Prober:
    """Makes checks. ``choose_source`` names a workload with a certificate, None when there is none."""

    def __init__(self, dialer: Dialer, tcp: TcpDialer, choose_source: Callable[[], Source | None]) -> None:
        self._dialer = dialer
        self._tcp = tcp
        self._choose_source = choose_source

    async def probe(self, destination: Destination, member: Member, check: HealthCheck) -> bool:
        """Whether the endpoint is well. Raises OSError, or is cancelled, when it is not."""
        source = self._choose_source()
        if source is None:
            return True  # nobody could call it either, which is not its fault
        if check.path:
            return await _Ask(self._dialer, source, destination, member, check).answer()
        try:
            await self._connect(destination, member, source)
        except PeerError as error:
            raise OSError(str(error)) from error
        return True

    async def _connect(self, destination: Destination, member: Member, source: Source) -> None:
        service = destination.service
        ports = [port.number for port in service.ports if not port.is_http] if service else []
        if member.endpoint.transport == "plaintext":
            side = await self._tcp.outside(member.endpoint)
            side.reset()
        elif ports:
            hello = Hello(source.announced.decode(), destination.host, ports[0])
            side, _ = await self._tcp.mesh(member.endpoint, source.identity, hello)
            side.reset()
        else:
            connection = await self._dialer.connect(member, source.identity)
            connection.close()


class _Ask:
    """The entry of one request."""

    def __init__(
        self, dialer: Dialer, source: Source, destination: Destination, member: Member, check: HealthCheck
    ) -> None:
        self._dialer = dialer
        self._source = source
        speaks = destination.speaks_to(member)
        self._pool = Pool(is_http2=speaks == "http2")
        self._answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        path, mark, query = check.path.encode().partition(b"?")
        host = destination.host.encode()
        block = b"\r\nhost: %b\r\nuser-agent: %b\r\n" % (host, _AGENT)
        head = read_request(block, frozenset())
        stream = Nowhere(b"127.0.0.1", is_http2=False)
        self._request = Request(self, stream, b"GET", path, mark + query, head, b"", new_request_id())
        self._request.announced = announcement(source.announced, destination.host)
        self._request.traceparent = child_of(b"")
        self._cluster = Cluster(destination, "", 0, (), "RANDOM")
        self._cluster.speaks = speaks
        self._cluster.refill((member,), (), time.monotonic())

    async def answer(self) -> bool:
        """Whether it was answered as it should be."""
        try:
            self._request.forward(self._cluster)
            return await self._answered
        finally:
            self._request.cancel()
            self._pool.shut()

    def begin(self, request: Request) -> None:
        """See :class:`.sides.Entry`. It begins by itself."""

    def pool(self, member: Member, breaker: Breaker | None = None, is_http2: bool = False) -> Pool:
        """See :class:`.sides.Entry`. Every check has a connection of its own."""
        return self._pool

    def dial(self, request: Request, pool: Pool, member: Member) -> None:
        """See :class:`.sides.Entry`."""
        self._dialer.dial(request, pool, member, self._source.identity)

    def eject(self, cluster: Cluster, member: Member) -> None:
        """See :class:`.sides.Entry`. Checks count for themselves."""

    def judge(self, cluster: Cluster, member: Member, status: int, has_answered: bool) -> None:
        """See :class:`.sides.Entry`. Checks count for themselves."""

    def record(self, request: Request) -> None:
        """See :class:`.sides.Entry`: it is over."""
        with contextlib.suppress(asyncio.InvalidStateError):
            self._answered.set_result(200 <= request.status < 400)
