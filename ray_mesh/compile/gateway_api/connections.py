"""TLSRoutes and TCPRoutes to routes of connections."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ray_mesh import snapshot
from ray_mesh.compile.gateway_api.backends import destination
from ray_mesh.resources import Document, TcpRouteSpec, TlsRouteSpec

if TYPE_CHECKING:
    from ray_mesh.compile.world import World


def connection_route(
    world: World, document: Document, matches: Iterable[snapshot.ConnectionMatch] = ()
) -> snapshot.ConnectionRoute:
    """The rule of a TLSRoute or TCPRoute. Backends without weight take nothing; if none has any, and where
    one is invalid, its share of the connections is refused."""
    spec = document.spec
    assert isinstance(spec, TcpRouteSpec | TlsRouteSpec)
    [rule] = spec.rules
    return snapshot.ConnectionRoute(
        name=f"{document.namespace}/{document.name}/{rule.name or 0}",
        origin=f"{document.title} spec.rules[0]",
        matches=tuple(matches),
        destinations=tuple(
            destination(world, document, one, one.weight) for one in rule.backend_refs if one.weight
        ),
    )
