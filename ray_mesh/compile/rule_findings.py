"""What admission finds in DestinationRules."""

from __future__ import annotations

from collections.abc import Iterator

from ray_mesh.compile import finding
from ray_mesh.compile.finding import Finding, error, spell, warning
from ray_mesh.compile.services import rule_host, rules_for
from ray_mesh.compile.world import World, host_of
from ray_mesh.resources import DestinationRuleSpec, Document
from ray_mesh.resources.hosts import pattern_covers
from ray_mesh.resources.mesh import ROOT_NAMESPACE


def destination_rule_findings(world: World, document: Document) -> Iterator[Finding]:
    """Everything about one DestinationRule."""
    host = rule_host(document)
    covered = [one for one in world.find("kind", "Service") if pattern_covers(host, host_of(one))]
    reached = [one for one in covered if document.namespace in (one.namespace, ROOT_NAMESPACE)]
    if not covered:
        make = warning if "*" in host else error
        message = f"The host {host} defined in the DestinationRule does not match any services in the mesh."
        fix = "apply the Service first, or correct the host"
        yield make(document, finding.RULE_WITHOUT_SERVICE, ("spec", "host"), message, fix)
    elif not reached:
        namespaces = ", ".join(sorted({one.namespace for one in covered}))
        message = (
            f"not supported yet: a DestinationRule for {host} in namespace {document.namespace}, "
            "which would hold for callers of that namespace only"
        )
        fix = f"put it into the namespace of the service ({namespaces}) or into {ROOT_NAMESPACE}"
        yield error(document, finding.CLIENT_NAMESPACE_RULE, ("metadata", "namespace"), message, fix)
    for service in reached:
        yield from _merge_findings(world, document, service)
    if len(reached) == 1:
        yield from _subset_findings(world, document, reached[0])


def _merge_findings(world: World, document: Document, service: Document) -> Iterator[Finding]:
    rules = rules_for(world, service)
    if len(rules) > 1 and document in rules:
        names = ", ".join(f"{one.namespace}/{one.name}" for one in rules)
        message = f"the rules of {host_of(service)} are merged from {names}, the oldest first"
        yield warning(document, finding.RULES_MERGED, ("spec", "host"), message, "put them into one document")


def _subset_findings(world: World, document: Document, service: Document) -> Iterator[Finding]:
    for index, subset in enumerate(document.read(DestinationRuleSpec).subsets):
        if not any(world.workloads_of(service, subset.labels)):
            message = (
                f"subset {subset.name} selects no registered workload: nobody behind {service.title} "
                f"has labels {spell(subset.labels)}"
            )
            fix = "attach one before routing to the subset"
            yield warning(document, finding.EMPTY_SUBSET, ("spec", "subsets", index), message, fix)
