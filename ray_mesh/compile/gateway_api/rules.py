"""What rules of HTTPRoutes and GRPCRoutes become alike: names, destinations, mirrors and header matches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ray_mesh import snapshot
from ray_mesh.compile.gateway_api.backends import destination, invalid, why_invalid
from ray_mesh.resources import Document
from ray_mesh.resources.gateway_api.filters import GrpcFilter, HttpFilter
from ray_mesh.resources.gateway_api.grpc_route import GrpcRouteRule
from ray_mesh.resources.gateway_api.http_route import HeaderMatch, HttpRouteRule, QueryMatch

if TYPE_CHECKING:
    from ray_mesh.compile.world import World


def rule_fields(
    world: World,
    document: Document,
    index: int,
    rule: HttpRouteRule | GrpcRouteRule,
    destinations: tuple[snapshot.Destination, ...],
) -> dict[str, Any]:
    """Fields of :class:`snapshot.Route` that are the same for all matches of a rule. Without a destination
    the rule answers as if all were invalid."""
    return {
        "name": f"{document.namespace}/{document.name}/{rule.name or index}",
        "origin": f"{document.title} spec.rules[{index}]",
        "destinations": destinations,
        "direct_response": None if destinations else snapshot.DirectResponse(invalid(document)),
        "mirrors": _mirrors(world, document, rule.filters),
    }


def _mirrors(
    world: World, document: Document, filters: Iterable[HttpFilter | GrpcFilter]
) -> tuple[snapshot.Mirror, ...]:
    """Copies for backends that are not there are not sent."""
    found = []
    for one in filters:
        mirror = one.request_mirror
        if mirror is None or mirror.share <= 0 or why_invalid(world, document, mirror.backend_ref):
            continue
        found.append(snapshot.Mirror(destination(world, document, mirror.backend_ref, 100), mirror.share))
    return tuple(found)


def header_matches(headers: Iterable[HeaderMatch]) -> tuple[snapshot.NamedMatch, ...]:
    """Matches of headers, by name."""
    return tuple(sorted((named_match(one, one.name.lower()) for one in headers), key=name_of))


def named_match(one: HeaderMatch | QueryMatch, name: str) -> snapshot.NamedMatch:
    """A match of a header or query parameter under the name that counts."""
    kind = "exact" if one.type == "Exact" else "regex"
    return snapshot.NamedMatch(name, snapshot.StringMatch(kind, one.value))  # type: ignore[arg-type]


def name_of(one: snapshot.NamedMatch) -> str:
    """What matches are sorted by."""
    return one.name
