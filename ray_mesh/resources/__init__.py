"""What a person writes: the Istio API and a few kinds of our own, parsed strictly.

Text becomes plain values with positions (``source``), which are checked against the model of their
kind (``kinds``, one module per kind) and become a :class:`Document` (``document``). Every problem
names file, line, column and path (``problems``).
"""

from ray_mesh.resources.authorization import AuthorizationPolicySpec
from ray_mesh.resources.destination_rule import DestinationRuleSpec
from ray_mesh.resources.document import Document
from ray_mesh.resources.gateway import GatewaySpec
from ray_mesh.resources.gateway_api import (
    ApiGatewaySpec,
    GrpcRouteSpec,
    HttpRouteSpec,
    ReferenceGrantSpec,
    TcpRouteSpec,
    TlsRouteSpec,
)
from ray_mesh.resources.health_check import HealthCheckSpec
from ray_mesh.resources.kinds import KINDS
from ray_mesh.resources.load import from_json, from_manifest, load, read
from ray_mesh.resources.mesh import MeshConfigSpec, RateLimitSpec, WorkloadBindingSpec, WorkloadSpec
from ray_mesh.resources.namespace import NamespaceSpec
from ray_mesh.resources.peer_authentication import PeerAuthenticationSpec
from ray_mesh.resources.problems import Problem
from ray_mesh.resources.proxy_config import ProxyConfigSpec
from ray_mesh.resources.request_authentication import RequestAuthenticationSpec
from ray_mesh.resources.service import ServiceSpec
from ray_mesh.resources.service_entry import ServiceEntrySpec
from ray_mesh.resources.sidecar import SidecarSpec
from ray_mesh.resources.source import Manifest, Positions
from ray_mesh.resources.telemetry import TelemetrySpec
from ray_mesh.resources.virtual_service import VirtualServiceSpec
from ray_mesh.resources.workload_entry import WorkloadEntrySpec
from ray_mesh.resources.workload_group import WorkloadGroupSpec

__all__ = [
    "KINDS",
    "ApiGatewaySpec",
    "AuthorizationPolicySpec",
    "DestinationRuleSpec",
    "Document",
    "GatewaySpec",
    "GrpcRouteSpec",
    "HealthCheckSpec",
    "HttpRouteSpec",
    "Manifest",
    "MeshConfigSpec",
    "NamespaceSpec",
    "PeerAuthenticationSpec",
    "Positions",
    "Problem",
    "ProxyConfigSpec",
    "RateLimitSpec",
    "ReferenceGrantSpec",
    "RequestAuthenticationSpec",
    "ServiceEntrySpec",
    "ServiceSpec",
    "SidecarSpec",
    "TcpRouteSpec",
    "TelemetrySpec",
    "TlsRouteSpec",
    "VirtualServiceSpec",
    "WorkloadBindingSpec",
    "WorkloadEntrySpec",
    "WorkloadGroupSpec",
    "WorkloadSpec",
    "from_json",
    "from_manifest",
    "load",
    "read",
]
