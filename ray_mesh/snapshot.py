"""Compiled configuration: what RoutingActors write and proxies apply.

Resources are client-agnostic: one is compiled once per change, whoever uses it. What depends on the
caller (source labels, source namespace, gateways) travels as predicates that each proxy evaluates.
Everything here is frozen and encodes to the same bytes for the same input; the version and the
signature travel beside the bytes (:mod:`ray_mesh.bus.messages`).

Keys are ``<kind>.<namespace>.<name>``. ``service``, ``endpoints`` and ``mesh`` are readable by every
proxy; ``node``, ``workload`` and ``gateway`` only by the proxies of one node.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ray_mesh import codec
from ray_mesh.errors import PeerError

Labels: TypeAlias = tuple[tuple[str, str], ...]
"""Label pairs sorted by name."""


@dataclass(frozen=True, slots=True)
class StringMatch:
    """Istio's StringMatch. ``present`` is an empty header match: any value will do. ``regex`` is of RE2 and
    matches the whole text."""

    kind: Literal["exact", "prefix", "present", "regex"]
    value: str = ""


@dataclass(frozen=True, slots=True)
class NamedMatch:
    """A match on one header (name in lower case) or one query parameter."""

    name: str
    match: StringMatch


@dataclass(frozen=True, slots=True)
class RequestMatch:
    """One HTTPMatchRequest: every field that is set must match. ``gateways`` empty means ``mesh``."""

    uri: StringMatch | None = None
    method: StringMatch | None = None
    authority: StringMatch | None = None
    headers: tuple[NamedMatch, ...] = ()
    without_headers: tuple[NamedMatch, ...] = ()
    query_params: tuple[NamedMatch, ...] = ()
    ignore_uri_case: bool = False
    port: int = 0
    source_labels: Labels = ()
    source_namespace: str = ""
    gateways: tuple[str, ...] = ()
    scheme: StringMatch | None = codec.later(None)


@dataclass(frozen=True, slots=True)
class HeaderChanges:
    """Names are in lower case. In this order: ``remove``, ``set`` (instead of what is there), ``add``."""

    remove: tuple[str, ...] = ()
    set: Labels = ()
    add: Labels = ()


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a share of a route goes. ``port`` 0 means the port that was asked for. Its header changes come
    before the route's; ``authority`` replaces Host (empty: the route's does, or nothing). With a ``status``
    it goes nowhere: the route may not send there, and this is what requests are answered."""

    host: str
    subset: str = ""
    port: int = 0
    weight: int = 100
    request_headers: HeaderChanges | None = codec.later(None)
    response_headers: HeaderChanges | None = codec.later(None)
    authority: str = codec.later("")
    status: int = codec.later(0)


@dataclass(frozen=True, slots=True)
class Fault:
    """Injected trouble. Percentages are 0 to 100; ``abort_status`` 0 means no abort, but for the status of
    gRPC in its place, which may be 0."""

    delay_s: float = 0.0
    delay_percent: float = 0.0
    abort_status: int = 0
    abort_percent: float = 0.0
    abort_grpc_status: int | None = codec.later(None)

    @property
    def aborts(self) -> bool:
        """Whether it ever ends a request."""
        return (self.abort_status != 0 or self.abort_grpc_status is not None) and self.abort_percent > 0


@dataclass(frozen=True, slots=True)
class Rewrite:
    """A new path. ``path`` comes instead of the first ``length`` bytes, -1 for all of them. With a
    ``pattern``, ``template`` comes instead of each of its matches."""

    path: str = ""
    length: int = -1
    pattern: str = ""
    template: str = ""


@dataclass(frozen=True, slots=True)
class Redirect:
    """An answer that points elsewhere; what is empty stays as it was asked. ``length`` is that of
    :class:`Rewrite`; a port of 0 is not said. ``drops_port``: the one that was asked for is not kept."""

    status: int = 301
    scheme: str = ""
    authority: str = ""
    port: int = 0
    keeps_port: bool = False
    path: str = ""
    length: int = -1
    drops_port: bool = codec.later(False)


@dataclass(frozen=True, slots=True)
class DirectResponse:
    """A fixed answer."""

    status: int
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Cors:
    """Cross-origin answers; texts as they stand in headers, empty ones are left out. ``repeats_asked``: for *
    among methods and headers the answer repeats what a preflight asks for."""

    origins: tuple[StringMatch, ...] = ()
    allow_methods: str = ""
    allow_headers: str = ""
    expose_headers: str = ""
    max_age: str = ""
    allows_credentials: bool = False
    forwards_unmatched: bool = True
    repeats_asked: bool = codec.later(False)


@dataclass(frozen=True, slots=True)
class Mirror:
    """A share of requests, in percent, is sent there too; the answers are thrown away."""

    destination: Destination
    percent: float = 100.0


@dataclass(frozen=True, slots=True)
class Retries:
    """When and how often a route's requests are sent again. ``on`` (Istio's words) and ``statuses`` empty:
    nothing was said. ``per_try_timeout_s`` 0 means none, ``backoff_s`` 0 the usual."""

    attempts: int
    on: tuple[str, ...] = ()
    statuses: tuple[int, ...] = ()
    per_try_timeout_s: float = 0.0
    backoff_s: float = 0.0
    ignore_previous_hosts: bool = True
    remote_localities: bool = codec.later(False)


@dataclass(frozen=True, slots=True)
class Route:
    """First route with a match (or without any) wins. ``timeout_s`` 0 means none.

    ``origin`` is the title of the document and the path that it came from. A redirect or
    a direct response is given instead of going to a destination. ``owner`` is the place of its document among
    the ``owners`` beside it.
    """

    name: str
    origin: str
    matches: tuple[RequestMatch, ...]
    destinations: tuple[Destination, ...]
    fault: Fault | None = None
    timeout_s: float = 0.0
    request_headers: HeaderChanges | None = codec.later(None)
    response_headers: HeaderChanges | None = codec.later(None)
    authority: str = codec.later("")
    rewrite: Rewrite | None = codec.later(None)
    redirect: Redirect | None = codec.later(None)
    direct_response: DirectResponse | None = codec.later(None)
    cors: Cors | None = codec.later(None)
    mirrors: tuple[Mirror, ...] = codec.later(())
    retries: Retries | None = codec.later(None)
    owner: int = codec.later(0)


@dataclass(frozen=True, slots=True)
class ConnectionMatch:
    """One L4 or TLS match: every field that is set must hold. ``gateways`` empty means ``mesh``.

    ``sni_hosts`` (exact or ``*.suffix``) are those of a TLS route; a TCP route has none.
    """

    sni_hosts: tuple[str, ...] = ()
    port: int = 0
    source_labels: Labels = ()
    source_namespace: str = ""
    gateways: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ConnectionRoute:
    """Where connections go; the first route with a match (or without any) wins. ``owner`` is that of
    :class:`Route`."""

    name: str
    origin: str
    matches: tuple[ConnectionMatch, ...]
    destinations: tuple[Destination, ...]
    owner: int = codec.later(0)


Balance: TypeAlias = Literal["LEAST_REQUEST", "ROUND_ROBIN", "RANDOM"]


HTTP_PROTOCOLS = ("http", "http2", "grpc")
HTTP2_PROTOCOLS = ("http2", "grpc")


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a service as callers name it.

    ``http`` is HTTP/1.1; ``http2`` and ``grpc`` are HTTP/2, in cleartext where that is not inside the mesh's
    own TLS. ``tcp`` carries bytes, ``tls`` bytes that begin with a TLS handshake, which is not ended by the
    mesh. ``auto`` is not declared: a request is HTTP of the version that its client speaks, and of what a
    caller tunnels its first bytes decide.
    """

    number: int
    name: str
    protocol: Literal["http", "http2", "grpc", "tcp", "tls", "auto"] = "http"

    @property
    def is_http(self) -> bool:
        """Whether it is declared to be for requests, of whatever version."""
        return self.protocol in HTTP_PROTOCOLS


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Istio's connectionPool towards one destination, in each proxy process. 0 is what nobody said.

    ``keepalive`` asks for TCP keepalive, with the system's values where ``keepalive_*`` are 0. ``h2_upgrade``
    asks for HTTP/2 or against it; ``uses_client_protocol`` for what the client speaks, whatever else is said.
    ``max_streams`` are requests at a time on one connection of HTTP/2, which is pinged after
    ``ping_interval_s`` and given up when no answer comes within ``ping_timeout_s``.
    """

    max_connections: int = 0
    max_pending: int = 0
    max_requests: int = 0
    max_requests_per_connection: int = 0
    max_retries: int = 0
    connect_timeout_s: float = 0.0
    idle_timeout_s: float = 0.0
    max_duration_s: float = 0.0
    keepalive: bool = False
    keepalive_probes: int = 0
    keepalive_time_s: float = 0.0
    keepalive_interval_s: float = 0.0
    tcp_idle_timeout_s: float = codec.later(0.0)
    h2_upgrade: Literal["", "UPGRADE", "DO_NOT_UPGRADE"] = codec.later("")
    uses_client_protocol: bool = codec.later(False)
    max_streams: int = codec.later(0)
    ping_interval_s: float = codec.later(0.0)
    ping_timeout_s: float = codec.later(0.0)


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """How much of what is in flight may be retries: ``percent`` of it, but always ``min_concurrency``."""

    percent: float = 20.0
    min_concurrency: int = 3


@dataclass(frozen=True, slots=True)
class OutlierDetection:
    """When endpoints are left out, and for how long; the numbers are failures in a row, 0 for never.
    ``splits_local`` counts what failed on this side apart from responses."""

    consecutive_5xx: int = 5
    consecutive_gateway_errors: int = 0
    consecutive_local_failures: int = 5
    splits_local: bool = False
    interval_s: float = 10.0
    base_ejection_s: float = 30.0
    max_ejection_percent: int = 10
    min_health_percent: int = 0


@dataclass(frozen=True, slots=True)
class HashPolicy:
    """What of a request picks its endpoint, by a ring or, with a ``table_size``, by Maglev. A cookie that is
    missing is made when it has a lifetime, 0 for the client's session."""

    kind: Literal["header", "cookie", "query", "source_ip"]
    name: str = ""
    cookie_path: str = ""
    cookie_ttl_s: float | None = None
    cookie_attributes: tuple[tuple[str, str], ...] = ()
    minimum_ring_size: int = 1024
    table_size: int = 0


@dataclass(frozen=True, slots=True)
class Warmup:
    """How the weight of a new endpoint grows."""

    duration_s: float
    minimum_percent: float = 10.0
    aggression: float = 1.0


@dataclass(frozen=True, slots=True)
class LocalityShares:
    """The shares of localities (patterns of ``region/zone/subzone``) for callers in ``origin``."""

    origin: str
    to: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class LocalityPolicy:
    """How much goes where: by shares, or to the nearest first. ``failover`` pairs regions;
    ``priority_labels`` stand for localities."""

    distribute: tuple[LocalityShares, ...] = ()
    failover: tuple[tuple[str, str], ...] = ()
    priority_labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrafficPolicy:
    """What a DestinationRule says of one destination besides its balance. ``origin`` names the document."""

    origin: str
    connections: ConnectionLimits | None = None
    retry_budget: RetryBudget | None = None
    outlier: OutlierDetection | None = None
    hashing: HashPolicy | None = codec.later(None)
    warmup: Warmup | None = codec.later(None)
    proxy_protocol: Literal["", "V1", "V2"] = codec.later("")
    locality: LocalityPolicy | None = codec.later(None)


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How callers check the endpoints of a host: by GET of ``path``, or by a connection when that is empty.
    ``origin`` names the document."""

    origin: str
    path: str = ""
    interval_s: float = 10.0
    timeout_s: float = 1.0
    unhealthy_threshold: int = 3
    healthy_threshold: int = 2


@dataclass(frozen=True, slots=True)
class PortTraffic:
    """What holds for one port instead of what holds for the others."""

    port: int
    balance: Balance
    traffic: TrafficPolicy | None = None


@dataclass(frozen=True, slots=True)
class Subset:
    """A named part of a service's endpoints; ``balance`` None inherits the service's. ``traffic`` and
    ``port_traffic`` have everything that holds for it, what it inherits too."""

    name: str
    labels: Labels
    balance: Balance | None = None
    traffic: TrafficPolicy | None = codec.later(None)
    port_traffic: tuple[PortTraffic, ...] = codec.later(())


@dataclass(frozen=True, slots=True)
class RouteOwner:
    """A document with routes for a host: its namespace, the host or pattern by which it means it, and whether
    it says anything of requests."""

    namespace: str
    host: str
    is_http: bool = True


@dataclass(frozen=True, slots=True)
class Routing:
    """The routes of a host for callers in ``namespace``; empty means all that no other one names."""

    namespace: str
    owners: tuple[RouteOwner, ...]
    routes: tuple[Route, ...]
    tcp_routes: tuple[ConnectionRoute, ...] = ()
    tls_routes: tuple[ConnectionRoute, ...] = ()


@dataclass(frozen=True, slots=True)
class ClientRules:
    """What DestinationRules say of a host to callers in ``namespace`` with all of these ``labels``. It stands
    for everything that the service says under the same names."""

    namespace: str
    labels: Labels
    subsets: tuple[Subset, ...]
    balance: Balance = "LEAST_REQUEST"
    plaintext: bool = False
    traffic: TrafficPolicy | None = None
    port_traffic: tuple[PortTraffic, ...] = ()


EXPORTED_TO_NOBODY = "~"
"""Among namespaces that something is exported to: none has this name."""


def is_exported(exported_to: tuple[str, ...], namespace: str) -> bool:
    """Whether callers in a namespace know what is exported to these namespaces, or (none) to all."""
    return not exported_to or namespace in exported_to


@dataclass(frozen=True, slots=True)
class Service:
    """How to call one host. Key ``service.<namespace>.<name>``, or ``service.-.<host>``.

    ``routes`` are tried in order; when none matches, the answer is 404 NR. A service without a
    VirtualService has one route to itself. ``plaintext`` allows calls to endpoints without proxy.
    ``tcp_routes`` and ``tls_routes`` are those of connections to ports that are not HTTP; without one
    that matches they go to the service itself, but TLS only if it has no TLS route for the port.

    What depends on the caller each proxy chooses. ``exported_to`` names the namespaces that know the host,
    empty for all. The first of ``routings`` with an owner that the caller may see has its routes: those that
    name its namespace, or (when none does) the service's own and then those that name none.
    The first of ``client_rules`` that is for the caller holds, else what the service says. The endpoint
    of one that ``is_dynamic`` is the host that was asked for, at the port that was asked for.
    """

    host: str
    namespace: str
    name: str
    ports: tuple[Port, ...]
    subsets: tuple[Subset, ...]
    routes: tuple[Route, ...]
    balance: Balance = "LEAST_REQUEST"
    plaintext: bool = codec.later(False)
    tcp_routes: tuple[ConnectionRoute, ...] = codec.later(())
    tls_routes: tuple[ConnectionRoute, ...] = codec.later(())
    traffic: TrafficPolicy | None = codec.later(None)
    port_traffic: tuple[PortTraffic, ...] = codec.later(())
    health: HealthCheck | None = codec.later(None)
    exported_to: tuple[str, ...] = codec.later(())
    owners: tuple[RouteOwner, ...] = codec.later(())
    routings: tuple[Routing, ...] = codec.later(())
    client_rules: tuple[ClientRules, ...] = codec.later(())
    is_dynamic: bool = codec.later(False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One workload that serves a host, reached on its node's mTLS port under its SNI.

    One that is ``plaintext`` has no proxy, proves no identity and is called without TLS, if the service
    allows that; its ``address`` may be a name to resolve. ``service_port`` is the only port of the
    service that it serves, 0 all of them.
    """

    workload: str
    address: str
    port: int
    sni: str
    identity: str
    labels: Labels
    node: str
    transport: Literal["mutual_tls", "plaintext"] = codec.later("mutual_tls")
    service_port: int = codec.later(0)
    weight: int = codec.later(1)
    locality: str = codec.later("")


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Who serves a host now. Key ``endpoints.<namespace>.<name>``, or ``endpoints.-.<host>``."""

    host: str
    endpoints: tuple[Endpoint, ...]


@dataclass(frozen=True, slots=True)
class ValueMatch:
    """AuthorizationPolicy's string forms: exact, ``p*``, ``*s``, ``*`` (present)."""

    kind: Literal["exact", "prefix", "suffix", "present"]
    value: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """Who calls. Fields that are set are ANDed, values of one are ORed, ``not_*`` is NOT(OR)."""

    principals: tuple[ValueMatch, ...] = ()
    not_principals: tuple[ValueMatch, ...] = ()
    namespaces: tuple[ValueMatch, ...] = ()
    not_namespaces: tuple[ValueMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """What is called; combined as in :class:`Source`. ``hosts`` compare without case."""

    hosts: tuple[ValueMatch, ...] = ()
    not_hosts: tuple[ValueMatch, ...] = ()
    ports: tuple[int, ...] = ()
    not_ports: tuple[int, ...] = ()
    methods: tuple[ValueMatch, ...] = ()
    not_methods: tuple[ValueMatch, ...] = ()
    paths: tuple[ValueMatch, ...] = ()
    not_paths: tuple[ValueMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """Matches when any source and any operation match; an empty list matches all."""

    sources: tuple[Source, ...] = ()
    operations: tuple[Operation, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """One AuthorizationPolicy. ``name`` is ``<namespace>/<name>``. ALLOW without rules matches nothing."""

    name: str
    action: Literal["ALLOW", "DENY"]
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class RateLimit:
    """``requests`` per ``per_s`` seconds over the whole mesh, kept by leases from the PolicyActor."""

    name: str
    requests: int
    per_s: int
    fail_mode: Literal["OPEN", "CLOSED"]


OutboundPolicy: TypeAlias = Literal["REGISTRY_ONLY", "ALLOW_ANY"]
"""What happens to calls of hosts that nobody has declared."""


@dataclass(frozen=True, slots=True)
class EgressHost:
    """Hosts that a Sidecar names: a host, ``*.suffix`` or ``*``, of a namespace, empty for any."""

    namespace: str
    host: str


@dataclass(frozen=True, slots=True)
class Sidecar:
    """Whom a workload may call by name: what one of ``egress`` names (None: anyone) and none of ``without``.

    ``origin`` names the document. ``outbound_policy`` None is that of the mesh.
    """

    origin: str
    egress: tuple[EgressHost, ...] | None = None
    without: tuple[EgressHost, ...] = ()
    outbound_policy: OutboundPolicy | None = None


@dataclass(frozen=True, slots=True)
class Probe:
    """How a proxy asks a workload beside it whether it is well. ``path`` and ``headers`` are of ``http`` and
    ``https``, ``command`` of ``exec``, ``service`` of ``grpc``: whose health is asked, empty for that of all.
    Thresholds count checks in a row."""

    kind: Literal["http", "https", "tcp", "exec", "grpc"]
    host: str = ""
    port: int = 0
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    command: tuple[str, ...] = ()
    initial_delay_s: int = 0
    timeout_s: int = 1
    period_s: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3
    service: str = codec.later("")


@dataclass(frozen=True, slots=True)
class Workload:
    """One running instance and its inbound policy. Key ``workload.<namespace>.<name>``.

    ``outbound_port`` is its loopback listener for calls out, ``token_sha256`` the hash of the token
    those calls carry. ``gateway_ports`` maps the port numbers of Gateway documents to bound ports.
    Inbound traffic is mutual TLS only. ``tcp_ports`` are the ports of its services (host and number) on
    which connections come that are not HTTP; ``is_tcp_only`` when there are no others. ``app_protocol`` is
    what the application speaks: ``client`` is what the caller's proxy does, where nothing was declared.
    """

    namespace: str
    name: str
    node: str
    service_account: str
    identity: str
    sni: str
    labels: Labels
    app_address: str
    app_port: int
    outbound_port: int
    token_sha256: bytes
    services: tuple[str, ...] = ()
    policies: tuple[Policy, ...] = ()
    rate_limits: tuple[RateLimit, ...] = ()
    gateway_ports: tuple[tuple[int, int], ...] = ()
    tcp_ports: tuple[tuple[str, int], ...] = codec.later(())
    is_tcp_only: bool = codec.later(False)
    sidecar: Sidecar | None = codec.later(None)
    probe: Probe | None = codec.later(None)
    app_protocol: Literal["http1", "http2", "client"] = codec.later("http1")


@dataclass(frozen=True, slots=True)
class Node:
    """Which workloads a node's proxies run (their keys). Key ``node.mesh.<node>``."""

    node: str
    workloads: tuple[str, ...]
    gateways: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class VirtualHost:
    """Hosts (exact, ``*.suffix`` or ``*``) of a gateway and their routes, or a redirect to HTTPS."""

    hosts: tuple[str, ...]
    routes: tuple[Route, ...]
    to_https: bool = codec.later(False)


@dataclass(frozen=True, slots=True)
class ServerTls:
    """How a gateway ends TLS: paths of files on its node, which travel, and never what is in them.

    ``versions`` are the least and the greatest, empty for what is usual; ``names`` those of which a
    caller's certificate must have one.
    """

    mode: Literal["SIMPLE", "MUTUAL", "ISTIO_MUTUAL", "PASSTHROUGH"]
    certificate: str = ""
    key: str = ""
    authorities: str = ""
    versions: tuple[str, str] = ("", "")
    ciphers: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SecureServer:
    """What one TLS server of a gateway port does with connections for its ``hosts`` (as in SNI).

    ``virtual_hosts`` are for HTTP inside TLS that it ends (None: what is inside is not HTTP). ``routes``
    are for everything else: by server name where TLS passes through, of TCP where it ends.
    """

    hosts: tuple[str, ...]
    tls: ServerTls
    virtual_hosts: tuple[VirtualHost, ...] | None = None
    routes: tuple[ConnectionRoute, ...] = ()


@dataclass(frozen=True, slots=True)
class GatewayServer:
    """One listener of a gateway, by the port number that Gateway documents use.

    It is HTTP, unless it has ``secure`` servers (TLS, one of which the server name chooses) or is TCP.
    """

    port: int
    virtual_hosts: tuple[VirtualHost, ...]
    secure: tuple[SecureServer, ...] = codec.later(())
    is_tcp: bool = codec.later(False)
    tcp_routes: tuple[ConnectionRoute, ...] = codec.later(())


@dataclass(frozen=True, slots=True)
class Gateway:
    """All that an ingress workload serves, merged from the Gateways that select it.

    Key ``gateway.<namespace>.<workload name>``.
    """

    namespace: str
    name: str
    servers: tuple[GatewayServer, ...]


@dataclass(frozen=True, slots=True)
class Mesh:
    """What every proxy needs to know of the mesh. Key ``mesh.mesh.mesh``.

    ``explains_to_outside``: replies of the mesh that leave through a gateway carry their sentence.
    ``proxy_protocol``: connections to gateways begin with a PROXY protocol header.
    ``trusted_proxies``: how many proxies in front of the gateways say who the client is.
    ``wildcards``: the hosts of the mesh that are patterns (``*.suffix``). ``addresses``: IP addresses and
    blocks under which hosts are called too.
    """

    trust_domain: str
    root_namespace: str
    outbound_policy: OutboundPolicy = "REGISTRY_ONLY"
    explains_to_outside: bool = codec.later(False)
    path_normalization: Literal["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"] = codec.later(
        "BASE"
    )
    trusted_proxies: int = codec.later(0)
    proxy_protocol: bool = codec.later(False)
    wildcards: tuple[str, ...] = codec.later(())
    addresses: tuple[tuple[str, str], ...] = codec.later(())


Resource: TypeAlias = Service | Endpoints | Workload | Node | Gateway | Mesh

KINDS: dict[str, type[Resource]] = {
    "service": Service,
    "endpoints": Endpoints,
    "workload": Workload,
    "node": Node,
    "gateway": Gateway,
    "mesh": Mesh,
}
SHARED_KINDS = frozenset({"service", "endpoints", "mesh"})
PRIVATE_KINDS = frozenset({"workload", "node", "gateway"})
MESH_KEY = "mesh.mesh.mesh"
SERVICE_SUFFIX = ".svc.cluster.local"
OUTSIDE = "-"
"""Stands for the namespace in the key of a host that is no service's; no namespace has this name."""
WILDCARD = "_"
"""The same in the key of a pattern ``*.suffix``, whose star is left out: subjects of NATS have stars."""


LOCALITY_LABEL = "istio-locality"
"""Says where a workload is, as ``region.zone.subzone``, since a label has no slashes."""


def locality_of(labels: Mapping[str, str]) -> str:
    """``region/zone/subzone`` as the labels of a workload say it, or empty."""
    return labels.get(LOCALITY_LABEL, "").replace(".", "/")


def kind_of(key: str) -> str:
    """The kind that a key names.

    Raises:
        PeerError: the key names no kind of this build.
    """
    kind = key.split(".", 1)[0]
    if kind not in KINDS:
        raise PeerError(f"{key!r} names no compiled kind of this build ({', '.join(KINDS)})")
    return kind


def key_for(kind: str, host: str) -> str:
    """``service``/``endpoints`` key for a full host: ``service.default.reviews`` for
    ``reviews.default.svc.cluster.local``, ``service.-.api.example.com`` for a host outside, and
    ``service._.example.com`` for ``*.example.com``."""
    if host.startswith("*."):
        return f"{kind}.{WILDCARD}.{host[2:]}"
    name, _, namespace = host.removesuffix(SERVICE_SUFFIX).partition(".")
    if host.endswith(SERVICE_SUFFIX) and namespace and "." not in namespace:
        return f"{kind}.{namespace}.{name}"
    return f"{kind}.{OUTSIDE}.{host}"


def host_for(key: str) -> str:
    """The full host whose key this is."""
    _, namespace, name = key.split(".", 2)
    if namespace == WILDCARD:
        return f"*.{name}"
    return name if namespace == OUTSIDE else f"{name}.{namespace}{SERVICE_SUFFIX}"


def encode(resource: Resource) -> bytes:
    """The bytes of a resource: same input, same bytes."""
    return codec.pack(resource)


def decode(key: str, raw: bytes) -> Resource:
    """Read a resource by its key.

    Raises:
        PeerError: unknown kind, or bytes of another shape.
    """
    return codec.unpack(KINDS[kind_of(key)], raw)


def digest(raw: bytes) -> str:
    """Short content digest, for people and for "did it change"."""
    return hashlib.blake2b(raw, digest_size=8).hexdigest()
