"""Puts Bookinfo on a running mesh: its documents, its processes, its workloads."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from typing import TYPE_CHECKING

from ray_mesh.demo.bookinfo import HAS_GRPC, INSTANCES, Instance
from ray_mesh.demo.process import AppProcess, end, node_of, spawn

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from ray_mesh.sdk import AsyncMesh
    from ray_mesh.sdk.answers import Change

DOCUMENTS = (
    *("services.yaml", "bindings.yaml", "destination-rules.yaml", "gateway.yaml"),
    *(("recommendations.yaml",) if HAS_GRPC else ()),
)


def read_documents() -> list[str]:
    """The YAML of :data:`DOCUMENTS` in ``configs/bookinfo``."""
    folder = files("ray_mesh.configs").joinpath("bookinfo")
    return [folder.joinpath(name).read_text(encoding="utf-8") for name in DOCUMENTS]


class Deployment:
    """Bookinfo on one mesh. Its processes end with it."""

    def __init__(self, mesh: AsyncMesh) -> None:
        self._mesh = mesh
        self._processes: list[ActorHandle[AppProcess]] = []
        self._created: list[Change] = []

    async def start(self) -> int:
        """Start all; returns the mesh revision with which every part is there.

        Raises:
            MeshError: a document or a workload was refused; the message says why.
        """
        self._processes = [spawn(instance.service, instance.version) for instance in INSTANCES]
        applied = await self._mesh.apply(read_documents())
        self._created = [one for one in applied.changes if one.action == "created"]
        return max(await asyncio.gather(*map(self._join, INSTANCES, self._processes)))

    async def stop(self) -> None:
        """Take Bookinfo out of a mesh that goes on: what :meth:`start` brought, and nothing else.

        Raises:
            MeshError: the mesh refused or did not answer; what is left is told.
        """
        await asyncio.gather(*(self._mesh.detach(instance.name) for instance in INSTANCES))
        for process in self._processes:
            end(process)
        for one in reversed(self._created):
            await self._mesh.delete(one.kind, one.name, namespace=one.namespace)

    async def _join(self, instance: Instance, process: ActorHandle[AppProcess]) -> int:
        attachment = await self._mesh.attach(
            instance.service,
            instance.version,
            await process.start.remote(),
            name=instance.name,
            service_account=instance.service_account,
            node=await node_of(process),
        )
        await process.use_proxy.remote(attachment.http_proxy)
        return attachment.revision
