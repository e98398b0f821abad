"""Routes of VirtualServices for connections: TLS by server name, TCP by port."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from ray_mesh.resources.destination import Destination
from ray_mesh.resources.gateway_names import is_gateway_name
from ray_mesh.resources.host_names import host_or_address_flaws, network_flaws
from ray_mesh.resources.schema import Flaw, LabelName, LabelText, Later, Model, NonEmpty, PortNumber, is_label

_BY_NAME = Later("callers reach a host by its name, not by an address")


class ConnectionMatch(Model):
    """What TLS and TCP matches have in common; all conditions that are set must hold."""

    destination_subnets: Annotated[tuple[str, ...], _BY_NAME] = ()
    port: PortNumber | None = None
    source_labels: dict[LabelName, LabelText] = {}
    gateways: tuple[NonEmpty, ...] = ()
    source_namespace: str = ""

    def flaws(self) -> Iterator[Flaw]:
        yield from network_flaws(("destinationSubnets",), self.destination_subnets)
        if self.source_namespace and not is_label(self.source_namespace):
            yield Flaw(("sourceNamespace",), f"{self.source_namespace!r} is not a namespace")
        for name in self.gateways:
            if not is_gateway_name(name):
                yield Flaw(("gateways",), f"{name!r} names no gateway: write name or namespace/name")


class TlsMatch(ConnectionMatch):
    """Conditions on a TLS connection that the mesh does not end."""

    sni_hosts: Annotated[tuple[NonEmpty, ...], Field(min_length=1)]

    def flaws(self) -> Iterator[Flaw]:
        yield from super().flaws()
        for index, host in enumerate(self.sni_hosts):
            yield from host_or_address_flaws(("sniHosts", index), host)


class TcpMatch(ConnectionMatch):
    """Conditions on a TCP connection."""

    source_subnet: Annotated[str | None, Later("callers are known by their identity")] = None


class Share(Model):
    """A share of a route."""

    destination: Destination
    weight: Annotated[int, Field(ge=0, lt=2**31)] | None = None


class ConnectionRoute(Model):
    """What TLS and TCP routes have in common."""

    route: Annotated[tuple[Share, ...], Field(min_length=1)]

    def flaws(self) -> Iterator[Flaw]:
        if len(self.route) > 1 and not any(share.weight for share in self.route):
            yield Flaw(("route",), "several destinations need weights, and not all of them 0")


class TlsRoute(ConnectionRoute):
    """One rule for TLS connections."""

    match: Annotated[tuple[TlsMatch, ...], Field(min_length=1)]


class TcpRoute(ConnectionRoute):
    """One rule for TCP connections."""

    match: tuple[TcpMatch, ...] = ()
