"""Probes of gRPC's health service, against a server of grpcio and against what is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from ray_mesh.agent.checks import Checks, check
from ray_mesh.agent.grpc_probe import ask_health
from ray_mesh.snapshot import Probe

SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
LONG = "a." * 150 + "B"


class Health:
    """grpc.health.v1.Health with its two messages as bytes."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.services = {
            b"": SERVING,
            b"\x0a\x03a.B": SERVING,
            b"\x0a\x03a.C": NOT_SERVING,
            b"\x0a\x03a.D": b"",
        }

    async def check(self, request: bytes, context: Any) -> bytes:
        self.asked.append(request)
        if request not in self.services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        return self.services[request]


@pytest.fixture
async def health() -> AsyncIterator[tuple[Health, int]]:
    made = Health()
    server = grpc.aio.server()
    handlers = {"Check": grpc.unary_unary_rpc_method_handler(made.check)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield made, port
    await server.stop(None)


@pytest.mark.parametrize(
    ("service", "trouble"),
    [
        ("", ""),
        ("a.B", ""),
        ("a.C", "gRPC health: it does not serve"),
        ("a.D", "gRPC health: it does not serve"),
        ("a.E", "gRPC health: NOT_FOUND"),
    ],
)
async def test_a_server_says_whether_it_or_a_service_serves(
    health: tuple[Health, int], service: str, trouble: str
) -> None:
    _, port = health
    assert await check(Probe("grpc", "127.0.0.1", port, service=service)) == trouble


async def test_a_long_name_is_asked_whole(health: tuple[Health, int]) -> None:
    made, port = health
    await ask_health("127.0.0.1", port, LONG)
    assert made.asked == [b"\x0a\xad\x02" + LONG.encode()]


async def test_a_server_without_health_service_is_not_well() -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        assert await ask_health("127.0.0.1", port, "") == "gRPC health: UNIMPLEMENTED"
    finally:
        await server.stop(None)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", b"\0" * 100]
)
async def test_what_does_not_speak_http2_is_told(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await ask_health("127.0.0.1", port, "") == "gRPC health: no answer in gRPC"


async def test_nobody_there() -> None:
    checks = Checks(lambda: None, lambda *_: None)
    assert await checks._ask(Probe("grpc", "127.0.0.1", 1)) == "connection refused"
