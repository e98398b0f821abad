"""The kinds that documents may have, and the ones that are refused by name."""

from __future__ import annotations

from dataclasses import dataclass

from ray_mesh.resources import mesh
from ray_mesh.resources.authorization import AuthorizationPolicySpec
from ray_mesh.resources.destination_rule import DestinationRuleSpec
from ray_mesh.resources.gateway import GatewaySpec
from ray_mesh.resources.gateway_api import (
    GROUP,
    ApiGatewaySpec,
    GrpcRouteSpec,
    HttpRouteSpec,
    ReferenceGrantSpec,
    TcpRouteSpec,
    TlsRouteSpec,
)
from ray_mesh.resources.health_check import HealthCheckSpec
from ray_mesh.resources.namespace import NamespaceSpec
from ray_mesh.resources.peer_authentication import PeerAuthenticationSpec
from ray_mesh.resources.proxy_config import ProxyConfigSpec
from ray_mesh.resources.request_authentication import RequestAuthenticationSpec
from ray_mesh.resources.schema import Model
from ray_mesh.resources.service import ServiceSpec
from ray_mesh.resources.service_entry import ServiceEntrySpec
from ray_mesh.resources.sidecar import SidecarSpec
from ray_mesh.resources.telemetry import TelemetrySpec
from ray_mesh.resources.virtual_service import VirtualServiceSpec
from ray_mesh.resources.workload_entry import StandaloneEntrySpec
from ray_mesh.resources.workload_group import WorkloadGroupSpec

_NETWORKING = tuple(f"networking.istio.io/{version}" for version in ("v1", "v1beta1", "v1alpha3"))
_SECURITY = tuple(f"security.istio.io/{version}" for version in ("v1", "v1beta1"))
_TELEMETRY = tuple(f"telemetry.istio.io/{version}" for version in ("v1", "v1alpha1"))
_OWN = ("mesh.ray.io/v1",)
_STABLE = (f"{GROUP}/v1", f"{GROUP}/v1beta1")
_ALPHA = (f"{GROUP}/v1", f"{GROUP}/v1alpha2")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind: the versions under which it is written, newest first, and the model of its spec.

    ``is_token`` says that the object's name is one DNS label (it becomes part of host names). ``prefix`` is
    what keys of desired state begin with, the kind in lower case where nothing else is said. ``later``, if
    not empty, says that documents of it are valid and not honoured, and why. ``is_namespace`` says that the
    object is a namespace: its own is itself.
    """

    api_versions: tuple[str, ...]
    model: type[Model]
    namespace: str = mesh.DEFAULT_NAMESPACE
    is_token: bool = False
    prefix: str = ""
    short_names: tuple[str, ...] = ()
    needs_spec: bool = False
    later: str = ""
    is_namespace: bool = False

    @property
    def group(self) -> str:
        """Its API group, empty for Kubernetes' core."""
        return api_group(self.api_versions[0])


def api_group(api_version: str) -> str:
    """The group of an apiVersion, empty for Kubernetes' core."""
    return api_version.rpartition("/")[0]


KINDS: dict[str, Kind] = {
    "Namespace": Kind(("v1",), NamespaceSpec, is_token=True, is_namespace=True, short_names=("ns",)),
    "Service": Kind(("v1",), ServiceSpec, is_token=True, short_names=("svc",)),
    "VirtualService": Kind(_NETWORKING, VirtualServiceSpec, short_names=("vs",)),
    "DestinationRule": Kind(_NETWORKING, DestinationRuleSpec, short_names=("dr",)),
    "ServiceEntry": Kind(_NETWORKING, ServiceEntrySpec, needs_spec=True, short_names=("se",)),
    "WorkloadEntry": Kind(_NETWORKING, StandaloneEntrySpec, needs_spec=True, short_names=("we",)),
    "WorkloadGroup": Kind(
        _NETWORKING,
        WorkloadGroupSpec,
        needs_spec=True,
        short_names=("wg",),
        later="write a WorkloadEntry for each program, or attach it; HealthCheck asks whether it is well",
    ),
    "Gateway": Kind(_NETWORKING, GatewaySpec, is_token=True, short_names=("gw",)),
    "Sidecar": Kind(_NETWORKING, SidecarSpec),
    "ProxyConfig": Kind(
        ("networking.istio.io/v1beta1",),
        ProxyConfigSpec,
        later="proxies are set up by `ray-mesh up` and by MeshConfig",
    ),
    "PeerAuthentication": Kind(_SECURITY, PeerAuthenticationSpec, short_names=("pa",)),
    "RequestAuthentication": Kind(
        _SECURITY,
        RequestAuthenticationSpec,
        short_names=("ra",),
        later="tokens are not verified; check them in the workload",
    ),
    "AuthorizationPolicy": Kind(_SECURITY, AuthorizationPolicySpec, short_names=("ap",)),
    "Telemetry": Kind(
        _TELEMETRY,
        TelemetrySpec,
        later="every proxy reports all metrics and access records of its workloads",
    ),
    f"Gateway.{GROUP}": Kind(
        _STABLE, ApiGatewaySpec, needs_spec=True, prefix="k8sgateway", short_names=("gtw",)
    ),
    "HTTPRoute": Kind(_STABLE, HttpRouteSpec),
    "GRPCRoute": Kind(_ALPHA, GrpcRouteSpec),
    "TCPRoute": Kind(_ALPHA, TcpRouteSpec, needs_spec=True),
    "TLSRoute": Kind((*_ALPHA, f"{GROUP}/v1alpha3"), TlsRouteSpec, needs_spec=True),
    "ReferenceGrant": Kind((*_STABLE, f"{GROUP}/v1alpha2"), ReferenceGrantSpec, short_names=("refgrant",)),
    "RateLimit": Kind(_OWN, mesh.RateLimitSpec),
    "HealthCheck": Kind(_OWN, HealthCheckSpec),
    "MeshConfig": Kind(_OWN, mesh.MeshConfigSpec, namespace=mesh.ROOT_NAMESPACE),
    "Workload": Kind(_OWN, mesh.WorkloadSpec, is_token=True),
    "WorkloadBinding": Kind(_OWN, mesh.WorkloadBindingSpec),
}
"""By name. Of two kinds that are called the same, the second has its group in its name, as kubectl has it."""


def find_kind(kind: str, api_version: str) -> str | None:
    """The name of the kind that a document is of, if it is known; its version may be another one."""
    group = api_group(api_version)
    for name in (f"{kind}.{group}", kind):
        if name in KINDS and KINDS[name].group == group:
            return name
    return None


def key_for(kind: str, namespace: str, name: str) -> str:
    """``<kind lower>.<namespace>.<name>``, the key of desired state; ``kind`` is a name of :data:`KINDS`."""
    return f"{KINDS[kind].prefix or kind.lower()}.{namespace}.{name}"


def kinds_called(word: str) -> list[str]:
    """The kinds that people may mean by a word: a kind, its plural or short name, with its group or without.

    ``gateway`` means Istio's and that of the Gateway API.
    """
    word = word.lower()
    return [name for name, kind in KINDS.items() if word in _words(name, kind)]


def _words(name: str, kind: Kind) -> set[str]:
    singular = name.partition(".")[0].lower()
    plural = f"{singular[:-1]}ies" if singular.endswith(("cy", "ry")) else f"{singular}s"
    named = {singular, plural}
    return named | {f"{one}.{kind.group}" for one in named} | set(kind.short_names) | {kind.prefix} - {""}
