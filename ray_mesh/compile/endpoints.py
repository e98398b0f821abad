"""``endpoints`` resources: which workloads behind a service are served now, and where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ray_mesh import snapshot
from ray_mesh.compile.callee import Callee, Port, labels_of, ports_of
from ray_mesh.compile.selection import selects
from ray_mesh.compile.workloads import identity_of, sni_of
from ray_mesh.compile.world import World
from ray_mesh.resources import Document, WorkloadEntrySpec, WorkloadSpec
from ray_mesh.snapshot import locality_of


@dataclass(frozen=True, slots=True, order=True)
class LiveWorkload:
    """A proxy on ``node`` says that it serves the workload ``key`` on its mutual TLS port."""

    key: str
    node: str
    address: str
    inbound_port: int


def compile_endpoints(world: World, key: str, live: Iterable[LiveWorkload]) -> snapshot.Endpoints | None:
    """Who serves a host now; None when nothing has this host.

    ``key`` is that of the service or of its endpoints. A claim for a workload that is not registered on
    that node, or not behind the service, is ignored; of several proxies on a node the first counts, as
    they share the port. Endpoints without proxy are there as long as their documents are.
    """
    callee = world.callee(snapshot.host_for(key))
    if callee is None:
        return None
    endpoints: dict[str, snapshot.Endpoint] = {}
    for one in sorted(live):
        workload = world.get(one.key)
        if workload is None or one.key in endpoints or not _serves(callee, workload, one):
            continue
        endpoint = _endpoint(world, workload, one)
        if not callee.identities or endpoint.identity in callee.identities:
            endpoints[one.key] = endpoint
    plain = dict.fromkeys(plain_endpoints(world, callee))
    return snapshot.Endpoints(callee.host, (*endpoints.values(), *plain))


def plain_endpoints(world: World, callee: Callee) -> Iterator[snapshot.Endpoint]:
    """The endpoints of a host that have no proxy, one for each of its ports; none where they have to prove an
    identity."""
    if callee.identities:
        return
    for entry in world.entries(callee):
        yield from _plain(callee.ports, entry, entry.read(WorkloadEntrySpec), labels_of(entry))
    for document, spec in callee.listed:
        yield from _plain(ports_of(document), document, spec, spec.labels)


def _serves(callee: Callee, workload: Document, live: LiveWorkload) -> bool:
    spec = workload.spec
    return (
        isinstance(spec, WorkloadSpec)
        and callee.selector is not None
        and workload.namespace == callee.namespace
        and spec.node == live.node
        and spec.port != 0
        and not spec.draining
        and selects(callee.selector, workload)
    )


def _endpoint(world: World, workload: Document, live: LiveWorkload) -> snapshot.Endpoint:
    spec = workload.read(WorkloadSpec)
    return snapshot.Endpoint(
        workload=workload.key,
        address=live.address,
        port=live.inbound_port,
        sni=sni_of(workload),
        identity=identity_of(world, workload),
        labels=tuple(sorted(workload.labels.items())),
        node=live.node,
        weight=spec.weight,
        locality=spec.locality or locality_of(workload.labels),
    )


def _plain(
    ports: Iterable[Port], origin: Document, spec: WorkloadEntrySpec, labels: Mapping[str, str]
) -> Iterator[snapshot.Endpoint]:
    for port in ports if spec.address else ():
        yield snapshot.Endpoint(
            workload=origin.key,
            address=str(spec.address).lower(),
            port=spec.ports.get(port.name, port.target),
            sni="",
            identity="",
            labels=tuple(sorted(labels.items())),
            node="",
            transport="plaintext",
            service_port=port.number,
            weight=spec.weight or 1,
            locality=spec.locality or locality_of(labels),
        )
