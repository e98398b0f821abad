"""The data plane beside Envoy: ``python tests/bench/run_proxy.py [part ...] [--quick] [-o table|json]``.

Ratios to a peer of the same run; absolute figures depend on the machine. Bounded: 20 minutes, 6 with
``--quick``. The exit code tells whether it ran; with ``--strict`` also whether every bar was met.
"""

from __future__ import annotations

import argparse
import sys
import time

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
    options = _parse(arguments)
    pace = QUICK if options.quick else FULL
    patience = Patience(0.5, 3.0, 300.0) if options.quick else Patience(15.0, 45.0, 1080.0)
    begun_at = time.monotonic()
    with Lab() as lab:
        rows = [
            row for part in options.parts or PARTS for row in _part(part, lab, pace, patience, options.only)
        ]
        notes = lab.notes
    if options.output == "json":
        print(bench_rows.render_json(rows))
    else:
        print(bench_rows.table(rows))
        for note in notes:
            print(f"note: {note}")
        print(f"{time.monotonic() - begun_at:.0f} s")
    return 1 if options.strict and not all(row.is_met for row in rows) else 0


def _part(part: str, lab: Lab, pace: Pace, patience: Patience, only: str) -> list[Row]:
    rows = []
    if part in CASES:
        for case in CASES[part]:
            if only not in case.name:
                continue
            if patience.is_over:
                lab.notes.append(f"{case.name}: not measured, the time was used up")
                continue
            patience.begin_case()
            rows += proxy_requests.measure(lab, case, pace, patience)
            _say(rows[-1])
        return rows
    patience.begin_case()
    if part == "many":
        return proxy_requests.measure_many(lab, pace, patience)
    if part == "memory":
        return proxy_memory.measure(lab)
    return proxy_latency.measure(lab, pace, patience)


def _say(row: Row) -> None:
    print(f"{row.case}: {row.ratio:.2f}", file=sys.stderr, flush=True)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench-proxy", description="measure the data plane beside Envoy")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"all, or some of: {', '.join(PARTS)}")
    parser.add_argument("--only", default="", help="of requests and tcp, the cases with this in their name")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a bar is not met")
    options = parser.parse_args(arguments)
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"unknown part {', '.join(unknown)}; there are: {', '.join(PARTS)}")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
