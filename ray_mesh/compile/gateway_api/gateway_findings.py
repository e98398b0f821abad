"""What admission finds in Gateways of the Gateway API."""

from __future__ import annotations

from collections.abc import Iterator

from ray_mesh.compile import codes
from ray_mesh.compile.finding import Finding, Told, error, make, spell, unsupported
from ray_mesh.compile.gateway_api.attachment import api_gateways_for, api_ingress_for
from ray_mesh.compile.gateway_api.listeners import Placed, is_like
from ray_mesh.compile.gateways import gateways_for
from ray_mesh.compile.world import World
from ray_mesh.resources import ApiGatewaySpec, Document, GatewaySpec, WorkloadSpec
from ray_mesh.resources.gateway import Server, listener_kind
from ray_mesh.resources.source import Path


def api_gateway_findings(world: World, document: Document) -> Iterator[Finding]:
    """Everything about one Gateway."""
    spec = document.read(ApiGatewaySpec)
    ingress = api_ingress_for(world, document)
    if not ingress:
        labels = spell(spec.infrastructure.labels)
        message = f"no ingress workload serves this Gateway: none has gatewayPorts and the labels {labels}"
        fix = "attach one, or correct infrastructure.labels"
        # Files have no ingress workloads: they attach.
        told: Told = "always" if world.has("kind", "Workload") else "admission"
        path: Path = ("spec", "infrastructure", "labels")
        yield make("error", document, codes.NOT_FOUND, path, message, fix, told=told)
        return
    exposed = {int(port) for workload in ingress for port in workload.read(WorkloadSpec).gateway_ports}
    for index, listener in enumerate(spec.listeners):
        path = ("spec", "listeners", index)
        if listener.port not in exposed:
            names = ", ".join(f"{one.namespace}/{one.name}" for one in ingress)
            ports = ", ".join(str(port) for port in sorted(exposed))
            message = f"port {listener.port} is not exposed by {names}, which exposes {ports}"
            fix = f"use {ports}, or expose the port"
            yield unsupported(document, codes.PORT_NOT_EXPOSED, (*path, "port"), message, fix)
        for reason in _conflicts(world, Placed(document, listener), ingress):
            yield error(document, codes.PORT_CONFLICT, path, reason, "use another port or hostname")
            break


def _conflicts(world: World, placed: Placed, ingress: list[Document]) -> Iterator[str]:
    """Why a listener cannot stand beside those of other Gateways of the same ingress."""
    port = placed.listener.port
    for workload in ingress:
        for gateway in api_gateways_for(world, workload):
            for other in gateway.read(ApiGatewaySpec).listeners if gateway.key != placed.gateway.key else ():
                beside = Placed(gateway, other)
                if other.port != port:
                    continue
                if beside.kind != placed.kind:
                    yield f"port {port} is {beside.kind} in {gateway.title} of the same ingress"
                elif beside.host == placed.host and not is_like(other, placed.listener):
                    yield f"host {beside.host} of port {port} has other TLS settings in {gateway.title}"
        for gateway in gateways_for(world, workload):
            for server in gateway.read(GatewaySpec).servers:
                if server.port.number == port and (reason := _conflict(placed, server)):
                    yield f"{reason} in {gateway.title} of the same ingress"


def _conflict(placed: Placed, server: Server) -> str:
    kind, port = listener_kind(server.port.kind), placed.listener.port
    if kind != placed.kind:
        return f"port {port} is {kind}"
    hosts = [host.rpartition("/")[2] for host in server.hosts]
    if kind == "TLS" and placed.host in hosts:
        return f"host {placed.host} of port {port} has a server"
    return ""
