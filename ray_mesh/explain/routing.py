"""Which route takes a request, and why those before it did not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ray_mesh.compile.delegation import rules_of
from ray_mesh.compile.exports import sees
from ray_mesh.compile.routes import Place, applies
from ray_mesh.compile.world import gateways_of
from ray_mesh.explain.answer import NOWHERE, Ground, Note, Step
from ray_mesh.explain.asked import Asked
from ray_mesh.explain.case import Case
from ray_mesh.explain.conditions import (
    Condition,
    conditions,
    first_failure,
    fits,
    holds,
    spell,
    why_not,
)
from ray_mesh.explain.places import split_origin
from ray_mesh.proxy.match import Scope, alternatives
from ray_mesh.resources import Document, VirtualServiceSpec
from ray_mesh.resources.hosts import MESH_GATEWAY, meanings, pattern_covers
from ray_mesh.snapshot import Route, Service, Sidecar


@dataclass(frozen=True, slots=True)
class Choice:
    """The route, if there is one, and the step that says so."""

    route: Route | None
    step: Step


def choose_route(
    case: Case, routes: Sequence[Route], scope: Scope, asked: Asked, further: Iterable[Note] = ()
) -> Choice:
    """The first route that matches, by the matching of the proxy. ``further`` notes go last."""
    missed: dict[tuple[str, str], list[_Failure]] = {}
    for route in routes:
        if fits(alternatives(route.matches, scope), asked):
            notes = [*_not(case, missed, scope, asked), *further]
            return Choice(route, _taken(case, route, scope, asked, notes))
        missed.setdefault((route.origin, route.name), []).extend(_failures(route, scope, asked))
    path = asked.path.decode("latin-1")
    says = f"no route matches {asked.method.decode('latin-1')} {path}"
    notes = [*_not(case, missed, scope, asked), *further]
    return Choice(None, Step("route", says, _of_routes(case, routes), tuple(notes), refuses=True))


def _taken(case: Case, route: Route, scope: Scope, asked: Asked, notes: list[Note]) -> Step:
    match = next((one for one in route.matches if holds(one, scope, asked)), None)
    because = spell(match) if match is not None else ""
    kind = route.origin.partition(" ")[0]
    if kind in ("", "Service", "ServiceEntry"):
        says = f"{route.origin or route.name}: no route names this host, so it goes to itself"
    else:
        says = f"{route.origin} ({route.name})"
        says += f", matches {because}" if because else ", matches every request"
    return Step("route", says, case.places.origin(route.origin), tuple(notes))


_Failure = tuple[int, Condition]
"""A condition that does not hold, and how many of its match do before it."""


def _failures(route: Route, scope: Scope, asked: Asked) -> Iterator[_Failure]:
    """The first condition of each match that does not hold."""
    for match in route.matches:
        failure = first_failure(match, scope, asked)
        if failure is not None:
            yield list(conditions(match)).index(failure), failure


def _not(
    case: Case, missed: dict[tuple[str, str], list[_Failure]], scope: Scope, asked: Asked
) -> Iterator[Note]:
    """Why each rule that was asked did not match, in order; a rule may be compiled to several routes. The
    match that came furthest is told first."""
    for (origin, name), found in missed.items():
        failures = [failure for _, failure in sorted(found, key=lambda pair: -pair[0])]
        reasons = _joined(why_not(one, scope, asked) for one in failures)
        fields = {one.field for one in failures}
        ground = case.places.within(origin, *fields.pop()) if len(fields) == 1 else case.places.origin(origin)
        yield Note(f"not {origin} ({name}): {reasons}", ground)


def _joined(reasons: Iterable[str]) -> str:
    """Reasons in one line: what is the same thing compared with several is said once."""
    compared: dict[str, dict[str, None]] = {}
    for reason in reasons:
        found, _, wanted = reason.partition(", not ")
        compared.setdefault(found, {})[wanted] = None
    said = (
        f"{found}, not {' or '.join(wanted)}" if any(wanted) else found for found, wanted in compared.items()
    )
    return "; ".join(said)


def _of_routes(case: Case, routes: Sequence[Route]) -> Ground:
    """The list of rules in which none matched, when all are of one document."""
    places = {(title, path[:2]) for title, path in (split_origin(route.origin) for route in routes)}
    if len(places) != 1:
        return NOWHERE
    title, path = places.pop()
    return case.places.named(title, *path)


def not_in_force(
    case: Case, host: str, documents: Sequence[Document], place: Place, namespace: str
) -> Iterator[Note]:
    """What names a host and does not route it here: rules for another place, other VirtualServices."""
    for document in documents:
        yield from _rules_elsewhere(case, document, place)
    keys = {one.key for one in documents}
    for document in case.world.find("kind", "VirtualService"):
        if document.key in keys or not _names(document, host):
            continue
        gateways = gateways_of(document)
        if place.gateway not in gateways:
            says = f"not {document.title}: it is for gateways {', '.join(gateways)}"
            yield Note(says, case.places.at(document, "spec", "gateways"))
        elif not sees(case.world.config, namespace, document):
            says = f"not {document.title}: it is not exported to namespace {namespace} (exportTo)"
            yield Note(says, case.places.at(document, "spec", "exportTo"))
        elif documents:
            says = f"not {document.title}: the host of {documents[0].title} is more specific"
            yield Note(says, case.places.at(document, "spec", "hosts"))


def left_out(
    case: Case, documents: Sequence[Document], service: Service, sidecar: Sidecar | None
) -> Iterator[Note]:
    """VirtualServices that a caller's Sidecar leaves out."""
    used = {split_origin(route.origin)[0] for route in service.routes}
    for document in documents if sidecar is not None else ():
        owners = {owned.document.title for owned in rules_of(case.world, document)}
        if sidecar is not None and owners and not owners & used:
            says = f"not {document.title}: it is not among the egress hosts of {sidecar.origin}"
            yield Note(says, case.places.below(sidecar.origin, "spec", "egress"))


def _rules_elsewhere(case: Case, document: Document, place: Place) -> Iterator[Note]:
    for owned in rules_of(case.world, document):
        rule = owned.rule
        if not rule.match or any(applies(match, owned.document, place) for match in rule.match):
            continue
        where = "the mesh" if place.gateway == MESH_GATEWAY else f"gateway {place.gateway}"
        says = f"not {owned.document.title} spec.http[{owned.index}]: no match of it is for {where}"
        yield Note(says, case.places.at(owned.document, "spec", "http", owned.index))


def _names(document: Document, host: str) -> bool:
    """Whether it is for a host by more than ``*``."""
    hosts = [one for one in document.read(VirtualServiceSpec).hosts if one != "*"]
    return any(pattern_covers(one, host) for name in hosts for one in meanings(name, document.namespace))
