"""What admission finds in Gateways."""

from __future__ import annotations

from collections.abc import Iterator

from ray_mesh.compile import finding
from ray_mesh.compile.finding import Finding, error, spell
from ray_mesh.compile.gateways import ingress_for
from ray_mesh.compile.world import World
from ray_mesh.resources import Document, GatewaySpec, WorkloadSpec


def gateway_findings(world: World, document: Document) -> Iterator[Finding]:
    """Everything about one Gateway."""
    spec = document.read(GatewaySpec)
    ingress = ingress_for(world, document)
    if not ingress:
        message = f'Referenced selector not found: "{spell(spec.selector)}" selects no ingress workload'
        fix = "attach a workload with these labels and gatewayPorts, or correct the selector"
        yield error(document, finding.NOT_FOUND, ("spec", "selector"), message, fix)
        return
    exposed = {int(port) for workload in ingress for port in workload.read(WorkloadSpec).gateway_ports}
    for index, server in enumerate(spec.servers):
        if server.port.number not in exposed:
            names = ", ".join(f"{one.namespace}/{one.name}" for one in ingress)
            ports = ", ".join(str(port) for port in sorted(exposed))
            message = f"port {server.port.number} is not exposed by {names}, which exposes {ports}"
            path = ("spec", "servers", index, "port", "number")
            yield error(document, finding.PORT_NOT_EXPOSED, path, message, f"use {ports}, or expose the port")
