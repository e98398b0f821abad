"""What several VirtualServices say about one host."""

from __future__ import annotations

from collections.abc import Iterator

from ray_mesh.compile import codes
from ray_mesh.compile.exports import PUBLIC, exported_to
from ray_mesh.compile.finding import Finding, make, warning
from ray_mesh.compile.world import World, gateways_of
from ray_mesh.resources import Document, VirtualServiceSpec
from ray_mesh.resources.hosts import MESH_GATEWAY, meanings, pattern_covers


def conflict_findings(world: World, document: Document) -> Iterator[Finding]:
    """VirtualServices of the mesh for the same host. The first host that is shared is told.

    As in Istio, hosts that all namespaces see conflict when they are equal, and with one that only some
    namespaces see also when a wildcard covers it.
    """
    if MESH_GATEWAY not in gateways_of(document):
        return
    spec = document.read(VirtualServiceSpec)
    for index, written in enumerate(spec.hosts):
        host = world.resolve(written, document.namespace)
        others = [
            one for one in _near(world, host) if one.key != document.key and _meet(world, document, host, one)
        ]
        if others:
            names = sorted(f"{one.namespace}/{one.name}" for one in [document, *others])
            shown = host if world.callee(host) is not None else meanings(written, document.namespace)[-1]
            message = (
                f"The VirtualServices {','.join(names)} associated with mesh gateway define the same host "
                f"{shown} which can lead to undefined behavior. This can be fixed by merging the conflicting "
                "VirtualServices into a single resource."
            )
            path = ("spec", "hosts", index)
            fix = "merge them into one VirtualService"
            yield make("error", document, codes.CONFLICTING_HOSTS, path, message, fix, told="analysis")
            return


def _near(world: World, host: str) -> list[Document]:
    """The VirtualServices of the mesh one of whose hosts may overlap with a host."""
    if "*" not in host:
        return world.find("routes", host) + world.find("routes pattern")
    return world.find("kind", "VirtualService")


def _meet(world: World, document: Document, host: str, other: Document) -> bool:
    if MESH_GATEWAY not in gateways_of(other):
        return False
    mine, theirs = exported_to(world.config, document), exported_to(world.config, other)
    mixed = (mine == PUBLIC) != (theirs == PUBLIC)
    if not mixed and mine != PUBLIC and not {*mine} & {*theirs}:
        return False
    hosts = (world.resolve(one, other.namespace) for one in other.read(VirtualServiceSpec).hosts)
    if not mixed:
        return host in hosts
    return any(pattern_covers(host, one) or pattern_covers(one, host) for one in hosts)


def ingress_findings(world: World, document: Document) -> Iterator[Finding]:
    """Routes of a gateway to a host, without subset, for which another VirtualService chooses subsets: its
    rules hold for callers inside the mesh only."""
    if gateways_of(document) == [MESH_GATEWAY]:
        return
    for number, rule in enumerate(document.read(VirtualServiceSpec).http):
        for index, share in enumerate(rule.route):
            if share.destination.subset:
                continue
            host = world.resolve(share.destination.host, document.namespace)
            for other in world.find("routes to", host):
                if other.key != document.key and _chooses_subset(world, other, host):
                    message = (
                        f"Subset in virtual service {other.namespace}/{other.name} has no effect on ingress "
                        f"gateway {document.namespace}/{document.name} requests"
                    )
                    path = ("spec", "http", number, "route", index, "destination", "host")
                    fix = "name the subset here too, or let this rule delegate to that VirtualService"
                    yield warning(document, codes.SUBSET_NOT_AT_INGRESS, path, message, fix)


def _chooses_subset(world: World, document: Document, host: str) -> bool:
    spec = document.read(VirtualServiceSpec)
    if host not in (world.resolve(one, document.namespace) for one in spec.hosts):
        return False
    return any(
        share.destination.subset and world.resolve(share.destination.host, document.namespace) == host
        for rule in spec.http
        for share in rule.route
    )
