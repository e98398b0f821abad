"""What admission finds in Gateways."""

from __future__ import annotations

from collections.abc import Iterator

from ray_mesh.compile import finding
from ray_mesh.compile.finding import Finding, error, spell
from ray_mesh.compile.gateways import gateways_for, ingress_for
from ray_mesh.compile.world import World
from ray_mesh.resources import Document, GatewaySpec, WorkloadSpec
from ray_mesh.resources.gateway import listener_kind


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
    yield from _conflicts(world, document, ingress)


def _conflicts(world: World, document: Document, ingress: list[Document]) -> Iterator[Finding]:
    """Ports that are HTTP, TLS or TCP in another Gateway of the same ingress, and not here."""
    taken: dict[int, tuple[str, Document]] = {}
    for workload in ingress:
        for gateway in gateways_for(world, workload):
            for server in gateway.read(GatewaySpec).servers if gateway.key != document.key else ():
                taken.setdefault(server.port.number, (listener_kind(server.port.kind), gateway))
    for index, server in enumerate(document.read(GatewaySpec).servers):
        kind, gateway = taken.get(server.port.number, ("", document))
        if kind and kind != listener_kind(server.port.kind):
            message = f"port {server.port.number} is {kind} in {gateway.title} of the same ingress"
            path = ("spec", "servers", index, "port", "protocol")
            yield error(document, finding.PORT_CONFLICT, path, message, "use another port")
