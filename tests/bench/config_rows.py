"""What the configuration bench measured: each figure beside its bar, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """How large the mesh is and how long cases take. ``few`` proxies are compared with ``proxies``."""

    services: int
    proxies: int
    few: int
    processes: int
    changes: int
    costed: int
    """Changes whose CPU time is measured, ``rate`` a second: no more than all proxies can take."""
    rate: float
    churn_s: float
    kills: int
    updates: int
    """Changes per second while the broker is killed."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One figure. It must not exceed its ``bar``, or, ``at_least``, reach it; without one it is only told."""

    case: str
    measure: str
    value: float
    unit: str
    bar: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def is_met(self) -> bool:
        """Whether the bar is met; without one, yes."""
        if self.bar is None:
            return True
        return self.value >= self.bar if self.at_least else self.value <= self.bar


def quantile(values: Sequence[float], part: float) -> float:
    """The value that this part of the others does not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(part * len(ranked)))]


def latencies(case: str, seconds: Sequence[float], p50_ms: float, p99_ms: float, note: str) -> list[Reading]:
    """Median and 99th percentile of one case."""
    return [
        Reading(case, "p50", quantile(seconds, 0.5) * 1e3, "ms", p50_ms, note=note),
        Reading(case, "p99", quantile(seconds, 0.99) * 1e3, "ms", p99_ms, note=note),
    ]


HEADINGS = ("CASE", "MEASURE", "VALUE", "UNIT", "BAR", "MET", "NOTE")


def table(readings: Iterable[Reading]) -> str:
    """The readings for people."""
    cells = [HEADINGS, *map(_cells, readings)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)


def render_json(readings: Iterable[Reading]) -> str:
    """The readings for programs."""
    return json.dumps(
        [{**asdict(one), "value": round(one.value, 3), "met": one.is_met} for one in readings], indent=2
    )


def _cells(one: Reading) -> tuple[str, ...]:
    sign = ">=" if one.at_least else "<="
    bar = "" if one.bar is None else f"{sign} {one.bar:g}"
    met = "" if one.bar is None else "yes" if one.is_met else "NO"
    return one.case, one.measure, f"{one.value:.4g}", one.unit, bar, met, one.note
