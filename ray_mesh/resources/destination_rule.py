"""Istio's DestinationRule (networking.istio.io)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from ray_mesh.resources.exports import export_flaws
from ray_mesh.resources.hosts import is_host_pattern
from ray_mesh.resources.schema import (
    LATER,
    DnsLabel,
    Duration,
    Flaw,
    Int32,
    LabelValue,
    Later,
    Model,
    NonEmpty,
    Only,
    PortSelector,
    UInt32,
    UInt64,
    WorkloadSelector,
    seconds,
)

Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
WholePercent = Annotated[int, Field(ge=0, le=100)]
Limit = Annotated[int, Field(ge=0, lt=2**31)]
_COOKIE_TEXT = r"^[\x20-\x3a\x3c-\x7e]*$"
_LOCALITY = re.compile(r"[^/*]+(/\*|(/[^/*]+){1,2}|/[^/*]+/\*)?|\*")
_LOCALITY_FORM = "write region/zone/subzone, or less of it, with * at the end for any"
_LARGEST_RING = 16_384
_LARGEST_TABLE = 65_537
_HTTP2 = "proxies speak HTTP/1.1 to each other"
_HOST_TLS = Later("say it for the whole host")


class CookieAttribute(Model):
    """One attribute of a cookie."""

    name: Annotated[str, Field(pattern=_COOKIE_TEXT)]
    value: Annotated[str, Field(pattern=_COOKIE_TEXT)] | None = None


class HttpCookie(Model):
    """A cookie to hash. With a ``ttl`` (``0s`` for a session) it is made when it is missing."""

    name: Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
    path: Annotated[str, Field(pattern=_COOKIE_TEXT)] | None = None
    ttl: str | None = None
    attributes: tuple[CookieAttribute, ...] = ()

    def flaws(self) -> Iterator[Flaw]:
        if self.ttl is not None:
            try:
                seconds(self.ttl)
            except ValueError as error:
                yield Flaw(("ttl",), f"{self.ttl!r} is {error}")


class RingHash(Model):
    """Ring hash settings."""

    minimum_ring_size: UInt64 | None = None

    def flaws(self) -> Iterator[Flaw]:
        yield from _ring_flaws(self.minimum_ring_size)


def _ring_flaws(size: int | None) -> Iterator[Flaw]:
    if size is not None and size > _LARGEST_RING:
        reason = f"{size}: rings have up to {_LARGEST_RING} points here"
        yield Flaw(("minimumRingSize",), reason, later=True)


def is_prime(number: int) -> bool:
    """By trial division; for sizes of tables."""
    return number > 1 and all(number % each for each in range(2, int(number**0.5) + 1))


class Maglev(Model):
    """Maglev settings."""

    table_size: UInt64 | None = None

    def flaws(self) -> Iterator[Flaw]:
        size = self.table_size
        if size is not None and size > _LARGEST_TABLE:
            yield Flaw(("tableSize",), f"{size}: tables have up to {_LARGEST_TABLE} entries here", later=True)
        elif size and not is_prime(size):
            yield Flaw(
                ("tableSize",), f"{size} is not prime: a Maglev table needs that, such as 4099 or 65537"
            )


class ConsistentHash(Model):
    """What part of a request picks its endpoint."""

    http_header_name: NonEmpty | None = None
    http_cookie: HttpCookie | None = None
    use_source_ip: bool | None = None
    http_query_parameter_name: NonEmpty | None = None
    ring_hash: RingHash | None = None
    maglev: Maglev | None = None
    minimum_ring_size: UInt64 | None = None

    def flaws(self) -> Iterator[Flaw]:
        keys = (
            self.http_header_name,
            self.http_cookie,
            self.use_source_ip or None,
            self.http_query_parameter_name,
        )
        if sum(key is not None for key in keys) != 1:
            one = "httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName"
            yield Flaw((), f"set one of {one}")
        if self.ring_hash is not None and self.maglev is not None:
            yield Flaw((), "set one of ringHash and maglev")
        yield from _ring_flaws(self.minimum_ring_size)


class Distribute(Model):
    """Shares per locality."""

    from_: Annotated[str, Field(alias="from")]
    to: dict[str, Annotated[int, Field(ge=1, le=100)]] = {}

    def flaws(self) -> Iterator[Flaw]:
        if not _LOCALITY.fullmatch(self.from_):
            yield Flaw(("from",), f"{self.from_!r} is no locality: {_LOCALITY_FORM}")
        for locality in self.to:
            if not _LOCALITY.fullmatch(locality):
                yield Flaw(("to", locality), f"not a locality: {_LOCALITY_FORM}")
        if sum(self.to.values()) != 100:
            yield Flaw(("to",), f"the shares sum to {sum(self.to.values())}, not to 100")


class Failover(Model):
    """Where traffic goes when a region fails."""

    from_: Annotated[NonEmpty, Field(alias="from")]
    to: NonEmpty

    def flaws(self) -> Iterator[Flaw]:
        if self.from_ == self.to:
            yield Flaw(("to",), "name another region than in from")
        for name, region in (("from", self.from_), ("to", self.to)):
            if "/" in region or "*" in region:
                yield Flaw((name,), f"{region!r} is no region: failover names regions only")


class LocalityLb(Model):
    """Balancing by locality."""

    distribute: tuple[Distribute, ...] = ()
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[NonEmpty, ...] = ()
    enabled: bool | None = None

    def flaws(self) -> Iterator[Flaw]:
        if self.distribute and (self.failover or self.failover_priority):
            yield Flaw((), "set distribute, or failover, or failoverPriority")
        elif self.failover and self.failover_priority:
            yield Flaw(("failoverPriority",), "beside failover", later=True)


class ZoneAwareLb(Model):
    """Balancing by zone."""

    enabled: bool | None = None
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    min_cluster_size: Annotated[int, Field(ge=1)] | None = None


class Warmup(Model):
    """A slow start for new endpoints."""

    duration: Duration
    minimum_percent: Percent | None = None
    aggression: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None


class LoadBalancer(Model):
    """How an endpoint is picked. ``LEAST_CONN`` is the older name of ``LEAST_REQUEST``."""

    simple: Annotated[
        Literal["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"] | None,
        Only(
            ("UNSPECIFIED", "LEAST_CONN", "RANDOM", "ROUND_ROBIN", "LEAST_REQUEST"),
            "callers name hosts and know no addresses that could be passed on",
        ),
    ] = None
    consistent_hash: ConsistentHash | None = None
    locality_lb_setting: LocalityLb | None = None
    zone_aware_lb_setting: Annotated[ZoneAwareLb | None, LATER] = None
    warmup: Warmup | None = None
    warmup_duration_secs: Duration | None = None

    def flaws(self) -> Iterator[Flaw]:
        if self.simple is not None and self.consistent_hash is not None:
            yield Flaw((), "set one of simple and consistentHash")
        if self.warmup is not None and self.warmup_duration_secs is not None:
            yield Flaw(("warmupDurationSecs",), "set warmup only; this is its older form")
        if (self.warmup or self.warmup_duration_secs) and (self.consistent_hash or self.simple == "RANDOM"):
            yield Flaw(("warmup",), "for other algorithms than LEAST_REQUEST and ROUND_ROBIN", later=True)


class TcpKeepalive(Model):
    """TCP keepalive settings."""

    probes: UInt32 | None = None
    time: Duration | None = None
    interval: Duration | None = None


class TcpSettings(Model):
    """Connection settings."""

    max_connections: Limit | None = None
    connect_timeout: Duration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: Duration | None = None
    idle_timeout: Duration | None = None


class Http2KeepAlive(Model):
    """HTTP/2 keepalive settings."""

    interval: Duration | None = None
    timeout: Duration | None = None


class HttpSettings(Model):
    """Request settings."""

    http1_max_pending_requests: Annotated[Limit | None, Field(alias="http1MaxPendingRequests")] = None
    http2_max_requests: Annotated[Limit | None, Field(alias="http2MaxRequests")] = None
    max_requests_per_connection: Limit | None = None
    max_retries: Limit | None = None
    idle_timeout: Duration | None = None
    h2_upgrade_policy: Annotated[
        Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"] | None,
        Only(("DEFAULT", "DO_NOT_UPGRADE"), _HTTP2),
        Field(alias="h2UpgradePolicy"),
    ] = None
    use_client_protocol: Annotated[bool | None, Later(_HTTP2)] = None
    max_concurrent_streams: Annotated[Int32 | None, Later(_HTTP2)] = None
    http2_keep_alive: Annotated[Http2KeepAlive | None, Later(_HTTP2), Field(alias="http2KeepAlive")] = None


class ConnectionPool(Model):
    """Limits towards one host."""

    tcp: TcpSettings | None = None
    http: HttpSettings | None = None

    def flaws(self) -> Iterator[Flaw]:
        if self.tcp is None and self.http is None:
            yield Flaw((), "a connectionPool has tcp, http or both")


class OutlierDetection(Model):
    """When a failing endpoint is left out."""

    split_external_local_origin_errors: bool | None = None
    consecutive_local_origin_failures: UInt32 | None = None
    consecutive_gateway_errors: UInt32 | None = None
    consecutive_5xx_errors: Annotated[UInt32 | None, Field(alias="consecutive5xxErrors")] = None
    consecutive_errors: Annotated[Int32 | None, Later("its newer form is consecutive5xxErrors")] = None
    interval: Duration | None = None
    base_ejection_time: Duration | None = None
    max_ejection_percent: WholePercent | None = None
    min_health_percent: WholePercent | None = None
    outlier_detection_http_error_codes: Annotated[
        tuple[Annotated[int, Field(ge=100, le=599)], ...], LATER
    ] = ()

    def flaws(self) -> Iterator[Flaw]:
        if self.consecutive_local_origin_failures and not self.split_external_local_origin_errors:
            path = ("consecutiveLocalOriginFailures",)
            yield Flaw(path, "counts only with splitExternalLocalOriginErrors: true")


class ClientTls(Model):
    """How the connection to the service is secured. Between proxies that is always mutual TLS; DISABLE
    lets calls go to endpoints that have none."""

    mode: Annotated[
        Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"] | None,
        Only(
            ("ISTIO_MUTUAL", "DISABLE"),
            "all traffic of the mesh is mutual TLS with the workloads' own identities",
        ),
    ] = None
    client_certificate: Annotated[str | None, LATER] = None
    private_key: Annotated[str | None, LATER] = None
    ca_certificates: Annotated[str | None, LATER] = None
    credential_name: Annotated[str | None, LATER] = None
    subject_alt_names: Annotated[tuple[str, ...], LATER] = ()
    sni: Annotated[str | None, LATER] = None
    insecure_skip_verify: Annotated[bool | None, LATER] = None
    ca_crl: Annotated[str | None, LATER] = None

    def flaws(self) -> Iterator[Flaw]:
        if self.mode is None:
            yield Flaw(("mode",), "DISABLE, which is what tls means without a mode", later=True)


class PortTrafficPolicy(Model):
    """Settings of one port."""

    port: PortSelector | None = None
    load_balancer: LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None
    outlier_detection: OutlierDetection | None = None
    tls: Annotated[ClientTls | None, _HOST_TLS] = None

    def flaws(self) -> Iterator[Flaw]:
        if self.port is None or self.port.number == 0:
            yield Flaw(("port",), "say which port: port.number, 1 to 65535")


class Tunnel(Model):
    """A tunnel through another proxy."""

    protocol: str | None = None
    target_host: str
    target_port: UInt32


class ProxyProtocol(Model):
    """The PROXY protocol towards the service."""

    version: Literal["V1", "V2"] = "V1"


class RetryBudget(Model):
    """How many requests may be retries."""

    percent: Percent | None = None
    budget_interval: Annotated[
        str | None, Later("the budget is of what is in flight at the moment of the retry")
    ] = None
    min_retry_concurrency: UInt32 | None = None


class TrafficPolicy(Model):
    """How requests to a host, or to one subset of it, are sent."""

    load_balancer: LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTls | None = None
    port_level_settings: tuple[PortTrafficPolicy, ...] = ()
    tunnel: Annotated[Tunnel | None, LATER] = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None


class Subset(Model):
    """A named part of a host's endpoints, by labels."""

    name: DnsLabel
    labels: dict[str, LabelValue] = {}
    traffic_policy: TrafficPolicy | None = None

    def flaws(self) -> Iterator[Flaw]:
        tls = self.traffic_policy.tls if self.traffic_policy else None
        if tls and tls.mode == "DISABLE":
            path = ("trafficPolicy", "tls", "mode")
            yield Flaw(path, "DISABLE of a subset: say it for the whole host", later=True)


class DestinationRuleSpec(Model):
    """What holds for requests to a host after routing."""

    host: NonEmpty
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()
    workload_selector: WorkloadSelector | None = None

    def flaws(self) -> Iterator[Flaw]:
        if not is_host_pattern(self.host):
            yield Flaw(("host",), f"{self.host!r} is not a host, *.host or *")
        yield from export_flaws(self.export_to, ("exportTo",))
        if self.workload_selector is not None and ("*" in self.export_to or len(self.export_to) > 1):
            yield Flaw(("exportTo",), "with a workloadSelector it holds in its own namespace: write [.]")
        names = [subset.name for subset in self.subsets]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield Flaw(("subsets", index, "name"), f"subset {name!r} is defined twice")
