"""Traffic policies: what a subset inherits, what a port says instead."""

from __future__ import annotations

from compile_world import document, service, world

from ray_mesh.compile import compile_key
from ray_mesh.snapshot import (
    ConnectionLimits,
    OutlierDetection,
    PortTraffic,
    RetryBudget,
    Service,
    TrafficPolicy,
)

ORIGIN = "DestinationRule default/reviews"


def compiled(spec: str, *ports: int) -> Service:
    rule = document("DestinationRule", "reviews", f"{{host: reviews, {spec}}}")
    made = compile_key(world(service("reviews", *ports), rule), "service.default.reviews")
    assert isinstance(made, Service)
    return made


def test_every_field_of_a_connection_pool() -> None:
    pool = (
        "{tcp: {maxConnections: 1, connectTimeout: 2s, maxConnectionDuration: 3s, "
        "tcpKeepalive: {probes: 4, time: 5s, interval: 6s}}, http: {http1MaxPendingRequests: 7, "
        "http2MaxRequests: 8, maxRequestsPerConnection: 9, maxRetries: 10, idleTimeout: 11s}}"
    )
    budget = "{percent: 12.5, minRetryConcurrency: 0}"
    made = compiled(f"trafficPolicy: {{connectionPool: {pool}, retryBudget: {budget}}}")
    limits = ConnectionLimits(1, 7, 8, 9, 10, 2.0, 11.0, 3.0, True, 4, 5.0, 6.0)
    assert made.traffic == TrafficPolicy(ORIGIN, limits, RetryBudget(12.5, 0))


def test_what_says_nothing_compiles_to_nothing() -> None:
    made = compiled("trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: a, labels: {x: y}}]")
    assert (made.balance, made.traffic, made.port_traffic) == ("RANDOM", None, ())
    assert (made.subsets[0].balance, made.subsets[0].traffic, made.subsets[0].port_traffic) == (
        None,
        None,
        (),
    )


def test_a_subset_inherits_whole_sections() -> None:
    host = "{loadBalancer: {simple: RANDOM}, connectionPool: {tcp: {maxConnections: 1}}, retryBudget: {}}"
    own = "{connectionPool: {http: {http2MaxRequests: 2}}}"
    made = compiled(f"trafficPolicy: {host}, subsets: [{{name: a, trafficPolicy: {own}}}, {{name: b}}]")
    a, b = made.subsets
    assert a.traffic == TrafficPolicy(ORIGIN, ConnectionLimits(max_requests=2), RetryBudget())
    assert b.traffic == made.traffic == TrafficPolicy(ORIGIN, ConnectionLimits(1), RetryBudget())
    assert (a.balance, b.balance) == (None, None)


def test_a_port_inherits_nothing() -> None:
    at_80 = "{port: {number: 80}, loadBalancer: {simple: ROUND_ROBIN}}"
    at_81 = "{port: {number: 81}, connectionPool: {tcp: {maxConnections: 3}}}"
    host = f"{{loadBalancer: {{simple: RANDOM}}, connectionPool: {{tcp: {{maxConnections: 1}}}}, \
portLevelSettings: [{at_80}]}}"
    own = f"{{portLevelSettings: [{at_81}]}}"
    made = compiled(f"trafficPolicy: {host}, subsets: [{{name: a, trafficPolicy: {own}}}]", 80, 81, 82)
    assert made.port_traffic == (PortTraffic(80, "ROUND_ROBIN"),)
    (a,) = made.subsets
    assert a.port_traffic == (
        PortTraffic(80, "ROUND_ROBIN"),
        PortTraffic(81, "LEAST_REQUEST", TrafficPolicy(ORIGIN, ConnectionLimits(3))),
    )


def test_every_field_of_outlier_detection() -> None:
    said = (
        "{consecutive5xxErrors: 0, consecutiveGatewayErrors: 2, splitExternalLocalOriginErrors: true, "
        "consecutiveLocalOriginFailures: 3, interval: 4s, baseEjectionTime: 5s, maxEjectionPercent: 60, "
        "minHealthPercent: 70}"
    )
    made = compiled(f"trafficPolicy: {{outlierDetection: {said}}}")
    assert made.traffic == TrafficPolicy(ORIGIN, outlier=OutlierDetection(0, 2, 3, True, 4.0, 5.0, 60, 70))
    made = compiled("trafficPolicy: {outlierDetection: {}}")
    assert made.traffic == TrafficPolicy(ORIGIN, outlier=OutlierDetection(5, 0, 5, False, 10.0, 30.0, 10, 0))
