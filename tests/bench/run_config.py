"""Configuration and its way to the proxies: ``python tests/bench/run_config.py [case ...] [--quick]``.

Simulated proxies are real followers with a broker connection each, in a few processes; broker and control
roles are real, and all are on this machine. Bounded: 20 minutes, about 4 with ``--quick``. The exit code
tells whether it ran; with ``--strict`` also whether every bar was met.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

import config_broker
import config_churn
import config_compile
import config_fleet
import config_memory
from config_rows import Pace, Reading, render_json, table

QUICK = Pace(
    services=200, proxies=200, few=50, processes=2, changes=15, costed=15, rate=5.0, churn_s=6.0, kills=2,
    updates=50,
)  # fmt: skip
FULL = Pace(
    services=1000, proxies=2000, few=100, processes=4, changes=100, costed=30, rate=1.0, churn_s=20.0,
    kills=5, updates=100,
)  # fmt: skip
RATE_OF_ONE = 2000.0
"""Changes a second that two cores can take if there is one proxy."""
LIMIT_S = {False: 20 * 60.0, True: 6 * 60.0}


async def _compile(_: Pace) -> AsyncIterator[Reading]:
    for row in config_compile.run():
        yield Reading("compile", row.case, row.median_ms, "ms", row.bar_ms or None, note="median, CPU")


Measure = Callable[[Pace], AsyncIterator[Reading]]
ALONE: dict[str, Measure] = {
    "compile": _compile,
    "churn": config_churn.measure,
    "broker": config_broker.measure,
    "proxy-memory": config_memory.measure,
}
CASES = (*config_fleet.CASES, *ALONE)


def main(arguments: list[str]) -> int:
    """Run what the command line asks for; returns the exit code."""
    options = _parse(arguments)
    logging.disable(logging.WARNING)
    pace = QUICK if options.quick else FULL
    if options.services:
        pace = replace(pace, services=options.services)
    if options.proxies:
        rate = min(pace.rate, RATE_OF_ONE / options.proxies)
        pace = replace(pace, proxies=options.proxies, few=min(pace.few, options.proxies // 4), rate=rate)
    begun_at = time.monotonic()
    run = Run(pace, begun_at + LIMIT_S[options.quick])
    run.measure(options.cases or CASES)
    print(render_json(run.readings) if options.output == "json" else table(run.readings))
    told = sys.stderr if options.output == "json" else sys.stdout
    for failure in run.failures:
        print(f"note: {failure}", file=told)
    print(f"{time.monotonic() - begun_at:.0f} s", file=told)
    return 1 if run.failures or (options.strict and not all(one.is_met for one in run.readings)) else 0


class Run:
    """What was measured so far. A case that fails is told of, and the others go on."""

    def __init__(self, pace: Pace, deadline: float) -> None:
        self.readings: list[Reading] = []
        self.failures: list[str] = []
        self._pace = pace
        self._deadline = deadline

    def measure(self, cases: Sequence[str]) -> None:
        """Measure these."""
        fleet = [case for case in cases if case in config_fleet.CASES]
        if fleet:
            self._one(", ".join(fleet), lambda pace: config_fleet.measure(pace, fleet))
        for case, measure in ALONE.items():
            if case in cases:
                self._one(case, measure)

    def _one(self, name: str, measure: Measure) -> None:
        if time.monotonic() > self._deadline:
            self.failures.append(f"{name}: not measured, the time was used up")
            return
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            asyncio.run(self._collect(measure))
        except Exception as error:
            traceback.print_exc()
            self.failures.append(f"{name}: {error!r}")

    async def _collect(self, measure: Measure) -> None:
        async with asyncio.timeout(max(1.0, self._deadline - time.monotonic())):
            async for reading in measure(self._pace):
                self.readings.append(reading)
                value = f"{reading.value:.4g} {reading.unit}"
                print(f"  {reading.case}: {reading.measure}: {value}", file=sys.stderr, flush=True)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run_config", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="case", help=", ".join(CASES))
    parser.add_argument("--quick", action="store_true", help="a smaller mesh and fewer changes")
    parser.add_argument("--services", type=int, default=0, help="another number of services")
    parser.add_argument("--proxies", type=int, default=0, help="another number of proxies")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a bar is not met")
    options = parser.parse_args(arguments)
    if unknown := [case for case in options.cases if case not in CASES]:
        parser.error(f"no case {', '.join(unknown)}; there are {', '.join(CASES)}")
    return options


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
