"""What admission finds in DestinationRules."""

from __future__ import annotations

from collections.abc import Iterator

from ray_mesh.compile import finding
from ray_mesh.compile.callee import Callee
from ray_mesh.compile.client_rules import rules_for
from ray_mesh.compile.finding import Finding, error, spell, warning
from ray_mesh.compile.world import World
from ray_mesh.resources import DestinationRuleSpec, Document
from ray_mesh.resources.hosts import pattern_covers
from ray_mesh.resources.source import Path


def destination_rule_findings(world: World, document: Document) -> Iterator[Finding]:
    """Everything about one DestinationRule."""
    written = document.read(DestinationRuleSpec).host
    host = world.resolve(written, document.namespace)
    covered = [one for one in world.callees() if pattern_covers(host, one.host)] if "*" in host else []
    if (callee := world.callee(host)) is not None:
        covered = [callee]
    if not covered:
        make = warning if "*" in host else error
        message = f"The host {host} defined in the DestinationRule does not match any services in the mesh."
        fix = "apply the Service first, or correct the host"
        yield make(document, finding.RULE_WITHOUT_SERVICE, ("spec", "host"), message, fix)
    for one in covered:
        yield from _merge_findings(world, document, one)
        yield from _tls_findings(world, document, one)
        yield from _header_findings(document, one)
    if len(covered) == 1:
        yield from _subset_findings(world, document, covered[0])


def _merge_findings(world: World, document: Document, callee: Callee) -> Iterator[Finding]:
    rules = rules_for(world, callee, document.namespace)
    if len(rules) > 1 and document in rules:
        names = ", ".join(f"{one.namespace}/{one.name}" for one in rules)
        message = f"the rules of {callee.host} are merged from {names}, the oldest first"
        yield warning(document, finding.RULES_MERGED, ("spec", "host"), message, "put them into one document")


def _header_findings(document: Document, callee: Callee) -> Iterator[Finding]:
    """The PROXY protocol is for connections, not for requests."""
    spec = document.read(DestinationRuleSpec)
    policies = [(("spec", "trafficPolicy", "proxyProtocol"), spec.traffic_policy)]
    policies += [
        (("spec", "subsets", index, "trafficPolicy", "proxyProtocol"), subset.traffic_policy)  # type: ignore[misc]
        for index, subset in enumerate(spec.subsets)
    ]
    ports = [port.number for port in callee.ports if port.protocol in ("http", "auto")]
    for path, policy in policies:
        if ports and policy is not None and policy.proxy_protocol is not None:
            message = (
                f"not supported yet: proxyProtocol for {callee.host}, port {ports[0]} of which may be HTTP"
            )
            fix = "declare its ports TCP or TLS, or give the TCP ports a Service of their own"
            yield error(document, finding.HEADER_BEFORE_HTTP, path, message, fix)


def _tls_findings(world: World, document: Document, callee: Callee) -> Iterator[Finding]:
    """Mutual TLS is for endpoints with a proxy, DISABLE for those without."""
    policy = document.read(DestinationRuleSpec).traffic_policy
    mode = policy.tls.mode if policy and policy.tls else None
    path: Path = ("spec", "trafficPolicy", "tls", "mode")
    has_entries = callee.selector is None or any(world.entries(callee))
    if mode == "ISTIO_MUTUAL" and callee.is_external:
        message = f"not supported yet: {mode} for {callee.host}, whose endpoints have no identity in the mesh"
        yield error(document, finding.TLS_NOT_HONOURED, path, message, "leave tls out, or say DISABLE")
    elif mode == "DISABLE" and not has_entries and callee.document.kind == "Service":
        message = (
            f"not supported yet: {mode} for {callee.host}: every workload behind it has a proxy, "
            "and all traffic between proxies is mutual TLS with the workloads' own identities"
        )
        fix = "leave tls out; DISABLE is for WorkloadEntries and ServiceEntries"
        yield error(document, finding.TLS_NOT_HONOURED, path, message, fix)
    elif mode == "DISABLE" and any(world.attached(callee)):
        message = f"workloads with a proxy behind {callee.host} are called with mutual TLS all the same"
        yield warning(document, finding.TLS_NOT_HONOURED, path, message)


def _subset_findings(world: World, document: Document, callee: Callee) -> Iterator[Finding]:
    for index, subset in enumerate(document.read(DestinationRuleSpec).subsets):
        if not world.has_behind(callee, subset.labels):
            message = (
                f"subset {subset.name} selects no registered workload: nobody behind "
                f"{callee.document.title} has labels {spell(subset.labels)}"
            )
            fix = "attach one before routing to the subset"
            yield warning(document, finding.EMPTY_SUBSET, ("spec", "subsets", index), message, fix)
