"""Latency that two hops with mutual TLS add, at a fixed rate: what a client sees through the proxies less
what it sees without, percentile by percentile.

An open loop: a request is due at its time whether or not those before are answered, and its latency counts
from then. Run as a program it takes a :class:`RatePlan` as JSON and prints percentiles in microseconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import cast

import uvloop
from bench_cpu import Sample
from bench_load import head
from bench_process import process, program, read_line
from bench_rows import Round, Row, figure
from proxy_checks import HOST, check_counted, check_features, served
from proxy_lab import Lab, Patience, Target
from proxy_requests import Pace

PERCENTILES = {"p50": (0.50, 1.0), "p99": (0.99, 1.1), "p99.9": (0.999, 1.5)}
"""The share of requests that are as fast, and the bar."""
UNIT = "us added"


@dataclass(frozen=True, slots=True)
class RatePlan:
    """What to send where."""

    port: int
    fields: list[tuple[str, str]]
    seconds: float
    rate: int = 1000
    connections: int = 64


class Waiting(asyncio.Protocol):
    """A connection that is taken from the free ones for one request."""

    def __init__(self, free: deque[Waiting], latencies: list[float]) -> None:
        self._free = free
        self._latencies = latencies
        self._due_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, due_at: float) -> None:
        """Send a request that was due then."""
        self._due_at = due_at
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._latencies.append(time.perf_counter() - self._due_at)
        if not data.startswith(b"HTTP/1.1 200 "):
            raise SystemExit(f"answered wrong: {data[:100]!r}")
        self._free.append(self)


async def generate(plan: RatePlan) -> list[float]:
    """Latencies of all requests, in seconds."""
    latencies: list[float] = []
    free: deque[Waiting] = deque()
    loop = asyncio.get_running_loop()
    for _ in range(plan.connections):
        _transport, client = await loop.create_connection(
            lambda: Waiting(free, latencies), "127.0.0.1", plan.port
        )
        free.append(client)
    request = head("/reviews/0", [(name, value) for name, value in plan.fields]) + b"\r\n"
    for client in tuple(free):  # no connection is new when it is measured
        client.send(request, time.perf_counter())
    free.clear()
    while len(free) < plan.connections:
        await asyncio.sleep(0.01)
    latencies.clear()
    await _pace(plan, free, request)
    while len(free) < plan.connections:
        await asyncio.sleep(0.01)
    return latencies


async def _pace(plan: RatePlan, free: deque[Waiting], request: bytes) -> None:
    begun_at = time.perf_counter()
    sent = 0
    total = int(plan.rate * plan.seconds)
    while sent < total:
        due_at = begun_at + sent / plan.rate
        left_s = due_at - time.perf_counter()
        if left_s > 0:
            await asyncio.sleep(left_s)
        elif free:
            free.popleft().send(request, due_at)
            sent += 1
        else:
            await asyncio.sleep(0)


def percentiles(latencies: Sequence[float]) -> dict[str, float]:
    """Microseconds by the name of the percentile."""
    ranked = sorted(latencies)
    last = len(ranked) - 1
    return {name: ranked[round(share * last)] * 1e6 for name, (share, _) in PERCENTILES.items()}


def measure(lab: Lab, pace: Pace, patience: Patience) -> list[Row]:
    """Rounds in turn: directly, through ours, through theirs."""
    direct = Target("direct", lab.app_port("pair"), [])
    targets = [direct, lab.ours("pair"), lab.envoy("pair")]
    taken: dict[str, list[tuple[dict[str, float], float]]] = {target.name: [] for target in targets}
    for _ in range(pace.rounds):
        for target in targets:
            patience.wait()
            taken[target.name].append(_round(lab, target, pace))
    for target in targets[1:]:
        check_features(target)
    return [_row(name, bar, targets, taken) for name, (_, bar) in PERCENTILES.items()]


def _row(
    name: str,
    bar: float,
    targets: list[Target],
    taken: dict[str, list[tuple[dict[str, float], float]]],
) -> Row:
    base = figure([Round(values[name], busy) for values, busy in taken["direct"]]).median
    ours, theirs = (
        figure([Round(max(1.0, values[name] - base), busy) for values, busy in taken[target.name]])
        for target in targets[1:]
    )
    return Row(f"1,000 requests/s, two hops mTLS, {name}", UNIT, ours, targets[2].name, theirs, bar)


def _round(lab: Lab, target: Target, pace: Pace) -> tuple[dict[str, float], float]:
    before = served(target) if target.planes else 0
    plan = RatePlan(target.port, [*HOST, *target.fields], pace.latency_s)
    pids = [*target.pids, lab.app("pair").pid]
    with process(program("proxy_latency.py", json.dumps(asdict(plan))), lab.other_core) as child:
        first = Sample.take([*pids, child.pid])
        values = json.loads(read_line(child))
        busy = first.unrelated_cores(Sample.take([*pids, child.pid]))
    check_counted(target, before, plan.connections + int(plan.rate * plan.seconds))
    return values, busy


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(percentiles(runner.run(generate(RatePlan(**json.loads(sys.argv[1])))))), flush=True)
