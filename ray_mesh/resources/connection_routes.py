"""Routes of VirtualServices for connections: TLS by server name, TCP by port."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from ray_mesh.resources.destination import Destination
from ray_mesh.resources.hosts import is_host_pattern
from ray_mesh.resources.schema import Flaw, Later, Model, NonEmpty, PortNumber

_BY_NAME = Later("callers reach a host by its name, not by an address")
_GATEWAY = re.compile(r"(\.|[a-z0-9-]{1,63})/[a-z0-9.-]{1,253}|[a-z0-9.-]{1,253}")


class ConnectionMatch(Model):
    """What TLS and TCP matches have in common; all conditions that are set must hold."""

    destination_subnets: Annotated[tuple[str, ...], _BY_NAME] = ()
    port: PortNumber | None = None
    source_labels: dict[str, str] = {}
    gateways: tuple[NonEmpty, ...] = ()
    source_namespace: str = ""

    def flaws(self) -> Iterator[Flaw]:
        for name in self.gateways:
            if not _GATEWAY.fullmatch(name):
                yield Flaw(("gateways",), f"{name!r} names no gateway: write name or namespace/name")


class TlsMatch(ConnectionMatch):
    """Conditions on a TLS connection that the mesh does not end."""

    sni_hosts: Annotated[tuple[NonEmpty, ...], Field(min_length=1)]

    def flaws(self) -> Iterator[Flaw]:
        yield from super().flaws()
        for index, host in enumerate(self.sni_hosts):
            if not is_host_pattern(host):
                yield Flaw(("sniHosts", index), f"{host!r} is not a host, *.host or *")


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
