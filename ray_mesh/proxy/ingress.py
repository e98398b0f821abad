"""Traffic from outside the mesh: HTTP on a gateway workload's listeners, one per Gateway port.

Nothing that the outside says about itself is believed: ``x-forwarded-*`` and ``x-request-id`` are
replaced. With trusted proxies in front of the gateway (MeshConfig ``numTrustedProxies``) their
``x-forwarded-for`` and ``-proto`` are. ``traceparent`` is kept, so that a client can follow its request.
Replies of the mesh name nothing of the inside unless MeshConfig says so; the access record has the whole
sentence. The policies and rate limits of the gateway workload hold here too; the outside is a caller without
identity.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from ray_mesh.proxy import replies
from ray_mesh.proxy.caller import Caller, Effects
from ray_mesh.proxy.forwarded import client_behind
from ray_mesh.proxy.guard import Guard
from ray_mesh.proxy.head import RequestHead, read_request
from ray_mesh.proxy.hosts import split_authority
from ray_mesh.proxy.inbound import Peer
from ray_mesh.proxy.match import Scope
from ray_mesh.proxy.overload import Level
from ray_mesh.proxy.pipeline import Request
from ray_mesh.proxy.replies import Reply
from ray_mesh.proxy.routes import RouteTable
from ray_mesh.proxy.source import Source
from ray_mesh.proxy.trace import new_request_id
from ray_mesh.proxy.virtual_hosts import VirtualHosts
from ray_mesh.snapshot import VirtualHost

if TYPE_CHECKING:
    from ray_mesh.proxy.doors import SecureEntry

_DROPPED = frozenset({b"x-forwarded-"})
_MAX_VIEWS = 1024


class Ingress(Caller):
    """The entry of one gateway listener. Without configuration every request is answered 404.

    ``owner`` names the TLS server of a host where several share a port.
    """

    recent = None
    is_edge = True

    def __init__(
        self,
        source: Source,
        effects: Effects,
        port: int,
        guard: Guard,
        is_secure: bool = False,
        owner: Callable[[str], SecureEntry | None] | None = None,
    ) -> None:
        super().__init__(source, effects)
        self.port = port
        self._guard = guard
        self._owner = owner
        self._hosts = VirtualHosts()
        self._proto = b"https" if is_secure else b"http"
        self._tables: dict[tuple[str, ...], RouteTable] = {}
        self._views: dict[bytes, RouteTable] = {}

    @property
    def is_brief(self) -> bool:
        """Whether clients get no explanations (MeshConfig ``explain.gateways``)."""
        return not self.effects.explaining.gateways

    def set_hosts(self, hosts: tuple[VirtualHost, ...]) -> None:
        """Take a new version of the listener's virtual hosts."""
        self._hosts = VirtualHosts(hosts)
        self.forget_views()

    def forget_views(self) -> None:
        """Understand hosts anew from the next request on."""
        self._tables = {}
        self._views = {}

    def read_head(self, block: bytes) -> RequestHead:
        """See :class:`.http1_server.ServerEntry`."""
        head = read_request(block, _DROPPED)
        head.is_from_outside = True
        return head

    def tunnel(
        self, transport: asyncio.Transport, target: bytes, head: RequestHead, rest: bytes
    ) -> Reply | None:
        """See :class:`.http1_server.ServerEntry`."""
        return replies.NO_TUNNELS

    def begin(self, request: Request) -> None:
        """See :class:`.sides.Entry`."""
        if self.effects.overload.level >= Level.NO_INGRESS:
            request.refuse(replies.OVERLOADED)
            return
        peer = request.peer
        if isinstance(peer, Peer) and not peer.is_current(request.started_at):
            request.refuse(replies.EXPIRED)
            return
        request.request_id = new_request_id()
        request.scheme = self._proto
        trusted = self.effects.topology.trusted_proxies
        if trusted:
            _believe(request, trusted)
        else:
            request.extra = b"x-forwarded-for: %b\r\nx-forwarded-proto: %b\r\n" % (
                request.client,
                self._proto,
            )
        guard = self._guard
        if guard.is_open:
            self._enter(request)
        else:
            principal, namespace = (peer.principal, peer.namespace) if isinstance(peer, Peer) else ("", "")
            guard.check(request, principal, namespace, self.port, self._enter)

    def _enter(self, request: Request) -> None:
        table = self._views.get(request.host) or self._look_up(request)
        if table is not None:
            self.route(request, table)

    def _look_up(self, request: Request) -> RouteTable | None:
        authority = split_authority(request.host)
        if authority is None:
            request.refuse(replies.bad_request(400, "the Host field is not a host and port"))
            return None
        host = self._hosts.find(authority[0])
        if self._is_misdirected(authority[0], host is not None):
            request.refuse(replies.misdirected(authority[0]))
            return None
        if host is None:
            request.refuse(replies.no_virtual_host(authority[0], self.port))
            return None
        if host.to_https:
            target = (request.path + request.query).decode("latin-1")
            request.refuse(replies.to_https(authority[0], target))
            return None
        table = self._tables.get(host.hosts)
        if table is None:
            workload = self.source.workload
            scope = Scope(workload.namespace, frozenset(workload.labels), self.port, is_gateway=True)
            table = self._tables[host.hosts] = RouteTable(host.routes, scope, self._announced)
        if len(self._views) >= _MAX_VIEWS:
            self._views = {}
        self._views[request.host] = table
        return table

    def _is_misdirected(self, name: str, is_served: bool) -> bool:
        """Whether a host is of another TLS server of the port. Browsers ask for all hosts of a certificate on
        one connection of HTTP/2, and connect anew when they are told."""
        if self._owner is None:
            return False
        entry = self._owner(name)
        return is_served if entry is None else entry.ingress is not self

    @property
    def _announced(self) -> bytes:
        """Who calls, for the next proxy, whose replies pass through here."""
        return self.source.announced + (b"\r\nx-mesh-explain: no" if self.is_brief else b"")


def _believe(request: Request, trusted: int) -> None:
    """Take from ``x-forwarded-*`` what trusted proxies in front of the gateway say."""
    head = request.head
    peer = request.client
    said = head.forwarded_for
    request.client = client_behind(said, peer, trusted)
    if head.named(b"x-forwarded-proto") == b"https":
        request.scheme = b"https"
    request.extra = b"x-forwarded-for: %b\r\nx-forwarded-proto: %b\r\n" % (
        said + b", " + peer if said else peer,
        request.scheme,
    )
