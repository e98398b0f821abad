"""Runs a bench: ``python tests/bench/run.py http1 [--quick] [-o table|json] [--strict]``.

The result is a ratio to a peer that was measured in the same run; absolute figures depend on the
machine. The exit code tells whether the bench ran; with ``--strict`` also whether every bar was met.
"""

from __future__ import annotations

import argparse
import sys

import bench_http1
import bench_rows

CASES = {"http1": bench_http1.run}


def main(arguments: list[str]) -> int:
    """Run what the command line asks for; returns the exit code."""
    options = _parse(arguments)
    pace = bench_http1.QUICK if options.quick else bench_http1.FULL
    rows = [row for case in options.cases or CASES for row in CASES[case](pace)]
    print(bench_rows.render_json(rows) if options.output == "json" else bench_rows.table(rows))
    return 1 if options.strict and not all(row.is_met for row in rows) else 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="measure the mesh beside a peer")
    parser.add_argument("cases", nargs="*", metavar="case", help=f"all, or some of: {', '.join(CASES)}")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds, under a minute")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a bar is not met")
    options = parser.parse_args(arguments)
    unknown = [case for case in options.cases if case not in CASES]
    if unknown:
        parser.error(f"unknown case {', '.join(unknown)}; there are: {', '.join(CASES)}")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
