"""Filters of a rule of an HTTPRoute or GRPCRoute to the fields of a route."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ray_mesh import snapshot
from ray_mesh.resources.gateway_api.filters import (
    Cors,
    GrpcFilter,
    HeaderFilter,
    HttpFilter,
    PathModifier,
    RequestRedirect,
)
from ray_mesh.resources.gateway_api.http_route import PathMatch

if TYPE_CHECKING:
    from ray_mesh.compile.gateway_api.http_routes import Listening

_WELL_KNOWN = {"http": 80, "https": 443}


def ways(
    filters: Iterable[HttpFilter], path: PathMatch, uri: snapshot.StringMatch | None, listening: Listening
) -> dict[str, Any]:
    """Fields of the :class:`snapshot.Route` of a rule with these filters, for a match of the path that was
    written as ``path`` and is looked for as ``uri``."""
    filters = tuple(filters)
    found = header_ways(filters) | {"rewrite": None, "redirect": None, "cors": None}
    for one in filters:
        if one.url_rewrite is not None:
            found["authority"] = one.url_rewrite.hostname or found["authority"]
            if one.url_rewrite.path is not None:
                found["rewrite"] = snapshot.Rewrite(*_new_path(one.url_rewrite.path, path, uri))
        if one.request_redirect is not None:
            found["redirect"] = _redirect(one.request_redirect, path, uri, listening)
        if one.cors is not None:
            found["cors"] = _cors(one.cors)
    return found


def header_ways(filters: Iterable[HttpFilter | GrpcFilter]) -> dict[str, Any]:
    """Those of the fields that say headers and Host, which backends may have of their own."""
    found: dict[str, Any] = {"request_headers": None, "response_headers": None, "authority": ""}
    for one in filters:
        if one.request_header_modifier is not None:
            found["request_headers"] = _changes(one.request_header_modifier)
            found["authority"] = one.request_header_modifier.authority or found["authority"]
        if one.response_header_modifier is not None:
            found["response_headers"] = _changes(one.response_header_modifier)
    return found


def _changes(said: HeaderFilter) -> snapshot.HeaderChanges | None:
    changes = snapshot.HeaderChanges(
        tuple(sorted({name.lower() for name in said.remove})),
        tuple(sorted((one.name.lower(), one.value) for one in said.set if one.name.lower() != "host")),
        tuple(sorted((one.name.lower(), one.value) for one in said.add)),
    )
    return None if changes == snapshot.HeaderChanges() else changes


def _new_path(said: PathModifier, path: PathMatch, uri: snapshot.StringMatch | None) -> tuple[str, int]:
    """The new path, and instead of how many bytes it comes (-1 for all). A slash at the end of a prefix does
    not count, and what is left begins with one."""
    if said.replace_full_path is not None:
        return said.replace_full_path or "/", -1
    new = (said.replace_prefix_match or "").removesuffix("/")
    if uri is not None and uri.kind == "exact":
        return new or "/", -1
    return f"{new}/", len(path.prefix.encode()) + 1


def _redirect(
    said: RequestRedirect, path: PathMatch, uri: snapshot.StringMatch | None, listening: Listening
) -> snapshot.Redirect:
    """A port that is the scheme's own is not said. Without a scheme the port is the listener's, which is the
    one that was asked for, if the host is."""
    scheme = said.scheme or listening.scheme
    port, drops = said.port or 0, False
    if not port and said.scheme:
        drops = True
    elif not port and said.hostname:
        port = listening.port
    if port == _WELL_KNOWN[scheme]:
        port, drops = 0, True
    new, length = _new_path(said.path, path, uri) if said.path is not None else ("", -1)
    return snapshot.Redirect(
        status=said.status_code,
        scheme=said.scheme or "",
        authority=said.hostname or "",
        port=port,
        path=new,
        length=length,
        drops_port=drops,
    )


def _cors(said: Cors) -> snapshot.Cors:
    """Preflights of other origins are answered without a word of CORS."""
    return snapshot.Cors(
        origins=tuple(_origin(one) for one in said.allow_origins),
        allow_methods=",".join(said.allow_methods),
        allow_headers=",".join(said.allow_headers),
        expose_headers=",".join(said.expose_headers),
        max_age=str(said.max_age),
        allows_credentials=bool(said.allow_credentials),
        forwards_unmatched=False,
        repeats_asked=bool(said.allow_credentials),
    )


def _origin(text: str) -> snapshot.StringMatch:
    if text == "*" or "*" not in text:
        return snapshot.StringMatch("exact", text)
    # A wildcard stands for labels of a host, never for what comes behind it.
    pattern = re.escape(text).replace(r"\*", "[A-Za-z0-9.-]+")
    if not re.search(r":[0-9]+$", text):
        pattern += "(:[0-9]+)?" if text.endswith("*") else ""
    return snapshot.StringMatch("regex", pattern)
