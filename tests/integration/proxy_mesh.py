"""Two planes with real certificates, applications behind them, and a client that sees raw bytes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from ray_mesh import snapshot
from ray_mesh.proxy.plane import DataPlane, PlaneConfig
from ray_mesh.security.bundle import Bundle
from ray_mesh.security.ca import Authority
from ray_mesh.security.identity import for_workload
from ray_mesh.security.svid import Svid, csr, new_key

TRUST_DOMAIN = "mesh.local"
TOKEN = "secret-token"
DEADLINE_S = 10.0
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait for a condition with a deadline."""
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, f"never happened: {what}"
        await asyncio.sleep(0.005)


_given: set[int] = set()


def free_port() -> int:
    """A port that nobody uses now, and that was not given out before."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port


def host_of(service: str) -> str:
    """Full host of a service of the default namespace."""
    return f"{service}.default.svc.cluster.local"


@dataclass
class Answer:
    """A response as a client saw it. Field names are in lower case."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes
    raw: bytes

    def field(self, name: str) -> str | None:
        """The first value of a field."""
        return next((value for each, value in self.fields if each == name), None)

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Client:
    """One connection to a listener."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.patience_s = DEADLINE_S

    @classmethod
    async def connect(cls, port: int) -> Client:
        """Connect on loopback."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, raw: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(raw)
        await self.writer.drain()

    async def answer(self, method: str = "GET") -> Answer:
        """Read one response (not the interim ones)."""
        async with asyncio.timeout(self.patience_s):
            while True:
                head = await self.reader.readuntil(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                status = int(lines[0].split(" ")[1])
                if status >= 200:
                    break
            pairs = [line.partition(":")[::2] for line in lines[1:] if line]
            fields = [(name.lower(), value.strip()) for name, value in pairs]
            answer = Answer(status, fields, b"", head)
            if method != "HEAD" and status not in (204, 304):
                answer.body = await self._body(answer)
            return answer

    async def _body(self, answer: Answer) -> bytes:
        if answer.field("transfer-encoding") == "chunked":
            body = b""
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            while await self.reader.readuntil(b"\r\n") != b"\r\n":
                pass
            return body
        length = answer.field("content-length")
        return await (self.reader.read() if length is None else self.reader.readexactly(int(length)))

    async def is_closed(self) -> bool:
        """Wait for the end of the connection; nothing may come before it."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                return await self.reader.read() == b""
            except ConnectionResetError:
                return True

    async def close(self) -> None:
        """Close it."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


def credential(token: str = TOKEN) -> str:
    """What http_proxy=http://workload:token@... makes a client send."""
    return "Basic " + base64.b64encode(f"workload:{token}".encode()).decode()


def request_bytes(
    method: str, target: str, host: str, body: bytes = b"", token: str = TOKEN, **fields: str
) -> bytes:
    """A request with the workload's token; ``_`` in field names stands for ``-``."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
    if token:
        lines.append(f"Proxy-Authorization: {credential(token)}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


async def fetch(
    port: int,
    target: str,
    host: str,
    method: str = "GET",
    body: bytes = b"",
    token: str = TOKEN,
    **fields: str,
) -> Answer:
    """One request on its own connection."""
    client = await Client.connect(port)
    try:
        await client.send(request_bytes(method, target, host, body, token, **fields))
        return await client.answer(method)
    finally:
        await client.close()


class App:
    """An application: answers with what it received, as JSON; ``handler`` replaces that."""

    def __init__(self, name: str, handler: Handler | None = None) -> None:
        self.name = name
        self.heads: list[bytes] = []
        self.connections = 0
        self.port = 0
        self._handler = handler or self._echo
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self, port: int = 0, address: str = "127.0.0.1") -> None:
        """Listen, on loopback unless told otherwise."""
        self._server = await asyncio.start_server(self._serve, address, port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and cut what is open."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._handler(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, body = await self.read(reader)
            lines = head.decode("latin-1").split("\r\n")
            seen = {
                "app": self.name,
                "line": lines[0],
                "fields": [line.split(": ", 1) for line in lines[1:] if line],
                "body": body.decode("latin-1"),
            }
            text = json.dumps(seen).encode()
            head_only = lines[0].startswith("HEAD ")
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Type: application/json\r\n\r\n%b"
                % (len(text), b"" if head_only else text)
            )
            await writer.drain()

    async def read(self, reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
        """One request: head and decoded body."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            body = b""
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
            return head, body
        length = lower.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return head, await reader.readexactly(int(length or 0))


@dataclass
class Mesh:
    """Planes by node, and what is applied to them."""

    root: Authority
    authority: Authority
    planes: dict[str, DataPlane] = field(default_factory=dict)
    workloads: dict[str, snapshot.Workload] = field(default_factory=dict)
    apps: list[App] = field(default_factory=list)
    events: list[tuple[str, str]] = field(default_factory=list)

    @property
    def bundles(self) -> dict[str, Bundle]:
        """The mesh's own trust bundle."""
        return {TRUST_DOMAIN: self.root.bundle()}

    def svid(self, account: str, ttl_s: float = 3600, authority: Authority | None = None) -> Svid:
        """A certificate for a service account of the default namespace."""
        key = new_key()
        identity = for_workload(TRUST_DOMAIN, "default", account)
        return Svid.from_der((authority or self.authority).issue(csr(key), identity, ttl_s, time.time()), key)

    async def app(self, name: str, handler: Handler | None = None) -> App:
        """Start an application."""
        app = App(name, handler)
        await app.start()
        self.apps.append(app)
        return app

    async def workload(
        self, name: str, app_port: int, node: str = "two", with_identity: bool = True, **changes: Any
    ) -> int:
        """Run a workload; returns its outbound port once it is ready."""
        labels = changes.pop("labels", {"app": name})
        workload = snapshot.Workload(
            namespace="default",
            name=name,
            node=node,
            service_account=name,
            identity=str(for_workload(TRUST_DOMAIN, "default", name)),
            sni=f"{name}.default.workload.mesh",
            labels=tuple(sorted(labels.items())),
            app_address="127.0.0.1",
            app_port=app_port,
            outbound_port=free_port(),
            token_sha256=hashlib.sha256(TOKEN.encode()).digest(),
        )
        workload = replace(workload, **changes)
        key = f"workload.default.{name}"
        plane = self.planes[node]
        plane.apply(key, workload)
        self.workloads[name] = workload
        if with_identity:
            plane.set_identity(key, self.svid(name))
            await until(lambda: key in plane.ready(), f"{name} is ready")
        return workload.outbound_port

    def endpoint(self, name: str, node: str = "two", **changes: Any) -> snapshot.Endpoint:
        """The endpoint of a workload."""
        workload = self.workloads[name]
        endpoint = snapshot.Endpoint(
            workload=f"default/{name}",
            address="127.0.0.1",
            port=self.planes[node].inbound_port,
            sni=workload.sni,
            identity=workload.identity,
            labels=workload.labels,
            node=node,
        )
        return replace(endpoint, **changes)

    def service(self, name: str, endpoints: list[snapshot.Endpoint], **changes: Any) -> None:
        """Make a service known to every plane."""
        host = host_of(name)
        route = snapshot.Route("default", "test", (), (snapshot.Destination(host),))
        service = snapshot.Service(host, "default", name, (snapshot.Port(80, "http"),), (), (route,))
        for plane in self.planes.values():
            plane.apply(snapshot.key_for("service", host), replace(service, **changes))
            plane.apply(snapshot.key_for("endpoints", host), snapshot.Endpoints(host, tuple(endpoints)))

    async def pair(self, handler: Handler | None = None, **changes: Any) -> tuple[int, App]:
        """``client`` on node one may call ``reviews`` on node two: its outbound port and the application."""
        app = await self.app("reviews", handler)
        port = await self.workload("client", free_port(), node="one")
        services = (host_of("reviews"),)
        await self.workload("reviews", app.port, services=services, **changes)
        self.service("reviews", [self.endpoint("reviews")])
        return port, app

    def series(self, node: str) -> list[tuple[int, str, str, str, int]]:
        """Code, flags, source and destination workload, and count of every series of a plane."""
        return sorted(
            (
                each.edge.code,
                each.edge.flags,
                each.edge.source_workload,
                each.edge.destination_workload,
                each.requests,
            )
            for each in self.planes[node].series.totals()
        )


@contextlib.asynccontextmanager
async def running_mesh(nodes: tuple[str, ...] = ("one", "two")) -> AsyncIterator[Mesh]:
    """A mesh with one plane per node; everything is stopped at the end."""
    root = Authority.create_root(TRUST_DOMAIN, time.time())
    mesh = Mesh(root, root.create_intermediate(time.time()))
    try:
        for node in nodes:
            plane = DataPlane(PlaneConfig(f"{node}-0", node, TRUST_DOMAIN))
            plane.on_event = lambda reason, severity, message: mesh.events.append((reason, message))
            await plane.start()
            plane.set_bundles(mesh.bundles)
            mesh.planes[node] = plane
        yield mesh
    finally:
        for plane in mesh.planes.values():
            await plane.stop()
        for app in mesh.apps:
            await app.stop()


@pytest.fixture
async def mesh() -> AsyncIterator[Mesh]:
    """See :func:`running_mesh`."""
    async with running_mesh() as running:
        yield running
