"""What a host means to a workload: which service, and which port of it."""

from __future__ import annotations

from dataclasses import dataclass

from ray_mesh.compile.callee import Callee
from ray_mesh.explain.answer import Ground, Note, Step
from ray_mesh.explain.callers import Source
from ray_mesh.explain.case import Case
from ray_mesh.proxy import replies
from ray_mesh.proxy.hosts import meanings, split_authority
from ray_mesh.proxy.passing import Boundary
from ray_mesh.proxy.replies import Reply
from ray_mesh.proxy.view import seen_by, why_unknown
from ray_mesh.resources import DestinationRuleSpec, Document
from ray_mesh.resources.exports import ANNOTATION
from ray_mesh.resources.hosts import meanings as written_meanings
from ray_mesh.snapshot import Service


@dataclass(frozen=True, slots=True)
class Meaning:
    """The step that resolved a host, and what it found: a service with its ``callee``, or a refusal."""

    step: Step
    port: int = 0
    service: Service | None = None
    callee: Callee | None = None
    refusal: Reply | None = None


def find_host(case: Case, source: Source, authority: str) -> Meaning:
    """The service that an authority names, as the caller's proxy looks it up."""
    split = split_authority(authority.encode("utf-8"))
    if split is None:
        reply = replies.bad_request(400, f"{authority!r} is not a host and port")
        return Meaning(Step("host", reply.message, refuses=True), refusal=reply)
    name, port = split
    hidden, notes = "", list[Note]()
    patterns = Boundary(wildcards=frozenset(case.mesh.wildcards)).patterns(name)
    for host in (*meanings(name, source.workload.namespace), *patterns):
        service, callee = case.service(host), case.world.callee(host)
        if service is not None and callee is not None:
            if reason := why_unknown(service, source.client, name):
                hidden = hidden or reason
                ground = case.places.at(callee.document, *exports_path(callee.document))
                notes.append(Note(f"not {callee.document.title}: {reason}", ground))
                continue
            service = seen_by(service, source.client)
            says = f"{name} is {host}, " if name != host else f"{host}, "
            says += f"{callee.document.title} with port {_ports(service)}"
            ground = case.places.at(callee.document, *_host_path(callee))
            return Meaning(Step("host", says, ground, tuple(notes)), port, service, callee)
    reply = replies.not_in_mesh(name, hidden)
    step = Step("host", reply.message, _policy(case), (*notes, *_hints(case, source, name)), refuses=True)
    return Meaning(step, port, refusal=reply)


def exports_path(document: Document) -> tuple[str, ...]:
    """Where a Service or ServiceEntry says to whom it is exported."""
    if document.kind == "ServiceEntry":
        return ("spec", "exportTo")
    return ("metadata", "annotations", ANNOTATION)


def _ports(service: Service) -> str:
    return ", ".join(f"{one.number} ({one.protocol})" for one in service.ports) or "(none)"


def _host_path(callee: Callee) -> tuple[str | int, ...]:
    return ("spec", "hosts") if callee.document.kind == "ServiceEntry" else ("metadata", "name")


def _policy(case: Case) -> Ground:
    """Where outboundTrafficPolicy is said."""
    config = next(iter(case.world.find("kind", "MeshConfig")), None)
    return case.places.at(config, "spec", "outboundTrafficPolicy") if config is not None else Ground()


def _hints(case: Case, source: Source, name: str) -> list[Note]:
    """Documents that name a host which nothing serves, and services of that name elsewhere."""
    found: list[Note] = []
    for host in meanings(name, source.workload.namespace):
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
