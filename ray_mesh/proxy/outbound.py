"""Calls that a workload makes: its loopback listener, which only it can use (the token), to any host of
the mesh or of a ServiceEntry, and to others only where outboundTrafficPolicy says so."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
from typing import Any

from ray_mesh.proxy import replies
from ray_mesh.proxy.caller import Caller, Effects
from ray_mesh.proxy.head import RequestHead, read_request
from ray_mesh.proxy.hosts import bare, meanings, split_authority
from ray_mesh.proxy.http1_server import Recent
from ray_mesh.proxy.match import Scope
from ray_mesh.proxy.overload import Level
from ray_mesh.proxy.passing import BLACKHOLE, PASSTHROUGH, why_not_passed
from ray_mesh.proxy.pipeline import Request
from ray_mesh.proxy.registry import Outcome
from ray_mesh.proxy.replies import Reply
from ray_mesh.proxy.routes import RouteTable
from ray_mesh.proxy.source import Source
from ray_mesh.proxy.tcp_caller import TcpCaller
from ray_mesh.proxy.tcp_tunnel import Tunnels
from ray_mesh.proxy.trace import new_request_id
from ray_mesh.proxy.view import seen_by, why_unknown
from ray_mesh.snapshot import Service, Workload

_DROPPED = frozenset({b"x-forwarded-client-cert"})
_MAX_VIEWS = 1024


class Outbound(Caller):
    """The entry of one workload's outbound listener."""

    is_brief = False
    is_edge = False

    def __init__(self, source: Source, effects: Effects) -> None:
        super().__init__(source, effects)
        self.recent = Recent()
        self._token = source.workload.token_sha256
        self._accepted = b""
        self._views: dict[bytes, RouteTable] = {}
        self._passed: dict[bytes, RouteTable] = {}
        self._tunnels = Tunnels(self, TcpCaller(source, effects))

    def tunnel(
        self, transport: asyncio.Transport, target: bytes, head: RequestHead, rest: bytes
    ) -> Reply | None:
        """See :class:`.http1_server.ServerEntry`."""
        if self.effects.overload.level >= Level.NO_OUTBOUND:
            return replies.OVERLOADED
        if not self._accepts(head.credential):
            return replies.TOKEN_REQUIRED
        self._tunnels.open(transport, target, rest, Inside(self, self._token))
        return None

    @property
    def token(self) -> bytes:
        """The hash of the token that is asked for."""
        return self._token

    def set_workload(self, workload: Workload) -> None:
        """Take a new version: token and labels hold from the next request on."""
        self._token = workload.token_sha256
        self._accepted = b""
        self.forget_views()

    def read_head(self, block: bytes) -> RequestHead:
        """See :class:`.http1_server.ServerEntry`."""
        return read_request(block, _DROPPED)

    def forget_views(self) -> None:
        """A service changed: understand hosts anew from the next request on."""
        self._views = {}
        self._passed = {}

    def begin(self, request: Request) -> None:
        """See :class:`.sides.Entry`."""
        if self.effects.overload.level >= Level.NO_OUTBOUND:
            request.refuse(replies.OVERLOADED)
            return
        head = request.head
        if head.admitted_by is not self._token:
            if not self._accepts(head.credential):
                request.refuse(replies.TOKEN_REQUIRED)
                return
            head.admitted_by = self._token
        if not request.request_id:
            request.request_id = new_request_id()
        if not head.has_proto:
            request.extra = b"x-forwarded-proto: http\r\n"
        table = self._views.get(request.host)
        if table is not None:
            self.route(request, table)
        else:
            self._look_up(request)

    def _accepts(self, credential: bytes) -> bool:
        """Whether the token is right; the credential accepted last is known without hashing."""
        if self._accepted and hmac.compare_digest(credential, self._accepted):
            return True
        if not accepts(credential, self._token):
            return False
        self._accepted = credential
        return True

    def _look_up(self, request: Request, outcome: Outcome = "ready", absent: tuple[str, ...] = ()) -> None:
        """Find what a host means to this workload, and remember it. ``absent`` was asked for and is not."""
        if request.done:
            return
        table = self._table(request, outcome, absent)
        if isinstance(table, Reply):
            request.refuse(table)
        elif table is not None and table is self._passed.get(request.host):
            self.route(request, table)  # not remembered, as the host may come to be known
        elif table is not None:
            if len(self._views) >= _MAX_VIEWS:
                self._views = {}
            self._views[request.host] = table
            self.route(request, table)

    def _table(
        self, request: Request, outcome: Outcome, absent: tuple[str, ...]
    ) -> RouteTable | Reply | None:
        """The routes of the request's host, why it is refused, or None when it has to wait."""
        authority = split_authority(request.host)
        if authority is None:
            return replies.bad_request(400, "the Host field is not a host and port")
        client = self.source.client
        registry, boundary = self.effects.registry, self.effects.boundary
        passes = client.policy(boundary.policy) == "ALLOW_ANY"
        hidden = ""
        for host in (*meanings(authority[0], client.namespace), *boundary.beyond(authority[0])):
            if host in absent or registry.is_unknown(host):
                continue
            destination = registry.find(host)
            if destination is None or destination.service is None:
                if passes and registry.was_unknown(host):
                    registry.ask_again(host)
                    continue
                if outcome == "late":
                    return replies.unknown_yet(host)
                self._wait(request, host, absent)
                return None
            reason = why_unknown(destination.service, client, authority[0])
            if not reason:
                return self._known(request, destination.service, authority)
            hidden = hidden or reason
        return self._unknown(request, authority, hidden, passes)

    def _known(self, request: Request, service: Service, authority: tuple[str, int]) -> RouteTable | Reply:
        client = self.source.client
        host = bare(authority[0])
        if service.is_dynamic and (refusal := why_not_passed(host)):
            request.service = BLACKHOLE
            return replies.not_passed(host, refusal)
        seen = seen_by(service, client)
        port = asked_port(seen, authority[1], is_explicit=b":" in request.host)
        if isinstance(port, Reply):
            return port
        scope = Scope(client.namespace, client.labels, port)
        return RouteTable(seen.routes, scope, self.source.announced, (seen.host, host))

    def _unknown(
        self, request: Request, authority: tuple[str, int], hidden: str, passes: bool
    ) -> RouteTable | Reply:
        """A host that this workload does not know: it is called as it is, or not at all."""
        host = bare(authority[0])
        refusal = why_not_passed(host) if passes else ""
        if refusal or not passes:
            request.service = BLACKHOLE
            return replies.not_passed(host, refusal) if refusal else replies.not_in_mesh(host, hidden)
        table = self._passed.get(request.host)
        if table is None:
            client = self.source.client
            scope = Scope(client.namespace, client.labels, authority[1])
            routes = self.effects.registry.passthrough.routes
            table = RouteTable(routes, scope, self.source.announced, (PASSTHROUGH, host))
            if len(self._passed) >= _MAX_VIEWS:
                self._passed = {}
            self._passed[request.host] = table
        return table

    def _wait(self, request: Request, host: str, absent: tuple[str, ...]) -> None:
        def resume(outcome: Outcome) -> None:
            self._look_up(request, outcome, (*absent, host) if outcome == "unknown" else absent)

        self.effects.registry.wait(host, resume)


class Inside:
    """The entry of requests inside a tunnel, for which the token was shown when it was opened.

    Their heads are their tunnel's alone: who sends the same outside of it has not shown the token.
    """

    recent = None

    def __init__(self, outbound: Outbound, token: bytes) -> None:
        self._outbound = outbound
        self._token = token

    def __eq__(self, other: object) -> bool:
        """Its connections are those of the outbound entry: they end with it."""
        return other is self._outbound or other is self

    def __hash__(self) -> int:
        return hash(self._outbound)

    def __getattr__(self, name: str) -> Any:
        """In everything else it is the outbound entry."""
        return getattr(self._outbound, name)

    def begin(self, request: Request) -> None:
        """See :class:`.sides.Entry`. A token that changed meanwhile holds no more."""
        token = self._outbound.token
        if hmac.compare_digest(token, self._token):
            request.head.admitted_by = token
        self._outbound.begin(request)

    def tunnel(
        self, transport: asyncio.Transport, target: bytes, head: RequestHead, rest: bytes
    ) -> Reply | None:
        """See :class:`.http1_server.ServerEntry`. One tunnel is enough."""
        return replies.NO_TUNNELS


def asked_port(service: Service, port: int, is_explicit: bool) -> int | Reply:
    """The service's port that a caller means. Without a port it means 80, or the only one there is."""
    numbers = [each.number for each in service.ports]
    if not is_explicit and len(numbers) == 1:
        port = numbers[0]
    found = next((each for each in service.ports if each.number == port), None)
    if found is None and numbers:
        return replies.no_port(service.host, port, numbers)
    if found is not None and found.protocol in ("tcp", "tls"):
        return replies.not_http(service.host, port, found.protocol)
    return port


def accepts(credential: bytes, token_sha256: bytes) -> bool:
    """Whether a Proxy-Authorization value carries the token of that hash. The user name is for people."""
    scheme, _, encoded = credential.partition(b" ")
    if scheme.lower() != b"basic":
        return False
    try:
        _, _, token = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except binascii.Error:
        return False
    return hmac.compare_digest(hashlib.sha256(token).digest(), token_sha256)
