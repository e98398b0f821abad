"""Istio's PeerAuthentication (security.istio.io)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from ray_mesh.resources.schema import Flaw, Model, Only, WorkloadSelector, is_port

Mode = Annotated[
    Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"] | None,
    Only(("UNSET", "STRICT"), "workloads have no plaintext port, every connection is mutual TLS"),
]


class Mtls(Model):
    """Whether callers must use mutual TLS."""

    mode: Mode = None


class PeerAuthenticationSpec(Model):
    """Which connections a workload accepts. Without any, the mesh is STRICT."""

    selector: WorkloadSelector | None = None
    mtls: Mtls | None = None
    port_level_mtls: Annotated[
        Annotated[dict[str, Mtls], Field(min_length=1)] | None, Field(alias="portLevelMtls")
    ] = None

    def flaws(self) -> Iterator[Flaw]:
        if self.port_level_mtls and not (self.selector and self.selector.match_labels):
            yield Flaw(("portLevelMtls",), "portLevelMtls requires selector")
        for port in self.port_level_mtls or {}:
            if not is_port(port):
                yield Flaw(("portLevelMtls", port), "port must be between 1-65535")
