"""Several processes of one node: few long connections are spread evenly over them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from proxy_mesh import Client, Mesh, fetch, free_port, mesh, request_bytes, until  # noqa: F401

from ray_mesh.proxy.overload import OverloadLimits
from ray_mesh.proxy.plane import DataPlane, PlaneConfig
from ray_mesh.proxy.workers import Workers

# ruff: noqa: F811

PROGRAM = Path(__file__).parent / "worker_process.py"


@contextlib.asynccontextmanager
async def workers(number: int, shares: str = "shares") -> AsyncIterator[tuple[int, list[int]]]:
    """So many processes of one node: the port that they share, and their admin ports."""
    inbound, outbound = free_port(), free_port()
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            str(PROGRAM),
            str(inbound),
            str(outbound),
            shares,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(number)
    ]
    try:
        admins = []
        for process in processes:
            assert process.stdout is not None
            async with asyncio.timeout(60.0):
                admins.append(int(await process.stdout.readline()))
        yield outbound, admins
    finally:
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in processes:
            await process.wait()


async def stats(admin: int) -> dict[str, float]:
    """The figures of one worker."""
    text = (await fetch(admin, "/stats", "localhost", token="")).body.decode()
    pairs = [line.split(": ") for line in text.splitlines()]
    return {name: float(value) for name, value in pairs}


async def loads(admins: Sequence[int]) -> list[int]:
    """Connections of each worker."""
    return [int((await stats(admin))["connections"]) for admin in admins]


async def connect_and_count(port: int, admins: Sequence[int], number: int) -> list[int]:
    """How so many long connections are spread."""
    clients = []
    for _ in range(number):
        client = await Client.connect(port)
        await client.send(request_bytes("GET", "/", "not.a.host.", token="wrong"))
        assert (await client.answer()).status == 407
        clients.append(client)
        end = time.monotonic() + 10.0
        while sum(await loads(admins)) != len(clients):
            assert time.monotonic() < end, "some connections are nowhere"
    found = await loads(admins)
    for client in clients:
        await client.close()
    return found


async def test_few_long_connections_are_even_over_processes() -> None:
    async with workers(3) as (port, admins):
        spread = sorted(await connect_and_count(port, admins, 7))
        assert spread in ([2, 2, 3], [1, 3, 3]), "a busy machine may be late by one"
        figures = [await stats(admin) for admin in admins]
        assert sum(each["handed_over"] for each in figures) == sum(each["taken"] for each in figures)


@pytest.fixture
async def pair(mesh: Mesh) -> AsyncIterator[tuple[DataPlane, DataPlane, int]]:
    """Two planes of a node in this process, which share the outbound port of ``caller``."""
    planes = [mesh.planes["one"]]
    await planes[0].stop()
    inbound = free_port()
    planes = [
        DataPlane(PlaneConfig(f"w{n}", "one", "mesh.local", inbound_port=inbound, shares_load=True))
        for n in range(2)
    ]
    mesh.planes["one"] = planes[0]
    for plane in planes:
        plane.bind()
        plane.set_bundles(mesh.bundles)
    port = await mesh.workload("caller", free_port(), node="one")
    for plane in planes:
        await plane.accept()
    yield planes[0], planes[1], port
    await planes[1].stop()


async def test_a_worker_that_does_not_listen_on_the_port_gives_connections_back(
    pair: tuple[DataPlane, DataPlane, int],
) -> None:
    first, second, port = pair
    clients = [await Client.connect(port) for _ in range(4)]
    for client in clients:
        await client.send(request_bytes("GET", "/", "x", token="wrong"))
        assert (await client.answer()).status == 407
    assert (first.stats().connections, second.stats().connections) == (4, 0)
    assert first.stats().handed_over > 0
    assert second.stats().taken == 0
    for client in clients:
        await client.close()


async def test_a_worker_that_drains_or_ends_gets_no_more(
    mesh: Mesh, pair: tuple[DataPlane, DataPlane, int]
) -> None:
    first, second, port = pair
    second.apply("workload.default.caller", mesh.workloads["caller"])
    second.set_identity("workload.default.caller", mesh.svid("caller"))
    await until(second.ready, "both listen")
    clients = [await Client.connect(port) for _ in range(6)]
    await until(lambda: first.stats().connections + second.stats().connections == 6, "all are served")
    before = first.stats().connections
    assert 2 <= before <= 4
    draining = asyncio.create_task(second.drain(5.0))
    assert await draining
    clients += [await Client.connect(port) for _ in range(4)]
    await until(lambda: first.stats().connections == before + 4, "the other has them all")
    await second.stop()
    clients.append(await Client.connect(port))
    await until(lambda: first.stats().connections == before + 5, "it needs nobody")
    for client in clients:
        await client.close()


async def test_a_worker_that_may_take_no_more_is_given_none(
    mesh: Mesh, pair: tuple[DataPlane, DataPlane, int]
) -> None:
    first, second, port = pair
    second.apply("workload.default.caller", mesh.workloads["caller"])
    second.set_identity("workload.default.caller", mesh.svid("caller"))
    await until(second.ready, "both listen")
    second._overload.limits = OverloadLimits(1, 0, 0.0)
    clients = []
    for number in range(8):
        clients.append(await Client.connect(port))
        await clients[-1].send(request_bytes("GET", "/", "x", token="wrong"))
        assert (await clients[-1].answer()).status == 407, number
    assert (first.stats().connections, second.stats().connections) == (7, 1)
    for client in clients:
        await client.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
async def test_another_user_is_not_spoken_to() -> None:
    loop = asyncio.get_running_loop()
    ours = Workers("test", lambda: 3, lambda accepted: False)
    ours.start()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
            os.seteuid(65534)
            try:
                stranger.connect("\0ray-mesh-workers-0-test-0")
            finally:
                os.seteuid(0)
            stranger.setblocking(False)
            async with asyncio.timeout(5.0):
                assert await loop.sock_recv(stranger, 4) == b""
    finally:
        ours.stop()
