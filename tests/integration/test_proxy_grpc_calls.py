"""Calls of real gRPC peers through one proxy and through two, in cleartext and over TLS."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_peers import (
    DETAILS,
    MESSAGE,
    SERVICE,
    WAYS,
    Metadata,
    Service,
    ThreadedService,
    Way,
    echoed,
    method,
    open_way,
    serving,
    serving_in_threads,
)
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from proxy_mesh import DEADLINE_S, Mesh, mesh, until  # noqa: F401

# ruff: noqa: F811

OWN: Metadata = (
    ("x-own", "first"),
    ("x-own-bin", b"\x00\xff, \r\n"),
    ("x-own", "second, third"),
    ("x-own-empty", ""),
    ("x-own-bin", b""),
    ("x-own-long", "v" * 3000),
)
BIG = bytes(range(256)) * 32 * 1024


@dataclass
class Peers:
    """A service, and a channel to it."""

    service: Service
    channel: Any
    way: Way

    def call(self, name: str, *arguments: Any, metadata: Metadata = (), **more: Any) -> Any:
        """Call a method; the call, whose end has a deadline unless the caller gives one."""
        more.setdefault("timeout", DEADLINE_S)
        return method(self.channel, name)(*arguments, metadata=(*self.way.metadata, *metadata), **more)


@pytest.fixture(params=WAYS)
async def peers(request: pytest.FixtureRequest, mesh: Mesh, tmp_path: Path) -> AsyncIterator[Peers]:
    service = Service()
    async with serving(service) as port:
        way = await open_way(mesh, request.param, port, tmp_path)
        async with way.channel() as channel:
            yield Peers(service, channel, way)


async def test_unary(peers: Peers) -> None:
    for message in (b"", b"a", b"x" * 70_000, BIG):
        assert await peers.call("Unary", message) == message
    assert peers.service.sizes == [0, 1, 70_000, len(BIG)]


async def test_all_kinds_of_streams(peers: Peers) -> None:
    assert await peers.call("Collect", iter([])) == b""
    messages = [bytes([number]) * 1000 * number for number in range(1, 60)]
    assert await peers.call("Collect", iter(messages)) == b"".join(messages)
    assert [one async for one in peers.call("Repeat", b"0 0")] == []
    sizes = [len(one) async for one in peers.call("Repeat", b"50 30000")]
    assert sizes == [30_004] * 50
    assert [one async for one in peers.call("Chat", iter(messages))] == messages


async def test_each_message_of_a_stream_is_passed_on_at_once(peers: Peers) -> None:
    call = peers.call("Chat")
    for number in range(50):
        message = b"%d" % number
        await call.write(message)
        assert await call.read() == message
    await call.done_writing()
    assert await call.read() is aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_metadata_before_and_after_messages(peers: Peers) -> None:
    call = peers.call("Unary", b"a", metadata=OWN)
    assert await call == b"a"
    expected = sorted(OWN, key=lambda pair: pair[0])
    for told in (await call.initial_metadata(), await call.trailing_metadata()):
        assert sorted(echoed(told), key=lambda pair: pair[0]) == expected


async def test_a_status_with_message_and_details(peers: Peers) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        await peers.call("Fail", b"")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert refused.value.details() == MESSAGE
    assert ("grpc-status-details-bin", DETAILS) in tuple(refused.value.trailing_metadata())
    call = peers.call("BreakOff", b"one")
    assert await call.read() == b"one"
    with pytest.raises(aio.AioRpcError) as broken:
        await call.read()
    assert broken.value.code() is grpc.StatusCode.CANCELLED
    assert broken.value.details() == "not today"


async def test_a_method_that_does_not_exist(peers: Peers) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        await method(peers.channel, "Nothing")(b"", metadata=peers.way.metadata, timeout=DEADLINE_S)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_deadline_is_known_everywhere(peers: Peers) -> None:
    with pytest.raises(aio.AioRpcError) as late:
        await peers.call("Hang", b"", timeout=0.4)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    (remaining_s,) = peers.service.remaining_s
    assert 0 < remaining_s <= 0.4
    await until(lambda: peers.service.cancelled == 1, "the service knows that nobody waits")


async def test_a_caller_that_cancels(peers: Peers) -> None:
    call = peers.call("Hang", b"", timeout=None)
    await until(lambda: peers.service.waiting == 1, "the call arrives")
    call.cancel()
    await until(lambda: peers.service.cancelled == 1, "the service is told")
    chat = peers.call("Chat", timeout=None)
    await chat.write(b"a")
    assert await chat.read() == b"a"
    chat.cancel()
    await until(lambda: peers.service.chats == 1, "the service is told of a stream, too")
    assert await peers.call("Unary", b"still") == b"still"


async def test_compressed_messages(peers: Peers, mesh: Mesh) -> None:
    async with peers.way.channel(compression=grpc.Compression.Gzip) as channel:
        message = b"compressible " * 100_000
        answer = await method(channel, "Unary")(
            message, metadata=peers.way.metadata, timeout=DEADLINE_S, compression=grpc.Compression.Gzip
        )
        assert answer == message
    plane = mesh.planes["one"]
    await until(lambda: any("Unary" in record.path for record in plane.access_records()), "a record")
    (record,) = [record for record in plane.access_records() if "Unary" in record.path]
    assert 0 < record.request_bytes < 100_000


async def test_health(peers: Peers) -> None:
    check = method(peers.channel, "Check", "grpc.health.v1.Health")
    assert await check(b"", metadata=peers.way.metadata, timeout=DEADLINE_S) == b"\x08\x01"
    watch = method(peers.channel, "Watch", "grpc.health.v1.Health")(b"", metadata=peers.way.metadata)
    assert await watch.read() == b"\x08\x01"
    watch.cancel()


@pytest.mark.parametrize("way", ["one hop", "two hops"])
async def test_a_thousand_streams_at_once(mesh: Mesh, tmp_path: Path, way: str) -> None:
    service = Service()
    async with serving(service) as port:
        opened = await open_way(mesh, way, port, tmp_path)
        async with opened.channel() as channel:
            call = method(channel, "Together")
            calls = [
                asyncio.ensure_future(call(b"%d" % number, metadata=opened.metadata, timeout=60))
                for number in range(1000)
            ]
            async with asyncio.timeout(45):
                while service.waiting < 1000:
                    await asyncio.wait(calls, timeout=0.05, return_when=asyncio.FIRST_EXCEPTION)
                    assert not any(each.done() for each in calls)
            service.gate.set()
            assert await asyncio.gather(*calls) == [b"%d" % number for number in range(1000)]


@pytest.mark.parametrize("way", WAYS)
async def test_peers_in_threads(mesh: Mesh, tmp_path: Path, way: str) -> None:
    service = ThreadedService()
    with serving_in_threads(service) as port:
        opened = await open_way(mesh, way, port, tmp_path)
        await asyncio.to_thread(_call_in_threads, opened, service)


def _call_in_threads(way: Way, service: ThreadedService) -> None:
    told = {"metadata": way.metadata, "timeout": DEADLINE_S}
    with way.threaded_channel() as channel:
        answer, call = method(channel, "Unary").with_call(
            BIG, metadata=(*way.metadata, *OWN), timeout=DEADLINE_S
        )
        assert answer == BIG
        assert sorted(echoed(call.trailing_metadata())) == sorted(echoed(call.initial_metadata()))
        assert method(channel, "Collect")(iter([b"a", b"b"]), **told) == b"ab"
        assert [len(one) for one in method(channel, "Repeat")(b"20 1000", **told)] == [1004] * 20
        _play_ping_pong(method(channel, "Chat"), told)
        with pytest.raises(grpc.RpcError) as refused:
            method(channel, "Fail")(b"", **told)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        stream = method(channel, "Cut")(b"one", **told)
        with pytest.raises(grpc.RpcError) as cut:
            assert list(stream) == []
        assert cut.value.code() is grpc.StatusCode.CANCELLED
        with pytest.raises(grpc.RpcError) as late:
            method(channel, "Hang")(b"", metadata=way.metadata, timeout=0.3)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert service.ended.wait(DEADLINE_S), "the service was not told"


def _play_ping_pong(chat: Any, told: dict[str, Any]) -> None:
    balls: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    balls.put(b"0")
    seen = 0
    for answer in chat(iter(balls.get, None), **told):
        assert answer == b"%d" % seen
        seen += 1
        balls.put(b"%d" % seen if seen < 20 else None)
    assert seen == 20


async def test_reflection(mesh: Mesh, tmp_path: Path) -> None:
    server = aio.server()
    reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        way = await open_way(mesh, "gateway", port, tmp_path)
        services = await asyncio.to_thread(_reflected, way)
    finally:
        await server.stop(None)
    assert set(services) == {SERVICE, reflection.SERVICE_NAME}


def _reflected(way: Way) -> list[str]:
    with way.threaded_channel() as channel:
        return list(ProtoReflectionDescriptorDatabase(channel).get_services())
