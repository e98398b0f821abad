"""What admission finds in DestinationRules."""

from __future__ import annotations

from collections.abc import Iterator

from ray_mesh.compile import codes
from ray_mesh.compile.callee import Callee
from ray_mesh.compile.client_rules import rules_for
from ray_mesh.compile.finding import Finding, make, spell, unsupported, warning
from ray_mesh.compile.world import World, pattern_entry
from ray_mesh.resources import DestinationRuleSpec, Document
from ray_mesh.resources.destination_rule import ClientTls, TrafficPolicy
from ray_mesh.resources.hosts import pattern_covers
from ray_mesh.resources.source import Path


def destination_rule_findings(world: World, document: Document) -> Iterator[Finding]:
    """Everything about one DestinationRule."""
    yield from _verification_findings(document)
    yield from _deprecations(document)
    written = document.read(DestinationRuleSpec).host
    host = world.resolve(written, document.namespace)
    covered = [one for one in world.callees() if pattern_covers(host, one.host)] if "*" in host else []
    if (callee := world.callee(host)) is not None:
        covered = [callee]
    if not covered and pattern_entry(world, host) is None:
        message = (
            f"The host {written} defined in the DestinationRule does not match any services in the mesh."
        )
        fix = "apply the Service first, or correct the host"
        path: Path = ("spec", "host")
        refuses = "*" not in host
        yield make("warning", document, codes.RULE_WITHOUT_SERVICE, path, message, fix, refuses=refuses)
    for one in covered:
        yield from _merge_findings(world, document, one)
        yield from _tls_findings(world, document, one)
        yield from _header_findings(document, one)
    if len(covered) == 1:
        yield from _subset_findings(world, document, covered[0])


def _verification_findings(document: Document) -> Iterator[Finding]:
    """TLS that believes any certificate. A credential counts only with a workloadSelector, as in Istio."""
    spec = document.read(DestinationRuleSpec)
    policy = spec.traffic_policy
    if policy is None:
        return
    chosen = bool(spec.workload_selector)
    about = f"DestinationRule {document.namespace}/{document.name} in namespace {document.namespace}"
    fix = "name the authorities in caCertificates"
    if _believes_any(policy.tls, chosen):
        message = (
            f"{about} has TLS mode set to {policy.tls and policy.tls.mode} but no caCertificates are set to "
            f"validate server identity for host: {spec.host}"
        )
        yield warning(document, codes.NO_VERIFICATION, ("spec", "trafficPolicy", "tls"), message, fix)
    for index, port in enumerate(policy.port_level_settings):
        if _believes_any(port.tls, chosen):
            number = port.port.number if port.port else 0
            message = (
                f"{about} has TLS mode set to {port.tls and port.tls.mode} but no caCertificates are set to "
                f"validate server identity for host: {spec.host} at port {number}"
            )
            path: Path = ("spec", "trafficPolicy", "portLevelSettings", index, "tls")
            yield warning(document, codes.NO_VERIFICATION_OF_PORT, path, message, fix)


def _believes_any(tls: ClientTls | None, chosen: bool) -> bool:
    if tls is None or tls.mode not in ("SIMPLE", "MUTUAL") or tls.ca_certificates:
        return False
    return not (tls.credential_name and chosen)


def _deprecations(document: Document) -> Iterator[Finding]:
    """Older forms, of which Istio's validation warns."""
    spec = document.read(DestinationRuleSpec)
    policies: list[tuple[Path, TrafficPolicy | None]] = [(("spec", "trafficPolicy"), spec.traffic_policy)]
    policies += [
        (("spec", "subsets", index, "trafficPolicy"), subset.traffic_policy)
        for index, subset in enumerate(spec.subsets)
    ]
    for path, policy in policies:
        outliers = policy.outlier_detection if policy else None
        if outliers is not None and outliers.consecutive_errors is not None:
            message = "Schema validation warning: outlier detection consecutive errors is deprecated"
            below = (*path, "outlierDetection", "consecutiveErrors")
            fix = "write consecutive5xxErrors or consecutiveGatewayErrors"
            yield warning(document, codes.SCHEMA_WARNING, below, message, fix)
        hashed = policy.load_balancer.consistent_hash if policy and policy.load_balancer else None
        if hashed is not None and hashed.minimum_ring_size is not None:
            message = "Schema validation warning: consistent hash minimumRingSize is deprecated"
            below = (*path, "loadBalancer", "consistentHash", "minimumRingSize")
            fix = "write ringHash.minimumRingSize"
            yield warning(document, codes.SCHEMA_WARNING, below, message, fix)


def _merge_findings(world: World, document: Document, callee: Callee) -> Iterator[Finding]:
    rules = rules_for(world, callee, document.namespace)
    if len(rules) > 1 and document in rules:
        names = ", ".join(f"{one.namespace}/{one.name}" for one in rules)
        message = f"the rules of {callee.host} are merged from {names}, the oldest first"
        yield warning(document, codes.RULES_MERGED, ("spec", "host"), message, "put them into one document")


def _header_findings(document: Document, callee: Callee) -> Iterator[Finding]:
    """The PROXY protocol is for connections, not for requests."""
    spec = document.read(DestinationRuleSpec)
    policies = [(("spec", "trafficPolicy", "proxyProtocol"), spec.traffic_policy)]
    policies += [
        (("spec", "subsets", index, "trafficPolicy", "proxyProtocol"), subset.traffic_policy)  # type: ignore[misc]
        for index, subset in enumerate(spec.subsets)
    ]
    ports = [port.number for port in callee.ports if port.is_http or port.protocol == "auto"]
    for path, policy in policies:
        if ports and policy is not None and policy.proxy_protocol is not None:
            message = (
                f"not supported yet: proxyProtocol for {callee.host}, port {ports[0]} of which may be HTTP"
            )
            fix = "declare its ports TCP or TLS, or give the TCP ports a Service of their own"
            yield unsupported(document, codes.HEADER_BEFORE_HTTP, path, message, fix)


def _tls_findings(world: World, document: Document, callee: Callee) -> Iterator[Finding]:
    """Mutual TLS is for endpoints with a proxy, DISABLE for those without."""
    policy = document.read(DestinationRuleSpec).traffic_policy
    mode = policy.tls.mode if policy and policy.tls else None
    path: Path = ("spec", "trafficPolicy", "tls", "mode")
    has_entries = callee.selector is None or any(world.entries(callee))
    if mode == "ISTIO_MUTUAL" and callee.is_external:
        message = f"not supported yet: {mode} for {callee.host}, whose endpoints have no identity in the mesh"
        yield unsupported(document, codes.TLS_NOT_HONOURED, path, message, "leave tls out, or say DISABLE")
    elif mode == "DISABLE" and not has_entries and callee.document.kind == "Service":
        message = (
            f"not supported yet: {mode} for {callee.host}: every workload behind it has a proxy, "
            "and all traffic between proxies is mutual TLS with the workloads' own identities"
        )
        fix = "leave tls out; DISABLE is for WorkloadEntries and ServiceEntries"
        yield unsupported(document, codes.TLS_NOT_HONOURED, path, message, fix)
    elif mode == "DISABLE" and any(world.attached(callee)):
        message = f"workloads with a proxy behind {callee.host} are called with mutual TLS all the same"
        yield warning(document, codes.TLS_NOT_HONOURED, path, message)


def _subset_findings(world: World, document: Document, callee: Callee) -> Iterator[Finding]:
    for index, subset in enumerate(document.read(DestinationRuleSpec).subsets):
        if not world.has_behind(callee, subset.labels):
            message = (
                f"The Subset {subset.name} defined in the DestinationRule does not select any pods: nobody "
                f"behind {callee.document.title} has labels {spell(subset.labels)}. Which may lead to 503 UH "
                "(NoHealthyUpstream)."
            )
            fix = "attach a workload with these labels before routing to the subset"
            path: Path = ("spec", "subsets", index)
            yield make("error", document, codes.EMPTY_SUBSET, path, message, fix, refuses=False)
