"""What a service is to one caller: whether it knows the host, which routes and which rules hold for it.

Resources are the same for all callers, so each proxy decides this, when a host is learned or a connection is
made, never for a request of a host that is known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ray_mesh.snapshot import ClientRules, Routing, Service, Workload, is_exported


@dataclass(frozen=True, slots=True)
class Client:
    """Who calls."""

    namespace: str
    labels: frozenset[tuple[str, str]]


def client_of(workload: Workload) -> Client:
    """A workload as a caller."""
    return Client(workload.namespace, frozenset(workload.labels))


def why_unknown(service: Service, client: Client) -> str:
    """Why a caller does not know the host of a service; empty when it does."""
    if not is_exported(service.exported_to, client.namespace):
        return f"it is not exported to namespace {client.namespace} (exportTo)"
    return ""


def seen_by(service: Service, client: Client) -> Service:
    """The service with the routes that hold for a caller."""
    if not service.routings:
        return service
    routing = _routing_for(service, client)
    return replace(
        service,
        routes=routing.routes,
        tcp_routes=routing.tcp_routes,
        tls_routes=routing.tls_routes,
        owners=routing.owners,
        routings=(),
    )


def rules_for(service: Service, client: Client | None) -> Service | ClientRules:
    """What DestinationRules say of a service to a caller."""
    if client is not None:
        for one in service.client_rules:
            if one.namespace == client.namespace and client.labels.issuperset(one.labels):
                return one
    return service


def _routing_for(service: Service, client: Client) -> Routing:
    usual = Routing("", service.owners, service.routes, service.tcp_routes, service.tls_routes)
    named = [one for one in service.routings if one.namespace == client.namespace]
    return named[0] if named else usual
