"""Traffic policies: what a subset inherits, what a port says instead."""

from __future__ import annotations

import pytest
from compile_world import document, routes, service, to, world

from ray_mesh.compile import admit, compile_endpoints, compile_key
from ray_mesh.errors import ConfigError, NotSupported
from ray_mesh.snapshot import (
    ConnectionLimits,
    Endpoints,
    HashPolicy,
    LocalityPolicy,
    LocalityShares,
    OutlierDetection,
    PortTraffic,
    Retries,
    RetryBudget,
    Service,
    TrafficPolicy,
    Warmup,
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
        "idleTimeout: 12s, tcpKeepalive: {probes: 4, time: 5s, interval: 6s}}, "
        "http: {http1MaxPendingRequests: 7, http2MaxRequests: 8, maxRequestsPerConnection: 9, "
        "maxRetries: 10, idleTimeout: 11s}}"
    )
    budget = "{percent: 12.5, minRetryConcurrency: 0}"
    made = compiled(f"trafficPolicy: {{connectionPool: {pool}, retryBudget: {budget}}}")
    limits = ConnectionLimits(1, 7, 8, 9, 10, 2.0, 11.0, 3.0, True, 4, 5.0, 6.0, 12.0)
    assert made.traffic == TrafficPolicy(ORIGIN, limits, RetryBudget(12.5, 0))


def test_what_a_connection_pool_says_of_http2() -> None:
    pool = (
        "{http: {h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 5, "
        "http2KeepAlive: {interval: 10s, timeout: 1500ms}}}"
    )
    made = compiled(f"trafficPolicy: {{connectionPool: {pool}}}")
    limits = ConnectionLimits(h2_upgrade="UPGRADE", max_streams=5, ping_interval_s=10.0, ping_timeout_s=1.5)
    assert made.traffic == TrafficPolicy(ORIGIN, limits)
    own = "{http: {h2UpgradePolicy: DO_NOT_UPGRADE, useClientProtocol: true}}"
    subsets = f"[{{name: a, trafficPolicy: {{connectionPool: {own}}}}}]"
    (a,) = compiled(f"trafficPolicy: {{connectionPool: {pool}}}, subsets: {subsets}").subsets
    limits = ConnectionLimits(h2_upgrade="DO_NOT_UPGRADE", uses_client_protocol=True)
    assert a.traffic == TrafficPolicy(ORIGIN, limits)


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


@pytest.mark.parametrize(
    ("said", "policy"),
    [
        ("httpHeaderName: X-User", HashPolicy("header", "x-user")),
        ("httpQueryParameterName: User", HashPolicy("query", "User")),
        ("useSourceIp: true, minimumRingSize: 99", HashPolicy("source_ip", minimum_ring_size=99)),
        ("useSourceIp: true, ringHash: {minimumRingSize: 7}", HashPolicy("source_ip", minimum_ring_size=7)),
        ("useSourceIp: true, maglev: {}", HashPolicy("source_ip", table_size=16_381)),
        ("useSourceIp: true, maglev: {tableSize: 101}", HashPolicy("source_ip", table_size=101)),
        ("httpCookie: {name: c}", HashPolicy("cookie", "c")),
        ("httpCookie: {name: c, ttl: 0s}", HashPolicy("cookie", "c", cookie_ttl_s=0.0)),
        (
            "httpCookie: {name: c, path: /p, ttl: 1m, "
            "attributes: [{name: SameSite, value: Lax}, {name: Secure}]}",
            HashPolicy("cookie", "c", "/p", 60.0, (("SameSite", "Lax"), ("Secure", ""))),
        ),
    ],
)
def test_consistent_hashes(said: str, policy: HashPolicy) -> None:
    made = compiled(f"trafficPolicy: {{loadBalancer: {{consistentHash: {{{said}}}}}}}")
    assert made.traffic == TrafficPolicy(ORIGIN, hashing=policy)


@pytest.mark.parametrize(
    ("said", "warmup"),
    [
        ("warmup: {duration: 30s}", Warmup(30.0)),
        ("warmup: {duration: 30s, minimumPercent: 0, aggression: 2}", Warmup(30.0, 0.0, 2.0)),
        ("warmupDurationSecs: 1m", Warmup(60.0)),
    ],
)
def test_warm_up(said: str, warmup: Warmup) -> None:
    made = compiled(f"trafficPolicy: {{loadBalancer: {{{said}}}}}")
    assert made.traffic == TrafficPolicy(ORIGIN, warmup=warmup)


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("loadBalancer: {consistentHash: {}}", "without one of httpHeaderName"),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, httpHeaderName: a}}",
            "set one of httpHeaderName",
        ),
        ("loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 100}}}", "100 is not prime"),
        ("loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 1}}}", "1 is not prime"),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, maglev: {}, ringHash: {}}}",
            "set one of ringHash",
        ),
        ("loadBalancer: {consistentHash: {httpCookie: {name: c, ttl: soon}}}", "not a duration"),
        ("loadBalancer: {consistentHash: {httpCookie: {name: 'c;'}}}", "name"),
        ("loadBalancer: {consistentHash: {httpCookie: {name: c, path: '/;x'}}}", "path"),
        (
            "loadBalancer: {localityLbSetting: {distribute: [{from: r, to: {r/*: 70, q: 20}}]}}",
            "the shares sum to 90",
        ),
        (
            "loadBalancer: {localityLbSetting: {distribute: [{from: r//s, to: {q: 100}}]}}",
            "'r//s' is no locality",
        ),
        ("loadBalancer: {localityLbSetting: {failover: [{from: r, to: r}]}}", "name another region"),
        ("loadBalancer: {localityLbSetting: {failover: [{from: r/z, to: q}]}}", "'r/z' is no region"),
        (
            "loadBalancer: {localityLbSetting: {failoverPriority: [a], "
            "distribute: [{from: r, to: {q: 100}}]}}",
            "failoverPriority beside distribute",
        ),
        ("connectionPool: {}", "a connectionPool has tcp, http or both"),
        ("connectionPool: {tcp: {maxConnections: -1}}", "maxConnections"),
        ("outlierDetection: {maxEjectionPercent: 101}", "maxEjectionPercent"),
        ("outlierDetection: {consecutiveLocalOriginFailures: 3}", "splitExternalLocalOriginErrors: true"),
        ("portLevelSettings: [{connectionPool: {tcp: {}}}]", "say which port"),
    ],
)
def test_flaws(policy: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        compiled(f"trafficPolicy: {{{policy}}}")


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        ("loadBalancer: {simple: PASSTHROUGH}", "loadBalancer.simple PASSTHROUGH: callers name hosts"),
        (
            "loadBalancer: {simple: RANDOM, warmup: {duration: 1s}}",
            "loadBalancer.warmup for other algorithms",
        ),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 99999}}",
            "minimumRingSize 99999",
        ),
        ("outlierDetection: {consecutiveErrors: 3}", "consecutiveErrors: its newer form"),
        ("outlierDetection: {outlierDetectionHttpErrorCodes: [429]}", "outlierDetectionHttpErrorCodes"),
        ("retryBudget: {budgetInterval: 1s}", "budgetInterval"),
        ("portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]", "tls: say it for the whole host"),
    ],
)
def test_what_is_not_honoured_is_named(policy: str, named: str) -> None:
    with pytest.raises(NotSupported, match=named):
        compiled(f"trafficPolicy: {{{policy}}}")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("{attempts: 1, retryOn: sometimes}", "'sometimes' is no condition"),
        ("{attempts: 1, retryOn: '5xx,700'}", "'700' is no condition"),
        ("{attempts: 0, retryOn: 5xx}", "0 \\(or none\\) means no retries"),
        ("{perTryTimeout: 1s}", "0 \\(or none\\) means no retries"),
        ("{attempts: 1, retryOn: retriable-headers}", "retryOn retriable-headers: no field names"),
        ("{attempts: 1, retryOn: envoy-ratelimited}", "retryOn envoy-ratelimited"),
        ("{attempts: 1, retryOn: http3-post-connect-failure}", "retryOn http3-post-connect-failure"),
    ],
)
def test_retries_that_are_refused(said: str, told: str) -> None:
    with pytest.raises((ConfigError, NotSupported), match=told):
        routes("reviews", f"[{{retries: {said}, route: [{to('reviews')}]}}]")


@pytest.mark.parametrize(
    ("retry_on", "codes"),
    [
        ("retriable-status-codes", ["RM0130"]),
        ("'5xx,retriable-status-codes'", ["RM0130"]),
        ("'retriable-status-codes,503'", []),
        ("5xx", []),
    ],
)
def test_retries_by_status_without_a_status(retry_on: str, codes: list[str]) -> None:
    rule = f"[{{retries: {{attempts: 1, retryOn: {retry_on}}}, route: [{to('reviews')}]}}]"
    found = admit(world(service("reviews")), [routes("reviews", rule)])
    assert [(one.code, one.severity) for one in found] == [(code, "warning") for code in codes]


def test_every_field_of_retries() -> None:
    said = (
        "{attempts: 3, perTryTimeout: 2s, retryOn: '5xx, 429,retriable-status-codes', backoff: 50ms, "
        "retryIgnorePreviousHosts: false, retryRemoteLocalities: true}"
    )
    rule = routes("reviews", f"[{{retries: {said}, route: [{to('reviews')}]}}]")
    made = compile_key(world(service("reviews"), rule), "service.default.reviews")
    assert isinstance(made, Service)
    expected = Retries(3, ("5xx", "retriable-status-codes"), (429,), 2.0, 0.05, False, True)
    assert made.routes[0].retries == expected


@pytest.mark.parametrize(
    ("said", "policy"),
    [
        ("{}", LocalityPolicy()),
        ("{enabled: true, failover: [{from: r, to: q}]}", LocalityPolicy(failover=(("r", "q"),))),
        ("{failoverPriority: [net, zone=z]}", LocalityPolicy(priority_labels=("net", "zone=z"))),
        (
            "{distribute: [{from: r/z/*, to: {r/z/*: 80, q: 20}}]}",
            LocalityPolicy((LocalityShares("r/z/*", (("q", 20), ("r/z/*", 80))),)),
        ),
    ],
)
def test_localities(said: str, policy: LocalityPolicy) -> None:
    made = compiled(f"trafficPolicy: {{loadBalancer: {{localityLbSetting: {said}}}}}")
    assert made.traffic == TrafficPolicy(ORIGIN, locality=policy)
    assert compiled("trafficPolicy: {loadBalancer: {localityLbSetting: {enabled: false}}}").traffic is None


def test_endpoints_say_where_they_are_and_how_much_they_count() -> None:
    entry = "{address: 192.0.2.1, labels: {app: reviews%s}%s}"
    entries = [
        document("WorkloadEntry", "a", entry % ("", ", locality: q/z, weight: 3")),
        document("WorkloadEntry", "b", entry % (", istio-locality: r.z.s", "")),
    ]
    made = compile_endpoints(world(service("reviews"), *entries), "endpoints.default.reviews", ())
    assert isinstance(made, Endpoints)
    assert {(one.locality, one.weight) for one in made.endpoints} == {("q/z", 3), ("r/z/s", 1)}
