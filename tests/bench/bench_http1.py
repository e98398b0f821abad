"""HTTP/1.1: CPU of one proxy process per request, ours with its features on, beside Envoy's plain routing.

Both carry the same requests from the same load generator to the same application, with the same
routes, in turn, each pinned to the same processor while everything else runs on another one.
"""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import bench_envoy
from bench_cpu import cores, wait_until_calm
from bench_load import Outcome, Plan, head
from bench_process import ask, free_port, process, program, read_line, wait_for_port
from bench_rows import CALM_CORES, Figure, Round, Row, figure

BAR = 0.8
CPU_UNIT = "us CPU/request"
PLAIN_FIELDS = [("host", "reviews"), ("user-agent", "bench"), ("accept", "*/*")]
MORE_FIELDS = [
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-language", "en-US,en;q=0.9"),
    ("cache-control", "no-cache"),
    ("content-language", "en"),
    ("cookie", "session=4f1c2a9b7d3e; theme=dark"),
    ("dnt", "1"),
    ("end-user", "alice"),
    ("origin", "https://shop.example.com"),
    ("pragma", "no-cache"),
    ("referer", "https://shop.example.com/products?page=2"),
    ("x-client-version", "2.14.0"),
]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row: the header fields of its requests, and whether each request differs from the last."""

    case: str
    fields: list[tuple[str, str]]
    varies: bool


SCENARIOS = (
    Scenario("http1 64 B, 32 connections", PLAIN_FIELDS, varies=False),
    Scenario("http1 64 B, 32 connections, 16 headers, traceparent varies", PLAIN_FIELDS + MORE_FIELDS, True),
)


@dataclass(frozen=True, slots=True)
class Pace:
    """How much is measured."""

    rounds: int
    seconds: float
    patience_s: float


QUICK = Pace(rounds=5, seconds=0.8, patience_s=0.6)
FULL = Pace(rounds=15, seconds=2.0, patience_s=10.0)


@dataclass(slots=True)
class Target:
    """A running proxy. ``answered`` counts every request that it served."""

    name: str
    port: int
    pid: int
    answered: int = 0


def run(pace: Pace) -> list[Row]:
    """Measure every scenario, then check that our proxy did all that it claims to do.

    Raises:
        RuntimeError: a request failed.
        AssertionError: telemetry, denial or trace context is missing.
    """
    proxy_core, other_core = cores()
    with ExitStack() as stack:
        upstream_port = free_port()
        upstream = stack.enter_context(process(program("bench_upstream.py", str(upstream_port)), other_core))
        read_line(upstream)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        envoy = stack.enter_context(_envoy(folder, upstream_port, proxy_core))
        plane = stack.enter_context(process(program("bench_plane.py", str(upstream_port)), proxy_core))
        ready = json.loads(read_line(plane))
        ours = Target("ray mesh", ready["port"], plane.pid)
        credentials = ("proxy-authorization", ready["authorization"])
        rows = []
        for scenario in SCENARIOS:
            fields = [*scenario.fields, credentials]
            figures = _measure(scenario, fields, (ours, envoy), upstream.pid, pace, other_core)
            rows.append(Row(scenario.case, CPU_UNIT, figures[0], bench_envoy.NAME, figures[1], BAR))
        check_trace(ours, [*PLAIN_FIELDS, credentials])
        check_denial(ours, [*PLAIN_FIELDS, credentials])
        check_counters(json.loads(ask(plane, "totals")), ours)
    return rows


@contextmanager
def _envoy(folder: Path, upstream_port: int, core: int) -> Iterator[Target]:
    port = free_port()
    config = bench_envoy.write_config(folder, port, upstream_port)
    with process(bench_envoy.command(config), core) as child:
        wait_for_port(child, port)
        yield Target(bench_envoy.NAME, port, child.pid)


def _measure(
    scenario: Scenario,
    fields: list[tuple[str, str]],
    targets: tuple[Target, Target],
    upstream_pid: int,
    pace: Pace,
    core: int,
) -> tuple[Figure, Figure]:
    """Rounds in turn (A B A B ...) after one unmeasured round each."""
    rounds: dict[str, list[Round]] = {target.name: [] for target in targets}
    for number in range(pace.rounds + 1):
        for target in targets:
            plan = Plan(
                target.port,
                fields,
                [target.pid],
                [upstream_pid],
                varies=scenario.varies,
                seconds=pace.seconds,
            )
            wait_until_calm(CALM_CORES, pace.patience_s)
            outcome = load(plan, core)
            target.answered += outcome.sent
            if number:
                microseconds = outcome.cpu_ns / 1e3 / outcome.requests
                rounds[target.name].append(Round(microseconds, outcome.unrelated_cores))
    ours, theirs = (figure(rounds[target.name]) for target in targets)
    return ours, theirs


def load(plan: Plan, core: int) -> Outcome:
    """Run the load generator on that processor. Raises RuntimeError when a request failed."""
    with process(program("bench_load.py", json.dumps(asdict(plan))), core) as child:
        outcome = Outcome(**json.loads(read_line(child)))
    if outcome.failure:
        raise RuntimeError(f"port {plan.port} answered wrong: {outcome.failure}")
    return outcome


def request(port: int, path: str, fields: list[tuple[str, str]]) -> tuple[int, str]:
    """One request on a connection of its own: status, and head with body of the answer."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(head(path, [*fields, ("connection", "close")]) + b"\r\n")
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    return int(received[9:12]), received.decode("latin-1")


def check_trace(ours: Target, fields: list[tuple[str, str]]) -> None:
    """The application sees a W3C trace context and a request id, and never the token of the caller."""
    status, answer = request(ours.port, "/head", fields)
    ours.answered += 1
    seen = answer.lower()
    assert status == 200, answer
    assert "traceparent: 00-" in seen, f"no trace context reached the application: {answer}"
    assert "x-request-id: " in seen, f"no request id reached the application: {answer}"
    assert "proxy-authorization" not in seen, "the token reached the application"


def check_denial(ours: Target, fields: list[tuple[str, str]]) -> None:
    """What an AuthorizationPolicy denies is answered 403 and names the policy; the rest passes."""
    guarded = [(name, "guarded" if name == "host" else value) for name, value in fields]
    status, answer = request(ours.port, "/admin/users", guarded)
    assert status == 403, f"a request that policy denies was answered {status}: {answer}"
    assert "default/no-admin" in answer, f"the denial does not name its policy: {answer}"
    status, answer = request(ours.port, "/reviews/0", guarded)
    assert status == 200, f"a request that policy allows was answered {status}: {answer}"


def check_counters(totals: dict[str, int], ours: Target) -> None:
    """Telemetry has counted each request once, and the denial at both ends."""
    assert totals["served"] == ours.answered, f"{totals} counted, {ours.answered} sent"
    assert totals["denied"] == 1, f"{totals}: one request was denied"
