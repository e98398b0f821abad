"""Judges a change as a whole before any of it is stored.

A set of documents is judged in the world as it would be after it, so a VirtualService and the
DestinationRule it needs may arrive together. Documents outside the set are judged again when the set
changes what they refer to, and only errors that they did not have before count against the set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ray_mesh.compile import codes
from ray_mesh.compile.callee import hosts_of
from ray_mesh.compile.entry_findings import address_findings
from ray_mesh.compile.examine import examine
from ray_mesh.compile.finding import Finding, at_admission, error, in_order
from ray_mesh.compile.gateway_api.terms import API_GATEWAY
from ray_mesh.compile.grounds import Grounds
from ray_mesh.compile.suppress import split, written
from ray_mesh.compile.world import World, rule_hosts
from ray_mesh.resources import Document, WorkloadBindingSpec


def admit(
    world: World,
    documents: Iterable[Document],
    deletions: Iterable[str] = (),
    grounds: Grounds | None = None,
    now: float | None = None,
) -> list[Finding]:
    """What is to be said about applying ``documents`` and deleting the keys in ``deletions``, together.

    Errors come first; a change with any error must be refused whole. Without ``grounds`` nothing is
    known of where the mesh runs. What is suppressed at the time ``now`` is left out, unless it is an error.
    """
    applied, deleted = list(documents), list(deletions)
    changes: dict[str, Document | None] = dict.fromkeys(deleted)
    changes.update({document.key: document for document in applied})
    after = world.replace(changes)
    findings = [*_set_findings(world, applied, deleted), *_trust_domain_findings(world, after)]
    for document in {document.key: document for document in applied}.values():
        findings += examine(after, document)
        findings += address_findings(after, document, grounds or Grounds())
    findings += _broken(world, after, changes)
    told = at_admission(findings)
    return told if now is None else _without_suppressed(after, applied, told, now)


def _without_suppressed(
    after: World, applied: list[Document], findings: list[Finding], now: float
) -> list[Finding]:
    suppressions, complaints = written(after, applied, now)
    told, _ = split((one for one in findings if one.severity != "error"), suppressions)
    return in_order([*(one for one in findings if one.severity == "error"), *told, *complaints])


def has_errors(findings: Iterable[Finding]) -> bool:
    """Whether the change must be refused."""
    return any(one.severity == "error" for one in findings)


def _set_findings(world: World, applied: list[Document], deleted: list[str]) -> Iterator[Finding]:
    seen: set[str] = set()
    for document in applied:
        if document.key in seen or document.key in deleted:
            message = f"{document.title} is more than once in this change"
            yield error(document, codes.TWICE_IN_SET, (), message, "keep one")
        seen.add(document.key)
    for key in deleted:
        if world.get(key) is None:
            yield Finding(codes.NOTHING_TO_DELETE, "warning", key, "", "there is nothing to delete")


def _trust_domain_findings(before: World, after: World) -> Iterator[Finding]:
    if before.trust_domain != after.trust_domain and before.documents:
        message = (
            f"the trust domain cannot change from {before.trust_domain} to {after.trust_domain}: "
            "every identity of the running mesh is in the first"
        )
        key = "meshconfig.mesh-system.mesh"
        yield Finding(codes.MESH_CONFIG, "error", key, "spec.trustDomain", message, "start a new mesh")


def _broken(before: World, after: World, changes: dict[str, Document | None]) -> Iterator[Finding]:
    """Errors that other documents get through this change."""
    told: set[tuple[str, str, str]] = set()
    for key, document in changes.items():
        old = before.get(key)
        if old is None:
            continue
        for user in _users(before, old):
            remaining = after.get(user.key)
            if user.key in changes or remaining is None:
                continue
            known = {_same(one) for one in at_admission(examine(before, user))}
            for one in at_admission(examine(after, remaining)):
                if one.severity == "error" and _same(one) not in known | told:
                    told.add(_same(one))
                    yield _still_used(old, user, one) if document is None else one


def _same(one: Finding) -> tuple[str, str, str]:
    """What makes two findings the same, however the message spells what else there is."""
    return one.code, one.key, one.path


def _still_used(deleted: Document, user: Document, cause: Finding) -> Finding:
    message = f"{deleted.title} is still used by {user.title} ({cause.path}): {cause.message}"
    fix = f"delete or change {user.title} first, or in the same change"
    return Finding(codes.STILL_USED, "error", deleted.key, "", message, fix)


def _users(world: World, document: Document) -> list[Document]:
    """The documents that refer to one."""
    name = f"{document.namespace}/{document.name}"
    match document.kind:
        case "Service" | "ServiceEntry":
            terms = ("routes to", "routes", "rule for", "sends to")
            hosts = hosts_of(document)
            found = [user for host in hosts for term in terms for user in world.find(term, host)]
            found += world.find("route of", document.key)
        case "DestinationRule":
            hosts = list(rule_hosts(document))
            found = [user for host in hosts for user in world.find("routes to", host)]
            if any("*" in host for host in hosts):
                found = world.find("kind", "VirtualService")
        case "VirtualService":
            found = world.find("delegates to", name)
        case "Gateway":
            found = world.find("behind gateway", name)
        case kind if kind == API_GATEWAY:
            found = world.find("route of", document.key)
        case "WorkloadBinding":
            account = document.read(WorkloadBindingSpec).service_account
            found = world.find("account", document.namespace, account)
        case _:
            found = []
    return list({user.key: user for user in found}.values())
