"""The mesh for programs without an event loop: scripts, notebooks, the command line.

Each method is that of :class:`~ray_mesh.sdk.client.AsyncMesh` with the same name and parameters, run
on a private loop (a test compares the signatures).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ray_mesh.explain.answer import Explanation
from ray_mesh.sdk.answers import (
    Applied,
    Difference,
    Event,
    Object,
    Proxy,
    Revision,
    Status,
    Version,
)
from ray_mesh.sdk.attachment import Attachment, Ticket
from ray_mesh.sdk.background import BackgroundLoop
from ray_mesh.sdk.client import TIMEOUT_S, AsyncMesh
from ray_mesh.sdk.documents import Source
from ray_mesh.sdk.graph import Graph
from ray_mesh.sdk.state import MeshState

if TYPE_CHECKING:
    from ray_mesh.workload.keeper import Replica
    from ray_mesh.workload.serving import AsyncServed


class Mesh:
    """A running mesh, through its API. Works in scripts and in Jupyter; close it, or use ``with``.

    Errors are those of :class:`AsyncMesh`.
    """

    def __init__(self, state: MeshState, *, timeout_s: float = TIMEOUT_S) -> None:
        self._loop = BackgroundLoop(f"mesh {state.name}")
        self._mesh = AsyncMesh(state, timeout_s=timeout_s)

    @classmethod
    def connect(cls, state: str | Path | None = None, *, timeout_s: float = TIMEOUT_S) -> Mesh:
        """Find a mesh by its state file, as :meth:`AsyncMesh.connect`."""
        loop = BackgroundLoop("mesh")
        try:
            connected = loop.run(AsyncMesh.connect(state, timeout_s=timeout_s))
        except BaseException:
            loop.close()
            raise
        mesh = cls.__new__(cls)
        mesh._loop, mesh._mesh = loop, connected
        return mesh

    @property
    def state(self) -> MeshState:
        """What the state file says: addresses of the API, the ingress and the broker."""
        return self._mesh.state

    def close(self) -> None:
        """Close the connections; the mesh goes on."""
        if self._loop.is_open:
            self._loop.run(self._mesh.close())
            self._loop.close()

    def __enter__(self) -> Mesh:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def version(self) -> str:
        """The version of the running mesh."""
        return self._loop.run(self._mesh.version())

    def clock(self) -> float:
        """The time at the API, in Unix seconds."""
        return self._loop.run(self._mesh.clock())

    def status(self) -> Status:
        """Actors, nodes, proxies and what is wrong."""
        return self._loop.run(self._mesh.status())

    def apply(
        self, sources: Source | Sequence[Source], *, comment: str = "", dry_run: bool = False
    ) -> Applied:
        """Apply YAML text, paths or manifests as one set, as :meth:`AsyncMesh.apply`."""
        return self._loop.run(self._mesh.apply(sources, comment=comment, dry_run=dry_run))

    def get(self, kind: str, name: str, *, namespace: str = "default") -> Object:
        """One object, or NotFound."""
        return self._loop.run(self._mesh.get(kind, name, namespace=namespace))

    def list(self, kind: str = "", *, namespace: str = "") -> tuple[Object, ...]:
        """Objects by kind, namespace and name; of one kind or namespace when given."""
        return self._loop.run(self._mesh.list(kind, namespace=namespace))

    def delete(self, kind: str, name: str, *, namespace: str = "default") -> Applied:
        """Delete one object, as :meth:`AsyncMesh.delete`."""
        return self._loop.run(self._mesh.delete(kind, name, namespace=namespace))

    def history(self, kind: str, name: str, *, namespace: str = "default") -> tuple[Version, ...]:
        """The versions of one object, oldest first, as far as they are kept."""
        return self._loop.run(self._mesh.history(kind, name, namespace=namespace))

    def explain(
        self,
        url: str,
        method: str = "GET",
        *,
        workload: str = "",
        gateway: str = "",
        labels: Mapping[str, str] | None = None,
        namespace: str = "default",
        service_account: str = "default",
        headers: Sequence[tuple[str, str]] = (),
        client_ip: str = "192.0.2.1",
        sni: str = "",
    ) -> Explanation:
        """Which documents decide what becomes of a request, as :meth:`AsyncMesh.explain`."""
        return self._loop.run(
            self._mesh.explain(
                url,
                method,
                workload=workload,
                gateway=gateway,
                labels=labels,
                namespace=namespace,
                service_account=service_account,
                headers=headers,
                client_ip=client_ip,
                sni=sni,
            )
        )

    def analyze(
        self,
        sources: Source | Sequence[Source] = (),
        *,
        namespace: str = "",
        suppress: Sequence[str] = (),
    ) -> dict[str, Any]:
        """What is wrong with the documents of the mesh and of ``sources``, as :meth:`AsyncMesh.analyze`."""
        return self._loop.run(self._mesh.analyze(sources, namespace=namespace, suppress=suppress))

    def revisions(self, limit: int = 20, *, registrations: bool = False) -> tuple[Revision, ...]:
        """The newest revisions of the mesh, oldest first, as :meth:`AsyncMesh.revisions`."""
        return self._loop.run(self._mesh.revisions(limit, registrations=registrations))

    def diff(self, sources: Source | Sequence[Source]) -> tuple[Difference, ...]:
        """What applying documents would change, as :meth:`AsyncMesh.diff`."""
        return self._loop.run(self._mesh.diff(sources))

    def diff_revisions(
        self,
        before: int,
        after: int | None = None,
        *,
        kind: str = "",
        name: str = "",
        namespace: str = "default",
    ) -> tuple[Difference, ...]:
        """What is different at two revisions, as :meth:`AsyncMesh.diff_revisions`."""
        return self._loop.run(
            self._mesh.diff_revisions(before, after, kind=kind, name=name, namespace=namespace)
        )

    def rollback(self, to: int, *, comment: str = "", dry_run: bool = False) -> Applied:
        """Make all objects what they were at a revision, as :meth:`AsyncMesh.rollback`."""
        return self._loop.run(self._mesh.rollback(to, comment=comment, dry_run=dry_run))

    def rollback_object(
        self,
        kind: str,
        name: str,
        *,
        namespace: str = "default",
        to: int | None = None,
        comment: str = "",
        dry_run: bool = False,
    ) -> Applied:
        """Make one object what it was, as :meth:`AsyncMesh.rollback_object`."""
        return self._loop.run(
            self._mesh.rollback_object(
                kind, name, namespace=namespace, to=to, comment=comment, dry_run=dry_run
            )
        )

    def proxies(self) -> tuple[Proxy, ...]:
        """Live proxies: SYNCED, STALE or REJECTED, and why."""
        return self._loop.run(self._mesh.proxies())

    def wait(self, revision: int, *, timeout_s: float = 30.0) -> None:
        """Return when every live proxy has applied ``revision``, as :meth:`AsyncMesh.wait`."""
        self._loop.run(self._mesh.wait(revision, timeout_s=timeout_s))

    def graph(self, window_s: float = 60.0) -> Graph:
        """Who called whom in the last ``window_s`` seconds (0: since the proxies started)."""
        return self._loop.run(self._mesh.graph(window_s))

    def events(self, limit: int = 100) -> tuple[Event, ...]:
        """The newest events that the answering gateway heard, oldest first."""
        return self._loop.run(self._mesh.events(limit))

    def attach(
        self,
        service: str,
        version: str,
        port: int,
        *,
        namespace: str = "default",
        name: str | None = None,
        service_account: str = "default",
        labels: Mapping[str, str] | None = None,
        node: str | None = None,
        protocol: str = "",
        gateway_ports: Mapping[int, int] | None = None,
        weight: int = 1,
        locality: str = "",
        probe: Mapping[str, Any] | None = None,
    ) -> Attachment:
        """Run the app on loopback ``port`` as a workload of ``service``, as :meth:`AsyncMesh.attach`."""
        attached = self._loop.run(
            self._mesh.attach(
                service,
                version,
                port,
                namespace=namespace,
                name=name,
                service_account=service_account,
                labels=labels,
                node=node,
                protocol=protocol,
                gateway_ports=gateway_ports,
                weight=weight,
                locality=locality,
                probe=probe,
            )
        )
        ticket = {field.name: getattr(attached, field.name) for field in fields(Ticket)}
        return Attachment(**ticket, mesh=self)

    def serve(
        self,
        app: Any,
        service: str,
        version: str,
        *,
        replicas: int = 1,
        namespace: str = "default",
        service_account: str = "default",
        labels: Mapping[str, str] | None = None,
        health_path: str = "",
        num_cpus: float = 0.0,
        drain_s: float = 10.0,
    ) -> Served:
        """Run copies of an application on the mesh's Ray cluster, as :meth:`AsyncMesh.serve`."""
        served = self._loop.run(
            self._mesh.serve(
                app,
                service,
                version,
                replicas=replicas,
                namespace=namespace,
                service_account=service_account,
                labels=labels,
                health_path=health_path,
                num_cpus=num_cpus,
                drain_s=drain_s,
            )
        )
        return Served(served, self._loop)

    def detach(self, name: str, *, namespace: str = "default") -> None:
        """Take a workload out of the mesh; no error when it is not there."""
        self._loop.run(self._mesh.detach(name, namespace=namespace))

    def observe(self, name: str, seed_file: str | Path) -> str:
        """Admit a NATS client that may read telemetry and events, as :meth:`AsyncMesh.observe`."""
        return self._loop.run(self._mesh.observe(name, seed_file))

    def create_token(self, service_account: str, *, ttl_s: int = 600) -> str:
        """A join token for one sidecar of a service account, as :meth:`AsyncMesh.create_token`."""
        return self._loop.run(self._mesh.create_token(service_account, ttl_s=ttl_s))

    def down(self, *, timeout_s: float = 60.0) -> None:
        """End the mesh and wait until its process is gone, as :meth:`AsyncMesh.down`."""
        self._loop.run(self._mesh.down(timeout_s=timeout_s))


class Served:
    """An application that the mesh serves, for programs without an event loop. See :class:`AsyncServed`."""

    def __init__(self, served: AsyncServed, loop: BackgroundLoop) -> None:
        self._served = served
        self._loop = loop

    def status(self) -> list[Replica]:
        """The copies with their state."""
        return self._loop.run(self._served.status())

    def scale(self, replicas: int) -> None:
        """Run so many copies; returns when they serve, and when those too many are drained."""
        self._loop.run(self._served.scale(replicas))

    def stop(self) -> None:
        """Take it out of the mesh, let its requests end, and end it."""
        self._loop.run(self._served.stop())
