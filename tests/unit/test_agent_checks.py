"""Probes of workloads by their own proxy: verdicts, and checks of real sockets and processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from ray_mesh.agent.checks import Checks, Health, check
from ray_mesh.snapshot import Probe, Workload

KEY = "workload.default.app-v1"
WORKLOAD = Workload(
    "default", "app-v1", "n1", "sa", "spiffe://mesh.local/ns/default/sa/sa", "app-v1.default.workload.mesh",
    (), "127.0.0.1", 7000, 7001, b"",
)  # fmt: skip


class App:
    """Answers every request with a status that can be changed."""

    def __init__(self) -> None:
        self.status = 200
        self.requests: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(f"HTTP/1.1 {self.status} X\r\ncontent-length: 0\r\n\r\n".encode())
        except asyncio.IncompleteReadError:
            pass
        writer.close()


@pytest.fixture
async def app() -> AsyncIterator[tuple[App, int]]:
    made = App()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    async with server:
        yield made, server.sockets[0].getsockname()[1]


def test_a_verdict_needs_a_row_of_checks() -> None:
    health = Health(success_threshold=2, failure_threshold=3)
    assert [health.note(True), health.note(False), health.note(True), health.note(True)] == [0, 0, 0, 1]
    assert health.is_well
    assert [health.note(False), health.note(False), health.note(True), health.note(False)] == [0, 0, 0, 0]
    assert [health.note(False), health.note(False)] == [0, 1]
    assert not health.is_well


async def test_http_is_well_from_200_to_399(app: tuple[App, int]) -> None:
    made, port = app
    probe = Probe("http", "127.0.0.1", port, "/healthz", (("X-Token", "t"), ("Host", "app.example")))
    assert await check(probe) == ""
    assert made.requests[0].startswith(b"GET /healthz HTTP/1.1\r\nX-Token: t\r\nHost: app.example\r\n")
    for status, why in ((399, ""), (400, "GET /healthz: 400"), (503, "GET /healthz: 503")):
        made.status = status
        assert await check(probe) == why


async def test_tcp_is_well_when_it_takes_connections(app: tuple[App, int]) -> None:
    _, port = app
    assert await check(Probe("tcp", "127.0.0.1", port)) == ""
    checks = Checks(lambda: None, lambda *_: None)
    assert await checks._ask(Probe("tcp", "127.0.0.1", 1)) == "connection refused"


async def test_a_host_that_cannot_be_one_is_told() -> None:
    checks = Checks(lambda: None, lambda *_: None)
    for host in ("a..b", "x" * 64):
        assert "is no host" in await checks._ask(Probe("tcp", host, 80))


async def test_a_status_may_come_in_pieces() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for part in (b"HTTP/1.1 2", b"00 OK\r\n\r\n"):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await check(Probe("http", "127.0.0.1", port)) == ""


async def test_a_status_has_an_end() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 " + b"x" * 100_000)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await check(Probe("http", "127.0.0.1", port)) == "GET /: no answer in HTTP"


async def test_a_command_is_well_when_it_ends_with_0() -> None:
    assert await check(Probe("exec", command=("true",))) == ""
    assert await check(Probe("exec", command=("false",))) == "false ended with 1"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_who_is_not_well_is_named_until_it_is_and_again_when_it_fails(app: tuple[App, int]) -> None:
    made, port = app
    made.status = 503
    reports: list[str] = []
    changes: list[tuple[str, ...]] = []
    checks = Checks(lambda: changes.append(checks.unhealthy), lambda reason, _: reports.append(reason))
    probe = Probe("http", "127.0.0.1", port, period_s=0, failure_threshold=2)
    checks.hold({KEY: replace(WORKLOAD, probe=probe), "workload.default.other": WORKLOAD})
    assert checks.unhealthy
    made.status = 200
    await until(lambda: checks.unhealthy == ())
    made.status = 500
    await until(lambda: checks.unhealthy == (KEY,))
    made.status = 200
    await until(lambda: checks.unhealthy == ())
    assert reports == ["workload_unhealthy", "workload_healthy"]
    assert changes == [(KEY,), (), (KEY,), ()]
    made.status = 500
    await until(lambda: checks.unhealthy == (KEY,))
    checks.hold({KEY: WORKLOAD})
    assert not checks.unhealthy
    await checks.stop()


async def test_a_command_that_the_proxy_was_not_started_with_is_not_run() -> None:
    allowed = Checks(lambda: None, lambda *_: None, [("true",)])
    refusing = Checks(lambda: None, lambda *_: None, [("true", "but another")])
    held = {KEY: replace(WORKLOAD, probe=Probe("exec", command=("true",), period_s=0))}
    allowed.hold(held)
    refusing.hold(held)
    await until(lambda: allowed.unhealthy == ())
    assert refusing.unhealthy == (KEY,)
    assert "was not started with" in await refusing._ask(Probe("exec", command=("true",)))
    await allowed.stop()
    await refusing.stop()


async def test_a_command_that_hangs_is_ended() -> None:
    checks = Checks(lambda: None, lambda *_: None, [("sleep", "60")])
    assert await checks._ask(Probe("exec", command=("sleep", "60"), timeout_s=0)) == "no answer within 0 s"
