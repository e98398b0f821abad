"""Whether something grows: memory, descriptors and tasks over time, and what is left at the end."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

MEMORY_EVERY = 5
WARM_UP = 30
FEWEST = 3
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Growth:
    """Samples of one process, taken once a second."""

    memory: list[float] = field(default_factory=list)
    descriptors: list[float] = field(default_factory=list)
    tasks: list[float] = field(default_factory=list)

    def sample(self) -> None:
        """Take one; memory every few times only, since what is garbage must be collected first."""
        if len(self.tasks) % MEMORY_EVERY == 0:
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.memory.append(pages * PAGE / (1 << 20))
        self.descriptors.append(len(os.listdir("/proc/self/fd")))
        self.tasks.append(len(asyncio.all_tasks()))

    def grown(self) -> dict[str, float]:
        """By how much the median of the last half is above that of the first, after the warm-up."""
        return {
            "memory_mib": _grown(self.memory, WARM_UP // MEMORY_EVERY),
            "descriptors": _grown(self.descriptors, WARM_UP),
            "tasks": _grown(self.tasks, WARM_UP),
        }

    def leaks(self) -> dict[str, float]:
        """What grew more than noise explains: 5 % and 4 MiB, or a quarter and 20 of the others."""
        allowed = {
            "memory_mib": 4.0 + 0.05 * max(self.memory),
            "descriptors": 20.0 + 0.25 * max(self.descriptors),
            "tasks": 20.0 + 0.25 * max(self.tasks),
        }
        return {name: value for name, value in self.grown().items() if value > allowed[name]}


def _grown(samples: list[float], warm_up: int) -> float:
    """0 when there are too few samples to say."""
    half = (len(samples) - warm_up) // 2
    if half < FEWEST:
        return 0.0
    return round(median(samples[-half:]) - median(samples[warm_up : warm_up + half]), 1)
