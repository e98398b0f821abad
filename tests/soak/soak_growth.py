"""Whether something grows: memory, descriptors and tasks over time, and what is left at the end."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

WARM_UP = 30
FEWEST = 5
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Growth:
    """Samples of one process, one per call of :meth:`sample`."""

    memory: list[float] = field(default_factory=list)
    descriptors: list[float] = field(default_factory=list)
    tasks: list[float] = field(default_factory=list)

    def sample(self) -> None:
        """Take one."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.memory.append(pages * PAGE / (1 << 20))
        self.descriptors.append(len(os.listdir("/proc/self/fd")))
        self.tasks.append(len(asyncio.all_tasks()))

    def grown(self) -> dict[str, float]:
        """By how much the median of the last half is above that of the first, after the warm-up."""
        return {
            "memory_mib": _grown(self.memory),
            "descriptors": _grown(self.descriptors),
            "tasks": _grown(self.tasks),
        }

    def leaks(self) -> dict[str, float]:
        """What grew more than noise explains: 5 % and 4 MiB, or a quarter and 20 of the others."""
        allowed = {
            "memory_mib": 4.0 + 0.05 * max(self.memory),
            "descriptors": 20.0 + 0.25 * max(self.descriptors),
            "tasks": 20.0 + 0.25 * max(self.tasks),
        }
        return {name: value for name, value in self.grown().items() if value > allowed[name]}


def _grown(samples: list[float]) -> float:
    """0 when there are too few samples to say: garbage of connections is left until the collector comes."""
    half = (len(samples) - WARM_UP) // 2
    if half < FEWEST:
        return 0.0
    return round(median(samples[-half:]) - median(samples[WARM_UP : WARM_UP + half]), 1)
