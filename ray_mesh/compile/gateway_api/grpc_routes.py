"""GRPCRoutes to routes, in the order of precedence of the Gateway API.

A call is a request for ``/<service>/<method>``, and nothing else is looked at to tell one: a host with
GRPCRoutes has no other requests. The longest service goes first, then the longest method, then the match
with the most headers, of the oldest route, of the first name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ray_mesh import snapshot
from ray_mesh.compile.gateway_api.backends import destination
from ray_mesh.compile.gateway_api.filters import header_ways
from ray_mesh.compile.gateway_api.http_routes import Rank
from ray_mesh.compile.gateway_api.rules import header_matches, rule_fields
from ray_mesh.resources import Document, GrpcRouteSpec
from ray_mesh.resources.gateway_api.grpc_route import GrpcBackendRef, GrpcMatch, MethodMatch

if TYPE_CHECKING:
    from ray_mesh.compile.world import World


def grpc_routes(world: World, document: Document) -> Iterator[tuple[Rank, snapshot.Route]]:
    """Every match of a GRPCRoute as a route, and its rank among those of all GRPCRoutes."""
    for index, rule in enumerate(document.read(GrpcRouteSpec).rules):
        shares = tuple(_share(world, document, one) for one in rule.backend_refs if one.weight)
        fields = rule_fields(world, document, index, rule, shares)
        said = header_ways(rule.filters) if rule.filters else {}
        for number, match in enumerate(rule.conditions):
            rank = (*_precedence(match), document.admitted_at, document.key, index, number)
            yield rank, snapshot.Route(matches=(_match(match),), **fields, **said)


def _precedence(match: GrpcMatch) -> Rank:
    method = match.method or MethodMatch()
    return -len(method.service or ""), -len(method.method or ""), -len(match.headers)


def _match(match: GrpcMatch) -> snapshot.RequestMatch:
    uri = _uri(match.method) if match.method is not None else None
    return snapshot.RequestMatch(uri=uri, headers=header_matches(match.headers))


def _uri(method: MethodMatch) -> snapshot.StringMatch:
    if method.type == "RegularExpression":
        return snapshot.StringMatch("regex", method.pattern)
    if not method.service:
        return snapshot.StringMatch("regex", f"/[^/]+/{re.escape(method.method or '')}")
    if not method.method:
        return snapshot.StringMatch("prefix", f"/{method.service}/")
    return snapshot.StringMatch("exact", f"/{method.service}/{method.method}")


def _share(world: World, document: Document, backend: GrpcBackendRef) -> snapshot.Destination:
    share = destination(world, document, backend, backend.weight)
    return replace(share, **header_ways(backend.filters)) if backend.filters else share
