"""What is said when several VirtualServices for one host are merged: which, and which rules are lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ray_mesh import snapshot
from ray_mesh.compile import codes
from ray_mesh.compile.finding import Finding, make, warning
from ray_mesh.compile.routes import compile_routes, is_catch_all
from ray_mesh.compile.routings import virtual_services_for
from ray_mesh.compile.world import World
from ray_mesh.resources import Document
from ray_mesh.resources.source import Path


def merge_findings(world: World, document: Document, hosts: list[str], path: Path) -> Iterator[Finding]:
    """For every host for which a VirtualService is merged with others."""
    for host in hosts:
        merged = next(
            (
                found
                for namespace in ("", document.namespace)
                if document in (found := virtual_services_for(world, host, namespace)) and len(found) > 1
            ),
            None,
        )
        if merged is None:
            continue
        names = ", ".join(f"{one.namespace}/{one.name}" for one in merged)
        message = f"the routes of {host} are merged from {names}, the oldest first, catch-alls last"
        fix = "put them into one VirtualService"
        # Analysis has Istio's code for it.
        yield make("warning", document, codes.ROUTES_MERGED, path, message, fix, told="admission")
        for lost, winner in _lost(world, merged, merged.index(document)):
            message = f"{lost.origin} gets no request of {host}: {winner.origin} comes first and takes all"
            fix = "let their matches differ, or keep one of them"
            yield warning(document, codes.ROUTES_MERGED, path, message, fix)


def _lost(
    world: World, merged: list[Document], owner: int
) -> Iterator[tuple[snapshot.Route, snapshot.Route]]:
    """Routes that another document's route leaves nothing to, where one of the two is of ``owner``."""
    routes = compile_routes(world, merged)
    for index, route in enumerate(routes):
        for other in routes[:index]:
            is_ours = owner in (route.owner, other.owner) and route.owner != other.owner
            if is_ours and _takes_all_of(other, route):
                yield route, other
                break


def _takes_all_of(first: snapshot.Route, later: snapshot.Route) -> bool:
    if is_catch_all(first):
        return True
    return bool(later.matches) and all(
        any(_covers(outer, inner) for outer in first.matches) for inner in later.matches
    )


def _covers(outer: snapshot.RequestMatch, inner: snapshot.RequestMatch) -> bool:
    """Whether what ``inner`` matches ``outer`` matches too, as far as it can be told by their form."""
    asks_more = replace(outer, uri=None) != snapshot.RequestMatch()
    if asks_more and replace(outer, uri=None) != replace(inner, uri=None):
        return False
    if outer.uri is None or outer.uri == inner.uri:
        return True
    is_prefix = outer.uri.kind == "prefix" and inner.uri is not None and inner.uri.kind in ("exact", "prefix")
    return is_prefix and inner.uri is not None and inner.uri.value.startswith(outer.uri.value)
