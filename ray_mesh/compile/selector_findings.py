"""Kinds of which one document holds for a workload: Sidecar and Telemetry; and what tokens decide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ray_mesh.compile import codes
from ray_mesh.compile.finding import Finding, error, make, spell, warning
from ray_mesh.compile.gateways import ingress_for
from ray_mesh.compile.policy_findings import ISTIO_ROOT, gateway_selector_findings
from ray_mesh.compile.selection import selects
from ray_mesh.compile.world import World, gateways_of
from ray_mesh.resources import (
    Document,
    RequestAuthenticationSpec,
    SidecarSpec,
    TelemetrySpec,
    VirtualServiceSpec,
)
from ray_mesh.resources.hosts import MESH_GATEWAY
from ray_mesh.resources.mesh import ROOT_NAMESPACE
from ray_mesh.resources.source import Path

_CLAIM = "@request.auth.claims"


@dataclass(frozen=True, slots=True)
class _Words:
    """How the findings of one kind are called."""

    plural: str
    field: str
    conflict: str
    without: str


_SIDECARS = _Words(
    "Sidecars", "workloadSelector", codes.CONFLICTING_SIDECARS, codes.SIDECARS_WITHOUT_SELECTOR
)
_TELEMETRIES = _Words(
    "Telemetries", "selector", codes.CONFLICTING_TELEMETRIES, codes.TELEMETRIES_WITHOUT_SELECTOR
)


def sidecar_findings(world: World, document: Document) -> Iterator[Finding]:
    """Everything about one Sidecar."""
    yield from _selection_findings(world, document, _SIDECARS)
    policy = document.read(SidecarSpec).outbound_traffic_policy
    if policy is not None and policy.egress_proxy is not None:
        path = ("spec", "outboundTrafficPolicy", "egressProxy")
        message = "Deprecated: OutboundTrafficPolicy.EgressProxy ignored"
        yield warning(
            document, codes.DEPRECATED, path, message, "write a ServiceEntry and a VirtualService for it"
        )


def telemetry_findings(world: World, document: Document) -> Iterator[Finding]:
    """Everything about one Telemetry."""
    yield from _selection_findings(world, document, _TELEMETRIES)
    yield from gateway_selector_findings(world, document)
    for index, logging in enumerate(document.read(TelemetrySpec).access_logging):
        if not logging.providers and not logging.disabled:
            message = (
                f'The Telemetry {document.name} in namespace "{document.namespace}" with empty '
                "providers will be ignored."
            )
            path = ("spec", "accessLogging", index)
            yield warning(document, codes.TELEMETRY_WITHOUT_PROVIDER, path, message, "name a provider")


def _selection_findings(world: World, document: Document, words: _Words) -> Iterator[Finding]:
    labels = _labels(document)
    term = f"{document.kind.lower()} in"
    if not labels:
        if _targets(document):
            return
        rest = [one for one in world.find(term, document.namespace) if not _labels(one) and not _targets(one)]
        if len(rest) > 1:
            message = (
                f'The {words.plural} [{_names(rest)}] in namespace "{document.namespace}" have no workload '
                "selector, which can lead to undefined behavior."
            )
            fix = "keep one of them, or give the others a selector"
            yield make("error", document, words.without, ("metadata", "name"), message, fix, refuses=False)
        return
    path: Path = ("spec", words.field)
    picked = world.picked("workload", document.namespace, labels)
    if not picked:
        message = f'Referenced selector not found: "{spell(dict(labels))}"'
        fix = "correct the labels, or attach such a workload"
        yield make("error", document, codes.NOT_FOUND, path, message, fix, refuses=False)
    rivals = [one for one in world.find(term, document.namespace) if _labels(one)]
    for workload in picked:
        holding = [one for one in rivals if selects(_labels(one), workload)]
        if len(holding) > 1:
            message = (
                f'The {words.plural} [{_names(holding)}] in namespace "{document.namespace}" select the same '
                f'workload pod "{workload.name}", which can lead to undefined behavior.'
            )
            fix = "let the selectors pick different workloads"
            yield make("error", document, words.conflict, path, message, fix, refuses=False)


def _labels(document: Document) -> Mapping[str, str]:
    spec = document.spec
    if isinstance(spec, SidecarSpec):
        return spec.workload_selector.labels if spec.workload_selector else {}
    selector = document.read(TelemetrySpec).selector
    return selector.match_labels if selector else {}


def _targets(document: Document) -> bool:
    return bool(getattr(document.spec, "target_refs", None) or getattr(document.spec, "target_ref", None))


def _names(documents: list[Document]) -> str:
    return " ".join(one.name for one in documents)


def claim_findings(world: World, document: Document) -> Iterator[Finding]:
    """Routes by claims at a gateway whose workloads verify no token."""
    found = next(_claims(document), None)
    if found is None:
        return
    path, key = found
    for name in gateways_of(document):
        namespace, _, plain = name.partition("/")
        gateway = world.get(f"gateway.{namespace}.{plain}") if name != MESH_GATEWAY else None
        for workload in ingress_for(world, gateway) if gateway is not None else ():
            if not any(_verifies(one, workload) for one in world.find("kind", "RequestAuthentication")):
                message = (
                    f"The virtual service uses the JWT claim based routing (key: {key}) but found no request "
                    f"authentication for the gateway ({name}) pod ({workload.name}). The request "
                    "authentication must first be applied for the gateway pods to validate the JWT token and "
                    "make the claims available for routing."
                )
                fix = "apply a RequestAuthentication for the gateway's workloads"
                yield error(document, codes.CLAIMS_WITHOUT_AUTHENTICATION, path, message, fix)


def _claims(document: Document) -> Iterator[tuple[Path, str]]:
    for number, rule in enumerate(document.read(VirtualServiceSpec).http):
        for index, match in enumerate(rule.match):
            for field, names in (("headers", match.headers), ("withoutHeaders", match.without_headers)):
                for name in names:
                    if name.startswith(_CLAIM):
                        yield ("spec", "http", number, "match", index, field, name), name


def _verifies(authentication: Document, workload: Document) -> bool:
    if authentication.namespace not in (ROOT_NAMESPACE, ISTIO_ROOT, workload.namespace):
        return False
    selector = authentication.read(RequestAuthenticationSpec).selector
    return selector is None or selects(selector.match_labels, workload)
