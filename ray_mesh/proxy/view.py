"""What a service is to one caller: whether it knows the host, which routes and which rules hold for it.

Resources are the same for all callers, so each proxy decides this, when a host is learned or a connection is
made, never for a request of a host that is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ray_mesh.proxy.tcp_routes import covers
from ray_mesh.snapshot import (
    ClientRules,
    Destination,
    EgressHost,
    OutboundPolicy,
    Route,
    RouteOwner,
    Routing,
    Service,
    Sidecar,
    Workload,
    is_exported,
)


@dataclass(frozen=True, slots=True)
class Client:
    """Who calls, and the Sidecar that holds for it."""

    namespace: str
    labels: frozenset[tuple[str, str]]
    sidecar: Sidecar | None = None

    def policy(self, of_mesh: OutboundPolicy) -> OutboundPolicy:
        """What happens to its calls of hosts that it does not know."""
        return (self.sidecar.outbound_policy if self.sidecar is not None else None) or of_mesh


def client_of(workload: Workload) -> Client:
    """A workload as a caller."""
    return Client(workload.namespace, frozenset(workload.labels), workload.sidecar)


def why_unexported(service: Service, client: Client) -> str:
    """Why nothing of a caller may go to a service, not by a route either; empty when it may."""
    if is_exported(service.exported_to, client.namespace):
        return ""
    return f"it is not exported to namespace {client.namespace} (exportTo)"


def why_unknown(service: Service, client: Client, host: str) -> str:
    """Why a caller does not know a service as ``host``; empty when it does."""
    if reason := why_unexported(service, client):
        return reason
    sidecar = client.sidecar
    if sidecar is None or _is_named(sidecar, service.namespace, (service.host, host)):
        return ""
    return f"it is not among the egress hosts of {sidecar.origin}, which holds for this workload"


def seen_by(service: Service, client: Client) -> Service:
    """The service with the routes that hold for a caller."""
    if not service.routings and (client.sidecar is None or not service.owners):
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
    routings = named or [usual, *(one for one in service.routings if not one.namespace)]
    sidecar = client.sidecar
    if sidecar is None:
        return routings[0]
    for routing in routings:
        known = {index for index, owner in enumerate(routing.owners) if _is_owner_named(sidecar, owner)}
        if len(known) == len(routing.owners):
            return routing
        if known:
            return _without_others(service, routing, known)
    return Routing("", (), (_itself(service),))


def _without_others(service: Service, routing: Routing, known: set[int]) -> Routing:
    """A routing with what is left of it when only some of its owners are known."""
    is_http = any(routing.owners[index].is_http for index in known)
    routes = tuple(one for one in routing.routes if one.owner in known)
    return replace(
        routing,
        routes=routes if is_http else (_itself(service),),
        tcp_routes=tuple(one for one in routing.tcp_routes if one.owner in known),
        tls_routes=tuple(one for one in routing.tls_routes if one.owner in known),
    )


def _itself(service: Service) -> Route:
    return Route("default", "", (), (Destination(service.host),))


def _is_named(sidecar: Sidecar, namespace: str, hosts: Iterable[str]) -> bool:
    def names(one: EgressHost) -> bool:
        return one.namespace in ("", namespace) and any(covers(one.host, host) for host in hosts)

    if any(names(one) for one in sidecar.without):
        return False
    return sidecar.egress is None or any(names(one) for one in sidecar.egress)


def _is_owner_named(sidecar: Sidecar, owner: RouteOwner) -> bool:
    """Whether a caller knows a document with routes: some host that it is for is one that it knows."""
    if _is_named(sidecar, owner.namespace, (owner.host,)):
        return True
    return sidecar.egress is not None and any(
        one.namespace in ("", owner.namespace) and covers(owner.host, one.host) for one in sidecar.egress
    )
