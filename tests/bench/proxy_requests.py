"""CPU of the proxies per request, or per megabyte: closed loop, the targets of a case in turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bench_http1 import MORE_FIELDS, load
from bench_load import Outcome, Plan
from bench_rows import Round, Row, figure
from proxy_checks import HOST, check_counted, check_features, served
from proxy_lab import MANY, OURS, Lab, Patience, Target
from proxy_plane import host_name

PER_REQUEST = "us CPU/request"
PER_MB = "us CPU/MB"
PER_MESSAGE = "us CPU/message"
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Pace:
    """How much is measured: rounds of so many seconds, and for latencies of so many."""

    rounds: int
    seconds: float
    latency_s: float


@dataclass(frozen=True, slots=True)
class Case:
    """One row. ``plan`` becomes the plan of each target; ``is_shown_beside`` measures plain proxies too."""

    name: str
    bar: float
    shape: str
    plan: Plan = field(default_factory=lambda: Plan(0, HOST, []))
    unit: str = PER_REQUEST
    is_shown_beside: bool = False


def _plan(
    path: str = "/reviews/0",
    fields: list[tuple[str, str]] = HOST,
    connections: int = 32,
    body_bytes: int = 0,
    varies: bool = False,
    reuses: bool = True,
) -> Plan:
    return Plan(
        0, fields, [], path=path, connections=connections, body_bytes=body_bytes, varies=varies, reuses=reuses
    )


_SIXTEEN = _plan(fields=HOST + MORE_FIELDS, varies=True)
CASES = (
    Case("64 B, plain, 1 header", 0.70, "plain", _plan(fields=HOST[:1]), is_shown_beside=True),
    Case("64 B, plain, 16 headers, traceparent varies", 0.70, "plain", _SIXTEEN),
    Case("10 KB response", 0.80, "plain", _plan("/bytes/10000")),
    Case("16 KB POST", 0.80, "plain", _plan(body_bytes=16_384)),
    Case("TLS inbound, 64 B", 0.65, "tls"),
    Case("TLS inbound, 64 KB", 0.90, "tls", _plan("/bytes/65536")),
    Case("two hops, mTLS between, 64 B", 0.75, "pair"),
    Case("1 MB response", 1.1, "plain", _plan("/bytes/1000000", connections=8), PER_MB, True),
    Case("100 MB response", 1.1, "plain", _plan("/bytes/100000000", connections=2), PER_MB),
    Case("1 MB POST", 1.1, "plain", _plan(body_bytes=MB, connections=8), PER_MB),
    Case("new connection per request, plain", 1.1, "plain", _plan(reuses=False), is_shown_beside=True),
    Case("new connection per request, TLS full handshake", 1.2, "tls", _plan(reuses=False, connections=8)),
)


_STREAM = _plan("/bytes/100000000", connections=2)
TUNNELS = (
    Case("TCP relay, plain", 0.75, "tcp", _STREAM, PER_MB),
    Case("TCP relay, mTLS between", 1.1, "tcp pair", _STREAM, PER_MB),
)


def measure(lab: Lab, case: Case, pace: Pace, patience: Patience) -> list[Row]:
    """The row of a case."""
    targets = [lab.ours(case.shape), lab.envoy(case.shape)]
    if case.is_shown_beside:
        targets += lab.plain()
    taken = _rounds(lab, case, targets, pace, patience)
    return [row(case.name, case.unit, case.bar, targets, taken)]


def measure_many(lab: Lab, pace: Pace, patience: Patience) -> list[Row]:
    """1,000 services of 20 routes, beside Envoy's and beside our own of one."""
    hosts = [host_name(number) for number in range(MANY["hosts"])]
    plan = replace(_plan(), hosts=hosts)
    case = Case("1,000 virtual hosts x 20 routes, 64 B", 0.70, "many", plan)
    few = replace(lab.ours("plain"), name=f"{OURS}, one host")
    targets = [lab.ours("many"), lab.envoy("many"), few]
    plans = {few.name: _plan()}
    rounds = _rounds(lab, case, targets, pace, patience, plans)
    beside_own = Row(case.name, case.unit, figure(rounds[OURS]), few.name, figure(rounds[few.name]), 1.1)
    return [row(case.name, case.unit, case.bar, targets[:2], rounds), beside_own]


def row(case: str, unit: str, bar: float, targets: list[Target], rounds: dict[str, list[Round]]) -> Row:
    """Ours beside the second target, and whoever else was measured."""
    ours, theirs, *others = (figure(rounds[target.name]) for target in targets)
    names = [target.name for target in targets]
    beside = tuple(zip(names[2:], others, strict=True))
    return Row(case, unit, ours, names[1], theirs, bar, beside)


def _rounds(
    lab: Lab,
    case: Case,
    targets: list[Target],
    pace: Pace,
    patience: Patience,
    plans: dict[str, Plan] | None = None,
) -> dict[str, list[Round]]:
    def measure_one(target: Target, seconds: float) -> Outcome:
        plan = (plans or {}).get(target.name, case.plan)
        return send(lab, case.shape, plan, target, seconds)

    taken = in_turn(targets, pace, patience, measure_one, UNITS[case.unit])
    for target in targets:
        if target.planes or (target.logs and not case.shape.startswith("tcp")):
            check_features(target)
    return taken


def in_turn(
    targets: list[Target],
    pace: Pace,
    patience: Patience,
    measure_one: Callable[[Target, float], Outcome],
    value: Callable[[Outcome], float],
) -> dict[str, list[Round]]:
    """Rounds in turn (A B A B ...) after one short unmeasured round each. ``measure_one`` is given how many
    seconds to measure. Telemetry must have counted what was sent."""
    taken: dict[str, list[Round]] = {target.name: [] for target in targets}
    for number in range(pace.rounds + 1):
        for target in targets:
            patience.wait()
            before = served(target) if target.planes else 0
            outcome = measure_one(target, pace.seconds if number else 0.2)
            check_counted(target, before, outcome.sent)
            if not outcome.requests:
                raise RuntimeError(f"{target.name} answered nothing in {outcome.seconds:.0f} s")
            if number:
                taken[target.name].append(Round(value(outcome), outcome.unrelated_cores))
    return taken


def send(lab: Lab, shape: str, plan: Plan, target: Target, seconds: float) -> Outcome:
    """Send a plan to a target."""
    plan = replace(
        plan,
        port=target.port,
        fields=[*plan.fields, *target.fields],
        proxies=target.pids,
        others=[lab.app(shape).pid],
        tls=target.tls,
        tunnel=target.tunnel,
        seconds=seconds,
    )
    return load(plan, lab.other_core)


UNITS: dict[str, Callable[[Outcome], float]] = {
    PER_REQUEST: lambda outcome: outcome.cpu_ns / 1e3 / outcome.requests,
    PER_MB: lambda outcome: outcome.cpu_ns / 1e3 / (outcome.body_bytes / MB),
    PER_MESSAGE: lambda outcome: outcome.cpu_ns / 1e3 / outcome.requests,
}
