"""``workload`` and ``node`` resources: what runs where, and who may call it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from ray_mesh import snapshot
from ray_mesh.compile.policies import compile_policy
from ray_mesh.compile.probes import compile_probe
from ray_mesh.compile.selection import selects
from ray_mesh.compile.sidecars import compile_sidecar
from ray_mesh.compile.world import World, is_ingress
from ray_mesh.resources import Document, RateLimitSpec, WorkloadSpec
from ray_mesh.resources.mesh import ROOT_NAMESPACE
from ray_mesh.resources.protocols import Protocol
from ray_mesh.resources.schema import WorkloadSelector
from ray_mesh.security.identity import for_workload

AppProtocol: TypeAlias = Literal["http1", "http2", "client"]
VERSIONS: Mapping[Protocol, AppProtocol] = {
    "http": "http1",
    "http2": "http2",
    "grpc": "http2",
    "auto": "client",
}
"""What an application speaks behind a port for requests."""


def identity_of(world: World, workload: Document) -> str:
    """The SPIFFE ID of a workload."""
    account = workload.read(WorkloadSpec).service_account
    return str(for_workload(world.trust_domain, workload.namespace, account))


def sni_of(workload: Document) -> str:
    """The server name under which a workload is reached on its node's port."""
    return f"{workload.name}.{workload.namespace}.workload.mesh"


def compile_workload(world: World, workload: Document) -> snapshot.Workload:
    """One running instance and its inbound policy."""
    spec = workload.read(WorkloadSpec)
    callees = world.callees_of(workload)
    ports = [(one.host, port) for one in callees for port in one.ports]
    return snapshot.Workload(
        namespace=workload.namespace,
        name=workload.name,
        node=spec.node,
        service_account=spec.service_account,
        identity=identity_of(world, workload),
        sni=sni_of(workload),
        labels=tuple(sorted(workload.labels.items())),
        app_address=spec.address,
        app_port=spec.port,
        outbound_port=spec.outbound_port,
        token_sha256=bytes.fromhex(spec.token_sha256),
        services=tuple(sorted(one.host for one in callees)),
        policies=tuple(compile_policy(one, world.trust_domain) for one in policies_for(world, workload)),
        rate_limits=tuple(_rate_limit(limit) for limit in rate_limits_for(world, workload)),
        gateway_ports=tuple(sorted((int(port), bound) for port, bound in spec.gateway_ports.items())),
        tcp_ports=tuple(sorted((host, port.number) for host, port in ports if not port.is_http)),
        sidecar=compile_sidecar(world, workload),
        probe=compile_probe(spec),
        is_tcp_only=bool(ports) and all(port.protocol in ("tcp", "tls") for _, port in ports),
        app_protocol=_app_protocol([spec.protocol] if spec.protocol else [one.protocol for _, one in ports]),
    )


def _app_protocol(spoken: Iterable[Protocol]) -> AppProtocol:
    """What an application speaks of which this is said; where that does not agree, what its callers do."""
    versions = {VERSIONS[one] for one in spoken if one in VERSIONS}
    return versions.pop() if len(versions) == 1 else "client" if versions else "http1"


def compile_node(world: World, node: str) -> snapshot.Node | None:
    """The workloads of a node; None when it has none."""
    workloads = world.find("on node", node)
    if not workloads:
        return None
    return snapshot.Node(
        node,
        tuple(f"workload.{one.namespace}.{one.name}" for one in workloads),
        tuple(f"gateway.{one.namespace}.{one.name}" for one in workloads if is_ingress(one)),
    )


def policies_for(world: World, workload: Document) -> list[Document]:
    """The AuthorizationPolicies that hold for a workload: the root namespace's, then its own."""
    return _in_scope(world, "authorizationpolicy", workload)


def rate_limits_for(world: World, workload: Document) -> list[Document]:
    """The RateLimits that hold for a workload: the root namespace's, then its own."""
    return _in_scope(world, "ratelimit", workload)


def picks(selector: WorkloadSelector | None, workload: Document) -> bool:
    """Whether a policy's selector picks a workload; without one it picks all."""
    return selector is None or selects(selector.match_labels, workload)


def in_scope(document: Document, workload: Document) -> bool:
    """Whether the namespace of a policy lets it hold for a workload."""
    return document.namespace in (ROOT_NAMESPACE, workload.namespace)


def _in_scope(world: World, kind: str, workload: Document) -> list[Document]:
    namespaces = dict.fromkeys((ROOT_NAMESPACE, workload.namespace))
    return [one for namespace in namespaces for one in world.picking(kind, namespace, workload)]


def _rate_limit(document: Document) -> snapshot.RateLimit:
    spec = document.read(RateLimitSpec)
    name = f"{document.namespace}/{document.name}"
    return snapshot.RateLimit(name, spec.requests, spec.per_s, spec.fail_mode)
