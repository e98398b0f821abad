"""What rules do with requests besides sending them somewhere: changes of headers and path, answers, CORS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ray_mesh import snapshot
from ray_mesh.resources.header_operations import HeaderOperations, Headers, changes_of
from ray_mesh.resources.route_ways import CorsPolicy, Redirect, Rewrite, StringMatch
from ray_mesh.resources.schema import seconds
from ray_mesh.resources.virtual_service import HttpRoute


def ways(rule: HttpRoute) -> dict[str, Any]:
    """Fields of the :class:`snapshot.Route` of a rule."""
    headers, rewrite, direct = rule.headers or Headers(), rule.rewrite, rule.direct_response
    body = direct.body.content if direct and direct.body else b""
    return {
        "request_headers": header_changes(headers.request),
        "response_headers": header_changes(headers.response),
        "authority": headers.authority or (rewrite.authority if rewrite else "") or "",
        "rewrite": _rewrite(rewrite) if rewrite else None,
        "redirect": _redirect(rule.redirect) if rule.redirect else None,
        "direct_response": snapshot.DirectResponse(direct.status, body) if direct else None,
        "cors": _cors(rule.cors_policy) if rule.cors_policy else None,
    }


def by_matched_path(route: snapshot.Route) -> Iterator[snapshot.Route]:
    """The route, or one for each match where the new path depends on what was matched: the prefix is
    replaced, of other matches the whole path, and without any the first slash, which is Istio's prefix."""
    replaces_path = route.rewrite and route.rewrite.path
    if not replaces_path and not (route.redirect and route.redirect.length >= 0):
        yield route
        return
    for match in route.matches or (snapshot.RequestMatch(),):
        length = -1
        if match.uri is None:
            length = 1
        elif match.uri.kind == "prefix":
            length = len(match.uri.value.encode())
        rewrite = replace(route.rewrite, length=length) if route.rewrite else None
        redirect = replace(route.redirect, length=length) if route.redirect else None
        yield replace(route, matches=(match,) if route.matches else (), rewrite=rewrite, redirect=redirect)


def header_changes(operations: HeaderOperations | None) -> snapshot.HeaderChanges | None:
    """Header operations in the form of a snapshot; None when they change nothing."""
    if operations is None:
        return None
    remove, put, add = changes_of(operations)
    if not (remove or put or add):
        return None
    return snapshot.HeaderChanges(remove, tuple(sorted(put.items())), tuple(sorted(add.items())))


def text_match(match: StringMatch | None) -> snapshot.StringMatch | None:
    """A match in the form of a snapshot."""
    if match is None:
        return None
    if match.exact is not None:
        return snapshot.StringMatch("exact", match.exact)
    if match.prefix is not None:
        return snapshot.StringMatch("prefix", match.prefix)
    if match.regex is not None:
        return snapshot.StringMatch("regex", match.regex)
    return snapshot.StringMatch("present")


def _rewrite(rewrite: Rewrite) -> snapshot.Rewrite | None:
    if rewrite.uri_regex_rewrite:
        pattern = rewrite.uri_regex_rewrite
        return snapshot.Rewrite(pattern=pattern.match, template=pattern.rewrite)
    return snapshot.Rewrite(rewrite.uri) if rewrite.uri else None


def _redirect(redirect: Redirect) -> snapshot.Redirect:
    return snapshot.Redirect(
        status=redirect.redirect_code or 301,
        scheme=redirect.scheme or "",
        authority=redirect.authority or "",
        port=redirect.port or 0,
        keeps_port=redirect.derive_port == "FROM_REQUEST_PORT",
        path=redirect.uri or redirect.prefix_rewrite or "",
        length=0 if redirect.prefix_rewrite else -1,
    )


def _cors(policy: CorsPolicy) -> snapshot.Cors:
    written = (*(StringMatch(exact=origin) for origin in policy.allow_origin), *policy.allow_origins)
    origins = (text_match(origin) for origin in written)
    return snapshot.Cors(
        origins=tuple(origin for origin in origins if origin is not None),
        allow_methods=",".join(policy.allow_methods),
        allow_headers=",".join(policy.allow_headers),
        expose_headers=",".join(policy.expose_headers),
        max_age=f"{seconds(policy.max_age):.0f}" if policy.max_age else "",
        allows_credentials=bool(policy.allow_credentials),
        forwards_unmatched=policy.unmatched_preflights != "IGNORE",
    )
