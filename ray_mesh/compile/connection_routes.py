"""VirtualServices to routes of connections, for the mesh or for one ingress workload."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal

from ray_mesh import snapshot
from ray_mesh.compile.routes import MESH, Place, applies, only_port
from ray_mesh.compile.world import World
from ray_mesh.resources import Document, VirtualServiceSpec
from ray_mesh.resources.connection_routes import ConnectionRoute, TcpMatch, TlsMatch
from ray_mesh.resources.hosts import MESH_GATEWAY

Kind = Literal["tls", "tcp"]


def compile_connections(
    world: World, documents: Iterable[Document], kind: Kind, place: Place = MESH
) -> tuple[snapshot.ConnectionRoute, ...]:
    """The TLS or TCP routes of VirtualServices, in order; those without a match go last."""
    routes = [
        replace(route, owner=owner) if owner else route
        for owner, document in enumerate(documents)
        for route in _routes(world, document, kind, place)
    ]
    return tuple(sorted(routes, key=lambda route: not route.matches))


def _routes(world: World, document: Document, kind: Kind, place: Place) -> Iterator[snapshot.ConnectionRoute]:
    spec = document.read(VirtualServiceSpec)
    rules: tuple[ConnectionRoute, ...] = spec.tls if kind == "tls" else spec.tcp
    for index, rule in enumerate(rules):
        written: tuple[TlsMatch | TcpMatch, ...] = getattr(rule, "match")  # noqa: B009 - of both kinds
        matches = [match for match in written if applies(match, document, place)]
        if written and not matches:
            continue
        yield snapshot.ConnectionRoute(
            name=f"{document.namespace}/{document.name}/{kind}/{index}",
            origin=f"{document.title} spec.{kind}[{index}]",
            matches=tuple(_match(match, place) for match in matches),
            destinations=_destinations(world, document, rule),
        )


def _match(match: TlsMatch | TcpMatch, place: Place) -> snapshot.ConnectionMatch:
    in_mesh = place.ingress is None
    names = match.sni_hosts if isinstance(match, TlsMatch) else ()
    return snapshot.ConnectionMatch(
        sni_hosts=tuple(name.lower() for name in names),
        port=match.port or 0,
        source_labels=tuple(sorted(match.source_labels.items())) if in_mesh else (),
        source_namespace=match.source_namespace if in_mesh else "",
        gateways=(MESH_GATEWAY,) if in_mesh and match.gateways else (),
    )


def _destinations(
    world: World, document: Document, rule: ConnectionRoute
) -> tuple[snapshot.Destination, ...]:
    """As for requests: one destination takes all, of several those without weight take nothing."""
    shares = rule.route if len(rule.route) == 1 else [share for share in rule.route if share.weight]
    found = []
    for share in shares:
        host = world.resolve(share.destination.host, document.namespace)
        port = share.destination.port.number if share.destination.port else only_port(world, host)
        weight = 100 if len(rule.route) == 1 else share.weight or 0
        found.append(snapshot.Destination(host, share.destination.subset, port, weight))
    return tuple(found)
