"""Traffic policies of DestinationRules, resolved: what a subset inherits, what a port says instead.

As in Istio: a section (loadBalancer, connectionPool, ...) of a subset stands for the whole section of the
host, and portLevelSettings inherit nothing, so what they leave out has its default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from ray_mesh import snapshot
from ray_mesh.resources.connection_pool import ConnectionPool, Http2KeepAlive, TcpKeepalive
from ray_mesh.resources.destination_rule import OutlierDetection, ProxyProtocol, RetryBudget, TrafficPolicy
from ray_mesh.resources.load_balancer import LoadBalancer
from ray_mesh.resources.schema import seconds

_BALANCE: Mapping[str, snapshot.Balance] = {
    "UNSPECIFIED": "LEAST_REQUEST",
    "LEAST_REQUEST": "LEAST_REQUEST",
    "LEAST_CONN": "LEAST_REQUEST",
    "ROUND_ROBIN": "ROUND_ROBIN",
    "RANDOM": "RANDOM",
}
_UPGRADE: Mapping[str | None, Literal["", "UPGRADE", "DO_NOT_UPGRADE"]] = {
    None: "",
    "DEFAULT": "",
    "UPGRADE": "UPGRADE",
    "DO_NOT_UPGRADE": "DO_NOT_UPGRADE",
}
_NO_KEEPALIVE = TcpKeepalive()
_NO_PINGS = Http2KeepAlive()
RING_SIZE = 1024
TABLE_SIZE = 16_381
"""Smaller than Envoy's 65,537, which takes Python some 50 ms to fill whenever endpoints change."""


@dataclass(frozen=True)
class Sections:
    """The sections that hold for one destination, and the document that they are from."""

    origin: str = ""
    load_balancer: LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None
    retry_budget: RetryBudget | None = None
    outlier_detection: OutlierDetection | None = None
    proxy_protocol: ProxyProtocol | None = None

    def under(self, policy: TrafficPolicy | None, origin: str) -> Sections:
        """These with what a policy says instead."""
        if policy is None:
            return self
        return Sections(
            origin,
            policy.load_balancer or self.load_balancer,
            policy.connection_pool or self.connection_pool,
            policy.retry_budget or self.retry_budget,
            policy.outlier_detection or self.outlier_detection,
            policy.proxy_protocol or self.proxy_protocol,
        )

    def at(self, port: int, policy: TrafficPolicy | None, origin: str) -> Sections:
        """These at one port, with what a policy says of it instead."""
        for settings in policy.port_level_settings if policy else ():
            if settings.port is not None and settings.port.number == port:
                return replace(
                    self,
                    origin=origin,
                    load_balancer=settings.load_balancer,
                    connection_pool=settings.connection_pool,
                    outlier_detection=settings.outlier_detection,
                )
        return self

    @property
    def balance(self) -> snapshot.Balance:
        """How an endpoint is picked."""
        return _BALANCE[(self.load_balancer.simple if self.load_balancer else None) or "UNSPECIFIED"]

    @cached_property
    def traffic(self) -> snapshot.TrafficPolicy | None:
        """The rest of them; None when they say nothing."""
        compiled = snapshot.TrafficPolicy(
            self.origin,
            connections=_connections(self.connection_pool) if self.connection_pool else None,
            retry_budget=_budget(self.retry_budget) if self.retry_budget else None,
            outlier=_outlier(self.outlier_detection) if self.outlier_detection else None,
            hashing=_hashing(self.load_balancer),
            warmup=_warmup(self.load_balancer),
            proxy_protocol=self.proxy_protocol.version if self.proxy_protocol else "",
            locality=_locality(self.load_balancer),
        )
        return None if compiled == snapshot.TrafficPolicy(self.origin) else compiled


def by_port(
    ports: Iterable[int], whole: Sections, at_ports: Mapping[int, Sections]
) -> tuple[snapshot.PortTraffic, ...]:
    """The ports at which something else holds than for the ``whole``."""
    return tuple(
        snapshot.PortTraffic(port, at_ports[port].balance, at_ports[port].traffic)
        for port in sorted(ports)
        if (at_ports[port].balance, at_ports[port].traffic) != (whole.balance, whole.traffic)
    )


def _connections(pool: ConnectionPool) -> snapshot.ConnectionLimits:
    tcp, http = pool.tcp, pool.http
    keepalive = (tcp.tcp_keepalive if tcp else None) or _NO_KEEPALIVE
    pings = (http.http2_keep_alive if http else None) or _NO_PINGS
    return snapshot.ConnectionLimits(
        max_connections=(tcp.max_connections if tcp else None) or 0,
        max_pending=(http.http1_max_pending_requests if http else None) or 0,
        max_requests=(http.http2_max_requests if http else None) or 0,
        max_requests_per_connection=(http.max_requests_per_connection if http else None) or 0,
        max_retries=(http.max_retries if http else None) or 0,
        connect_timeout_s=_seconds(tcp.connect_timeout if tcp else None),
        idle_timeout_s=_seconds(http.idle_timeout if http else None),
        max_duration_s=_seconds(tcp.max_connection_duration if tcp else None),
        keepalive=tcp is not None and tcp.tcp_keepalive is not None,
        keepalive_probes=keepalive.probes or 0,
        keepalive_time_s=_seconds(keepalive.time),
        keepalive_interval_s=_seconds(keepalive.interval),
        tcp_idle_timeout_s=_seconds(tcp.idle_timeout if tcp else None),
        h2_upgrade=_UPGRADE[http.h2_upgrade_policy if http else None],
        uses_client_protocol=bool(http and http.use_client_protocol),
        max_streams=(http.max_concurrent_streams if http else None) or 0,
        ping_interval_s=_seconds(pings.interval),
        ping_timeout_s=_seconds(pings.timeout),
    )


def _seconds(duration: str | None) -> float:
    return seconds(duration) if duration else 0.0


def _budget(budget: RetryBudget) -> snapshot.RetryBudget:
    default = snapshot.RetryBudget()
    return snapshot.RetryBudget(
        default.percent if budget.percent is None else budget.percent,
        default.min_concurrency if budget.min_retry_concurrency is None else budget.min_retry_concurrency,
    )


def _outlier(said: OutlierDetection) -> snapshot.OutlierDetection:
    """Istio's defaults are Envoy's, but gateway errors count only when they are said, and there is no panic
    below half of the endpoints."""
    default = snapshot.OutlierDetection()
    errors = said.consecutive_5xx_errors
    return snapshot.OutlierDetection(
        consecutive_5xx=default.consecutive_5xx if errors is None else errors,
        consecutive_gateway_errors=said.consecutive_gateway_errors or 0,
        consecutive_local_failures=said.consecutive_local_origin_failures
        or default.consecutive_local_failures,
        splits_local=bool(said.split_external_local_origin_errors),
        interval_s=_seconds(said.interval) or default.interval_s,
        base_ejection_s=_seconds(said.base_ejection_time) or default.base_ejection_s,
        max_ejection_percent=said.max_ejection_percent or default.max_ejection_percent,
        min_health_percent=said.min_health_percent or 0,
    )


def _hashing(balancer: LoadBalancer | None) -> snapshot.HashPolicy | None:
    said = balancer.consistent_hash if balancer else None
    if said is None:
        return None
    size = said.minimum_ring_size or (said.ring_hash.minimum_ring_size if said.ring_hash else None)
    made = snapshot.HashPolicy(
        "source_ip",
        minimum_ring_size=size or RING_SIZE,
        table_size=(said.maglev.table_size or TABLE_SIZE) if said.maglev else 0,
    )
    if said.http_header_name is not None:
        return replace(made, kind="header", name=said.http_header_name.lower())
    if said.http_query_parameter_name is not None:
        return replace(made, kind="query", name=said.http_query_parameter_name)
    if (cookie := said.http_cookie) is not None:
        return replace(
            made,
            kind="cookie",
            name=cookie.name,
            cookie_path=cookie.path or "",
            cookie_ttl_s=None if cookie.ttl is None else seconds(cookie.ttl),
            cookie_attributes=tuple((one.name, one.value or "") for one in cookie.attributes),
        )
    return made


def _warmup(balancer: LoadBalancer | None) -> snapshot.Warmup | None:
    if balancer is None:
        return None
    if (said := balancer.warmup) is None:
        old = balancer.warmup_duration_secs
        return snapshot.Warmup(seconds(old)) if old else None
    return snapshot.Warmup(
        seconds(said.duration),
        10.0 if said.minimum_percent is None else said.minimum_percent,
        said.aggression or 1.0,
    )


def _locality(balancer: LoadBalancer | None) -> snapshot.LocalityPolicy | None:
    said = balancer.locality_lb_setting if balancer else None
    if said is None or said.enabled is False:
        return None
    return snapshot.LocalityPolicy(
        tuple(snapshot.LocalityShares(one.from_, tuple(sorted(one.to.items()))) for one in said.distribute),
        tuple((one.from_, one.to) for one in said.failover),
        said.failover_priority,
    )
