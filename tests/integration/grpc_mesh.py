"""Applications that speak gRPC on two planes, called by grpcio through a workload's proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
from h2.connection import H2Connection
from h2.events import ResponseReceived, TrailersReceived
from proxy_mesh import TOKEN, Mesh, credential, free_port, host_of

from ray_mesh import snapshot
from ray_mesh.compile import World, compile_key
from ray_mesh.resources import load
from ray_mesh.sdk.grpc_channel import open_aio_channel

SERVICE = "test.Reviews"
_SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: default}
spec: {selector: {app: reviews}, ports: [PORT]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: reviews-v1, namespace: default}
spec: {address: 192.0.2.1, labels: {app: reviews, version: v1}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: reviews-v2, namespace: default}
spec: {address: 192.0.2.2, labels: {app: reviews, version: v2}}
---
"""


class Reviews:
    """A server. ``script`` are statuses for ``Ask`` to end with, one after the other; then all is OK."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.script: list[int] = []
        self.asked = 0
        self.port = 0
        self.arrived = asyncio.Event()
        self.ended = asyncio.Event()
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        methods = {
            "Ask": grpc.unary_unary_rpc_method_handler(self._ask),
            "Wait": grpc.unary_unary_rpc_method_handler(self._wait),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))

    async def start(self) -> None:
        """Listen on loopback."""
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()

    async def stop(self) -> None:
        """End all calls."""
        await self._server.stop(None)

    async def _ask(self, request: bytes, context: Any) -> bytes:
        self.asked += 1
        if self.script:
            await context.abort(_status(self.script.pop(0)), "as told: 50% naïve")
        return self.name.encode() + b" " + request

    async def _wait(self, request: bytes, context: Any) -> bytes:
        self.arrived.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()
        return b""

    async def _watch(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """Some messages, then the status that the request names; for ever when it names none."""
        yield b"one"
        yield b"two"
        if request:
            await context.abort(_status(int(request)), "after messages")
        self.arrived.set()
        await asyncio.Event().wait()


def _status(number: int) -> grpc.StatusCode:
    return next(one for one in grpc.StatusCode if one.value[0] == number)


async def serving(mesh: Mesh, *versions: str) -> tuple[int, list[Reviews]]:
    """``reviews`` on node two, one for each version, and the outbound port of ``client`` on node one."""
    servers = [Reviews(version) for version in versions]
    for server in servers:
        await server.start()
        mesh.apps.append(server)  # type: ignore[arg-type]
        labels = {"app": "reviews", "version": server.name}
        await mesh.workload(
            f"reviews-{server.name}",
            server.port,
            labels=labels,
            services=(host_of("reviews"),),
            app_protocol="http2",
        )
    mesh.service("reviews", [mesh.endpoint(f"reviews-{server.name}") for server in servers])
    configure(mesh, "")
    return await mesh.workload("client", free_port(), node="one"), servers


def configure(mesh: Mesh, documents: str, port: str = "{port: 80, name: grpc}") -> None:
    """What holds for ``reviews``: its port, and these documents."""
    text = _SERVICE.replace("PORT", port) + documents
    key = snapshot.key_for("service", host_of("reviews"))
    compiled = compile_key(World({one.key: one for one in load(text, "calls.yaml")}), key)
    assert compiled is not None
    for plane in mesh.planes.values():
        plane.apply(key, snapshot.decode(key, snapshot.encode(compiled)))


def endpoints(mesh: Mesh, *names: str) -> None:
    """Only these workloads serve ``reviews``."""
    host = host_of("reviews")
    serving = snapshot.Endpoints(host, tuple(mesh.endpoint(name) for name in names))
    for plane in mesh.planes.values():
        plane.apply(snapshot.key_for("endpoints", host), serving)


def channel(port: int, token: str = TOKEN) -> grpc.aio.Channel:
    """A channel to ``reviews`` as ``client``, not shared with others."""
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
    return open_aio_channel(f"http://client:{token}@127.0.0.1:{port}", "reviews:80", options)


async def ask(one: grpc.aio.Channel, method: str = "Ask", **options: Any) -> bytes:
    """One unary call."""
    call = one.unary_unary(f"/{SERVICE}/{method}")
    answer: bytes = await call(b"hello", **{"timeout": 10.0} | options)
    return answer


async def forgetful_call(port: int, method: str, timeout: bytes) -> dict[bytes, bytes]:
    """A call of a client that says how long it waits, and waits on: all fields of the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = H2Connection()
    client.initiate_connection()
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": f"/{SERVICE}/{method}",
        ":authority": "reviews:80",
        "content-type": "application/grpc",
        "te": "trailers",
        "grpc-timeout": timeout.decode(),
        "proxy-authorization": credential(),
    }
    client.send_headers(1, list(headers.items()))
    client.send_data(1, b"\0\0\0\0\0", end_stream=True)
    fields: dict[bytes, bytes] = {}
    async with asyncio.timeout(10.0):
        while b"grpc-status" not in fields:
            writer.write(client.data_to_send())
            for event in client.receive_data(await reader.read(65536)):
                if isinstance(event, ResponseReceived | TrailersReceived):
                    fields |= dict(event.headers)
    writer.close()
    return fields


def ended(mesh: Mesh, node: str) -> list[tuple[str, int, str, str]]:
    """Protocol, code, status of gRPC and flags of what a plane recorded, oldest first."""
    edges = (record.edge for record in mesh.planes[node].access_records())
    return [(edge.protocol, edge.code, edge.grpc_status, edge.flags) for edge in edges]


def deny_all(mesh: Mesh, name: str) -> None:
    """A policy of node two that lets nobody call a workload."""
    workload = replace(mesh.workloads[name], policies=(snapshot.Policy("default/nobody", "ALLOW", ()),))
    mesh.planes["two"].apply(f"workload.default.{name}", workload)
