"""A request, from the listener on which it comes to its destinations."""

from __future__ import annotations

from dataclasses import replace

from ray_mesh.compile.routes import MESH
from ray_mesh.compile.routings import virtual_services_for
from ray_mesh.explain.answer import Ground, Share, Step, Verdict
from ray_mesh.explain.asked import Asked
from ray_mesh.explain.callers import Source
from ray_mesh.explain.case import Case
from ray_mesh.explain.effects import changes, spell_abort, spell_fault
from ray_mesh.explain.guarding import refusal
from ray_mesh.explain.hosts import find_host
from ray_mesh.explain.routing import Choice, choose_route, left_out, not_in_force
from ray_mesh.explain.shares import Sending, percentages, share, whole_verdict
from ray_mesh.explain.way import Way, pass_on
from ray_mesh.proxy import replies
from ray_mesh.proxy.answers import answer_of
from ray_mesh.proxy.cors import CrossOrigin
from ray_mesh.proxy.fault import abort_of
from ray_mesh.proxy.match import Scope
from ray_mesh.proxy.outbound import asked_port
from ray_mesh.proxy.replies import Reply
from ray_mesh.snapshot import Route


def from_workload(case: Case, source: Source, asked: Asked) -> Way:
    """A request on a workload's outbound listener."""
    way = Way()
    workload = source.workload
    way.add(Step("listener", source.listener, case.places.at(source.document)))
    meaning = find_host(case, source, asked.host.decode("latin-1"))
    way.add(meaning.step)
    if meaning.refusal is not None:
        return way.end(refusal(meaning.refusal, meaning.step.ground))
    if meaning.service is None or meaning.callee is None:
        return pass_on(way, meaning)
    port = asked_port(meaning.service, meaning.port, is_explicit=b":" in asked.host)
    if isinstance(port, Reply):
        ground = case.places.at(meaning.callee.document, "spec", "ports")
        way.add(Step("port", port.message, ground, refuses=True))
        return way.end(refusal(port, ground))
    scope = Scope(workload.namespace, frozenset(workload.labels), port)
    documents = virtual_services_for(case.world, meaning.service.host, workload.namespace)
    further = [
        *not_in_force(case, meaning.service.host, documents, MESH, workload.namespace),
        *left_out(case, documents, meaning.service, source.client.sidecar),
    ]
    choice = choose_route(case, meaning.service.routes, scope, asked, further)
    return follow(case, source, way, choice, scope, asked, meaning.name)


def follow(
    case: Case, source: Source, way: Way, choice: Choice, scope: Scope, asked: Asked, requested: str = ""
) -> Way:
    """What the route does, in the proxy's order: fault, CORS, an answer of its own, destinations."""
    way.add(choice.step)
    route = choice.route
    if route is None:
        host, path = asked.host.decode("latin-1"), asked.path.decode("latin-1")
        return way.end(refusal(replies.no_route(host, path), choice.step.ground))
    aborted = _fault(case, way, route)
    if aborted is not None:
        return way.end(aborted)
    met = CrossOrigin(route.cors).meet(asked) if route.cors is not None else None
    if isinstance(met, Reply):
        return _answered(case, way, route, met, "corsPolicy")
    answer = answer_of(route, scope)
    if answer is not None:
        named = "redirect" if route.redirect is not None else "directResponse"
        return _answered(case, way, route, answer(asked), named)
    for step in changes(case, route, asked):
        way.add(step)
    shares = _shares(case, Sending(source, scope.port, asked, route, requested))
    if not shares:
        reply = replies.no_route(asked.host.decode("latin-1"), "(no destination)")
        return way.end(refusal(reply, choice.step.ground))
    way.shares = shares
    return way.end(_with_aborts(whole_verdict(shares), route))


def _with_aborts(verdict: Verdict, route: Route) -> Verdict:
    """The verdict with the requests that the route's fault answers before they get there."""
    fault = route.fault
    if verdict.outcome == "refused" or fault is None or not fault.aborts:
        return verdict
    aborted = f"{spell_abort(fault)} by the route's fault"
    return replace(verdict, message=f"{verdict.message}; before that {aborted}")


def _shares(case: Case, sending: Sending) -> tuple[Share, ...]:
    assert sending.route is not None
    return tuple(
        share(case, sending, to, percent, replies.no_destination(to.host))
        for to, percent in percentages(sending.route.destinations)
    )


def _fault(case: Case, way: Way, route: Route) -> Verdict | None:
    """Tell the faults; the verdict when they abort every request."""
    fault = route.fault
    said = spell_fault(fault) if fault is not None else ""
    if fault is None or not said:
        return None
    aborts_all = fault.aborts and fault.abort_percent >= 100
    ground = case.places.below(route.origin, "fault")
    way.add(Step("fault", said, ground, refuses=aborts_all))
    return refusal(abort_of(fault), ground) if aborts_all else None


def _answered(case: Case, way: Way, route: Route, reply: Reply, named: str) -> Way:
    location = "".join(f", {line}" for line in reply.fields if line.startswith("location:"))
    ground: Ground = case.places.below(route.origin, named)
    says = f"{reply.status}, {reply.message}{location}"
    way.add(Step("answer", says, ground))
    return way.end(
        Verdict("answered", f"answered by the route: {says}", reply.status, "", reply.reason, ground)
    )
