"""How a plane's process is: memory, lateness of the loop, pauses of the collector; sampled in the wheel."""

from __future__ import annotations

import gc
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

from ray_mesh.proxy.overload import Level, Overload, OverloadLimits, Sample
from ray_mesh.proxy.timers import Wheel

SAMPLE_S = 0.5
_PAGE = os.sysconf("SC_PAGE_SIZE")
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def usual_limits(asked: OverloadLimits) -> OverloadLimits:
    """``asked`` with limits in place of zeros: half of the descriptors, since a request may need a second
    connection, and half of the memory."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = min(max(descriptors // 2 - 64, 64), 50_000)
    return OverloadLimits(
        asked.max_connections or connections,
        asked.max_memory_bytes or _memory_bytes() // 2,
        asked.max_lag_s,
    )


def _memory_bytes() -> int:
    machine = os.sysconf("SC_PHYS_PAGES") * _PAGE
    try:
        group = _CGROUP.read_text().strip()
    except OSError:
        return machine
    return min(machine, int(group)) if group.isdigit() else machine


def freeze() -> None:
    """Keep the collector away from what lives for the life of the process. Call once, after warm-up:
    a full collection over ten thousand connections would stop all traffic for more than 10 ms."""
    measuring, gc.callbacks[:] = gc.callbacks[:], []  # this pause is before the traffic
    gc.collect()
    gc.freeze()
    gc.callbacks[:] = measuring
    gc.set_threshold(50_000, 20, 100)


class CollectorPauses:
    """How long the garbage collector stopped the process, since :meth:`start`."""

    def __init__(self) -> None:
        self.count = 0
        self.max_s = 0.0
        self.total_s = 0.0
        self._began_at = 0.0

    def start(self) -> None:
        """Measure from now on."""
        gc.callbacks.append(self._on_phase)

    def stop(self) -> None:
        """Measure no more; may be called twice."""
        if self._on_phase in gc.callbacks:
            gc.callbacks.remove(self._on_phase)

    def _on_phase(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began_at = time.perf_counter()
        elif self._began_at:
            pause_s = time.perf_counter() - self._began_at
            self.count += 1
            self.total_s += pause_s
            self.max_s = max(self.max_s, pause_s)


class Vitals:
    """Samples regularly and tells ``on_level`` the level of overload, also when it stays."""

    def __init__(
        self,
        wheel: Wheel,
        overload: Overload,
        connections: Callable[[], int],
        on_level: Callable[[Level], None],
    ) -> None:
        self.pauses = CollectorPauses()
        self.max_lag_s = 0.0
        self.sample = Sample(0, 0, 0.0)
        self._wheel = wheel
        self._overload = overload
        self._connections = connections
        self._on_level = on_level
        self._memory = -1

    def start(self) -> None:
        """Sample from now on."""
        self._memory = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        self.pauses.start()
        self.on_deadline(time.monotonic())

    def stop(self) -> None:
        """Sample no more."""
        self.pauses.stop()
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1

    def on_deadline(self, now: float) -> None:
        """See :class:`.timers.Timed`."""
        if self._memory < 0:
            return
        lasting_s, longest_s = self._wheel.lag.take(self.sample.lag_s)
        self.max_lag_s = max(self.max_lag_s, longest_s)
        memory_bytes = int(os.pread(self._memory, 64, 0).split()[1]) * _PAGE
        self.sample = Sample(self._connections(), memory_bytes, lasting_s)
        self._on_level(self._overload.update(self.sample, now))
        self._wheel.add(now + SAMPLE_S, self)
