"""What admission finds in policies, registrations and MeshConfig."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ray_mesh.compile import codes
from ray_mesh.compile.finding import Finding, error, make, spell, warning
from ray_mesh.compile.policies import ISTIO_TRUST_DOMAIN
from ray_mesh.compile.workloads import picks
from ray_mesh.compile.world import MESH_CONFIG_KEY, World
from ray_mesh.resources import (
    AuthorizationPolicySpec,
    Document,
    WorkloadBindingSpec,
    WorkloadSpec,
)
from ray_mesh.resources.authorization import Rule, Source
from ray_mesh.resources.mesh import ROOT_NAMESPACE
from ray_mesh.resources.schema import WorkloadSelector
from ray_mesh.resources.source import Path

ISTIO_ROOT = "istio-system"
GATEWAY_NAME = "gateway.networking.k8s.io/gateway-name"
"""The label of workloads that stand for a Gateway of the Gateway API; its value is the name."""


def selector_findings(world: World, document: Document) -> Iterator[Finding]:
    """A policy whose selector picks nobody holds for nothing."""
    yield from _root_findings(document)
    selector: WorkloadSelector | None = getattr(document.spec, "selector", None)
    if selector is None or not selector.match_labels:
        return
    if not _picks_any(world, document, selector):
        yield _selects_nothing(document, spell(selector.match_labels), ("spec", "selector"))


def _picks_any(world: World, document: Document, selector: WorkloadSelector) -> bool:
    """Whether there is a workload that a policy may hold for."""
    if document.namespace in (ROOT_NAMESPACE, ISTIO_ROOT):
        return any(picks(selector, one) for one in world.find("kind", "Workload"))
    return bool(world.picked("workload", document.namespace, selector.match_labels))


def _root_findings(document: Document) -> Iterator[Finding]:
    """Istio's root namespace is one like others here."""
    if document.namespace == ISTIO_ROOT:
        message = (
            f"namespace {ISTIO_ROOT} is not the root namespace of this mesh, so this holds for workloads of "
            f"{ISTIO_ROOT} only"
        )
        fix = f"put it into {ROOT_NAMESPACE} if it is for the whole mesh"
        yield warning(document, codes.NOT_THE_ROOT, ("metadata", "namespace"), message, fix)


def _selects_nothing(document: Document, labels: str, path: Path) -> Finding:
    message = f"No matching workloads for this resource with the following labels: {labels}"
    fix = "correct the labels, or attach such a workload"
    return warning(document, codes.SELECTS_NOTHING, path, message, fix)


def authorization_findings(world: World, document: Document) -> Iterator[Finding]:
    """Everything about one AuthorizationPolicy."""
    yield from selector_findings(world, document)
    yield from gateway_selector_findings(world, document)
    spec = document.read(AuthorizationPolicySpec)
    is_of_namespace = document.namespace not in (ROOT_NAMESPACE, ISTIO_ROOT)
    if is_of_namespace and not _has_target(spec) and not world.has("workload in", document.namespace):
        finding = _selects_nothing(document, "", ("metadata", "namespace"))
        yield replace(finding, told="analysis")
    for index, rule in enumerate(spec.rules):
        if spec.action == "DENY" and _asks_only_about_requests(rule):
            yield _denies_connections(document, ("spec", "rules", index))
        for place, part in enumerate(rule.from_ or ()):
            path: Path = ("spec", "rules", index, "from", place, "source")
            yield from _namespace_findings(world, document, part.source, path)
            for field in ("principals", "notPrincipals"):
                values = part.source.principals if field == "principals" else part.source.not_principals
                for position, value in enumerate(values or ()):
                    if _is_foreign(value, world.trust_domain):
                        yield _foreign_principal(world, document, (*path, field, position), value)


def _asks_only_about_requests(rule: Rule) -> bool:
    """Whether ``to``, or without it ``from``, says nothing that holds for a connection too, as in Istio."""
    if rule.to:
        return not any({"ports", "not_ports"} & one.operation.model_fields_set for one in rule.to)
    of_requests = {"request_principals", "not_request_principals"}
    return bool(rule.from_) and all(one.source.model_fields_set <= of_requests for one in rule.from_ or ())


def _denies_connections(document: Document, path: Path) -> Finding:
    message = (
        "Schema validation warning: configured AuthorizationPolicy will deny all traffic to TCP ports under "
        "its scope due to the use of only HTTP attributes in a DENY rule; it is recommended to explicitly "
        "specify the port"
    )
    fix = "add operation.ports with the HTTP ports, if workloads that it selects have TCP ports"
    return replace(warning(document, codes.SCHEMA_WARNING, path, message, fix), told="analysis")


def _has_target(spec: AuthorizationPolicySpec) -> bool:
    return spec.selector is not None or spec.target_ref is not None or bool(spec.target_refs)


def _namespace_findings(world: World, document: Document, source: Source, path: Path) -> Iterator[Finding]:
    """Namespaces that there are not, where any are declared: without a Namespace one exists by being used."""
    if not world.has("kind", "Namespace"):
        return
    for field, values in (("namespaces", source.namespaces), ("notNamespaces", source.not_namespaces)):
        for position, value in enumerate(values or ()):
            if not _exists(world, value):
                message = f'Referenced namespace not found: "{value}"'
                fix = "correct the name, or apply the Namespace or something in it"
                place = (*path, field, position)
                yield make("error", document, codes.NOT_FOUND, place, message, fix, refuses=False)


def _exists(world: World, pattern: str) -> bool:
    if pattern == "*":
        return True
    if "*" not in pattern:
        return world.has("in namespace", pattern)
    names = {one.namespace for one in world.documents.values()}
    if pattern.startswith("*"):
        return any(name.endswith(pattern[1:]) for name in names)
    return any(name.startswith(pattern[:-1]) for name in names)


def gateway_selector_findings(world: World, document: Document) -> Iterator[Finding]:
    """Workloads of Gateway API gateways are not selected by labels."""
    selector: WorkloadSelector | None = getattr(document.spec, "selector", None)
    if (
        selector is None
        or getattr(document.spec, "target_refs", None)
        or getattr(document.spec, "target_ref", None)
    ):
        return
    for workload in world.picked("workload", document.namespace, selector.match_labels):
        gateway = workload.labels.get(GATEWAY_NAME)
        if gateway is not None:
            message = (
                f"Ineffective selector on Kubernetes Gateway {gateway}. Use the TargetRef field instead."
            )
            fix = f"targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: {gateway}}}]"
            yield warning(document, codes.INEFFECTIVE_SELECTOR, ("spec", "selector"), message, fix)


def _is_foreign(principal: str, trust_domain: str) -> bool:
    domain, slash, _ = principal.partition("/")
    return bool(slash) and "*" not in domain and domain not in (trust_domain, ISTIO_TRUST_DOMAIN)


def _foreign_principal(world: World, document: Document, path: tuple[str | int, ...], value: str) -> Finding:
    domain = value.partition("/")[0]
    message = f"{value} is of trust domain {domain}, and the mesh accepts only {world.trust_domain}"
    return warning(document, codes.FOREIGN_PRINCIPAL, path, message, f"write {world.trust_domain}/...")


def workload_findings(world: World, document: Document) -> Iterator[Finding]:
    """A workload runs only where an administrator bound its service account."""
    spec = document.read(WorkloadSpec)
    for binding in world.find("binding", document.namespace, spec.service_account):
        nodes = binding.read(WorkloadBindingSpec).nodes
        if "*" in nodes or spec.node in nodes:
            return
    account = f"{document.namespace}/{spec.service_account}"
    message = f"no WorkloadBinding lets service account {account} run on node {spec.node}"
    fix = "an administrator applies a WorkloadBinding with this serviceAccount and node"
    yield error(document, codes.UNBOUND_WORKLOAD, ("spec", "serviceAccount"), message, fix)


def mesh_config_findings(world: World, document: Document) -> Iterator[Finding]:
    """There is one MeshConfig, under one name."""
    if document.key != MESH_CONFIG_KEY:
        message = f"the MeshConfig of the mesh is {MESH_CONFIG_KEY}; another one would do nothing"
        yield error(document, codes.MESH_CONFIG, ("metadata", "name"), message, "use that name and namespace")
