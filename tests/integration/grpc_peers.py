"""Real gRPC peers: one service, for grpcio on asyncio and in threads, and ways to it through planes.

Messages are bytes, so that nothing is generated. What a call should meet with it asks for by its method.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
from certificates import Issuer
from grpc import aio
from proxy_mesh import Mesh, credential, free_port, host_of

from ray_mesh import snapshot
from ray_mesh.snapshot import Destination, Gateway, GatewayServer, Route, SecureServer, ServerTls, VirtualHost

SERVICE = "test.Echo"
HOST = host_of("reviews")
NAME = "shop.example.com"
"""What a gateway is called."""
PORTS = (snapshot.Port(80, "grpc", "grpc"),)
WAYS = ("one hop", "two hops", "gateway", "gateway tls")
DETAILS = b"\x08\x05\x12\x07no book\x00\xff"
MESSAGE = "no such book: 50 % of \u00fcbersetzt\n"
UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
Metadata = tuple[tuple[str, str | bytes], ...]


def echoed(metadata: Any) -> Metadata:
    """What a caller sent of its own, in order."""
    return tuple((name, value) for name, value in metadata or () if name.startswith("x-own"))


@dataclass
class Service:
    """The service on asyncio. ``cancelled`` counts calls that ended without an answer, ``chats`` the streams
    that ended somehow."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    cancelled: int = 0
    chats: int = 0
    remaining_s: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    async def unary(self, request: bytes, context: Any) -> bytes:
        """The message, and the caller's own metadata before and after it."""
        own = echoed(context.invocation_metadata())
        self.sizes.append(len(request))
        await context.send_initial_metadata(own)
        context.set_trailing_metadata(own)
        return request

    async def collect(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        """All messages of the caller as one."""
        return b"".join([request async for request in requests])

    async def repeat(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """``count size``: so many messages of that size."""
        count, size = map(int, request.split())
        for number in range(count):
            yield number.to_bytes(4, "big") + bytes(size)

    async def chat(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """Each message back as it comes."""
        async for request in requests:
            yield request
        self.chats += 1

    async def fail(self, request: bytes, context: Any) -> bytes:
        """A status with details."""
        context.set_trailing_metadata((("grpc-status-details-bin", DETAILS),))
        await context.abort(grpc.StatusCode.NOT_FOUND, MESSAGE)
        raise AssertionError

    async def break_off(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """One message, then a status."""
        yield request
        await context.abort(grpc.StatusCode.CANCELLED, "not today")

    async def hang(self, request: bytes, context: Any) -> bytes:
        """Never answers."""
        self.remaining_s.append(context.time_remaining() or 0.0)
        self.waiting += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError

    async def together(self, request: bytes, context: Any) -> bytes:
        """Answers once ``gate`` is set."""
        self.waiting += 1
        await self.gate.wait()
        return request

    async def check(self, request: bytes, context: Any) -> bytes:
        """Serving (health)."""
        return b"\x08\x01"

    async def watch(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """Serving, and from then on nothing new (health)."""
        yield b"\x08\x01"
        await asyncio.Event().wait()

    def handlers(self) -> tuple[Any, ...]:
        """What a server of grpcio is given."""
        health = {
            "Check": grpc.unary_unary_rpc_method_handler(self.check),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch),
        }
        return (
            grpc.method_handlers_generic_handler(
                SERVICE,
                {
                    "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
                    "Collect": grpc.stream_unary_rpc_method_handler(self.collect),
                    "Repeat": grpc.unary_stream_rpc_method_handler(self.repeat),
                    "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
                    "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
                    "BreakOff": grpc.unary_stream_rpc_method_handler(self.break_off),
                    "Hang": grpc.unary_unary_rpc_method_handler(self.hang),
                    "Together": grpc.unary_unary_rpc_method_handler(self.together),
                },
            ),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", health),
        )


class ThreadedService:
    """The service on threads: what differs from :class:`Service` is who waits."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def unary(self, request: bytes, context: Any) -> bytes:
        """See :meth:`Service.unary`."""
        own = echoed(context.invocation_metadata())
        context.send_initial_metadata(own)
        context.set_trailing_metadata(own)
        return request

    def collect(self, requests: Iterator[bytes], context: Any) -> bytes:
        """See :meth:`Service.collect`."""
        return b"".join(requests)

    def repeat(self, request: bytes, context: Any) -> Iterator[bytes]:
        """See :meth:`Service.repeat`."""
        count, size = map(int, request.split())
        for number in range(count):
            yield number.to_bytes(4, "big") + bytes(size)

    def chat(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """See :meth:`Service.chat`."""
        yield from requests

    def fail(self, request: bytes, context: Any) -> bytes:
        """See :meth:`Service.fail`."""
        context.set_trailing_metadata((("grpc-status-details-bin", DETAILS),))
        context.abort(grpc.StatusCode.NOT_FOUND, MESSAGE)
        raise AssertionError

    def cut(self, request: bytes, context: Any) -> Iterator[bytes]:
        """One message, then the stream is reset."""
        yield request
        context.cancel()

    def hang(self, request: bytes, context: Any) -> bytes:
        """Never answers; ``ended`` is set once the caller has gone."""
        context.add_callback(self.ended.set)
        self.ended.wait(30)
        return b""

    def handlers(self) -> tuple[Any, ...]:
        """What a server of grpcio is given."""
        methods = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Collect": grpc.stream_unary_rpc_method_handler(self.collect),
            "Repeat": grpc.unary_stream_rpc_method_handler(self.repeat),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Cut": grpc.unary_stream_rpc_method_handler(self.cut),
            "Hang": grpc.unary_unary_rpc_method_handler(self.hang),
        }
        return (grpc.method_handlers_generic_handler(SERVICE, methods),)


@contextlib.asynccontextmanager
async def serving(service: Service, port: int = 0) -> AsyncIterator[int]:
    """Serve on asyncio; the port."""
    server = aio.server(options=UNLIMITED)
    server.add_generic_rpc_handlers(service.handlers())
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(None)


@contextlib.contextmanager
def serving_in_threads(service: ThreadedService) -> Iterator[int]:
    """Serve in threads; the port."""
    with ThreadPoolExecutor(16) as pool:
        server = grpc.server(pool, options=UNLIMITED)
        server.add_generic_rpc_handlers(service.handlers())
        bound = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield int(bound)
        finally:
            server.stop(None).wait()


@dataclass(frozen=True)
class Way:
    """How a client gets to the service: the port it calls, and what it says on each call."""

    port: int
    metadata: Metadata
    authority: str
    roots: bytes = b""

    def options(self, *more: tuple[str, Any]) -> list[tuple[str, Any]]:
        """Options of a channel; no two channels share a connection."""
        named = "grpc.ssl_target_name_override" if self.roots else "grpc.default_authority"
        return [(named, self.authority), ("grpc.use_local_subchannel_pool", 1), *UNLIMITED, *more]

    def channel(self, *more: tuple[str, Any], **arguments: Any) -> Any:
        """A channel on asyncio, to be used as a context."""
        target, options = f"127.0.0.1:{self.port}", self.options(*more)
        if not self.roots:
            return aio.insecure_channel(target, options=options, **arguments)
        credentials = grpc.ssl_channel_credentials(self.roots)
        return aio.secure_channel(target, credentials, options=options, **arguments)

    def threaded_channel(self) -> Any:
        """A channel for threads, to be used as a context."""
        target, options = f"127.0.0.1:{self.port}", self.options()
        if not self.roots:
            return grpc.insecure_channel(target, options=options)
        return grpc.secure_channel(target, grpc.ssl_channel_credentials(self.roots), options=options)


async def open_way(mesh: Mesh, way: str, app_port: int, folder: Path) -> Way:
    """Make the service at ``app_port`` known to the mesh, and open one of :data:`WAYS` to it."""
    if way in ("one hop", "gateway"):
        publish_without_proxy(mesh, app_port)
    else:
        await mesh.workload("reviews", app_port, services=(HOST,), app_protocol="http2")
        mesh.service("reviews", [mesh.endpoint("reviews")], ports=PORTS)
    if way in ("one hop", "two hops"):
        port = await mesh.workload("client", free_port(), node="one")
        return Way(port, (("proxy-authorization", credential()),), "reviews")
    port = free_port()
    await mesh.workload("edge", free_port(), node="one", gateway_ports=((80, port),))
    hosts = (VirtualHost((NAME,), (Route("all", "", (), (Destination(HOST),)),)),)
    server, roots = GatewayServer(80, hosts), b""
    if way == "gateway tls":
        issuer = Issuer(folder)
        certificate, key = issuer.issue(NAME)
        tls = ServerTls("SIMPLE", str(certificate), str(key))
        server = replace(server, virtual_hosts=(), secure=(SecureServer((NAME,), tls, hosts),))
        roots = issuer.ca.read_bytes()
    mesh.planes["one"].apply("gateway.default.edge", Gateway("default", "edge", (server,)))
    return Way(port, (), NAME, roots)


def publish_without_proxy(mesh: Mesh, app_port: int, **changes: Any) -> None:
    """Make the service known as one that is called directly, in plaintext."""
    endpoint = snapshot.Endpoint(
        "default/reviews", "127.0.0.1", app_port, "", "", (("app", "reviews"),), "", "plaintext"
    )
    mesh.service("reviews", [endpoint], ports=PORTS, plaintext=True, **changes)


def method(channel: Any, name: str, service: str = SERVICE) -> Any:
    """A method of the service, of the kind that its name says."""
    kinds = {
        "Collect": channel.stream_unary,
        "Repeat": channel.unary_stream,
        "BreakOff": channel.unary_stream,
        "Cut": channel.unary_stream,
        "Watch": channel.unary_stream,
        "Chat": channel.stream_stream,
    }
    return kinds.get(name, channel.unary_unary)(f"/{service}/{name}")
