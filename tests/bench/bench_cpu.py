"""CPU time of processes, to the nanosecond, and how calm the machine is around them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

JIFFIES_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_ns(pid: int) -> int:
    """CPU time that all threads of a process have used."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:  # a thread that ended meanwhile
            continue
    return total


def machine_busy_s() -> float:
    """CPU seconds that all processors have spent on anything, including what a hypervisor took."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / JIFFIES_PER_S


@dataclass(frozen=True, slots=True)
class Sample:
    """Clock and CPU readings at one moment."""

    at: float
    busy_s: float
    cpu_ns: dict[int, int]

    @classmethod
    def take(cls, pids: Iterable[int]) -> Sample:
        """Read the processes, then the machine."""
        return cls(time.monotonic(), machine_busy_s(), {pid: cpu_ns(pid) for pid in pids})

    def unrelated_cores(self, later: Sample) -> float:
        """How many processors others kept busy between this sample and a later one."""
        ours_s = sum(later.cpu_ns[pid] - before for pid, before in self.cpu_ns.items()) / 1e9
        return max(0.0, later.busy_s - self.busy_s - ours_s) / (later.at - self.at)


def wait_until_calm(limit_cores: float, patience_s: float, look_s: float = 0.25) -> None:
    """Return when others use less than ``limit_cores`` processors, or after ``patience_s`` anyway."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        before = Sample.take(())
        time.sleep(look_s)
        if before.unrelated_cores(Sample.take(())) < limit_cores:
            return


def cores() -> tuple[int, int]:
    """One processor for the proxy and one for all else; the same one when there is only one."""
    available = sorted(os.sched_getaffinity(0))
    return available[-1], available[0]
