"""The REST API of the mesh (documented in docs/api.md): thin handlers over the gateway's parts."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Any

from aiohttp import web

from ray_mesh import __version__
from ray_mesh.analyze import to_json
from ray_mesh.bus import subjects
from ray_mesh.bus.client import Bus
from ray_mesh.bus.credentials import is_user_key
from ray_mesh.bus.messages import ControlReply, ControlRequest, decode, encode
from ray_mesh.bus.store import Store
from ray_mesh.compile.suppress import from_option
from ray_mesh.errors import ConfigError, MeshError, NotFound, Rejected, Unavailable
from ray_mesh.explain.explaining import explain
from ray_mesh.explain.places import as_printed
from ray_mesh.explain.question import read_question
from ray_mesh.gateway import reading
from ray_mesh.gateway.access import answer, guard
from ray_mesh.gateway.admission import Admission, key_of, kinds_of
from ray_mesh.gateway.changes import Changes
from ray_mesh.gateway.collectors import METRICS_TYPE, Collectors
from ray_mesh.gateway.desired import DesiredState, Record
from ray_mesh.gateway.history import History
from ray_mesh.gateway.history_api import HISTORY_ROUTES, HistoryApi
from ray_mesh.gateway.sidecars import SidecarDesk
from ray_mesh.gateway.view import MeshView
from ray_mesh.gateway.workloads import Workloads, read_attach

MAX_BODY = 16 << 20
MAX_WAIT_S = 600.0
MAX_WINDOW_S = 86_400.0
CONTROL_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Heard:
    """One event of the ring, as the API shows it. ``source`` is ``<role>.<instance>``."""

    at: float
    severity: str
    reason: str
    message: str
    source: str
    subject: str


@dataclass(frozen=True, slots=True)
class Parts:
    """What the handlers work on."""

    bus: Bus
    store: Store
    state: DesiredState
    view: MeshView
    changes: Changes
    admission: Admission
    workloads: Workloads
    sidecars: SidecarDesk
    collectors: Collectors
    events: deque[Heard]


def build_app(
    parts: Parts, token_sha256: bytes, port: Callable[[], int], names: Collection[str]
) -> web.Application:
    """The API. It knows the token's hash only; ``port`` tells the bound port for the Host check."""
    api = Api(parts)
    app = web.Application(middlewares=[guard(token_sha256, port, names)], client_max_size=MAX_BODY)
    history = HistoryApi(History(parts.state, parts.store), parts.admission, parts.state)
    for (method, path), handler in ROUTES.items():
        owner = history if (method, path) in HISTORY_ROUTES else api
        app.router.add_route(method, path, getattr(owner, handler))
    return app


ROUTES = {
    ("GET", "/healthz"): "healthz",
    ("GET", "/metrics"): "metrics",
    ("GET", "/v1/version"): "version",
    ("GET", "/v1/status"): "status",
    ("GET", "/v1/resources"): "list_objects",
    ("GET", "/v1/resources/{kind}/{namespace}/{name}"): "get_object",
    ("DELETE", "/v1/resources/{kind}/{namespace}/{name}"): "delete_object",
    ("POST", "/v1/apply"): "apply",
    ("POST", "/v1/explain"): "explain",
    ("POST", "/v1/analyze"): "analyze",
    ("GET", "/v1/proxies"): "proxies",
    ("GET", "/v1/wait"): "wait",
    ("GET", "/v1/graph"): "graph",
    ("GET", "/v1/events"): "events",
    ("POST", "/v1/workloads"): "attach",
    ("DELETE", "/v1/workloads/{namespace}/{name}"): "detach",
    ("POST", "/v1/observers"): "observe",
    ("POST", "/v1/tokens"): "create_token",
    ("POST", "/v1/join"): "join",
    ("POST", "/v1/sidecar/attest"): "attest_sidecar",
    ("POST", "/v1/sidecar/workload"): "attach_sidecar",
    ("DELETE", "/v1/sidecar/workload"): "detach_sidecar",
    ("DELETE", "/v1/sidecar"): "end_sidecar",
    ("POST", "/v1/down"): "down",
    **HISTORY_ROUTES,
}
"""Which method of :class:`Api`, or of :class:`~ray_mesh.gateway.history_api.HistoryApi`, answers what."""


class Api:
    """The handlers. Errors are raised as MeshError and answered by the middleware."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def healthz(self, request: web.Request) -> web.Response:
        """Whether this replica serves, and whether it has the broker."""
        return answer({"ok": True, "broker": self._parts.bus.connected})

    async def version(self, request: web.Request) -> web.Response:
        """The version of the mesh, and its time, for those who doubt their clock."""
        return answer({"name": "ray-mesh", "version": __version__, "api": "v1", "time": time.time()})

    async def status(self, request: web.Request) -> web.Response:
        """Actors by the controller, proxies by their leases, and what is wrong."""
        parts, problems = self._parts, []
        reply = ControlReply(__version__)
        if parts.bus.connected:
            try:
                reply = await self._control(ControlRequest("status"))
            except MeshError as error:
                problems.append(f"the controller does not answer: {error}")
        else:
            problems.append(
                f"no connection to the broker ({parts.bus.trouble}): traffic goes on with the configuration "
                "it has, changes wait"
            )
        problems += reply.problems
        now = time.monotonic()
        rows = parts.view.proxies(now)
        problems += parts.view.unstored(now)
        problems += [f"proxy {row.proxy} is {row.sync}: {row.reason}" for row in rows if row.is_trouble]
        problems += [
            f"{one.role} {one.name} is {one.state}" for one in reply.actors if one.state != "HEALTHY"
        ]
        problems += [f"desired state {key} is ignored: {why}" for key, why in parts.state.refused.items()]
        return answer(
            {
                "version": reply.version,
                "revision": parts.state.head,
                "nodes": reply.nodes,
                "actors": [asdict(actor) for actor in reply.actors],
                "proxies": len(rows),
                "synced": sum(row.sync == "SYNCED" for row in rows),
                "problems": problems,
                "warnings": reply.warnings,
            }
        )

    async def list_objects(self, request: web.Request) -> web.Response:
        """Live objects, of one kind or namespace if asked."""
        await self._parts.admission.refresh()
        kind, namespace = request.query.get("kind", ""), request.query.get("namespace", "")
        kinds = kinds_of(kind) if kind else None
        items = [
            _object(record)
            for _, record in sorted(self._parts.state.records.items())
            if (kinds is None or record.document.kind in kinds)
            and namespace in ("", record.document.namespace)
        ]
        return answer({"items": items, "revision": self._parts.state.head})

    async def get_object(self, request: web.Request) -> web.Response:
        """One live object."""
        await self._parts.admission.refresh()
        key = self._key(request)
        record = self._parts.state.records.get(key)
        if record is None:
            raise NotFound(f"{key} does not exist")
        return answer(_object(record))

    async def delete_object(self, request: web.Request) -> web.Response:
        """Delete one object. Workloads leave by their own path."""
        await self._parts.admission.refresh()
        key = self._key(request)
        if key.startswith("workload."):
            raise ConfigError(f"{key} is detached, not deleted: DELETE /v1/workloads/<namespace>/<name>")
        return answer((await self._parts.admission.delete(key, reading.author(request))).to_json())

    async def apply(self, request: web.Request) -> web.Response:
        """Apply a YAML body, or ``{"sources": [{"name", "text"}]}`` as application/json."""
        dry_run, comment = reading.flag(request, "dry_run"), reading.comment(request)
        sources = await reading.sources(request)
        outcome = await self._parts.admission.apply(
            sources, reading.author(request), comment=comment, dry_run=dry_run
        )
        return answer(outcome.to_json())

    async def explain(self, request: web.Request) -> web.Response:
        """Which documents decide what becomes of a request. Changes nothing."""
        question = read_question(await reading.json_body(request))
        await self._parts.admission.refresh()
        live = self._parts.view.served(time.monotonic())
        world = self._parts.admission.world
        told = await asyncio.to_thread(explain, world, question, live=live, locate=as_printed)
        return answer(asdict(told))

    async def analyze(self, request: web.Request) -> web.Response:
        """Analyze what is stored, with the texts of ``sources``, if any, as if they were applied."""
        body = await reading.json_body(request) if request.can_read_body else {}
        if not isinstance(body, dict) or body.keys() - {"sources", "namespace", "suppress"}:
            raise ConfigError("a JSON body has sources, namespace and suppress, each optional")
        namespace, written = body.get("namespace", ""), body.get("suppress", [])
        if not isinstance(namespace, str) or not isinstance(written, list):
            raise ConfigError("namespace is a text and suppress a list of texts")
        try:
            suppressions = [from_option(str(one)) for one in written]
        except ValueError as error:
            raise ConfigError(f"suppress: {error}") from error
        sources = reading.named_texts(body.get("sources", []))
        return answer(to_json(await self._parts.admission.analyze(sources, namespace, suppressions)))

    async def proxies(self, request: web.Request) -> web.Response:
        """The live proxies."""
        if not self._parts.bus.connected:
            raise Unavailable(
                f"no connection to the broker ({self._parts.bus.trouble}): which proxies live is not known. "
                "Those that do go on with the configuration they have"
            )
        return answer({"items": [asdict(row) for row in self._parts.view.proxies(time.monotonic())]})

    async def wait(self, request: web.Request) -> web.Response:
        """Answers when a revision is applied; 422 when it is refused, 503 when the time is up."""
        revision = int(reading.number(request, "revision", math.inf, default=None))
        timeout_s = reading.number(request, "timeout_s", MAX_WAIT_S, default=30.0)
        view = self._parts.view
        await self._parts.changes.wait_until(lambda: view.is_decided(revision, time.monotonic()), timeout_s)
        progress = view.progress(revision, time.monotonic())
        if progress.rejected:
            raise Rejected("; ".join(progress.rejected))
        if not progress.applied:
            waiting = "; ".join(progress.waiting_for)
            raise Unavailable(
                f"revision {revision} is not applied after {timeout_s:g} s; waiting for {waiting}"
            )
        return answer({"revision": revision, "applied": True})

    async def graph(self, request: web.Request) -> web.Response:
        """The service graph, and which collectors are missing from it."""
        window_s = reading.number(request, "window_s", MAX_WINDOW_S, default=60.0)
        graph, missing = await self._parts.collectors.graph(window_s)
        return answer({**graph.to_json(), "missing": missing})

    async def events(self, request: web.Request) -> web.Response:
        """The newest events that this replica heard, oldest first."""
        limit = int(reading.number(request, "limit", len(self._parts.events) + 1000, default=100.0))
        newest = list(self._parts.events)[-limit:] if limit else []
        return answer({"items": [asdict(event) for event in newest]})

    async def attach(self, request: web.Request) -> web.Response:
        """Attach a workload; the answer holds its token, told once."""
        wanted = read_attach(await reading.json_body(request))
        return answer(asdict(await self._parts.workloads.attach(wanted, reading.author(request))))

    async def detach(self, request: web.Request) -> web.Response:
        """Take a workload out."""
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        return answer(
            {"revision": await self._parts.workloads.detach(namespace, name, reading.author(request))}
        )

    async def down(self, request: web.Request) -> web.Response:
        """Ask the controller to end the mesh."""
        reply = await self._control(ControlRequest("down"))
        return answer({"version": reply.version})

    async def observe(self, request: web.Request) -> web.Response:
        """Admit a NATS client that may read telemetry and events, by the public half of its key."""
        body = await reading.json_body(request)
        if not isinstance(body, dict) or body.keys() != {"name", "nkey"}:
            raise ConfigError("an observer is a JSON object with name and nkey")
        name, nkey = body["name"], body["nkey"]
        if not isinstance(name, str) or not is_user_key(str(nkey)):
            raise ConfigError("an observer has a name and the public nkey (U...) of a NATS user key")
        await self._control(ControlRequest("observe", subjects.token(name), str(nkey)))
        return answer({"name": name, "inbox": subjects.inbox("observer", name)})

    async def create_token(self, request: web.Request) -> web.Response:
        """A join token for one service account; told once."""
        return answer(await self._parts.sidecars.create_token(await reading.json_body(request)))

    async def join(self, request: web.Request) -> web.Response:
        """Admit a sidecar's proxy by its join token, and tell its session, once."""
        token = self._knock(request)
        return answer(await self._parts.sidecars.join(token, await reading.small_json_body(request)))

    async def attest_sidecar(self, request: web.Request) -> web.Response:
        """Give a sidecar's proxy the full credential for its certificate."""
        session = self._knock(request)
        body = await reading.small_json_body(request)
        return answer(asdict(await self._parts.sidecars.attest(session, body)))

    async def attach_sidecar(self, request: web.Request) -> web.Response:
        """Attach the sidecar's workload; the answer is that of attach."""
        session = self._knock(request)
        body = await reading.small_json_body(request)
        return answer(asdict(await self._parts.sidecars.attach(session, body, reading.author(request))))

    async def detach_sidecar(self, request: web.Request) -> web.Response:
        """Take the sidecar's workloads out; its proxy stays."""
        session, author = self._knock(request), reading.author(request)
        return answer({"detached": await self._parts.sidecars.detach(session, author)})

    async def end_sidecar(self, request: web.Request) -> web.Response:
        """End a sidecar: workloads, credential and session."""
        session, author = self._knock(request), reading.author(request)
        return answer(asdict(await self._parts.sidecars.leave(session, author)))

    def _knock(self, request: web.Request) -> str:
        """The hash of the join token or session that a sidecar shows, before anything of it is read."""
        return self._parts.sidecars.knock(request.headers.get("Authorization", ""))

    async def metrics(self, request: web.Request) -> web.Response:
        """Prometheus text."""
        body = await self._parts.collectors.metrics()
        return web.Response(body=body, headers={"Content-Type": METRICS_TYPE})

    async def _control(self, request: ControlRequest) -> ControlReply:
        message = await self._parts.bus.request(
            subjects.control(request.verb), encode(request), timeout_s=CONTROL_TIMEOUT_S
        )
        reply = decode(ControlReply, message.data)
        if reply.error:
            raise Unavailable(f"the controller: {reply.error}")
        return reply

    def _key(self, request: web.Request) -> str:
        info = request.match_info
        return key_of(info["kind"], info["namespace"], info["name"], self._parts.state.records)


def _object(record: Record) -> dict[str, Any]:
    return {
        "kind": record.document.kind,
        "namespace": record.document.namespace,
        "name": record.document.name,
        "revision": record.revision,
        "admitted_at": record.desired.admitted_at,
        "author": record.desired.author,
        "manifest": json.loads(record.desired.document),
    }
