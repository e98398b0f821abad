"""Autobahn's WebSocket cases through two proxies: each ends as it does without them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

import kosoku
import pytest
from proxy_mesh import Mesh, free_port, host_of, mesh  # noqa: F401
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from ray_mesh.snapshot import Destination, Gateway, GatewayServer, Route, VirtualHost

# ruff: noqa: F811

QUICK = (
    "1.1.*",
    "1.2.*",
    "2.*",
    "3.*",
    "4.1.*",
    "5.*",
    "6.1.*",
    "6.2.*",
    "7.1.*",
    "7.3.*",
    "7.7.*",
    "9.1.1",
    "9.2.1",
    "10.*",
)
AT_ONCE = 8


async def echo(connection: ServerConnection) -> None:
    """Send back what comes."""
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        return


@pytest.fixture
async def server() -> AsyncIterator[int]:
    """The port of an echo server."""
    quiet = logging.getLogger("quiet")
    quiet.disabled = True
    async with serve(echo, "127.0.0.1", 0, max_size=None, ping_interval=None, logger=quiet) as running:
        yield next(iter(running.sockets)).getsockname()[1]


async def gateway(mesh: Mesh, port: int) -> int:
    """A gateway on node one to the server behind the proxy of node two."""
    bound = free_port()
    await mesh.workload("edge", free_port(), node="one", gateway_ports=((80, bound),))
    await mesh.workload("echo", port, services=(host_of("echo"),))
    mesh.service("echo", [mesh.endpoint("echo")])
    routes = (Route("all", "", (), (Destination(host_of("echo")),)),)
    servers = (GatewayServer(80, (VirtualHost(("*",), routes),)),)
    mesh.planes["one"].apply("gateway.default.edge", Gateway("default", "edge", servers))
    return bound


async def verdicts(port: int, cases: Sequence[str], at_once: int = AT_ONCE) -> dict[str, tuple[str, str]]:
    """How each case ended: the exchange, and the closing."""
    try:
        results = await kosoku.run_fuzzingclient(f"ws://127.0.0.1:{port}", cases, concurrency=at_once)
    except kosoku.FailureError as error:
        results = error.results
    return {each.case_id: (each.behavior.value, each.behavior_close.value) for each in results}


def is_permitted(verdict: tuple[str, str]) -> bool:
    """NON-STRICT is the other way to end that a case permits: what came before an error is answered, or not,
    as the bytes were cut on their way."""
    return verdict[0] in ("OK", "NON-STRICT") and verdict[1] == "OK"


async def compare(mesh: Mesh, server: int, cases: Sequence[str], at_least: int) -> None:
    """Run the cases through the proxies, and those that are not plainly well without them too.

    A case gives the server 60 s, which is short on a busy machine where several run at once: those are run
    again, one at a time.
    """
    bound = await gateway(mesh, server)
    through = await verdicts(bound, cases)
    if unwell := [case for case, verdict in through.items() if verdict != ("OK", "OK")]:
        through |= await verdicts(bound, unwell, at_once=1)
    direct = await verdicts(server, unwell, at_once=1) if unwell else {}
    assert len(through) >= at_least
    other = {case: (through[case], direct[case]) for case in direct if through[case] != direct[case]}
    assert {case: both for case, both in other.items() if not all(map(is_permitted, both))} == {}
    assert sum(behavior == "FAILED" for behavior, _ in through.values()) <= at_least // 10, (
        "the server is good"
    )
    async with asyncio.timeout(10):
        for plane in mesh.planes.values():
            await plane.connections.wait_empty()
    statuses = {(record.edge.code, record.edge.flags) for record in mesh.planes["two"].access_records()}
    assert {code for code, _ in statuses} == {101}


async def test_a_selection(mesh: Mesh, server: int) -> None:
    await compare(mesh, server, QUICK, 60)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("cases", "at_least"),
    [
        (("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"), 240),
        (("9.*",), 50),
        (("12.*",), 90),
        (("13.*",), 126),
    ],
    ids=["protocol", "size", "compression", "compression-options"],
)
async def test_groups(mesh: Mesh, server: int, cases: tuple[str, ...], at_least: int) -> None:
    await compare(mesh, server, cases, at_least)
