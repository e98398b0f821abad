"""Kinds that are known and refused by name, and what to write instead."""

from __future__ import annotations

_PROGRAM = "a workload runs in Ray or beside `ray-mesh sidecar`, and attaches to the mesh"
_EXTENSION = "no code is loaded into proxies: write VirtualService, AuthorizationPolicy or RateLimit"

INSTEAD = {
    "EnvoyFilter": "there is no Envoy to patch: write VirtualService, DestinationRule, AuthorizationPolicy, "
    "RateLimit or HealthCheck",
    "WasmPlugin": _EXTENSION,
    "TrafficExtension": _EXTENSION,
}
"""Kinds of Istio that no build will honour."""

ELSEWHERE = {
    "GatewayClass": "the classes ray-mesh and istio are built in: write gatewayClassName in the Gateway",
    "UDPRoute": "proxies carry TCP",
    "ListenerSet": "write the listeners in the Gateway",
    "BackendTLSPolicy": "between workloads it is mutual TLS already; a DestinationRule says tls otherwise",
    "Ingress": "write a Gateway and an HTTPRoute",
    "IngressClass": "write a Gateway and an HTTPRoute",
    "NetworkPolicy": "write an AuthorizationPolicy",
    "Endpoints": "write WorkloadEntries, or a ServiceEntry with endpoints",
    "EndpointSlice": "write WorkloadEntries, or a ServiceEntry with endpoints",
    "ConfigMap": "settings of the mesh are in MeshConfig",
    "Secret": "certificates are files that a Gateway names",
    "ServiceAccount": "an account exists when a workload attaches with it; WorkloadBinding says where it may",
    "Role": "the API has one token; WorkloadBinding says which nodes may run an account",
    "RoleBinding": "the API has one token; WorkloadBinding says which nodes may run an account",
    "CustomResourceDefinition": "the kinds are built in",
    "List": "write its items as documents, with --- between them",
    **dict.fromkeys(
        ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Pod", "Job", "CronJob"), _PROGRAM
    ),
}
"""Kinds of Kubernetes that a file may have beside the mesh's; no business of the mesh, or built in."""


def what_instead(kind: str) -> str:
    """What to write instead of a kind, empty for kinds that nobody knows."""
    return INSTEAD.get(kind) or ELSEWHERE.get(kind) or ""
