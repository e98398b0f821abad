"""``endpoints`` resources: which workloads behind a service are served now, and where."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ray_mesh import snapshot
from ray_mesh.compile.workloads import identity_of, sni_of
from ray_mesh.compile.world import World, host_of, selects
from ray_mesh.resources import Document, ServiceSpec, WorkloadSpec


@dataclass(frozen=True, slots=True, order=True)
class LiveWorkload:
    """A proxy on ``node`` says that it serves the workload ``key`` on its mutual TLS port."""

    key: str
    node: str
    address: str
    inbound_port: int


def compile_endpoints(world: World, key: str, live: Iterable[LiveWorkload]) -> snapshot.Endpoints | None:
    """Who serves a host now; None when there is no such Service.

    ``key`` is that of the service or of its endpoints. A claim for a workload that is not registered on
    that node, or not behind the service, is ignored; of several proxies on a node the first counts, as
    they share the port.
    """
    _, namespace, name = key.split(".", 2)
    service = world.get(f"service.{namespace}.{name}")
    if service is None:
        return None
    endpoints: dict[str, snapshot.Endpoint] = {}
    for one in sorted(live):
        workload = world.get(one.key)
        if workload is not None and one.key not in endpoints and _serves(service, workload, one):
            endpoints[one.key] = _endpoint(world, workload, one)
    return snapshot.Endpoints(host_of(service), tuple(endpoints.values()))


def _serves(service: Document, workload: Document, live: LiveWorkload) -> bool:
    spec = workload.spec
    return (
        isinstance(spec, WorkloadSpec)
        and workload.namespace == service.namespace
        and spec.node == live.node
        and spec.port != 0
        and selects(service.read(ServiceSpec).selector, workload)
    )


def _endpoint(world: World, workload: Document, live: LiveWorkload) -> snapshot.Endpoint:
    return snapshot.Endpoint(
        workload=workload.key,
        address=live.address,
        port=live.inbound_port,
        sni=sni_of(workload),
        identity=identity_of(world, workload),
        labels=tuple(sorted(workload.labels.items())),
        node=live.node,
    )
