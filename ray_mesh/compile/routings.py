"""Which VirtualServices hold for a host in the mesh, by who calls it.

Of the ones that a caller knows (``exportTo``) those with the most specific host count alone, and several of
these are merged: what is exported to the caller's namespace alone first, then the oldest. Those with a wider
host follow as routings of their own, for callers whose Sidecar leaves out all of the more specific ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ray_mesh import snapshot
from ray_mesh.compile.callee import Callee
from ray_mesh.compile.connection_routes import compile_connections
from ray_mesh.compile.exports import PUBLIC, exported_to
from ray_mesh.compile.gateway_api.mesh_routes import with_gateway_api
from ray_mesh.compile.routes import compile_routes
from ray_mesh.compile.world import World, mesh_hosts
from ray_mesh.resources import Document, VirtualServiceSpec
from ray_mesh.resources.hosts import pattern_covers, specificity
from ray_mesh.snapshot import is_exported


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A VirtualService that covers the host, with which pattern, and to whom it is exported."""

    document: Document
    pattern: str
    exports: tuple[str, ...]


def virtual_services_for(world: World, host: str, namespace: str = "") -> list[Document]:
    """The VirtualServices that are merged for a host and callers in a namespace; without one for callers in a
    namespace that none of them names."""
    tiers = _tiers(_candidates(world, host), namespace)
    return [one.document for one in tiers[0]] if tiers else []


def routings_of(world: World, callee: Callee) -> list[snapshot.Routing]:
    """All routings of a host, the usual one first. See :class:`snapshot.Service`."""
    candidates = _candidates(world, callee.host)
    named = sorted({name for one in candidates for name in one.exports})
    usual = _tiers(candidates, "")
    found = [_routing(world, callee, "", tier) for tier in usual or [[]]]
    for namespace in named:
        tiers = _tiers(candidates, namespace)
        if tiers != usual:
            found += [_routing(world, callee, namespace, tier) for tier in tiers]
    return found


def default_route(callee: Callee) -> snapshot.Route:
    """To the host itself."""
    return snapshot.Route("default", callee.document.title, (), (snapshot.Destination(callee.host),))


def _routing(world: World, callee: Callee, namespace: str, tier: Sequence[_Candidate]) -> snapshot.Routing:
    documents = [one.document for one in tier]
    is_http = [bool(one.read(VirtualServiceSpec).http) for one in documents]
    routing = snapshot.Routing(
        namespace,
        tuple(
            snapshot.RouteOwner(one.document.namespace, one.pattern, has_http)
            for one, has_http in zip(tier, is_http, strict=True)
        ),
        routes=compile_routes(world, documents) if any(is_http) else (default_route(callee),),
        tcp_routes=compile_connections(world, documents, "tcp"),
        tls_routes=compile_connections(world, documents, "tls"),
    )
    return with_gateway_api(world, callee, routing)


def _candidates(world: World, host: str) -> list[_Candidate]:
    """Oldest first."""
    config = world.config
    found = []
    for document in world.oldest("routes", host) + world.oldest("routes pattern"):
        patterns = [one for one in mesh_hosts(document) if pattern_covers(one, host)]
        if patterns:
            best = max(patterns, key=specificity)
            found.append(_Candidate(document, best, exported_to(config, document)))
    return sorted(found, key=lambda one: (one.document.admitted_at, one.document.key))


def _tiers(candidates: list[_Candidate], namespace: str) -> list[list[_Candidate]]:
    """What callers in a namespace know, by how specific it is."""
    known = [one for one in candidates if is_exported(one.exports, namespace)]
    known.sort(key=lambda one: (one.exports == PUBLIC, one.document.namespace != namespace))
    ranks = sorted({specificity(one.pattern) for one in known}, reverse=True)
    return [[one for one in known if specificity(one.pattern) == rank] for rank in ranks]
