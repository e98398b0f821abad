"""A load generator: keep-alive connections, one request in flight on each, nothing installed for it.

It measures as well, since only it knows how many requests fell into the time it looked at. Run as a
program it takes a :class:`Plan` as JSON and prints an :class:`Outcome` as JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from dataclasses import asdict, dataclass, field
from typing import cast

import uvloop
from bench_cpu import Sample
from bench_upstream import BODY

_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send where, and whose CPU to measure meanwhile (``proxy``; ``others`` are ours, too)."""

    port: int
    fields: list[tuple[str, str]]
    varies: bool
    proxy: int
    others: list[int] = field(default_factory=list)
    connections: int = 32
    warmup_s: float = 0.3
    seconds: float = 1.5


@dataclass(frozen=True, slots=True)
class Outcome:
    """``sent`` are all requests, answered to the last; ``requests`` those of the measured time."""

    sent: int
    requests: int
    seconds: float
    cpu_ns: int
    unrelated_cores: float
    failure: str = ""


def head(path: str, fields: list[tuple[str, str]]) -> bytes:
    """A request without a body, up to but without the empty line."""
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), ""]
    return "\r\n".join(lines).encode("ascii")


class Load:
    """The state that all connections share."""

    def __init__(self, plan: Plan) -> None:
        self.answered = 0
        self.sent = 0
        self.failure = ""
        self.is_stopping = False
        self.drained = asyncio.Event()
        self._head = head("/reviews/0", plan.fields)
        self._numbers = itertools.count(1)
        self._varies = plan.varies

    def next_request(self) -> bytes:
        """The bytes of one more request."""
        self.sent += 1
        if self._varies:
            number = next(self._numbers)
            return b"%btraceparent: 00-%032x-%016x-01\r\n\r\n" % (self._head, number, number)
        return self._head + b"\r\n"

    def fail(self, why: str) -> None:
        """Remember the first failure and stop."""
        self.failure = self.failure or why
        self.is_stopping = True
        self.drained.set()


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._kept = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._load.next_request())

    def data_received(self, data: bytes) -> None:
        if self._kept:
            data = self._kept + data
        if not data.endswith(BODY) or not data.startswith(b"HTTP/1.1 200 "):
            self._keep(data)
            return
        self._kept = b""
        load = self._load
        load.answered += 1
        if not load.is_stopping:
            self._transport.write(load.next_request())
        elif load.answered == load.sent:
            load.drained.set()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._load.is_stopping:
            self._load.fail(f"connection lost: {error}")

    def _keep(self, data: bytes) -> None:
        self._kept = data
        if len(data) >= 12 and not data.startswith(b"HTTP/1.1 200"):
            self._load.fail(data.split(b"\r\n", 1)[0].decode("latin-1"))


async def run(plan: Plan) -> Outcome:
    """Warm up, measure, let what is in flight finish."""
    load = Load(plan)
    loop = asyncio.get_running_loop()
    for _ in range(plan.connections):
        await loop.create_connection(lambda: Client(load), "127.0.0.1", plan.port)
    await _sleep(load, plan.warmup_s)
    pids = [plan.proxy, *plan.others, os.getpid()]
    before, answered_before = Sample.take(pids), load.answered
    await _sleep(load, plan.seconds)
    answered, after = load.answered, Sample.take(pids)
    load.is_stopping = True
    try:
        await asyncio.wait_for(load.drained.wait(), 10)
    except TimeoutError:
        load.fail(f"{load.sent - load.answered} requests were never answered")
    return Outcome(
        sent=load.sent,
        requests=answered - answered_before,
        seconds=after.at - before.at,
        cpu_ns=after.cpu_ns[plan.proxy] - before.cpu_ns[plan.proxy],
        unrelated_cores=before.unrelated_cores(after),
        failure=load.failure,
    )


async def _sleep(load: Load, seconds: float) -> None:
    """Sleep, but no longer than until something fails."""
    try:
        await asyncio.wait_for(load.drained.wait(), seconds)
    except TimeoutError:
        return


if __name__ == "__main__":
    raw = json.loads(sys.argv[1])
    given = Plan(**{**raw, "fields": [(name, value) for name, value in raw["fields"]]})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(asdict(runner.run(run(given)))))
