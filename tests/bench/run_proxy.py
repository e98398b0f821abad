"""The data plane beside Envoy: ``python tests/bench/run_proxy.py [part ...] [--quick] [-o table|json]``.

Ratios to a peer of the same run; absolute figures depend on the machine. Bounded: 20 minutes, 6 with
``--quick``. The exit code tells whether it ran; with ``--strict`` also whether every bar was met.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import bench_rows
import proxy_latency
import proxy_memory
import proxy_requests
from bench_rows import Row
from proxy_lab import Lab, Patience
from proxy_requests import Pace

QUICK = Pace(rounds=3, seconds=0.5, latency_s=2.0)
FULL = Pace(rounds=5, seconds=1.5, latency_s=8.0)
CASES = {"requests": proxy_requests.CASES, "tcp": proxy_requests.TUNNELS}
PARTS = ("requests", "tcp", "many", "memory", "latency")


def main(arguments: list[str]) -> int:
    """Run what the command line asks for; returns the exit code."""
    options = parse(arguments, "bench-proxy", PARTS)
    begun_at = time.monotonic()
    with Lab() as lab:
        run = Run(lab, options)
        for part in options.parts or PARTS:
            _measure(run, part)
    return report(run, options, begun_at)


def report(run: Run, options: argparse.Namespace, begun_at: float) -> int:
    """Print what was measured; the exit code."""
    if options.output == "json":
        print(bench_rows.render_json(run.rows))
    else:
        print(bench_rows.table(run.rows))
    told = sys.stderr if options.output == "json" else sys.stdout
    for note in [*run.lab.notes, *run.failures]:
        print(f"note: {note}", file=told)
    print(f"{time.monotonic() - begun_at:.0f} s", file=told)
    return 1 if run.failures or (options.strict and not all(row.is_met for row in run.rows)) else 0


class Run:
    """What was measured so far. What fails is told of, and the rest goes on."""

    def __init__(self, lab: Lab, options: argparse.Namespace) -> None:
        self.rows: list[Row] = []
        self.failures: list[str] = []
        self.lab = lab
        self.pace = QUICK if options.quick else FULL
        self.patience = Patience(0.5, 3.0, 330.0) if options.quick else Patience(15.0, 45.0, 1080.0)
        self.only: str = options.only

    def measure(self, name: str, measure: Callable[[], list[Row]]) -> None:
        """Add the rows of one case."""
        if self.patience.is_over:
            self.failures.append(f"{name}: not measured, the time was used up")
            return
        self.patience.begin_case()
        try:
            rows = measure()
        except (AssertionError, RuntimeError, OSError) as error:
            self.failures.append(f"{name}: {error}")
            return
        self.rows += rows
        for row in rows:
            print(f"{row.case}: {row.ratio:.2f}", file=sys.stderr, flush=True)


def _measure(run: Run, part: str) -> None:
    lab, pace, patience = run.lab, run.pace, run.patience
    for case in CASES.get(part, ()):
        if run.only in case.name:
            run.measure(case.name, partial(proxy_requests.measure, lab, case, pace, patience))
    if part == "many":
        run.measure(part, partial(proxy_requests.measure_many, lab, pace, patience))
    elif part == "memory":
        run.measure(part, partial(proxy_memory.measure, lab))
    elif part == "latency":
        run.measure(part, partial(proxy_latency.measure, lab, pace, patience))


def parse(arguments: list[str], program: str, parts: Sequence[str]) -> argparse.Namespace:
    """Understand a command line, and exit where it is wrong."""
    parser = argparse.ArgumentParser(prog=program, description="measure the data plane beside Envoy")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"all, or some of: {', '.join(parts)}")
    parser.add_argument("--only", default="", help="of parts with many cases, those with this in their name")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a bar is not met")
    options = parser.parse_args(arguments)
    unknown = [part for part in options.parts if part not in parts]
    if unknown:
        parser.error(f"unknown part {', '.join(unknown)}; there are: {', '.join(parts)}")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
