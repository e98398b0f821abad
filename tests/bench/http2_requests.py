"""CPU of the proxies with HTTP/2: per request, per message of a stream, per megabyte."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import http2_load
from bench_load import Outcome, Plan
from bench_process import process, program, read_line
from bench_rows import Row
from http2_load import Chats, Requests
from http2_upstream import MESSAGE
from proxy_checks import HOST, check_features
from proxy_lab import DOWNGRADED, OURS, UPGRADED, Lab, Patience, Target
from proxy_requests import MB, PER_MB, PER_MESSAGE, PER_REQUEST, UNITS, Pace, in_turn, row, send

AUTHORITY = [(":authority", "reviews")]
GRPC = [
    ("content-type", "application/grpc"),
    ("te", "trailers"),
    ("user-agent", "grpc-python/1.85.1 grpc-c/54.0.0 (linux; chttp2)"),
    ("grpc-accept-encoding", "identity, deflate, gzip"),
    ("grpc-timeout", "9S"),
]
WARM = 2000
"""Requests of the first round, which nobody measures: they tell how many make a second."""


@dataclass(frozen=True, slots=True)
class Case:
    """One row: what is sent, to proxies in which shape (see :mod:`proxy_lab`)."""

    name: str
    bar: float
    shape: str
    load: Requests | Plan | Chats
    unit: str = PER_REQUEST
    warm: int = WARM
    is_beside_haproxy: bool = False


def _call(connections: int, streams: int) -> Requests:
    return Requests("/bench.Echo/Unary", GRPC, connections, streams, MESSAGE)


_GET = Requests("/reviews/0", [("user-agent", "bench"), ("accept", "*/*")])
CASES = (
    Case("gRPC unary, 32 connections x 1 stream", 0.85, "plain h2", _call(32, 1), is_beside_haproxy=True),
    Case("gRPC unary, 4 connections x 32 streams", 0.75, "plain h2", _call(4, 32), is_beside_haproxy=True),
    Case("gRPC unary, two hops, mTLS between, 32 x 1", 0.85, "pair h2", _call(32, 1)),
    Case("gRPC unary, two hops, mTLS between, 4 x 32", 0.85, "pair h2", _call(4, 32)),
    Case("gRPC bidirectional streams, 4 x 8", 1.0, "plain h2", Chats(0, [], []), PER_MESSAGE),
    Case("gRPC bidirectional streams, 4 x 32", 1.0, "plain h2", Chats(0, [], [], streams=32), PER_MESSAGE),
    Case("HTTP/2 to HTTP/1.1, 64 B, 32 x 1", 0.85, DOWNGRADED, _GET, is_beside_haproxy=True),
    Case("HTTP/1.1 to HTTP/2, 64 B, 32 connections", 0.85, "plain h2", Plan(0, HOST, [])),
    Case(
        "1 MB responses, 8 streams on one connection",
        1.2,
        "plain h2",
        Requests(f"/bytes/{MB}", [], 1, 8),
        PER_MB,
        warm=50,
    ),
    Case(
        "1 MB POSTs, 8 streams on one connection",
        1.2,
        "plain h2",
        Requests("/reviews/0", [], 1, 8, bytes(MB)),
        PER_MB,
        warm=50,
    ),
)


def measure(lab: Lab, case: Case, pace: Pace, patience: Patience) -> list[Row]:
    """The row of a case."""
    targets = [lab.ours(case.shape), lab.envoy(case.shape)]
    if case.is_beside_haproxy:
        targets += lab.haproxy(case.shape)
    taken = in_turn(targets, pace, patience, _sender(lab, case), UNITS[case.unit])
    for target in targets[:2]:
        check_features(target)
    return [row(case.name, case.unit, case.bar, targets, taken)]


BETWEEN = (
    Case("HTTP/2 between for HTTP/1.1, 64 B, 32 connections", 1.0, "pair", Plan(0, HOST, [])),
    Case("HTTP/2 between for HTTP/1.1, 64 B, 1 connection", 1.0, "pair", Plan(0, HOST, [], connections=1)),
    Case(
        "HTTP/2 between for HTTP/1.1, 1 MB response, 8 connections",
        1.0,
        "pair",
        Plan(0, HOST, [], path=f"/bytes/{MB}", connections=8),
        PER_MB,
    ),
)


def measure_between(lab: Lab, case: Case, pace: Pace, patience: Patience) -> list[Row]:
    """HTTP/1.1 through two hops: the hop between by HTTP/2 beside the same by HTTP/1.1, both ours."""
    usual = replace(lab.ours("pair"), name=f"{OURS}, HTTP/1.1 between")
    targets = [lab.ours(UPGRADED), usual]
    taken = in_turn(targets, pace, patience, _sender(lab, case), UNITS[case.unit])
    return [row(case.name, case.unit, case.bar, targets, taken)]


def _sender(lab: Lab, case: Case) -> Callable[[Target, float], Outcome]:
    """How one round of a case is run."""
    load = case.load
    if isinstance(load, Plan):
        return lambda target, seconds: send(lab, case.shape, load, target, seconds)
    if isinstance(load, Chats):
        return lambda target, seconds: _chat(lab, case.shape, load, target, seconds)
    rates: dict[str, float] = {}

    def run(target: Target, seconds: float) -> Outcome:
        rate = rates.get(target.name)
        count = case.warm if rate is None else max(load.connections * load.streams, int(rate * seconds))
        fields = [*AUTHORITY, *target.fields]
        pids = (target.pids, [lab.app(case.shape).pid])
        outcome = http2_load.send(load, count, target.port, fields, pids, lab.other_core, lab.folder)
        rates.setdefault(target.name, outcome.requests / outcome.seconds)
        return outcome

    return run


def _chat(lab: Lab, shape: str, load: Chats, target: Target, seconds: float) -> Outcome:
    plan = replace(
        load,
        port=target.port,
        fields=target.fields,
        proxies=target.pids,
        others=[lab.app(shape).pid],
        seconds=seconds,
    )
    with process(program("http2_load.py", json.dumps(asdict(plan))), lab.other_core) as child:
        outcome = Outcome(**json.loads(read_line(child)))
    if outcome.failure:
        raise RuntimeError(f"{target.name}: {outcome.failure}")
    return outcome
