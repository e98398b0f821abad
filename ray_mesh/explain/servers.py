"""Which Gateways ask for a port of an ingress workload, and what names them without being served there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ray_mesh.compile.gateway_api.attachment import common_hosts, why_detached
from ray_mesh.compile.gateway_api.listeners import listeners_at
from ray_mesh.compile.gateways import gateways_for
from ray_mesh.compile.world import gateways_of
from ray_mesh.explain.answer import NOWHERE, Ground, Note
from ray_mesh.explain.callers import Source
from ray_mesh.explain.case import Case
from ray_mesh.resources import ApiGatewaySpec, Document, GatewaySpec, VirtualServiceSpec
from ray_mesh.resources.gateway_api.gateway import Listener
from ray_mesh.resources.hosts import gateway_host, pattern_covers, specificity
from ray_mesh.resources.source import Path, show


@dataclass(frozen=True, slots=True)
class Serving:
    """A server of an Istio Gateway or a ``listener`` of one of the Gateway API, with its hosts."""

    gateway: Document
    path: Path
    hosts: tuple[str, ...]
    listener: Listener | None = None

    def rank(self, name: str) -> tuple[bool, int]:
        """How closely it says a host; less than any pattern when it does not."""
        covering = [specificity(one) for one in self.hosts if pattern_covers(one, name)]
        return max(covering, default=(False, 0))


def serving(case: Case, source: Source, port: int) -> list[Serving]:
    """What asks for a gateway port."""
    found = []
    for gateway in gateways_for(case.world, source.document):
        for index, server in enumerate(gateway.read(GatewaySpec).servers):
            if server.port.number == port:
                hosts = (text.rpartition("/")[2] for text in server.hosts)
                full = tuple(gateway_host(one, gateway.namespace).lower() for one in hosts)
                found.append(Serving(gateway, ("spec", "servers", index), full))
    for placed in listeners_at(case.world, source.document, port):
        index = placed.gateway.read(ApiGatewaySpec).listeners.index(placed.listener)
        path: Path = ("spec", "listeners", index)
        found.append(Serving(placed.gateway, path, (placed.host.lower(),), placed.listener))
    return found


def server_ground(case: Case, source: Source, port: int, name: str) -> tuple[Ground, tuple[Note, ...]]:
    """The server that asks for a port and says a host most closely."""
    found = serving(case, source, port)
    if not found:
        return NOWHERE, (Note(f"no Gateway that selects {source.name} has a server for port {port}"),)
    one = max(found, key=lambda each: each.rank(name))
    ground = case.places.at(one.gateway, *one.path)
    return ground, (Note(f"asked for by {one.gateway.title} {show(one.path)}", ground),)


def istio_gateway(case: Case, source: Source, name: str, port: int) -> str:
    """``namespace/name`` of the Istio Gateway whose VirtualServices have a say over a host."""
    found = [
        one for one in serving(case, source, port) if one.listener is None and one.rank(name) > (False, 0)
    ]
    if found:
        return f"{found[0].gateway.namespace}/{found[0].gateway.name}"
    gateway = source.gateway
    return f"{gateway.namespace}/{gateway.name}" if gateway is not None else ""


def names(document: Document, host: str) -> bool:
    """Whether a VirtualService is for a host from outside."""
    hosts = document.read(VirtualServiceSpec).hosts
    return any(pattern_covers(gateway_host(one, document.namespace), host) for one in hosts)


def why_no_host(case: Case, source: Source, host: str, port: int) -> Iterator[Note]:
    """Routes that are near: for the host but another gateway, for the gateway but another host."""
    name = istio_gateway(case, source, host, port)
    for document in case.world.find("kind", "VirtualService"):
        gateways = gateways_of(document)
        if names(document, host) and name not in gateways:
            says = f"not {document.title}: it is for gateways {', '.join(gateways)}"
            yield Note(says, case.places.at(document, "spec", "gateways"))
        elif name in gateways and not names(document, host):
            hosts = ", ".join(document.read(VirtualServiceSpec).hosts)
            says = f"not {document.title}: it is for hosts {hosts}"
            yield Note(says, case.places.at(document, "spec", "hosts"))
    for one in serving(case, source, port):
        if one.listener is not None:
            yield from _why_detached(case, one.gateway, one.listener)


def _why_detached(case: Case, gateway: Document, listener: Listener) -> Iterator[Note]:
    for route in case.world.oldest("route of", gateway.key):
        reason = why_detached(case.world, route, gateway, listener)
        path: Path = ("spec", "parentRefs")
        if not reason and not common_hosts(listener, route):
            reason, path = f"it has no host in common with listener {listener.name}", ("spec", "hostnames")
        elif not reason:
            hosts = ", ".join(host for host, _ in common_hosts(listener, route))
            reason, path = f"it is for hosts {hosts}", ("spec", "hostnames")
        yield Note(f"not {route.title}: {reason}", case.places.at(route, *path))
