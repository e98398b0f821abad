"""What is to be said about one document of a world."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ray_mesh.compile.entry_findings import service_entry_findings, service_findings, workload_entry_findings
from ray_mesh.compile.facts import NOTHING_KNOWN, Facts
from ray_mesh.compile.finding import Finding
from ray_mesh.compile.gateway_api.findings import api_route_findings, overridden_findings
from ray_mesh.compile.gateway_api.gateway_findings import api_gateway_findings
from ray_mesh.compile.gateway_api.terms import API_GATEWAY
from ray_mesh.compile.gateway_findings import gateway_findings
from ray_mesh.compile.health_checks import health_check_findings
from ray_mesh.compile.policy_findings import (
    authorization_findings,
    gateway_selector_findings,
    mesh_config_findings,
    selector_findings,
    workload_findings,
)
from ray_mesh.compile.route_findings import virtual_service_findings
from ray_mesh.compile.rule_findings import destination_rule_findings
from ray_mesh.compile.selector_findings import claim_findings, sidecar_findings, telemetry_findings
from ray_mesh.compile.service_findings import port_name_findings, protocol_findings, version_findings
from ray_mesh.compile.world import World
from ray_mesh.resources import Document

Check = Callable[[World, Document], Iterator[Finding]]

_CHECKS: dict[str, tuple[Check, ...]] = {
    "VirtualService": (virtual_service_findings, claim_findings),
    "DestinationRule": (destination_rule_findings,),
    "Service": (service_findings, port_name_findings, version_findings),
    "ServiceEntry": (service_entry_findings, protocol_findings),
    "WorkloadEntry": (workload_entry_findings,),
    "AuthorizationPolicy": (authorization_findings,),
    "PeerAuthentication": (selector_findings,),
    "RequestAuthentication": (selector_findings, gateway_selector_findings),
    "RateLimit": (selector_findings,),
    "HealthCheck": (health_check_findings,),
    "Sidecar": (sidecar_findings,),
    "Telemetry": (telemetry_findings,),
    "Workload": (workload_findings,),
    "MeshConfig": (mesh_config_findings,),
    API_GATEWAY: (api_gateway_findings,),
    "HTTPRoute": (api_route_findings,),
    "GRPCRoute": (api_route_findings,),
    "TCPRoute": (api_route_findings,),
    "TLSRoute": (api_route_findings,),
}


def examine(world: World, document: Document, facts: Facts = NOTHING_KNOWN) -> list[Finding]:
    """Everything about one document, as the world would be with it."""
    found = [one for check in _CHECKS.get(document.kind, ()) for one in check(world, document)]
    if document.kind == "Gateway":
        found += gateway_findings(world, document, facts)
    return [*found, *overridden_findings(world, document)]
