"""What becomes of the requests that go to one destination of a route."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ray_mesh.compile.callee import Callee
from ray_mesh.compile.workloads import compile_workload
from ray_mesh.explain.answer import NOWHERE, Ground, Outcome, Share, Step, Verdict
from ray_mesh.explain.asked import Asked
from ray_mesh.explain.callers import Source
from ray_mesh.explain.case import Case
from ray_mesh.explain.effects import spell_changes
from ray_mesh.explain.endpoints import endpoints_step, name_of
from ray_mesh.explain.guarding import Passage, pass_guards, peer_authentication, refusal
from ray_mesh.explain.hosts import exports_path
from ray_mesh.explain.rules import rule_step, tls_ground
from ray_mesh.proxy import replies
from ray_mesh.proxy.change import rewriter
from ray_mesh.proxy.cluster import Cluster, Member
from ray_mesh.proxy.places import Place
from ray_mesh.proxy.view import Client, why_unexported
from ray_mesh.resources import Document, ServiceSpec, WorkloadSpec
from ray_mesh.security.authorization import AuthorizationInput
from ray_mesh.snapshot import HTTP2_PROTOCOLS, Destination, Route, Service, locality_of


@dataclass(frozen=True, slots=True)
class Sending:
    """What is sent: a request, or a connection when ``asked`` is None. ``requested`` is the host that a
    workload asked for; of TLS in its tunnel, ``sni`` is the name in it and ``service`` the host found."""

    source: Source
    port: int
    asked: Asked | None = None
    route: Route | None = None
    requested: str = ""
    sni: str = ""
    service: str = ""


@dataclass(frozen=True, slots=True)
class _Refused:
    step: Step
    reply: replies.Reply


@dataclass(frozen=True, slots=True)
class _Reached:
    callee: Callee
    service: Service
    cluster: Cluster


def percentages(destinations: Sequence[Destination]) -> Iterator[tuple[Destination, float]]:
    """How much each destination gets: by weight, and all when it is the only one."""
    total = sum(one.weight for one in destinations)
    if len(destinations) == 1 or not total:
        yield from ((one, 100.0) for one in destinations[:1])
        return
    for one in destinations:
        if one.weight:
            yield one, 100.0 * one.weight / total


def share(case: Case, sending: Sending, to: Destination, percent: float, missing: replies.Reply) -> Share:
    """One destination. ``missing`` is the answer where its host is none of the mesh."""
    sending = replace(sending, port=to.port or sending.port)
    reached = _reach(case, sending, to, missing)
    members: Sequence[Member] = ()
    if isinstance(reached, _Refused):
        steps, verdict = [reached.step], refusal(reached.reply, reached.step.ground)
    else:
        steps, verdict = _follow(case, sending, to, reached)
        members = reached.cluster.members
    names = tuple(sorted(name_of(one) for one in members))
    return Share(to.host, to.subset, sending.port, percent, names, tuple(steps), verdict)


def _reach(case: Case, sending: Sending, to: Destination, missing: replies.Reply) -> _Reached | _Refused:
    """The cluster of a destination, as the caller's proxy finds it."""
    client, origin = sending.source.client, _origin(case, sending)

    def refuse(reply: replies.Reply, ground: Ground = origin, stage: str = "destination") -> _Refused:
        return _Refused(Step(stage, reply.message, ground, refuses=True), reply)

    if to.status:
        return refuse(replies.invalid_backend(to.host, to.status))
    callee, destination = case.world.callee(to.host), case.destination(to.host)
    if callee is None or destination is None or destination.service is None:
        return refuse(missing)
    if reason := why_unexported(destination.service, client):
        return refuse(replies.no_destination(to.host, reason), _exports(case, callee))
    place = _place(sending.source)
    cluster = destination.cluster(to.subset, 0.0, sending.port, place, client, sending.requested)
    if cluster is None:
        return refuse(replies.no_subset(to.host, to.subset), stage="destination rule")
    return _Reached(callee, destination.service, cluster)


def _follow(case: Case, sending: Sending, to: Destination, reached: _Reached) -> tuple[list[Step], Verdict]:
    """The steps from a cluster on, and how they end."""
    callee, cluster, client = reached.callee, reached.cluster, sending.source.client
    steps = [
        *_changes(case, sending, to),
        rule_step(case, callee, reached.service, to.subset, sending.port, client),
    ]
    asked = _rewritten(sending, to)
    if isinstance(asked, replies.Reply):
        steps.append(Step("rewrite", asked.message, _origin(case, sending), refuses=True))
        return steps, refusal(asked, steps[-1].ground)
    steps.append(endpoints_step(case, callee, cluster, sending.asked, client))
    if not cluster.members:
        return steps, refusal(_nobody(to, cluster), steps[-1].ground)
    steps.append(_tls(case, callee, cluster, client))
    if sending.asked is not None and cluster.speaks == "http2":
        steps.append(Step("version", _version(cluster, callee), _port_ground(case, callee, cluster.port)))
    further, verdict = _inside(case, replace(sending, asked=asked), to, cluster)
    return [*steps, *further], verdict


def _exports(case: Case, callee: Callee) -> Ground:
    return case.places.at(callee.document, *exports_path(callee.document))


def _place(source: Source) -> Place:
    labels = source.workload.labels
    return Place(locality_of(dict(labels)), labels)


def _origin(case: Case, sending: Sending) -> Ground:
    return case.places.origin(sending.route.origin) if sending.route is not None else NOWHERE


def _changes(case: Case, sending: Sending, to: Destination) -> Iterator[Step]:
    ground = _origin(case, sending)
    for word, changed in (("request", to.request_headers), ("response", to.response_headers)):
        if changed is not None:
            yield Step("headers", f"{word}: {spell_changes(changed)}", ground)
    if to.authority:
        yield Step("rewrite", f"Host becomes {to.authority}", ground)


def _rewritten(sending: Sending, to: Destination) -> Asked | replies.Reply | None:
    """The request as the callee gets it."""
    asked, route = sending.asked, sending.route
    if asked is None or route is None:
        return asked
    path = asked.path
    if route.rewrite is not None:
        try:
            path = rewriter(route.rewrite)(path)
        except ValueError as error:
            return replies.bad_rewrite(str(error))
    authority = (to.authority or route.authority).lower().encode()
    return replace(asked, path=path, host=authority or asked.host)


def _nobody(to: Destination, cluster: Cluster) -> replies.Reply:
    without_proxy = [one.workload for one in cluster.withheld]
    if without_proxy:
        return replies.no_proxy(to.host, without_proxy)
    return replies.no_endpoint(to.host, to.subset)


def _tls(case: Case, callee: Callee, cluster: Cluster, client: Client) -> Step:
    kinds = {one.endpoint.transport for one in cluster.members}
    mode, ground = tls_ground(case, callee, client)
    said = []
    if "mutual_tls" in kinds:
        said.append(
            "mutual TLS between the proxies" + (f" (mode {mode} changes nothing there)" if mode else "")
        )
    if "plaintext" in kinds:
        why = f"tls.mode {mode}" if mode else "its endpoints are outside the mesh"
        said.append(f"plain text to endpoints without a proxy ({why})")
    return Step("tls", "; ".join(said), ground)


def _version(cluster: Cluster, callee: Callee) -> str:
    spoken = next((one.protocol for one in callee.ports if one.number == cluster.port), "auto")
    why = f"port {cluster.port} is {spoken}" if spoken in HTTP2_PROTOCOLS else "h2UpgradePolicy UPGRADE"
    return f"HTTP/2 to the endpoints, whatever the caller speaks ({why})"


def _port_ground(case: Case, callee: Callee, number: int) -> Ground:
    ports = callee.document.spec.ports if isinstance(callee.document.spec, ServiceSpec) else ()
    index = next((index for index, one in enumerate(ports) if one.port == number), None)
    if index is None:
        return case.places.at(callee.document, "spec", "ports")
    return case.places.at(callee.document, "spec", "ports", index)


def _inside(case: Case, sending: Sending, to: Destination, cluster: Cluster) -> tuple[list[Step], Verdict]:
    """What the proxies of the endpoints say; endpoints for which it is the same are told once."""
    groups: dict[tuple[Step, ...], list[Member]] = {}
    verdicts: dict[tuple[Step, ...], Verdict | None] = {}
    for member in sorted(cluster.members, key=name_of):
        passage = _entry(case, sending, to, member)
        groups.setdefault(passage.steps, []).append(member)
        verdicts[passage.steps] = passage.verdict
    steps: list[Step] = []
    for told, members in groups.items():
        only = "" if len(groups) == 1 else f"at {', '.join(name_of(one) for one in members)}: "
        steps += [replace(one, says=only + one.says) for one in told]
    return steps, _joined(to, list(verdicts.values()))


def _entry(case: Case, sending: Sending, to: Destination, member: Member) -> Passage:
    workload = case.world.get(member.endpoint.workload)
    if member.endpoint.transport != "mutual_tls" or workload is None or workload.kind != "Workload":
        return _outside(sending)
    first = peer_authentication(case, workload)
    served = compile_workload(case.world, workload).tcp_ports
    if sending.asked is None and (to.host, sending.port) not in served:
        name = f"{workload.namespace}/{workload.name}"
        reply = replies.no_tcp_port(name, to.host, sending.port)
        return Passage((first, Step("port", reply.message, refuses=True)), refusal(reply))
    passage = pass_guards(case, workload, _question(sending, workload), is_connection=sending.asked is None)
    return Passage((first, *passage.steps), passage.verdict)


def _outside(sending: Sending) -> Passage:
    """An endpoint without a proxy. What leaves the mesh in a tunnel must be for the host that it names."""
    if sending.sni not in ("", sending.service, sending.requested):
        reply = replies.other_name(sending.requested, sending.sni)
        return Passage((Step("tls", reply.message, refuses=True),), refusal(reply))
    return Passage((Step("authorization", "the endpoint has no proxy: no policy of the mesh holds there"),))


def _question(sending: Sending, workload: Document) -> AuthorizationInput:
    source, asked = sending.source, sending.asked
    port = workload.read(WorkloadSpec).port
    namespace = source.workload.namespace
    if asked is None:
        return AuthorizationInput(source.principal, namespace, "", port, "", "")
    return authorization_input(source.principal, namespace, port, asked)


def authorization_input(principal: str, namespace: str, port: int, asked: Asked) -> AuthorizationInput:
    """What policies see of a request: the dot at the end of a host means nothing to them."""
    host = asked.host.replace(b".:", b":").removesuffix(b".").decode("latin-1")
    method, path = asked.method.decode("latin-1"), asked.path.decode("latin-1")
    return AuthorizationInput(principal, namespace, host, port, method, path)


def _joined(to: Destination, verdicts: Sequence[Verdict | None]) -> Verdict:
    refused = [one for one in verdicts if one is not None]
    name = f"{to.host} subset {to.subset}" if to.subset else to.host
    if not refused:
        return Verdict("forwarded", f"forwarded to {name}")
    if len(refused) == len(verdicts):
        return refused[0]
    return replace(refused[0], outcome="partly_refused", message=f"at some endpoints: {refused[0].message}")


def whole_verdict(shares: Sequence[Share]) -> Verdict:
    """The verdict over all destinations."""
    outcomes: set[Outcome] = {one.verdict.outcome for one in shares}
    if outcomes == {"forwarded"}:
        names = ", ".join(dict.fromkeys(_name(one) for one in shares))
        return Verdict("forwarded", f"forwarded to {names}")
    worst = next(one for one in shares if one.verdict.outcome != "forwarded")
    if outcomes == {"refused"}:
        return worst.verdict
    message = f"{worst.percent:g}%, those to {_plain_name(worst)}: {worst.verdict.message}"
    if len(shares) == 1:
        message = worst.verdict.message
    return replace(worst.verdict, outcome="partly_refused", message=message)


def _name(one: Share) -> str:
    name = _plain_name(one)
    return name if one.percent == 100 else f"{name} ({one.percent:g}%)"


def _plain_name(one: Share) -> str:
    return f"{one.host} subset {one.subset}" if one.subset else one.host
