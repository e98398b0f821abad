"""HTTPRoutes and GRPCRoutes as what they have in common: routes for requests, in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ray_mesh import snapshot
from ray_mesh.compile.gateway_api.grpc_routes import grpc_routes
from ray_mesh.compile.gateway_api.http_routes import Listening, Rank, http_routes
from ray_mesh.compile.gateway_api.terms import REQUEST_ROUTES
from ray_mesh.resources import Document

if TYPE_CHECKING:
    from ray_mesh.compile.world import World


def ranked_routes(
    world: World, document: Document, listening: Listening
) -> Iterator[tuple[Rank, snapshot.Route]]:
    """Every match of a route for requests as a route, and its rank: the least goes first."""
    is_grpc = document.kind == "GRPCRoute"
    found = grpc_routes(world, document) if is_grpc else http_routes(world, document, listening)
    for rank, route in found:
        yield (REQUEST_ROUTES.index(document.kind), *rank), route
