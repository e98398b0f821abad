"""The mesh for asyncio programs. :class:`~ray_mesh.sdk.facade.Mesh` is the same for all others."""

from __future__ import annotations

import asyncio
import getpass
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ray_mesh.errors import NotFound, Unavailable
from ray_mesh.explain.answer import Explanation, read_explanation
from ray_mesh.explain.question import Caller, ask, write_question
from ray_mesh.sdk import answers
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
from ray_mesh.sdk.attachment import AsyncAttachment
from ray_mesh.sdk.documents import Source, gather
from ray_mesh.sdk.graph import Graph
from ray_mesh.sdk.state import MeshState, default_path, read_state
from ray_mesh.sdk.transport import Transport

if TYPE_CHECKING:
    from ray_mesh.workload.serving import AsyncServed

TIMEOUT_S = 30.0
ATTACH_TIMEOUT_S = 45.0
"""More than the gateway waits for a node's proxies to take a workload."""
POLL_S = 0.1
MARGIN_S = 5.0
"""Requests that wait inside the gateway get this much longer before the client gives up on them."""


class AsyncMesh:
    """A running mesh, through its API. Use one per event loop, and close it.

    Every method raises a :class:`~ray_mesh.errors.MeshError`: ConfigError (with ``findings``) for what
    cannot be applied, NotFound, Conflict, Unauthenticated, PolicyDenied, and Unavailable when the mesh
    does not answer in time.
    """

    def __init__(self, state: MeshState, *, timeout_s: float = TIMEOUT_S) -> None:
        self.state = state
        self._transport = Transport(state.api, state.token, _author(), timeout_s, state.root_pem)

    @classmethod
    async def connect(cls, state: str | Path | None = None, *, timeout_s: float = TIMEOUT_S) -> AsyncMesh:
        """Find a mesh by its state file (default: ``$RAY_MESH_STATE``, else the default mesh) and greet it.

        Raises:
            Unavailable: there is no state file, or the mesh behind it does not answer.
            ConfigError: the state file is open to others or unreadable.
            Unauthenticated: the token in it is not this mesh's.
        """
        mesh = cls(read_state(default_path() if state is None else Path(state)), timeout_s=timeout_s)
        try:
            await mesh.version()
        except BaseException:
            await mesh.close()
            raise
        return mesh

    async def close(self) -> None:
        """Close the connections; the mesh goes on."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncMesh:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def version(self) -> str:
        """The version of the running mesh."""
        return str((await self._transport.get("/v1/version"))["version"])

    async def clock(self) -> float:
        """The time at the API, in Unix seconds."""
        return float((await self._transport.get("/v1/version"))["time"])

    async def status(self) -> Status:
        """Actors, nodes, proxies and what is wrong."""
        return answers.read_status(await self._transport.get("/v1/status"))

    async def apply(
        self, sources: Source | Sequence[Source], *, comment: str = "", dry_run: bool = False
    ) -> Applied:
        """Apply YAML text, paths or manifests as one set: all of it is stored, or nothing. The comment is
        kept in its history.

        Raises:
            ConfigError: the analyzer refuses it; ``findings`` say where and what to do.
            Conflict: others keep changing the same objects.
        """
        body = {"sources": gather(sources)}
        query = _change(comment, dry_run)
        return answers.read_applied(await self._transport.send("POST", "/v1/apply", query, body=body))

    async def get(self, kind: str, name: str, *, namespace: str = "default") -> Object:
        """One object.

        Raises:
            NotFound: there is none of that kind and name.
        """
        return answers.read(Object, await self._transport.get(_path("resources", kind, namespace, name)))

    async def list(self, kind: str = "", *, namespace: str = "") -> tuple[Object, ...]:
        """Objects by kind, namespace and name; of one kind or namespace when given."""
        query = {"kind": kind, "namespace": namespace}
        chosen = {name: value for name, value in query.items() if value}
        return answers.read_many(Object, (await self._transport.get("/v1/resources", chosen))["items"])

    async def delete(self, kind: str, name: str, *, namespace: str = "default") -> Applied:
        """Delete one object.

        Raises:
            NotFound: there is none.
            ConfigError: other objects still refer to it.
        """
        answer = await self._transport.send("DELETE", _path("resources", kind, namespace, name))
        return answers.read_applied(answer)

    async def history(self, kind: str, name: str, *, namespace: str = "default") -> tuple[Version, ...]:
        """The versions of one object, oldest first, as far as they are kept.

        Raises:
            NotFound: there never was one.
        """
        answer = await self._transport.get(_path("history", kind, namespace, name))
        return answers.read_many(Version, answer["items"])

    async def explain(
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
        """Which documents decide what becomes of a request, and how it ends; nothing is sent.

        Who calls is the ``workload`` or ``gateway`` (``namespace/name``), or whoever has these ``labels`` in
        that ``namespace`` with that ``service_account``.

        Raises:
            NotFound: there is no such workload or gateway.
            ConfigError: the URL, the method or a header is none, or who calls is not said.
        """
        caller = Caller(workload, gateway, tuple(sorted((labels or {}).items())), namespace, service_account)
        question = ask(caller, url, method, headers, client_ip=client_ip, sni=sni)
        body = write_question(question, url)
        return read_explanation(await self._transport.send("POST", "/v1/explain", body=body))

    async def analyze(
        self,
        sources: Source | Sequence[Source] = (),
        *,
        namespace: str = "",
        suppress: Sequence[str] = (),
    ) -> dict[str, Any]:
        """What is wrong with the documents of the mesh, with those of ``sources`` as if they were applied.

        ``namespace`` leaves out findings about others, ``suppress`` has ``CODE=KIND/NAMESPACE/NAME``, each
        with ``*`` for any. The answer is that of ``POST /v1/analyze``: ``findings``, ``suppressed``,
        ``counts`` and ``documents``.

        Raises:
            ConfigError: a path cannot be read, or ``suppress`` is written otherwise.
        """
        body = {"sources": gather(sources), "namespace": namespace, "suppress": list(suppress)}
        answer: dict[str, Any] = await self._transport.send("POST", "/v1/analyze", body=body)
        return answer

    async def revisions(self, limit: int = 20, *, registrations: bool = False) -> tuple[Revision, ...]:
        """The newest ``limit`` revisions of the mesh, oldest first. Workloads that attached or left are
        left out unless ``registrations``."""
        query = {"limit": limit, "registrations": "true" if registrations else "false"}
        return answers.read_revisions((await self._transport.get("/v1/history", query))["items"])

    async def diff(self, sources: Source | Sequence[Source]) -> tuple[Difference, ...]:
        """What applying documents would change; objects that they do not name are left alone.

        Raises:
            ConfigError: a document is invalid.
        """
        body = {"sources": gather(sources)}
        answer = await self._transport.send("POST", "/v1/diff", body=body)
        return answers.read_many(Difference, answer["items"])

    async def diff_revisions(
        self,
        before: int,
        after: int | None = None,
        *,
        kind: str = "",
        name: str = "",
        namespace: str = "default",
    ) -> tuple[Difference, ...]:
        """What is different at two revisions, or between one and now: in the whole mesh without its attached
        workloads, or in the one object of a ``kind`` and ``name``.

        Raises:
            NotFound: there is no such revision yet, or never was such an object.
            ConfigError: that is not kept any more, or the revision is in the middle of a set.
        """
        query = {"from": before} | ({} if after is None else {"to": after})
        path = _path("diff", kind, namespace, name) if name else "/v1/diff"
        return answers.read_many(Difference, (await self._transport.get(path, query))["items"])

    async def rollback(self, to: int, *, comment: str = "", dry_run: bool = False) -> Applied:
        """Make all objects what they were at a revision, as one set. Attached workloads stay.

        Raises:
            NotFound: there is no such revision yet.
            ConfigError: it is not kept any more, is in the middle of a set, or the analyzer refuses it.
            Conflict: others keep changing the same objects.
        """
        query = {"to": to, **_change(comment, dry_run)}
        return answers.read_applied(await self._transport.send("POST", "/v1/rollback", query))

    async def rollback_object(
        self,
        kind: str,
        name: str,
        *,
        namespace: str = "default",
        to: int | None = None,
        comment: str = "",
        dry_run: bool = False,
    ) -> Applied:
        """Make one object what it was at a revision, or before its last change.

        Raises as :meth:`rollback`.
        """
        query = ({} if to is None else {"to": to}) | _change(comment, dry_run)
        path = _path("rollback", kind, namespace, name)
        return answers.read_applied(await self._transport.send("POST", path, query))

    async def proxies(self) -> tuple[Proxy, ...]:
        """Live proxies: SYNCED, STALE or REJECTED, and why."""
        return answers.read_many(Proxy, (await self._transport.get("/v1/proxies"))["items"])

    async def wait(self, revision: int, *, timeout_s: float = 30.0) -> None:
        """Return when every live proxy has applied ``revision``.

        Raises:
            Unavailable: not in time; the message says who is behind.
            Rejected: a proxy refuses it; the message says why.
        """
        query = {"revision": revision, "timeout_s": timeout_s}
        await self._transport.get("/v1/wait", query, timeout_s=timeout_s + MARGIN_S)

    async def graph(self, window_s: float = 60.0) -> Graph:
        """Who called whom in the last ``window_s`` seconds (0: since the proxies started)."""
        return Graph.from_json(await self._transport.get("/v1/graph", {"window_s": window_s}))

    async def events(self, limit: int = 100) -> tuple[Event, ...]:
        """The newest events that the answering gateway heard, oldest first."""
        return answers.read_many(Event, (await self._transport.get("/v1/events", {"limit": limit}))["items"])

    async def attach(
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
    ) -> AsyncAttachment:
        """Run the app that listens on loopback ``port`` as a workload of ``service``.

        The name is ``<service>-<version>`` unless given; a workload of the same name is replaced. It
        returns when every proxy of ``node`` (this machine's unless given) serves the workload. An
        ingress has ``gateway_ports``: port numbers of Gateways to the ports to bind (0: any free one).
        ``protocol`` is what the app speaks: ``http`` (HTTP/1.1), or ``http2`` or ``grpc`` in cleartext with
        prior knowledge. Unless given, the ports of its Services say it, and the one that is made says http.
        ``weight`` is its share among the endpoints of a service, ``locality`` its place
        (``region/zone/subzone``). With a ``probe``, in the form of a WorkloadGroup's (``{"httpGet": {"path":
        "/healthz", "port": 8080}, "periodSeconds": 5}`` or ``tcpSocket``), its proxy asks it, and serves it
        only while it answers well.

        Raises:
            PolicyDenied: no WorkloadBinding lets this service account run on the node.
            Unavailable: the node's proxies did not take it in time.
        """
        body = {
            "service": service,
            "version": version,
            "port": port,
            "namespace": namespace,
            "name": name or f"{service}-{version}",
            "serviceAccount": service_account,
            "labels": dict(labels or {}),
            "node": node or self.state.node,
            "gatewayPorts": {str(number): bound for number, bound in (gateway_ports or {}).items()},
            "protocol": protocol,
            "weight": weight,
            "locality": locality,
            "probe": dict(probe or {}),
        }
        answer = await self._transport.send("POST", "/v1/workloads", body=body, timeout_s=ATTACH_TIMEOUT_S)
        return AsyncAttachment(
            workload=answer["workload"],
            namespace=namespace,
            name=answer["name"],
            node=answer["node"],
            http_proxy=answer["http_proxy"],
            outbound_port=answer["outbound_port"],
            gateway_ports=answer["gateway_ports"],
            revision=answer["revision"],
            mesh=self,
        )

    async def serve(
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
    ) -> AsyncServed:
        """Run copies of an application on the mesh's Ray cluster as workloads of ``service``.

        ``app`` is ASGI 3, ``"MODULE:NAME"`` of one, or a function without parameters that makes one or an
        aiohttp Application. Copies are spread over the nodes, replaced when they crash or when
        ``health_path`` answers with 400 or more three times, and drained for ``drain_s`` at the end.
        ``num_cpus`` is reserved for each. Needs a connection to the Ray cluster, as a driver has.

        Raises:
            ConfigError: that is no application, or cannot be sent to another process.
            Conflict: this version of the service is served already.
            Unavailable: not all copies serve in time; the message has a reason.
        """
        from ray_mesh.workload.plan import ServePlan
        from ray_mesh.workload.serving import serve

        plan = ServePlan(
            service,
            version,
            replicas,
            namespace,
            service_account,
            dict(labels or {}),
            health_path,
            num_cpus,
            drain_s,
        )
        return await serve(self.state, plan, app)

    async def detach(self, name: str, *, namespace: str = "default") -> None:
        """Take a workload out of the mesh; no error when it is not there."""
        try:
            await self._transport.send("DELETE", _path("workloads", namespace, name))
        except NotFound:
            return

    async def observe(self, name: str, seed_file: str | Path) -> str:
        """Admit a NATS client that may read telemetry and events; returns its inbox prefix.

        Its key is made here and written to ``seed_file`` (mode 0600); the mesh learns the public half.
        The broker's address and root certificate are in the state file. A client of the same name
        is replaced.
        """
        from ray_mesh.bus.credentials import Credential

        credential = Credential.generate()
        body = {"name": name, "nkey": credential.public}
        answer = await self._transport.send("POST", "/v1/observers", body=body)
        credential.write(Path(seed_file))
        return str(answer["inbox"])

    async def create_token(self, service_account: str, *, ttl_s: int = 600) -> str:
        """A join token for one sidecar of a service account, ``<namespace>/<name>``; it is told once.

        Raises:
            ConfigError: that cannot be a service account, or the life is not 1 s to a day.
        """
        body = {"serviceAccount": service_account, "ttl_s": ttl_s}
        return str((await self._transport.send("POST", "/v1/tokens", body=body))["token"])

    async def down(self, *, timeout_s: float = 60.0) -> None:
        """End the mesh and wait until its API, its process and, seen from its own machine, its actors are
        gone. A state directory that was chosen stays.

        Raises:
            Unavailable: it did not end in time.
        """
        await self._transport.send("POST", "/v1/down")
        deadline = time.monotonic() + timeout_s
        # The controller removes this file last.
        published = Path(self.state.state_dir or os.devnull) / "mesh.json"
        while published.exists() or is_running(self.state.pid) or await self._answers():
            if time.monotonic() > deadline:
                raise Unavailable(f"the mesh (pid {self.state.pid}) did not end in {timeout_s:g} s")
            await asyncio.sleep(POLL_S)

    async def _answers(self) -> bool:
        try:
            await self._transport.send("GET", "/healthz")
        except Unavailable:
            return False
        return True


def is_running(pid: int) -> bool:
    """Whether the process exists; a child of ours that has ended does not count."""
    if pid <= 0 or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def _change(comment: str, dry_run: bool) -> dict[str, Any]:
    said = {"comment": comment} if comment else {}
    return said | ({"dry_run": "true"} if dry_run else {})


def _path(*parts: str) -> str:
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def _author() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}".encode("ascii", "replace").decode()
