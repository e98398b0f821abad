"""HTTPRoutes to routes, in the order of precedence of the Gateway API.

Each match of a rule becomes a route of its own, so that the matches of all rules of all HTTPRoutes can be
put in order: exact paths, then expressions, then prefixes, the longest first; then those with a method,
with the most headers, with the most query parameters, of the oldest route, of the first name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from ray_mesh import snapshot
from ray_mesh.compile.gateway_api.backends import destination
from ray_mesh.compile.gateway_api.filters import ways
from ray_mesh.compile.gateway_api.rules import header_matches, name_of, named_match, rule_fields
from ray_mesh.resources import Document, HttpRouteSpec
from ray_mesh.resources.gateway_api.http_route import (
    HttpBackendRef,
    HttpRouteRule,
    PathMatch,
    RouteMatch,
)
from ray_mesh.resources.gateway_api.names import duration_s

if TYPE_CHECKING:
    from ray_mesh.compile.world import World

Rank: TypeAlias = tuple[Any, ...]
DEFAULT_ATTEMPTS = 2
"""Of a ``retry`` that does not say how many."""
_RETRIED = ("connect-failure", "refused-stream", "unavailable", "cancelled")
_PATHS = {"Exact": 0, "RegularExpression": 1, "PathPrefix": 2}


@dataclass(frozen=True, slots=True)
class Listening:
    """Where requests come in: what they speak, and the port; a port of 0 is that of whatever was called."""

    scheme: str = "http"
    port: int = 0


def http_routes(
    world: World, document: Document, listening: Listening
) -> Iterator[tuple[Rank, snapshot.Route]]:
    """Every match of an HTTPRoute as a route, and its rank among those of all HTTPRoutes."""
    for index, rule in enumerate(document.read(HttpRouteSpec).rules):
        fields = _fields(world, document, index, rule)
        for number, match in enumerate(rule.conditions):
            rank = (*_precedence(match), document.admitted_at, document.key, index, number)
            for place, uris in enumerate(_groups(rule, match)):
                said = ways(rule.filters, match.path, uris[0], listening) if rule.filters else {}
                matches = tuple(_match(match, uri) for uri in uris)
                yield (*rank, place), snapshot.Route(matches=matches, **fields, **said)


def _groups(rule: HttpRouteRule, match: RouteMatch) -> list[tuple[snapshot.StringMatch | None, ...]]:
    """The ways to write a match of the path: together, unless the new path depends on which of them holds."""
    uris = _uris(match.path)
    return [(uri,) for uri in uris] if any(one.replaces_prefix for one in rule.filters) else [uris]


def _precedence(match: RouteMatch) -> Rank:
    length = len(match.path.prefix if match.path.type == "PathPrefix" else match.path.value)
    return (
        _PATHS[match.path.type],
        -length,
        match.method is None,
        -len(match.headers),
        -len(match.query_params),
    )


def _uris(path: PathMatch) -> tuple[snapshot.StringMatch | None, ...]:
    """A prefix of path elements is the path itself, and everything behind it and a slash."""
    if path.type == "Exact":
        return (snapshot.StringMatch("exact", path.value),)
    if path.type == "RegularExpression":
        return (snapshot.StringMatch("regex", path.value),)
    if not path.prefix:
        return (None,)
    return snapshot.StringMatch("exact", path.prefix), snapshot.StringMatch("prefix", f"{path.prefix}/")


def _match(match: RouteMatch, uri: snapshot.StringMatch | None) -> snapshot.RequestMatch:
    return snapshot.RequestMatch(
        uri=uri,
        method=snapshot.StringMatch("exact", match.method) if match.method else None,
        headers=header_matches(match.headers),
        query_params=tuple(sorted((named_match(one, one.name) for one in match.query_params), key=name_of)),
    )


def _fields(world: World, document: Document, index: int, rule: HttpRouteRule) -> dict[str, Any]:
    """The fields of :class:`snapshot.Route` that are the same for all matches of a rule."""
    timeouts = rule.timeouts
    destinations = tuple(_share(world, document, one) for one in rule.backend_refs if one.weight)
    fields = rule_fields(world, document, index, rule, destinations)
    if any(one.request_redirect for one in rule.filters):
        fields["direct_response"] = None
    timeout_s = duration_s(timeouts.request) if timeouts and timeouts.request else 0.0
    return fields | {"timeout_s": timeout_s, "retries": _retries(rule)}


def _share(world: World, document: Document, backend: HttpBackendRef) -> snapshot.Destination:
    share = destination(world, document, backend, backend.weight)
    if not backend.filters:
        return share
    own = ways(backend.filters, PathMatch(), None, Listening())
    return replace(share, **{name: own[name] for name in _OF_A_SHARE})


_OF_A_SHARE = ("request_headers", "response_headers", "authority")


def _retries(rule: HttpRouteRule) -> snapshot.Retries | None:
    """Each try has its own time; without ``retry`` there is one."""
    each = rule.timeouts.backend_request if rule.timeouts else None
    limit_s = duration_s(each) if each else 0.0
    said = rule.retry
    if said is None:
        return snapshot.Retries(0, per_try_timeout_s=limit_s) if limit_s else None
    return snapshot.Retries(
        attempts=DEFAULT_ATTEMPTS if said.attempts is None else said.attempts,
        on=_RETRIED,
        statuses=tuple(sorted(said.codes)),
        per_try_timeout_s=limit_s,
        backoff_s=duration_s(said.backoff) if said.backoff else 0.0,
    )
