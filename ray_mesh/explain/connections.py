"""A connection that is not HTTP: CONNECT on an outbound listener, TLS and TCP at a gateway."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ray_mesh.explain.answer import NOWHERE, Ground, Note, Step
from ray_mesh.explain.callers import Source
from ray_mesh.explain.case import Case
from ray_mesh.explain.conditions import connection_failure
from ray_mesh.explain.guarding import refusal
from ray_mesh.explain.hosts import find_host
from ray_mesh.explain.shares import Sending, percentages, share, whole_verdict
from ray_mesh.explain.way import Way, pass_on
from ray_mesh.proxy import replies
from ray_mesh.proxy.match import Scope
from ray_mesh.proxy.replies import Reply
from ray_mesh.proxy.tcp_routes import choose_route, first_route
from ray_mesh.proxy.tcp_tunnel import called_port
from ray_mesh.snapshot import ConnectionRoute


def from_workload(case: Case, source: Source, authority: str, sni: str) -> Way:
    """CONNECT on a workload's outbound listener."""
    way = Way()
    says = f"{source.listener}, by CONNECT {authority}"
    way.add(Step("listener", says + (f" (SNI {sni})" if sni else ""), case.places.at(source.document)))
    if ":" not in authority:
        return _refuse(way, "host", replies.bad_request(400, "the target of CONNECT is not host:port"))
    meaning = find_host(case, source, authority)
    way.add(meaning.step)
    if meaning.refusal is not None:
        return way.end(refusal(meaning.refusal, meaning.step.ground))
    if meaning.service is None or meaning.callee is None:
        return pass_on(way, meaning)
    port = called_port(meaning.service, meaning.port)
    if isinstance(port, Reply):
        return _refuse(way, "port", port, case.places.at(meaning.callee.document, "spec", "ports"))
    workload = source.workload
    scope = Scope(workload.namespace, frozenset(workload.labels), port.number)
    sni = sni if port.protocol == "tls" else ""
    route = choose_route(meaning.service, scope, sni)
    written = meaning.service.tls_routes if port.protocol == "tls" else meaning.service.tcp_routes
    notes = _passed_over(case, written, route, scope, sni)
    if route is None:
        reply = replies.no_tls_route(meaning.service.host, port.number, sni)
        return _refuse(way, "route", reply, notes=notes)
    if port.protocol == "auto":
        notes = (*notes, Note("if what is sent first is HTTP, its requests are routed as such"))
    elif port.is_http:
        notes = (*notes, Note("the port is HTTP/2: each request in the tunnel is routed as such"))
    host = meaning.service.host
    sending = Sending(source, scope.port, requested=meaning.name, sni=sni, service=host)
    return _send(case, sending, way, route, notes)


def follow_connection(
    case: Case,
    source: Source,
    way: Way,
    routes: Sequence[ConnectionRoute],
    scope: Scope,
    sni: str,
    guards: Callable[[], Way | None],
) -> Way:
    """A connection at a gateway: its route, then the gateway's ``guards``, which may end the way."""
    route = first_route(routes, scope, sni)
    notes = _passed_over(case, routes, route, scope, sni)
    if route is None:
        return _refuse(way, "route", replies.no_tls_route(source.name, scope.port, sni), notes=notes)
    ended = guards()
    return ended if ended is not None else _send(case, Sending(source, scope.port), way, route, notes)


def _send(case: Case, sending: Sending, way: Way, route: ConnectionRoute, notes: tuple[Note, ...]) -> Way:
    if route.origin:
        says = f"{route.origin} ({route.name})"
        way.add(Step("route", says, case.places.origin(route.origin), notes))
    else:
        says = f"no route names this connection, so it goes to {sending.service} itself"
        way.add(Step("route", says, NOWHERE, notes))
    way.shares = tuple(
        share(case, sending, to, percent, replies.not_in_mesh(to.host))
        for to, percent in percentages(route.destinations)
    )
    if not way.shares:
        host = sending.service or sending.source.name
        return way.end(refusal(replies.no_route(host, "(no destination)")))
    return way.end(whole_verdict(way.shares))


def _passed_over(
    case: Case, routes: Sequence[ConnectionRoute], taken: ConnectionRoute | None, scope: Scope, sni: str
) -> tuple[Note, ...]:
    notes = []
    for route in routes:
        if route is taken:
            break
        reasons = dict.fromkeys(connection_failure(match, scope, sni) for match in route.matches)
        notes.append(Note(f"not {route.origin}: {'; '.join(reasons)}", case.places.origin(route.origin)))
    return tuple(notes)


def _refuse(
    way: Way,
    stage: str,
    reply: Reply,
    ground: Ground = NOWHERE,
    notes: tuple[Note, ...] = (),
) -> Way:
    way.add(Step(stage, reply.message, ground, notes, refuses=True))
    return way.end(refusal(reply, ground))
