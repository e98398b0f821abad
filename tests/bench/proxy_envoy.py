"""Envoy with what our planes have on: routes, access log, statistics, request ids; and inbound mutual TLS
with a policy on who may call what. Both sides of a pair, for 1.40.

Where the application speaks HTTP/2, statuses and deadlines of gRPC are minded as Istio has it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench_upstream import ADDRESSES
from proxy_pki import TRUST_DOMAIN, Pki, sni
from proxy_plane import host_name

Config = dict[str, Any]
_API = "type.googleapis.com/envoy.extensions"
_UNLIMITED = 1_000_000
_TIMES: Config = {
    "timeout": "0s",
    "max_stream_duration": {"max_stream_duration": "0s", "grpc_timeout_header_max": "0s"},
}
"""No timeout but the one that a gRPC call brings along."""
_LOG_FORMAT = (
    "%START_TIME% %REQ(:METHOD)% %REQ(:AUTHORITY)% %REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% "
    "%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %REQ(X-REQUEST-ID)% %REQ(USER-AGENT)% %UPSTREAM_HOST% "
    "%ROUTE_NAME% %GRPC_STATUS%\n"
)


def outbound(
    pki: Pki,
    log: Path,
    port: int,
    app_port: int,
    peer_port: int = 0,
    hosts: int = 0,
    routes: int = 0,
    speaks_http2: bool = False,
) -> Config:
    """The caller's side; arguments as in :class:`proxy_plane.Settings`."""
    if peer_port and speaks_http2:
        transport = _tls_to_reviews(pki, "h2")
        clusters = [_http2(_cluster(name, ("127.0.0.1",), peer_port, transport)) for name in ("v1", "v2")]
    elif speaks_http2:
        listed = (("v1", ADDRESSES[:2]), ("v2", ADDRESSES[2:]))
        clusters = [_http2(_cluster(name, addresses, app_port)) for name, addresses in listed]
    elif peer_port:
        transport = _tls_to_reviews(pki)
        clusters = [_cluster(name, ("127.0.0.1",), peer_port, transport) for name in ("v1", "v2")]
    else:
        clusters = [_cluster("v1", ADDRESSES[:2], app_port), _cluster("v2", ADDRESSES[2:], app_port)]
    many = [_one_of_many(number, routes) for number in range(hosts)]
    clusters += [
        _cluster(host_name(number), (ADDRESSES[number % len(ADDRESSES)],), app_port)
        for number in range(hosts)
    ]
    filters = [_grpc_stats()] if speaks_http2 else []
    return _static(port, _manager([_reviews(), *many], log, filters), clusters)


def inbound(pki: Pki, log: Path, port: int, app_port: int, speaks_http2: bool = False) -> Config:
    """The application's side: mutual TLS, nobody below ``/admin``, and only the caller."""
    everything: Config = {
        "name": "inbound",
        "domains": ["*"],
        "routes": [{"name": "inbound", "match": {"prefix": "/"}, "route": {"cluster": "app", **_TIMES}}],
    }
    caller = {"authenticated": {"principal_name": {"exact": _spiffe("caller")}}}
    admin = {"url_path": {"path": {"prefix": "/admin"}}}
    policies = [
        _rbac("DENY", {"permissions": [admin], "principals": [{"any": True}]}),
        _rbac("ALLOW", {"permissions": [{"any": True}], "principals": [caller]}),
    ]
    if speaks_http2:
        policies.append(_grpc_stats())
    manager = _manager([everything], log, policies)
    manager["forward_client_cert_details"] = "SANITIZE_SET"
    manager["set_current_client_cert_details"] = {"uri": True}
    app = _cluster("app", ADDRESSES[:1], app_port)
    if speaks_http2:
        return _static(port, manager, [_http2(app)], _tls_of_reviews(pki, "h2"))
    return _static(port, manager, [app], _tls_of_reviews(pki))


def relay(log: Path, port: int, app_port: int, tls: tuple[Config, Config] | None = None) -> Config:
    """Bytes to a port, with ``tls`` the contexts of both sides of the hop that this is a side of."""
    downstream, upstream = tls or ({}, {})
    proxy = {
        "@type": f"{_API}.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "bench",
        "cluster": "app",
        "access_log": [_access_log(log)],
    }
    filters = [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]
    chain: Config = {"filters": filters, **downstream}
    listener = {"name": "bench", "address": _address("127.0.0.1", port), "filter_chains": [chain]}
    cluster = {**_cluster("app", ("127.0.0.1",), app_port), **upstream}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def relay_pair(pki: Pki) -> tuple[tuple[Config, Config], tuple[Config, Config]]:
    """The contexts of the caller's side and of the application's, see :func:`relay`."""
    return ({}, {"transport_socket": _tls_to_reviews(pki)}), ({"transport_socket": _tls_of_reviews(pki)}, {})


def write(config: Config, path: Path) -> Path:
    """Write a configuration to a file."""
    path.write_text(json.dumps(config))
    return path


def _address(address: str, port: int) -> Config:
    return {"socket_address": {"address": address, "port_value": port}}


def _static(port: int, manager: Config, clusters: list[Config], socket: Config | None = None) -> Config:
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    chain: Config = {"filters": filters}
    if socket is not None:
        chain["transport_socket"] = socket
    listener = {"name": "bench", "address": _address("127.0.0.1", port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


def _manager(hosts: list[Config], log: Path, filters: list[Config]) -> Config:
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{_API}.filters.http.router.v3.Router"},
    }
    return {
        "@type": f"{_API}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "codec_type": "AUTO",
        "generate_request_id": True,
        "normalize_path": True,
        "use_remote_address": True,
        "access_log": [_access_log(log)],
        "route_config": {"name": "bench", "virtual_hosts": hosts},
        "http_filters": [*filters, router],
    }


def _access_log(log: Path) -> Config:
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": f"{_API}.access_loggers.file.v3.FileAccessLog",
            "path": str(log),
            "log_format": {"text_format_source": {"inline_string": _LOG_FORMAT}},
        },
    }


def _reviews() -> Config:
    header = {"name": "end-user", "string_match": {"exact": "jason"}}
    weights = [{"name": "v1", "weight": 90}, {"name": "v2", "weight": 10}]
    split = {"weighted_clusters": {"clusters": weights}, **_TIMES}
    return {
        "name": "reviews",
        "domains": ["reviews", "reviews.default.svc.cluster.local"],
        "routes": [
            {
                "name": "jason",
                "match": {"prefix": "/", "headers": [header]},
                "route": {"cluster": "v2", **_TIMES},
            },
            {"name": "everybody", "match": {"prefix": "/"}, "route": split},
        ],
    }


def _one_of_many(number: int, routes: int) -> Config:
    name = host_name(number)
    prefixes = [*(f"/r{index}/" for index in range(routes - 1)), "/reviews"]
    listed = [
        {"name": f"route-{index}", "match": {"prefix": prefix}, "route": {"cluster": name, **_TIMES}}
        for index, prefix in enumerate(prefixes)
    ]
    return {"name": name, "domains": [name, f"{name}.default.svc.cluster.local"], "routes": listed}


def _rbac(action: str, policy: Config) -> Config:
    typed = {
        "@type": f"{_API}.filters.http.rbac.v3.RBAC",
        "rules": {"action": action, "policies": {f"default/{action.lower()}": policy}},
    }
    return {"name": f"rbac-{action.lower()}", "typed_config": typed}


def _spiffe(account: str) -> str:
    return f"spiffe://{TRUST_DOMAIN}/ns/default/sa/{account}"


def _common(pki: Pki, account: str, alpn: str, peer: str = "") -> Config:
    validation: Config = {"trusted_ca": {"filename": pki.roots}}
    if peer:
        name = {"san_type": "URI", "matcher": {"exact": _spiffe(peer)}}
        validation["match_typed_subject_alt_names"] = [name]
    certificate = {
        "certificate_chain": {"filename": pki.file(account, "crt")},
        "private_key": {"filename": pki.file(account, "key")},
    }
    return {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [certificate],
        "validation_context": validation,
        "alpn_protocols": [alpn],
    }


def _tls_of_reviews(pki: Pki, alpn: str = "http/1.1") -> Config:
    typed = {
        "@type": f"{_API}.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "disable_stateless_session_resumption": True,
        "disable_stateful_session_resumption": True,
        "common_tls_context": _common(pki, "reviews", alpn),
    }
    return {"name": "envoy.transport_sockets.tls", "typed_config": typed}


def _tls_to_reviews(pki: Pki, alpn: str = "http/1.1") -> Config:
    typed = {
        "@type": f"{_API}.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": sni("reviews"),
        "common_tls_context": _common(pki, "caller", alpn, peer="reviews"),
    }
    return {"name": "envoy.transport_sockets.tls", "typed_config": typed}


def _cluster(name: str, addresses: tuple[str, ...], port: int, socket: Config | None = None) -> Config:
    endpoints = [{"endpoint": {"address": _address(address, port)}} for address in addresses]
    limits = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    cluster: Config = {
        "name": name,
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [dict.fromkeys(limits, _UNLIMITED)]},
        "outlier_detection": {},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }
    if socket is not None:
        cluster["transport_socket"] = socket
    return cluster


def _http2(cluster: Config) -> Config:
    """The cluster, called by HTTP/2."""
    options = {
        "@type": f"{_API}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {**cluster, "typed_extension_protocol_options": {key: options}}


def _grpc_stats() -> Config:
    typed = {"@type": f"{_API}.filters.http.grpc_stats.v3.FilterConfig", "emit_filter_state": True}
    return {"name": "envoy.filters.http.grpc_stats", "typed_config": typed}
