"""The kinds that documents may have, and the ones that are refused by name."""

from __future__ import annotations

from dataclasses import dataclass

from ray_mesh.resources import mesh
from ray_mesh.resources.authorization import AuthorizationPolicySpec, PeerAuthenticationSpec
from ray_mesh.resources.destination_rule import DestinationRuleSpec
from ray_mesh.resources.gateway import GatewaySpec
from ray_mesh.resources.health_check import HealthCheckSpec
from ray_mesh.resources.schema import Model
from ray_mesh.resources.service import ServiceSpec
from ray_mesh.resources.service_entry import ServiceEntrySpec
from ray_mesh.resources.virtual_service import VirtualServiceSpec
from ray_mesh.resources.workload_entry import StandaloneEntrySpec

_NETWORKING = tuple(f"networking.istio.io/{version}" for version in ("v1", "v1beta1", "v1alpha3"))
_SECURITY = tuple(f"security.istio.io/{version}" for version in ("v1", "v1beta1"))
_OWN = ("mesh.ray.io/v1",)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind: the versions under which it is written, newest first, and the model of its spec.

    ``is_token`` says that the object's name is one DNS label (it becomes part of host names).
    """

    api_versions: tuple[str, ...]
    model: type[Model]
    namespace: str = mesh.DEFAULT_NAMESPACE
    is_token: bool = False


KINDS: dict[str, Kind] = {
    "Service": Kind(("v1",), ServiceSpec, is_token=True),
    "VirtualService": Kind(_NETWORKING, VirtualServiceSpec),
    "DestinationRule": Kind(_NETWORKING, DestinationRuleSpec),
    "ServiceEntry": Kind(_NETWORKING, ServiceEntrySpec),
    "WorkloadEntry": Kind(_NETWORKING, StandaloneEntrySpec),
    "Gateway": Kind(_NETWORKING, GatewaySpec),
    "PeerAuthentication": Kind(_SECURITY, PeerAuthenticationSpec),
    "AuthorizationPolicy": Kind(_SECURITY, AuthorizationPolicySpec),
    "RateLimit": Kind(_OWN, mesh.RateLimitSpec),
    "HealthCheck": Kind(_OWN, HealthCheckSpec),
    "MeshConfig": Kind(_OWN, mesh.MeshConfigSpec, namespace=mesh.ROOT_NAMESPACE),
    "Workload": Kind(_OWN, mesh.WorkloadSpec, is_token=True),
    "WorkloadBinding": Kind(_OWN, mesh.WorkloadBindingSpec),
}


def api_group(api_version: str) -> str:
    """The group of an apiVersion, empty for Kubernetes' core."""
    return api_version.rpartition("/")[0]
