"""One world that is asked about, compiled as far as it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ray_mesh import snapshot
from ray_mesh.compile import LiveWorkload, World, compile_endpoints
from ray_mesh.compile.callee import Callee
from ray_mesh.compile.mesh import compile_mesh
from ray_mesh.compile.services import compile_service
from ray_mesh.explain.places import Places
from ray_mesh.proxy.cluster import Destination
from ray_mesh.resources import Document, WorkloadSpec
from ray_mesh.resources.problems import Problem


@dataclass(frozen=True, slots=True)
class Case:
    """``live`` are the workloads that proxies serve, None when nobody knows (then all are served).
    ``doubts`` are what this build does not enforce of documents, by their titles."""

    world: World
    places: Places
    live: Sequence[LiveWorkload] | None = None
    doubts: Mapping[str, Sequence[Problem]] = field(default_factory=dict)
    _services: dict[str, snapshot.Service | None] = field(default_factory=dict)

    @property
    def mesh(self) -> snapshot.Mesh:
        """The settings of the whole mesh."""
        return compile_mesh(self.world)

    def service(self, host: str) -> snapshot.Service | None:
        """How to call a full host; None when the mesh does not know it."""
        if host not in self._services:
            callee = self.world.callee(host)
            self._services[host] = compile_service(self.world, callee) if callee is not None else None
        return self._services[host]

    def destination(self, host: str) -> Destination | None:
        """A host with its service and its endpoints, as a proxy has it when nothing has failed yet."""
        service, callee = self.service(host), self.world.callee(host)
        if service is None or callee is None:
            return None
        key = snapshot.key_for("endpoints", host)
        endpoints = compile_endpoints(self.world, key, self.served(callee))
        destination = Destination(host)
        destination.set_service(service, 0.0)
        destination.set_endpoints(endpoints.endpoints if endpoints is not None else (), 0.0)
        return destination

    def served(self, callee: Callee) -> list[LiveWorkload]:
        """The workloads behind a host that proxies serve."""
        behind = list(self.world.attached(callee))
        if self.live is None:
            return [_as_if_live(one) for one in behind]
        keys = {one.key for one in behind}
        return [one for one in self.live if one.key in keys]


def _as_if_live(workload: Document) -> LiveWorkload:
    return LiveWorkload(workload.key, workload.read(WorkloadSpec).node, "(its node)", 0)
