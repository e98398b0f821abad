"""HTTP/2 and gRPC beside Envoy: ``python tests/bench/run_http2.py [part ...] [--quick] [-o table|json]``.

Rules, options and output are those of :mod:`run_proxy`. The load comes from h2load.
"""

from __future__ import annotations

import sys
import time
from functools import partial

import http2_load
import http2_memory
import http2_requests
from proxy_lab import Lab
from run_proxy import Run, parse, report

PARTS = ("requests", "between", "memory")


def main(arguments: list[str]) -> int:
    """Run what the command line asks for; returns the exit code."""
    options = parse(arguments, "bench-http2", PARTS)
    http2_load.find()
    begun_at = time.monotonic()
    with Lab() as lab:
        run = Run(lab, options)
        for part in options.parts or PARTS:
            _measure(run, part)
    return report(run, options, begun_at)


def _measure(run: Run, part: str) -> None:
    lab, pace, patience = run.lab, run.pace, run.patience
    if part == "requests":
        for case in http2_requests.CASES:
            if run.only in case.name:
                run.measure(case.name, partial(http2_requests.measure, lab, case, pace, patience))
    elif part == "between":
        for case in http2_requests.BETWEEN:
            if run.only in case.name:
                run.measure(case.name, partial(http2_requests.measure_between, lab, case, pace, patience))
    else:
        run.measure(part, partial(http2_memory.measure, lab))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
