"""What admission finds in policies, registrations and MeshConfig."""

from __future__ import annotations

from collections.abc import Iterator

from ray_mesh.compile import finding
from ray_mesh.compile.finding import Finding, error, spell, warning
from ray_mesh.compile.policies import ISTIO_TRUST_DOMAIN
from ray_mesh.compile.workloads import in_scope, picks
from ray_mesh.compile.world import MESH_CONFIG_KEY, World
from ray_mesh.resources import (
    AuthorizationPolicySpec,
    Document,
    WorkloadBindingSpec,
    WorkloadSpec,
)
from ray_mesh.resources.schema import WorkloadSelector


def selector_findings(world: World, document: Document) -> Iterator[Finding]:
    """A policy whose selector picks nobody holds for nothing."""
    selector: WorkloadSelector | None = getattr(document.spec, "selector", None)
    if selector is None or not selector.match_labels:
        return
    workloads = world.find("kind", "Workload")
    if not any(in_scope(document, one) and picks(selector, one) for one in workloads):
        labels = spell(selector.match_labels)
        message = f"No matching workloads for this resource with the following labels: {labels}"
        yield warning(document, finding.SELECTS_NOTHING, ("spec", "selector"), message)


def authorization_findings(world: World, document: Document) -> Iterator[Finding]:
    """Everything about one AuthorizationPolicy."""
    yield from selector_findings(world, document)
    for index, rule in enumerate(document.read(AuthorizationPolicySpec).rules):
        for place, part in enumerate(rule.from_ or ()):
            for field in ("principals", "notPrincipals"):
                values = part.source.principals if field == "principals" else part.source.not_principals
                for position, value in enumerate(values or ()):
                    if _is_foreign(value, world.trust_domain):
                        path = ("spec", "rules", index, "from", place, "source", field, position)
                        yield _foreign_principal(world, document, path, value)


def _is_foreign(principal: str, trust_domain: str) -> bool:
    domain, slash, _ = principal.partition("/")
    return bool(slash) and "*" not in domain and domain not in (trust_domain, ISTIO_TRUST_DOMAIN)


def _foreign_principal(world: World, document: Document, path: tuple[str | int, ...], value: str) -> Finding:
    domain = value.partition("/")[0]
    message = f"{value} is of trust domain {domain}, and the mesh accepts only {world.trust_domain}"
    return warning(document, finding.FOREIGN_PRINCIPAL, path, message, f"write {world.trust_domain}/...")


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
    yield error(document, finding.UNBOUND_WORKLOAD, ("spec", "serviceAccount"), message, fix)


def mesh_config_findings(world: World, document: Document) -> Iterator[Finding]:
    """There is one MeshConfig, under one name."""
    if document.key != MESH_CONFIG_KEY:
        message = f"the MeshConfig of the mesh is {MESH_CONFIG_KEY}; another one would do nothing"
        yield error(
            document, finding.MESH_CONFIG, ("metadata", "name"), message, "use that name and namespace"
        )
