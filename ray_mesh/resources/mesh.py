"""The mesh's own kinds (mesh.ray.io/v1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from ray_mesh import snapshot
from ray_mesh.resources.exports import export_flaws
from ray_mesh.resources.schema import DnsName, Flaw, Model, NonEmpty, Only, PortNumber, WorkloadSelector
from ray_mesh.resources.workload_group import ReadinessProbe

ROOT_NAMESPACE = "mesh-system"
"""Policies here hold for the whole mesh; MeshConfig lives here."""

DEFAULT_NAMESPACE = "default"
DEFAULT_TRUST_DOMAIN = "mesh.local"
MESH_NAME = "mesh"

NodeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
PortMap = dict[Annotated[str, Field(pattern=r"^[1-9][0-9]{0,4}$")], PortNumber]


class RateLimitSpec(Model):
    """``requests`` per ``unit`` over the whole mesh, for the workloads that it selects.

    ``failMode`` says what happens when nobody can be asked: CLOSED refuses, OPEN lets through.
    """

    requests: Annotated[int, Field(ge=1, le=10**12)]
    unit: Literal["SECOND", "MINUTE"]
    fail_mode: Literal["OPEN", "CLOSED"] = "CLOSED"
    selector: WorkloadSelector | None = None

    @property
    def per_s(self) -> int:
        """The length of a window in seconds."""
        return 60 if self.unit == "MINUTE" else 1


class OutboundTrafficPolicy(Model):
    """What happens to requests for hosts that are not services of the mesh."""

    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY"] = "REGISTRY_ONLY"


class Explain(Model):
    """Who is told why the mesh refused a request. Callers inside always are; ``gateways`` tells clients
    outside too, with names of workloads, policies and addresses."""

    gateways: bool = False


Normalization = Literal["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"]


class PathNormalization(Model):
    """How paths are normalized before they are matched and forwarded; DEFAULT is BASE."""

    normalization: Literal["DEFAULT", Normalization] = "DEFAULT"

    @property
    def word(self) -> Normalization:
        """What DEFAULT stands for, else itself."""
        return "BASE" if self.normalization == "DEFAULT" else self.normalization


class ProxyProtocol(Model):
    """Connections to gateways begin with a PROXY protocol header, of version 1 or 2. It has no fields."""


class GatewayTopology(Model):
    """What is in front of the gateways. ``numTrustedProxies`` counts the proxies between the client and a
    gateway whose ``x-forwarded-for`` is believed."""

    num_trusted_proxies: Annotated[int, Field(ge=0, le=32)] = 0
    proxy_protocol: ProxyProtocol | None = None
    forward_client_cert_details: Annotated[
        Literal["SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"],
        Only(("SANITIZE",)),
    ] = "SANITIZE"


class DefaultConfig(Model):
    """Settings of every proxy."""

    gateway_topology: GatewayTopology = GatewayTopology()


class Suppression(Model):
    """A code of analysis that is not told of an object (``KIND/NAMESPACE/NAME``, each may have ``*``), why,
    and until which day. Without a reason, or expired, it holds for nothing and is told."""

    code: NonEmpty
    object: NonEmpty = "*"
    reason: str = ""
    until: Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")] | None = None


class Analysis(Model):
    """What analysis does not tell, anywhere in the mesh."""

    suppress: Annotated[tuple[Suppression, ...], Field(max_length=1000)] = ()


class MeshConfigSpec(Model):
    """Settings of the whole mesh: one document, ``mesh`` in the root namespace."""

    trust_domain: DnsName = DEFAULT_TRUST_DOMAIN
    root_namespace: Annotated[str, Only((ROOT_NAMESPACE,))] = ROOT_NAMESPACE
    outbound_traffic_policy: OutboundTrafficPolicy | None = None
    default_service_export_to: tuple[str, ...] = ()
    default_virtual_service_export_to: tuple[str, ...] = ()
    default_destination_rule_export_to: tuple[str, ...] = ()
    explain: Explain | None = None
    path_normalization: PathNormalization = PathNormalization()
    default_config: DefaultConfig = DefaultConfig()
    analysis: Analysis = Analysis()

    def flaws(self) -> Iterator[Flaw]:
        for field, exports in (
            ("defaultServiceExportTo", self.default_service_export_to),
            ("defaultVirtualServiceExportTo", self.default_virtual_service_export_to),
            ("defaultDestinationRuleExportTo", self.default_destination_rule_export_to),
        ):
            yield from export_flaws(exports, (field,), may_be_nobody=field == "defaultServiceExportTo")


class WorkloadSpec(Model):
    """One running instance, as registered when it attached. ``gatewayPorts`` maps the port numbers
    that Gateways use to the ports that are really bound. Without ``port`` it only calls others, ``protocol``
    is what it speaks there, where its Services are not to say it. One that is ``draining`` is called no more.
    ``probe`` is made by its own proxy."""

    service_account: DnsName
    node: NodeName
    address: NonEmpty = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    protocol: Literal["", "http", "http2", "grpc"] = ""
    outbound_port: PortNumber
    token_sha256: Annotated[str, Field(alias="tokenSha256", pattern=r"^[0-9a-f]{64}$")]
    gateway_ports: PortMap = {}
    weight: Annotated[int, Field(ge=1, le=10_000)] = 1
    locality: Annotated[str, Field(pattern=r"^[^/*]*(/[^/*]+){0,2}$", max_length=2048)] = ""
    probe: ReadinessProbe | None = None
    draining: bool = False

    def flaws(self) -> Iterator[Flaw]:
        grpc = self.probe.grpc if self.probe is not None else None
        if grpc is not None and not (grpc.port or self.port):
            yield Flaw(("probe", "grpc", "port"), "required, since the workload has no port")
        if self.node in snapshot.KINDS:
            yield Flaw(("node",), f"{self.node!r} is a word of the mesh's own keys: name the node otherwise")
        for number in self.gateway_ports:
            if int(number) > 65535:
                yield Flaw(("gatewayPorts", number), "a port is 1 to 65535")


class WorkloadBindingSpec(Model):
    """Which nodes may run workloads of a service account of the document's namespace."""

    service_account: DnsName
    nodes: Annotated[tuple[str, ...], Field(min_length=1)]

    def flaws(self) -> Iterator[Flaw]:
        for index, node in enumerate(self.nodes):
            if node != "*" and not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", node):
                yield Flaw(("nodes", index), f"{node!r} is not the name of a node, or *")
