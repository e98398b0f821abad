"""What a host means to a workload: which service, and which port of it."""

from __future__ import annotations

from dataclasses import dataclass

from ray_mesh.compile.callee import Callee
from ray_mesh.compile.world import MESH_CONFIG_KEY
from ray_mesh.explain.answer import NOWHERE, Ground, Note, Step
from ray_mesh.explain.callers import Source
from ray_mesh.explain.case import Case
from ray_mesh.proxy import replies
from ray_mesh.proxy.hosts import bare, meanings, split_authority
from ray_mesh.proxy.passing import Boundary, why_not_passed
from ray_mesh.proxy.replies import Reply
from ray_mesh.proxy.view import seen_by, why_unexported, why_unknown
from ray_mesh.resources import DestinationRuleSpec, Document
from ray_mesh.resources.exports import ANNOTATION
from ray_mesh.resources.hosts import meanings as written_meanings
from ray_mesh.snapshot import Service


@dataclass(frozen=True, slots=True)
class Meaning:
    """The step that resolved a host, and what it found: a service with its ``callee``, a refusal, or that the
    host is called as it is (``passes``)."""

    step: Step
    port: int = 0
    service: Service | None = None
    callee: Callee | None = None
    refusal: Reply | None = None
    name: str = ""
    passes: bool = False


def find_host(case: Case, source: Source, authority: str) -> Meaning:
    """The service that an authority names, as the caller's proxy looks it up."""
    split = split_authority(authority.encode("utf-8"))
    if split is None:
        reply = replies.bad_request(400, f"{authority!r} is not a host and port")
        return Meaning(Step("host", reply.message, refuses=True), refusal=reply)
    name, port = split
    hidden, notes = "", list[Note]()
    boundary = Boundary()
    boundary.take(case.mesh)
    for host in (*meanings(name, source.workload.namespace), *boundary.beyond(name)):
        service, callee = case.service(host), case.world.callee(host)
        if service is not None and callee is not None:
            if reason := why_unknown(service, source.client, name):
                hidden = hidden or reason
                ground = _why_hidden(case, source, callee, service)
                notes.append(Note(f"not {callee.document.title}: {reason}", ground))
                continue
            service = seen_by(service, source.client)
            says = f"{name} is {host}, " if name != host else f"{host}, "
            says += f"{callee.document.title} with port {_ports(service)}"
            ground = case.places.at(callee.document, *_host_path(callee))
            return Meaning(Step("host", says, ground, tuple(notes)), port, service, callee, name=name)
    return _unknown(case, source, (name, port), hidden, notes)


def _unknown(
    case: Case, source: Source, authority: tuple[str, int], hidden: str, notes: list[Note]
) -> Meaning:
    """A host that the caller does not know: it is called as it is, or not at all."""
    name, port = bare(authority[0]), authority[1]
    ground, policy = _policy(case, source)
    refused = why_not_passed(name) if policy == "ALLOW_ANY" else ""
    if policy == "ALLOW_ANY" and not refused:
        says = f"{name} is none of the mesh: outboundTrafficPolicy ALLOW_ANY passes it on as it is"
        return Meaning(Step("host", says, ground, tuple(notes)), port, name=name, passes=True)
    reply = replies.not_passed(name, refused) if refused else replies.not_in_mesh(name, hidden)
    step = Step("host", reply.message, ground, (*notes, *_hints(case, source, name)), refuses=True)
    return Meaning(step, port, refusal=reply)


def _why_hidden(case: Case, source: Source, callee: Callee, service: Service) -> Ground:
    """Where it is said that a caller does not know a service: exportTo, else its Sidecar."""
    sidecar = source.client.sidecar
    if sidecar is not None and not why_unexported(service, source.client):
        return case.places.below(sidecar.origin, "spec", "egress")
    return case.places.at(callee.document, *exports_path(callee.document))


def exports_path(document: Document) -> tuple[str, ...]:
    """Where a Service or ServiceEntry says to whom it is exported."""
    if document.kind == "ServiceEntry":
        return ("spec", "exportTo")
    return ("metadata", "annotations", ANNOTATION)


def _ports(service: Service) -> str:
    return ", ".join(f"{one.number} ({one.protocol})" for one in service.ports) or "(none)"


def _host_path(callee: Callee) -> tuple[str | int, ...]:
    return ("spec", "hosts") if callee.document.kind == "ServiceEntry" else ("metadata", "name")


def _policy(case: Case, source: Source) -> tuple[Ground, str]:
    """Where outboundTrafficPolicy is said for a caller, and what it is."""
    policy = source.client.policy(case.mesh.outbound_policy)
    sidecar = source.client.sidecar
    if sidecar is not None and sidecar.outbound_policy is not None:
        return case.places.below(sidecar.origin, "spec", "outboundTrafficPolicy"), policy
    config = case.world.get(MESH_CONFIG_KEY)
    if config is None:
        return NOWHERE, policy
    return case.places.below(config.title, "spec", "outboundTrafficPolicy"), policy


def _hints(case: Case, source: Source, name: str) -> list[Note]:
    """Documents that name a host which nothing serves, and services of that name elsewhere."""
    found: list[Note] = []
    for host in meanings(name, source.workload.namespace):
        if case.world.callee(host) is not None:
            continue
        for document in case.world.find("routes", host):
            says = f"{document.title} routes {host}, but no Service or ServiceEntry has that host"
            found.append(Note(says, case.places.at(document, "spec", "hosts")))
        for document in case.world.find("kind", "DestinationRule"):
            if host in written_meanings(document.read(DestinationRuleSpec).host, document.namespace):
                says = f"{document.title} is for {host}, but no Service or ServiceEntry has that host"
                found.append(Note(says, case.places.at(document, "spec", "host")))
    for document in case.world.find("kind", "Service"):
        if document.name == name and document.namespace != source.workload.namespace:
            says = f"there is {document.title}: from namespace {source.workload.namespace} it is called "
            says += f"{document.name}.{document.namespace}"
            found.append(Note(says, case.places.at(document, "metadata", "name")))
    return found
