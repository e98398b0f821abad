"""``make soak``: faults, changes and new certificates under traffic whose every body is compared.

ARGS="--seconds 60 --seed 3 -o json". Ends with 1 when a body was wrong, a request was lost that no fault
was injected into, or memory, descriptors or tasks grew.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

sys.path.append(str(Path(__file__).parents[1] / "integration"))

from proxy_mesh import running_mesh, until
from soak_growth import Growth
from soak_traffic import callers, lost
from soak_trouble import Trouble
from soak_world import World

from ray_mesh.proxy.vitals import freeze

SAMPLE_S = 1.0
FREEZE_AFTER = 5


async def soak(seconds: float, seed: int) -> dict[str, Any]:
    """Run for so long, let everything end, and report."""
    async with running_mesh() as mesh:
        world = World(mesh)
        await world.build()
        crowd = callers(world, seed)
        growth, trouble = Growth(), Trouble(world, seed)
        calling = [asyncio.create_task(each.run()) for each in crowd]
        trouble.start()
        began_at = time.monotonic()
        while time.monotonic() < began_at + seconds:
            await asyncio.sleep(SAMPLE_S)
            growth.sample()
            if len(growth.tasks) == FREEZE_AFTER:
                freeze()
        await trouble.stop()
        for each in crowd:
            each.is_ending = True
        await asyncio.gather(*calling)
        planes = mesh.planes.values()
        await until(lambda: all(plane.stats().in_flight == 0 for plane in planes), "every request has ended")
        await until(lambda: not any(member.active for member in world.members()), "no endpoint is busy")
        stats = [plane.stats() for plane in planes]
        return {
            "seconds": seconds,
            "seed": seed,
            "lost": lost(world.tally),
            "leaks": growth.leaks(),
            "grown": growth.grown(),
            "memory_mib": [round(one) for one in growth.memory[:: max(len(growth.memory) // 20, 1)]],
            "outcomes": dict(sorted(world.tally.items())),
            "events": dict(stats[0].events) | dict(stats[1].events),
            "slowest_steady_s": round(max(each.slowest_s for each in crowd), 2),
            "gc_pause_max_ms": round(max(one.gc_pause_max_s for one in stats) * 1e3, 1),
            "lag_max_ms": round(max(one.lag_max_s for one in stats) * 1e3, 1),
        }


def _table(report: dict[str, Any]) -> str:
    lines = [f"{report['seconds']:g} s, seed {report['seed']}"]
    lines += [f"  {what:<60} {count:>9}" for what, count in report["outcomes"].items()]
    lines += [f"  grown: {name:<53} {value:>9}" for name, value in report["grown"].items()]
    lines.append(
        f"  longest pause of the collector (samples of memory count), ms {report['gc_pause_max_ms']:>10}"
    )
    lines.append(f"  slowest answer of the steady service, s {report['slowest_steady_s']:>31}")
    bad = {**report["lost"], **report["leaks"]}
    lines.append(f"FAILED: {bad}" if bad else "passed: nothing lost, nothing corrupted, nothing grew")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="soak", description="faults under checked traffic")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    options = parser.parse_args(arguments)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(soak(options.seconds, options.seed))
    print(json.dumps(report, indent=1) if options.output == "json" else _table(report))
    return 1 if report["lost"] or report["leaks"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
