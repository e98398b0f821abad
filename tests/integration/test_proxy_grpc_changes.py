"""gRPC streams that last, while the configuration, the proxies or the service change: each is finished, or
its peers are told; none is cut in silence."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_peers import (
    HOST,
    PORTS,
    Service,
    Way,
    method,
    open_way,
    publish_without_proxy,
    serving,
)
from proxy_mesh import DEADLINE_S, Mesh, credential, free_port, mesh, until  # noqa: F401

from ray_mesh import snapshot
from ray_mesh.proxy.plane import DataPlane, PlaneConfig
from ray_mesh.snapshot import Destination, Route

# ruff: noqa: F811

TOLD = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL}
"""How a stream ends that was cut: by its connection's end, by a reset, or without trailers."""


async def exchange(call: Any, message: bytes) -> None:
    """One message there and back."""
    async with asyncio.timeout(DEADLINE_S):
        await call.write(message)
        assert await call.read() == message


async def finish(call: Any) -> None:
    """End a stream as it should end."""
    async with asyncio.timeout(DEADLINE_S):
        await call.done_writing()
        assert await call.read() is aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def outcome(call: Any) -> grpc.StatusCode:
    """How a stream ends by itself."""
    async with asyncio.timeout(DEADLINE_S):
        return await call.code()


def unary(channel: Any, way: Way, message: bytes = b"", **more: Any) -> Any:
    """A call that is over at once."""
    return method(channel, "Unary")(message, metadata=way.metadata, timeout=DEADLINE_S, **more)


@pytest.mark.parametrize("name", ["one hop", "two hops", "gateway", "gateway tls"])
async def test_a_stream_outlives_changes_of_the_configuration(mesh: Mesh, tmp_path: Path, name: str) -> None:
    async with serving(Service()) as port, serving(Service()) as other_port:
        way = await open_way(mesh, name, port, tmp_path)
        async with way.channel() as channel:
            call = method(channel, "Chat")(metadata=way.metadata)
            await exchange(call, b"before")
            # New routes; then other endpoints, which the old one is not among.
            routes = (Route("new", "test", (), (Destination(HOST),)),)
            if name in ("one hop", "gateway"):
                publish_without_proxy(mesh, port, routes=routes)
                publish_without_proxy(mesh, other_port, routes=routes)
            else:
                mesh.service("reviews", [mesh.endpoint("reviews")], ports=PORTS, routes=routes)
                mesh.planes["two"].apply(
                    "workload.default.reviews", replace(mesh.workloads["reviews"], labels=(("a", "b"),))
                )
            assert await unary(channel, way, b"new") == b"new"
            for number in range(20):
                await exchange(call, b"after %d" % number)
            await finish(call)


async def test_routes_hold_for_each_call_of_a_connection(mesh: Mesh, tmp_path: Path) -> None:
    services = Service(), Service()
    async with serving(services[0]) as port, serving(services[1]) as other_port:
        way = await open_way(mesh, "one hop", port, tmp_path)
        ends = [
            snapshot.Endpoint(
                f"default/v{number}", "127.0.0.1", each, "", "", (("v", f"{number}"),), "", "plaintext"
            )
            for number, each in enumerate((port, other_port))
        ]
        subsets = tuple(snapshot.Subset(f"{number}", (("v", f"{number}"),)) for number in range(2))
        async with way.channel() as channel:
            for first in (100, 0, 50):
                split = (Destination(HOST, "0", weight=first), Destination(HOST, "1", weight=100 - first))
                routes = (Route("split", "test", (), split),)
                mesh.service("reviews", ends, ports=PORTS, plaintext=True, subsets=subsets, routes=routes)
                for service in services:
                    service.sizes.clear()
                await asyncio.gather(*(unary(channel, way) for _ in range(100)))
                counts = [len(service.sizes) for service in services]
                assert sum(counts) == 100
                if first != 50:
                    assert counts == [first, 100 - first]
            assert min(counts) > 20, "one connection, and each call is drawn"


@pytest.mark.parametrize("node", ["one", "two"])
async def test_a_proxy_that_drains_lets_streams_finish(mesh: Mesh, tmp_path: Path, node: str) -> None:
    async with serving(Service()) as port:
        way = await open_way(mesh, "two hops", port, tmp_path)
        async with way.channel() as channel:
            call = method(channel, "Chat")(metadata=way.metadata)
            await exchange(call, b"before")
            drained = asyncio.create_task(mesh.planes[node].drain(DEADLINE_S))
            await asyncio.sleep(0)
            for number in range(20):
                await exchange(call, b"while %d" % number)
            assert not drained.done()
            # Nobody takes new calls, and who makes one is told.
            with pytest.raises(aio.AioRpcError) as refused:
                await unary(channel, way)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            await exchange(call, b"still")
            await finish(call)
            assert await drained, "the plane has nothing left once the stream is over"


@pytest.mark.parametrize("node", ["one", "two"])
async def test_streams_that_do_not_finish_are_told(mesh: Mesh, tmp_path: Path, node: str) -> None:
    async with serving(Service()) as port:
        way = await open_way(mesh, "two hops", port, tmp_path)
        async with way.channel() as channel:
            call = method(channel, "Chat")(metadata=way.metadata)
            await exchange(call, b"before")
            assert not await mesh.planes[node].drain(0.2)
            await exchange(call, b"after")
            await mesh.planes[node].stop()
            assert await outcome(call) in TOLD


async def test_a_proxy_that_retires_moves_its_callers(mesh: Mesh, tmp_path: Path) -> None:
    async with serving(Service()) as port:
        way = await open_way(mesh, "two hops", port, tmp_path)
        async with way.channel() as channel:
            assert await unary(channel, way) == b""
            retired = asyncio.create_task(mesh.planes["two"].retire(DEADLINE_S))
            await until(lambda: mesh.planes["two"].is_draining, "it retires")
            await asyncio.wait_for(retired, DEADLINE_S)
            assert len(mesh.planes["two"].connections) == 0, "idle connections were asked to go"


@pytest.mark.parametrize("name", ["one hop", "two hops"])
async def test_a_caller_that_goes_away(mesh: Mesh, tmp_path: Path, name: str) -> None:
    service = Service()
    async with serving(service) as port:
        way = await open_way(mesh, name, port, tmp_path)
        async with way.channel() as staying, way.channel() as leaving:
            kept = method(staying, "Chat")(metadata=way.metadata)
            await exchange(kept, b"stays")
            calls = [method(leaving, "Chat")(metadata=way.metadata) for _ in range(50)]
            await asyncio.gather(*(exchange(call, b"goes") for call in calls))
            await leaving.close()
            await until(lambda: service.chats == 50, "the service is told of each stream")
            await exchange(kept, b"is not concerned")
            await finish(kept)


@pytest.mark.parametrize("name", ["one hop", "two hops"])
async def test_a_service_that_restarts(mesh: Mesh, tmp_path: Path, name: str) -> None:
    first = Service()
    async with serving(first) as port:
        way = await open_way(mesh, name, port, tmp_path)
        channel = way.channel()
        call = method(channel, "Chat")(metadata=way.metadata)
        await exchange(call, b"before")
    async with channel:
        assert await outcome(call) in TOLD
        with pytest.raises(aio.AioRpcError) as refused:
            await unary(channel, way)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        second = Service()
        async with serving(second, port):
            async with asyncio.timeout(DEADLINE_S):
                while await _code(channel, way) is not grpc.StatusCode.OK:
                    await asyncio.sleep(0.05)
            call = method(channel, "Chat")(metadata=way.metadata)
            await exchange(call, b"again")
            await finish(call)


async def _code(channel: Any, way: Way) -> grpc.StatusCode:
    call = unary(channel, way)
    return await call.code()


async def test_a_successor_takes_over_and_no_call_notices(mesh: Mesh) -> None:
    inbound = free_port()

    async def plane(name: str, old: DataPlane | None) -> DataPlane:
        new = DataPlane(PlaneConfig(name, "three", "mesh.local", inbound_port=inbound))
        new.adopt(old.sockets() if old is not None else [])
        new.bind()
        new.set_bundles(mesh.bundles)
        return new

    service = Service()
    async with serving(service) as app_port:
        old = mesh.planes["three"] = await plane("first", None)
        port = await mesh.workload("client", free_port(), node="three")
        await mesh.workload("reviews", app_port, node="three", services=(HOST,), app_protocol="http2")
        await old.accept()
        mesh.service("reviews", [mesh.endpoint("reviews", node="three")], ports=PORTS)
        way = Way(port, (("proxy-authorization", credential()),), "reviews")
        async with way.channel() as channel:
            calling = [asyncio.create_task(_call_until(service, channel, way)) for _ in range(8)]
            for number in range(3):
                enough = len(service.sizes) + 50
                await until(lambda enough=enough: len(service.sizes) >= enough, "calls")  # type: ignore[misc]
                call = method(channel, "Chat")(metadata=way.metadata)
                await exchange(call, b"before")
                new = mesh.planes["three"] = await plane(f"next-{number}", old)
                for name in ("client", "reviews"):
                    new.apply(f"workload.default.{name}", mesh.workloads[name])
                    new.set_identity(f"workload.default.{name}", mesh.svid(name))
                mesh.service("reviews", [mesh.endpoint("reviews", node="three")], ports=PORTS)
                await new.accept()
                await until(lambda new=new: len(new.ready()) == 2, "it is ready")  # type: ignore[misc]
                retired = asyncio.create_task(old.retire(DEADLINE_S))
                for _ in range(20):
                    await exchange(call, b"while it retires")
                assert not retired.done(), "a stream is under way"
                await finish(call)
                await asyncio.wait_for(retired, DEADLINE_S / 2)
                assert await old.drain(DEADLINE_S)
                await old.stop()
                old = new
            service.gate.set()
            await asyncio.gather(*calling)


async def _call_until(service: Service, channel: Any, way: Way) -> None:
    """Call until the gate of the service is open."""
    while not service.gate.is_set():
        assert await unary(channel, way, b"x") == b"x"
