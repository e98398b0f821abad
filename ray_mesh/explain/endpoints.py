"""Which endpoints a destination has, by which selector and labels, and why others are none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from ray_mesh.compile.callee import Callee, labels_of
from ray_mesh.explain.answer import Ground, Note, Step
from ray_mesh.explain.asked import Asked
from ray_mesh.explain.assuming import is_assumed
from ray_mesh.explain.case import Case
from ray_mesh.explain.rules import subset_ground
from ray_mesh.proxy.cluster import Cluster, Member
from ray_mesh.proxy.view import Client
from ray_mesh.resources import Document

SHOWN = 5
DRAWS = 200
"""Points at which localities are drawn: their shares are told to half a percent."""


def endpoints_step(case: Case, callee: Callee, cluster: Cluster, asked: Asked | None, client: Client) -> Step:
    """The endpoints of a subset at a port, and which one a key of the request picks."""
    members = sorted(cluster.members, key=name_of)
    notes = [
        *_placed(cluster),
        *_chosen(cluster, asked),
        *_checked(case, callee),
        *_left_out(case, callee, cluster),
    ]
    by = _by(callee, cluster)
    if not members:
        says = f"none {by}"
        ground = (
            subset_ground(case, callee, cluster.subset, client) if cluster.subset else _selector(case, callee)
        )
        return Step("endpoints", says, ground, tuple(notes), refuses=True)
    shown = ", ".join(name_of(one) for one in members[:SHOWN])
    more = f" and {len(members) - SHOWN} more" if len(members) > SHOWN else ""
    return Step("endpoints", f"{len(members)} {by}: {shown}{more}", _selector(case, callee), tuple(notes))


def name_of(member: Member) -> str:
    """An endpoint in a few words."""
    endpoint = member.endpoint
    address = f"{endpoint.address}:{endpoint.port}"
    if endpoint.transport == "mutual_tls":
        return member.workload
    return f"{member.workload} ({address})" if member.workload else address


def _by(callee: Callee, cluster: Cluster) -> str:
    selector = callee.selector
    if cluster.requested:
        said = f"the host that was asked for itself, as {callee.document.title} has it"
    elif selector is None:
        said = f"listed by {callee.document.title}"
    else:
        said = f"selected by {callee.document.title} ({spell(selector)})"
    if cluster.labels:
        said += f", of subset {cluster.subset} ({spell(dict(cluster.labels))})"
    return said


def _selector(case: Case, callee: Callee) -> Ground:
    field = "selector" if callee.document.kind == "Service" else "workloadSelector"
    if callee.selector is None:
        field = "endpoints"
    return case.places.at(callee.document, "spec", field)


def _chosen(cluster: Cluster, asked: Asked | None) -> Iterator[Note]:
    if cluster.hashing is None or asked is None or not cluster.members:
        return
    member = cluster.hashing.choose(asked, cluster.available.__contains__)
    policy = cluster.hashing.policy
    what = f"{policy.kind.replace('_', ' ')} {policy.name}".rstrip()
    if member is None:
        yield Note(f"consistentHash: the request has no {what}, any endpoint is taken")
    else:
        yield Note(f"consistentHash by {what}: this request goes to {name_of(member)}")


def _placed(cluster: Cluster) -> Iterator[Note]:
    """How much goes to the endpoints of each place, drawn as the proxy draws it."""
    if cluster.places is None:
        return
    drawn = Counter(cluster.places.draw((), partial(float, one / DRAWS)) for one in range(DRAWS))
    for members, times in drawn.most_common():
        if members:
            names = ", ".join(name_of(one) for one in members[:SHOWN])
            yield Note(f"by locality {100 * times / DRAWS:g}% go to {names}")


def _checked(case: Case, callee: Callee) -> Iterator[Note]:
    service = case.service(callee.host)
    if service is not None and service.health is not None:
        says = f"{service.health.origin} asks each of them; those that are not well are left out"
        yield Note(says, case.places.origin(service.health.origin))


def _left_out(case: Case, callee: Callee, cluster: Cluster) -> Iterator[Note]:
    taken = {one.endpoint.workload for one in (*cluster.members, *cluster.withheld)}
    for member in cluster.withheld:
        document = case.world.get(member.endpoint.workload) or callee.document
        says = (
            f"not {name_of(member)}: it has no proxy, and no trafficPolicy.tls.mode DISABLE allows plain text"
        )
        yield Note(says, case.places.at(document, "spec"))
    served = {one.key for one in case.served(callee)}
    for document in (*case.world.attached(callee), *case.world.entries(callee)):
        if document.key in taken:
            continue
        reason = _why_out(document, cluster, served)
        yield Note(f"not {document.namespace}/{document.name}: {reason}", _labels(case, document))
    if callee.selector is not None and not list(case.world.attached(callee)):
        yield from _near(case, callee, callee.selector)


def _why_out(document: Document, cluster: Cluster, served: set[str]) -> str:
    labels = labels_of(document)
    for name, wanted in sorted(cluster.labels):
        if labels.get(name) != wanted:
            has = f"it has {name}={labels[name]}" if name in labels else f"it has no label {name}"
            return f"{has}, subset {cluster.subset} wants {wanted}"
    if document.kind == "Workload" and document.key not in served:
        return "no live proxy serves it"
    return "it serves no such port"


def _near(case: Case, callee: Callee, selector: Mapping[str, str]) -> Iterator[Note]:
    """Workloads that miss the selector of the service by something."""
    found: Sequence[Document] = case.world.find("workload in", callee.namespace)
    for document in found:
        has = labels_of(document)
        missing = {name: value for name, value in selector.items() if has.get(name) != value}
        if missing and len(missing) < len(selector) and not is_assumed(document):
            says = f"not {document.namespace}/{document.name}: it lacks {spell(missing)}"
            yield Note(says, _labels(case, document))


def _labels(case: Case, document: Document) -> Ground:
    return case.places.at(document, "metadata", "labels")


def spell(labels: Mapping[str, str]) -> str:
    """Labels as people write them."""
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items())) or "no labels"
