"""Connections on their way into a pool, and timers: what is counted, kept and never forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, cast

from ray_mesh.proxy.cluster import Member
from ray_mesh.proxy.connector import Dialer
from ray_mesh.proxy.http1_client import Http1Client
from ray_mesh.proxy.pipeline import Request
from ray_mesh.proxy.pool import Pool
from ray_mesh.proxy.timers import Wheel
from ray_mesh.proxy.tls import Identity
from ray_mesh.snapshot import Endpoint

ENDPOINT = Endpoint("default/app", "127.0.0.1", 1, "", "", (), "one")


class Wire(asyncio.Transport):
    """A transport that sends nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return

    def close(self) -> None:
        self.closed = True


class Connector:
    """Gives connections that were closed again by then, if ``closes``."""

    def __init__(self, closes: bool) -> None:
        self.closes = closes
        self.made: list[Http1Client] = []

    async def connect(self, endpoint: Endpoint, identity: Identity | None, pool: Pool) -> Http1Client:
        connection = Http1Client(pool)
        connection.connection_made(Wire())
        self.made.append(connection)
        if self.closes:
            connection.eof_received()
            connection.connection_lost(None)
        return connection


class Asked:
    """A request as the dialer sees it."""

    done = False
    attempts = 1

    def __init__(self, member: Member | None) -> None:
        self.member = member
        self.cause = ""
        self.connection: Http1Client | None = None

    def connect_failed(self, member: Member, cause: str) -> None:
        self.cause = cause

    def start_on(self, connection: Http1Client) -> None:
        self.connection = connection


async def dial(connector: Connector, pool: Pool, *, rotates: bool = False, gives_up: bool = False) -> Asked:
    """Connect for one request, which perhaps pauses before its next try by the time that is done."""
    member = Member(ENDPOINT)
    asked, dialer = Asked(member), Dialer(connector)
    dialer.dial(cast(Request, asked), pool, member, None)
    if rotates:
        pool.retire()
    if gives_up:
        asked.member = None
    async with asyncio.timeout(1.0):
        while dialer._tasks:
            await asyncio.sleep(0)
    return asked


async def test_a_connection_that_is_closed_at_once_is_a_failed_one() -> None:
    pool = Pool()
    asked = await dial(Connector(closes=True), pool)
    assert asked.cause, "the request would wait for ever"
    assert asked.connection is None
    assert (pool.count, pool.idle) == (0, [])


async def test_a_connection_is_counted_until_it_is_lost() -> None:
    pool = Pool()
    asked = await dial(Connector(closes=False), pool)
    assert pool.count == 1
    assert asked.connection is not None
    asked.connection.connection_lost(None)
    assert pool.count == 0


async def test_what_was_asked_for_before_a_rotation_is_not_kept_after_it() -> None:
    pool = Pool()
    asked = await dial(Connector(closes=False), pool, rotates=True)
    connection = asked.connection
    assert connection is not None
    connection._release(cast(Request, _Complete()), closes=False)
    assert pool.idle == []
    assert cast(Wire, connection.transport).closed


async def test_a_try_that_was_given_up_gets_no_connection() -> None:
    pool = Pool()
    asked = await dial(Connector(closes=False), pool, gives_up=True)
    assert (asked.connection, asked.cause) == (None, "")
    assert len(pool.idle) == 1
    asked = await dial(Connector(closes=True), pool, gives_up=True)
    assert (asked.connection, asked.cause) == (None, "")


class Broken(Connector):
    """Fails as no connector should."""

    async def connect(self, endpoint: Endpoint, identity: Identity | None, pool: Pool) -> Http1Client:
        raise ValueError("unexpected")


async def test_an_error_that_nobody_expects_leaves_nobody_waiting() -> None:
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    pool = Pool(is_http2=True)
    for _ in range(2):
        assert (await dial(Broken(closes=True), pool)).cause == "unexpected"
    assert (pool.count, pool.waiting) == (0, None)


class Waiting(Connector):
    """Connects when it is told to."""

    def __init__(self) -> None:
        super().__init__(closes=True)
        self.begun = 0
        self.go = asyncio.Event()

    async def connect(self, endpoint: Endpoint, identity: Identity | None, pool: Pool) -> Http1Client:
        self.begun += 1
        await self.go.wait()
        return await super().connect(endpoint, identity, pool)


async def test_as_many_wait_for_one_connection_as_it_may_carry() -> None:
    connector, pool, member = Waiting(), Pool(is_http2=True), Member(ENDPOINT)
    pool.max_streams = 2
    dialer, asked = Dialer(connector), [Asked(member) for _ in range(5)]
    for each in asked:
        dialer.dial(cast(Request, each), pool, member, None)
    connector.go.set()
    async with asyncio.timeout(1.0):
        while dialer._tasks:
            await asyncio.sleep(0)
    assert connector.begun == 3
    assert all(each.cause for each in asked), "each was told"
    assert pool.count == 0


class _Complete:
    body_done = True
    connection: Any = None


class _Timed:
    def __init__(self, error: Exception | None = None) -> None:
        self.calls = 0
        self._error = error

    def on_deadline(self, now: float) -> None:
        self.calls += 1
        if self._error is not None:
            raise self._error


async def test_one_that_raises_does_not_stop_the_timers_of_the_others() -> None:
    loop = asyncio.get_running_loop()
    failures: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    wheel = Wheel(loop)
    bad, same, later = _Timed(RuntimeError("broken")), _Timed(), _Timed()
    now = time.monotonic()
    for item in (bad, same):
        wheel.add(now, item)
    wheel.add(now + 0.1, later)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2.0):
            while not later.calls:
                await asyncio.sleep(0.01)
    assert (bad.calls, same.calls, later.calls) == (1, 1, 1)
    assert [str(each["exception"]) for each in failures] == ["broken"]
    wheel.stop()
