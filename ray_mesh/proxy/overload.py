"""Which work a plane gives up when it has too much: samples in, a level out.

The pressure is the largest share of a limit that is used: open connections, resident memory, lateness
of the loop. As it grows, work is given up in the order of what is lost with it: copies and second tries;
the wish to keep connections; requests of the outside; requests that workloads make; requests to
workloads, for which others have done their part already; at last new connections.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

FALL_MARGIN = 0.05
FALL_AFTER_S = 2.0
"""A level is left when the pressure stayed this much below its threshold for so long."""


class Level(IntEnum):
    """What is given up, each with all before it."""

    NORMAL = 0
    NO_EXTRAS = 1  # mirrors and retries
    NO_KEEP_ALIVE = 2
    NO_INGRESS = 3
    NO_OUTBOUND = 4
    NO_INBOUND = 5
    NO_CONNECTIONS = 6


THRESHOLDS = (0.0, 0.80, 0.85, 0.90, 0.94, 0.97, 1.0)
"""From which pressure each level holds."""


@dataclass(frozen=True, slots=True)
class OverloadLimits:
    """What a plane may use; 0 stands for the share of the machine that is usual.

    ``max_lag_s`` is for lateness that lasts: a single pause of the loop says nothing.
    """

    max_connections: int = 0
    max_memory_bytes: int = 0
    max_lag_s: float = 0.5


USUAL = OverloadLimits()


@dataclass(frozen=True, slots=True)
class Sample:
    """What is used at one moment."""

    connections: int
    memory_bytes: int
    lag_s: float


class Overload:
    """The level in force. ``on_change`` gets the new level and the reason in words."""

    __slots__ = ("_justified_at", "level", "limits", "on_change", "pressure")

    def __init__(self, limits: OverloadLimits) -> None:
        self.limits = limits
        self.level = Level.NORMAL
        self.pressure = 0.0
        self.on_change: Callable[[Level, str], None] | None = None
        self._justified_at = 0.0

    def update(self, sample: Sample, now: float) -> Level:
        """Take a sample; the level rises at once and falls late."""
        pressure, cause = _worst(sample, self.limits)
        self.pressure = pressure
        level = max(_level(pressure), min(self.level, _level(pressure + FALL_MARGIN)))
        if level < self.level and now - self._justified_at < FALL_AFTER_S:
            return self.level
        self._justified_at = now
        if level != self.level:
            self.level = level
            if self.on_change is not None:
                self.on_change(level, cause)
        return self.level


def _level(pressure: float) -> Level:
    return Level(sum(pressure >= threshold for threshold in THRESHOLDS[1:]))


def _worst(sample: Sample, limits: OverloadLimits) -> tuple[float, str]:
    shares = (
        (sample.connections, limits.max_connections, "{:.0f} of {:.0f} connections", 1.0),
        (sample.memory_bytes, limits.max_memory_bytes, "{:.0f} of {:.0f} MiB of memory", 2.0**-20),
        (sample.lag_s, limits.max_lag_s, "a loop that is late by {:.0f} ms, limit {:.0f} ms", 1e3),
    )
    known = [
        (used / limit, words.format(used * unit, limit * unit))
        for used, limit, words, unit in shares
        if limit
    ]
    return max(known, default=(0.0, "no limits"))
