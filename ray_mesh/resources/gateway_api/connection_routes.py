"""TLSRoute and TCPRoute: where connections go."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ray_mesh.resources.gateway_api.names import Hostname, SectionName
from ray_mesh.resources.gateway_api.references import BackendRef, RouteSpec
from ray_mesh.resources.schema import Model


class ConnectionRule(Model):
    """Shares of the connections."""

    name: SectionName | None = None
    backend_refs: Annotated[tuple[BackendRef, ...], Field(min_length=1, max_length=16)]


class TcpRouteSpec(RouteSpec):
    """One rule for all connections to a port."""

    rules: Annotated[tuple[ConnectionRule, ...], Field(min_length=1, max_length=1)]


class TlsRouteSpec(RouteSpec):
    """One rule for connections by the server name of their TLS handshake."""

    hostnames: Annotated[tuple[Hostname, ...], Field(min_length=1, max_length=1024)]
    rules: Annotated[tuple[ConnectionRule, ...], Field(min_length=1, max_length=1)]
