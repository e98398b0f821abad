"""One mesh with many proxies: how long changes take to reach all, what they cost, a control plane killed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path

from bench_cpu import cpu_ns
from config_rows import Pace, Reading, latencies
from config_site import PROBE, Site, Workers, site

CASES = ("route", "endpoint", "routing-cpu", "control-memory", "restart")
PAUSE_S = 0.3
"""Between changes: acknowledgements of the last one are in."""
SETTLE_S = 3.0


async def measure(pace: Pace, cases: Collection[str]) -> AsyncIterator[Reading]:
    """Those of :data:`CASES` that are asked for."""
    wanted = [case for case in CASES if case in cases]
    if not wanted:
        return
    async with site(pace.services, ("routing", "gateway")) as mesh:
        few = await mesh.start_proxies([[PROBE]] * pace.few, 1)
        fleet = Fleet(mesh, [few], pace.rate)
        cost_of_few = await fleet.cost(pace.costed) if "routing-cpu" in wanted else 0.0
        memory_of_few = await fleet.memory_kb() if "control-memory" in wanted else {}
        fleet.workers.append(await mesh.start_proxies([[PROBE]] * (pace.proxies - pace.few), pace.processes))
        if "routing-cpu" in wanted:
            for reading in await _cpu(fleet, pace, cost_of_few):
                yield reading
        for acknowledges in (False, True):
            await fleet.beat(acknowledges)
            told = "proxies that acknowledge" if acknowledges else "followers"
            if "route" in wanted:
                for reading in await _latency(fleet, pace, "route", told, mesh.change_route, 300, 800):
                    yield reading
            if "endpoint" in wanted:
                for reading in await _latency(fleet, pace, "endpoint", told, _endpoint(mesh), 250, 700):
                    yield reading
        if "control-memory" in wanted:
            for reading in _memory(memory_of_few, await fleet.memory_kb(), pace):
                yield reading
        if "restart" in wanted:
            for reading in await _restart(fleet):
                yield reading


class Fleet:
    """The proxies of a site together."""

    def __init__(self, mesh: Site, workers: list[Workers], rate: float) -> None:
        self.mesh = mesh
        self.workers = workers
        self.rate = rate

    @property
    def proxies(self) -> int:
        """How many there are."""
        return sum(one.proxies for one in self.workers)

    async def applied(self, mark: str) -> float:
        """When the last one had applied what carries a mark."""
        return max(await asyncio.gather(*(one.applied(mark) for one in self.workers)))

    async def beat(self, on: bool) -> None:
        """Begin or end to send leases, and with them acknowledgements."""
        await asyncio.gather(*(one.ask("leases", on) for one in self.workers))
        await asyncio.sleep(SETTLE_S)

    async def figures(self) -> tuple[float, int, int, int]:
        """CPU seconds, leases and acknowledgements sent, and refusals, so far, of all proxies."""
        answers = [one for worker in self.workers for one in await worker.ask("figures")]
        return (
            sum(one["cpu_s"] for one in answers),
            sum(one["leases"] for one in answers),
            sum(one["acknowledged"] for one in answers),
            sum(one["refused"] for one in answers),
        )

    async def cost(self, changes: int) -> float:
        """CPU milliseconds of the RoutingActors per route change, beyond what they use without changes."""
        pids = [role.pid for role in self.mesh.roles if role.role == "routing"]
        seconds = changes / self.rate
        idle = await _cpu_during(pids, asyncio.sleep(seconds))
        return (await _cpu_during(pids, self.change(changes)) - idle) * 1e3 / changes

    async def change(self, changes: int) -> None:
        """Change the route so many times, ``rate`` a second, until all have the last one."""
        mark, begun_at = "", time.monotonic()
        for number in range(changes):
            mark, _ = await self.mesh.change_route()
            await asyncio.sleep(max(0.0, begun_at + (number + 1) / self.rate - time.monotonic()))
        await self.applied(mark)

    async def memory_kb(self) -> dict[str, int]:
        """Memory of each control role and of the broker, with leases from every proxy."""
        await self.beat(True)
        found = {role.role: resident_kb(role.pid) for role in self.mesh.roles}
        found["broker"] = resident_kb(self.mesh.bench.server.pid)
        await self.beat(False)
        return found


async def _cpu_during(pids: list[int], work: Awaitable[None]) -> float:
    before = sum(map(cpu_ns, pids))
    await work
    return (sum(map(cpu_ns, pids)) - before) / 1e9


def resident_kb(pid: int) -> int:
    """Memory of a process that is its own."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def _endpoint(mesh: Site) -> Callable[[], Awaitable[tuple[str, float]]]:
    async def change() -> tuple[str, float]:
        return mesh.change_endpoint()

    return change


async def _latency(
    fleet: Fleet,
    pace: Pace,
    case: str,
    told: str,
    change: Callable[[], Awaitable[tuple[str, float]]],
    p50_ms: float,
    p99_ms: float,
) -> list[Reading]:
    seconds = []
    cpu_s, _, _, refused = await fleet.figures()
    for _ in range(pace.changes):
        mark, at = await change()
        seconds.append(await fleet.applied(mark) - at)
        await asyncio.sleep(PAUSE_S)
    cpu_after_s, _, _, refused_after = await fleet.figures()
    each_ms = (cpu_after_s - cpu_s) * 1e3 / pace.changes / fleet.proxies
    note = f"{pace.services} services, {fleet.proxies} {told}, {pace.changes} changes"
    return [
        *latencies(case, seconds, p50_ms, p99_ms, note),
        Reading(case, "CPU of a proxy per change", each_ms, "ms", note=f"{told}, with what they do at rest"),
        Reading(case, "refused", refused_after - refused, "changes", 0),
    ]


async def _cpu(fleet: Fleet, pace: Pace, of_few_ms: float) -> list[Reading]:
    """The cost of a change without acknowledgements, then of an acknowledgement, then of following."""
    case = "routing-cpu"
    cpu_s = (await fleet.figures())[0]
    of_all_ms = await fleet.cost(pace.costed)
    follower_s = (await fleet.figures())[0] - cpu_s
    idle_s = (await fleet.figures())[0]
    await asyncio.sleep(pace.costed / pace.rate)
    idle_s = (await fleet.figures())[0] - idle_s
    follower_ms = (follower_s - 2 * idle_s) * 1e3 / pace.costed / fleet.proxies
    lease_us, acknowledgement_us = await _told_us(fleet, pace)
    return [
        Reading(case, f"per change, {pace.few} proxies", of_few_ms, "ms"),
        Reading(case, f"per change, {fleet.proxies} proxies", of_all_ms, "ms"),
        Reading(case, "ratio", of_all_ms / of_few_ms, "", 1.2, note="no cost per proxy"),
        Reading(case, "per lease", lease_us, "us", note="one a second from each proxy"),
        Reading(case, "per acknowledgement", acknowledgement_us, "us", 30, note="in the GatewayActor"),
        Reading("route", "CPU of a follower per change", follower_ms, "ms", 0.25, note="signatures checked"),
    ]


async def _told_us(fleet: Fleet, pace: Pace) -> tuple[float, float]:
    """What a lease costs the RoutingActors, and an acknowledgement the role that hears it."""
    routing, gateway = (
        [role.pid for role in fleet.mesh.roles if role.role == name] for name in ("routing", "gateway")
    )
    seconds = max(5.0, pace.costed / pace.rate)
    silent_s = await _cpu_during(routing, asyncio.sleep(seconds))
    changed_s = await _cpu_during(gateway, fleet.change(pace.costed))
    await fleet.beat(True)
    _, leases, _, _ = await fleet.figures()
    spoken_s = await _cpu_during(routing, asyncio.sleep(seconds))
    _, leases_after, told, _ = await fleet.figures()
    resting_s = await _cpu_during(gateway, asyncio.sleep(pace.costed / pace.rate))
    told_s = await _cpu_during(gateway, fleet.change(pace.costed))
    await asyncio.sleep(1.0)
    told = (await fleet.figures())[2] - told
    await fleet.beat(False)
    each_lease_us = (spoken_s - silent_s) * 1e6 / max(1, leases_after - leases)
    return each_lease_us, (told_s - resting_s - changed_s) * 1e6 / max(1, told)


def _memory(few: dict[str, int], all_: dict[str, int], pace: Pace) -> list[Reading]:
    more = pace.proxies - pace.few
    each = {role: (all_[role] - few[role]) / more for role in few}
    roles = sum(value for role, value in each.items() if role != "broker")
    note = ", ".join(f"{role} {value:.1f}" for role, value in each.items() if role != "broker")
    return [
        Reading("control-memory", "per proxy", roles, "KB", 50, note=note),
        Reading("control-memory", "per proxy, broker", each["broker"], "KB", note="its connections"),
    ]


async def _restart(fleet: Fleet) -> list[Reading]:
    """All control roles killed, and started again: new processes, new names, new credentials."""
    mesh = fleet.mesh
    mark, _ = await mesh.change_route()
    await fleet.applied(mark)
    await asyncio.sleep(SETTLE_S)
    before = sum(await mesh.heads())
    mesh.kill_roles()
    begun_at = time.monotonic()
    await asyncio.gather(mesh.start_role("routing"), mesh.start_role("gateway"))
    started_s = time.monotonic() - begun_at
    mark, _ = await mesh.change_route()
    reached_s = await fleet.applied(mark) - begun_at
    await asyncio.sleep(2 * SETTLE_S)
    sent_again = sum(await mesh.heads()) - before - 1
    note = f"from the start of new processes, which took {started_s:.1f} s"
    return [
        Reading("restart", "until a new change reached all", reached_s, "s", 5, note=note),
        Reading("restart", "sent again", sent_again, "writes", 0),
    ]
