"""The results of a bench: rows with a peer measured in the same run, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

CALM_CORES = 0.15
MIN_CALM = 3


@dataclass(frozen=True, slots=True)
class Round:
    """One measured round of one target: its value, and how many processors others kept busy."""

    value: float
    unrelated_cores: float


@dataclass(frozen=True, slots=True)
class Figure:
    """What the rounds of one target come to."""

    median: float
    minimum: float
    rounds: int
    calm_rounds: int

    @property
    def is_calm(self) -> bool:
        """Whether enough rounds were undisturbed."""
        return self.calm_rounds >= MIN_CALM


def figure(rounds: Sequence[Round]) -> Figure:
    """Median and minimum of the calm rounds; of the calmer half when hardly any was calm."""
    ranked = sorted(rounds, key=lambda one: one.unrelated_cores)
    calm = [one for one in ranked if one.unrelated_cores <= CALM_CORES]
    used = calm if len(calm) >= MIN_CALM else ranked[: max(1, (len(ranked) + 1) // 2)]
    values = [one.value for one in used]
    return Figure(median(values), min(values), len(rounds), len(calm))


@dataclass(frozen=True, slots=True)
class Row:
    """One case. The bar is met when ``ratio`` (ours over the peer's median) does not exceed it.

    ``beside`` are figures of others, which no bar compares with.
    """

    case: str
    unit: str
    ours: Figure
    peer: str
    theirs: Figure
    bar: float
    beside: tuple[tuple[str, Figure], ...] = ()

    @property
    def ratio(self) -> float:
        """Ours over theirs; below 1 is cheaper."""
        return self.ours.median / self.theirs.median

    @property
    def is_met(self) -> bool:
        """Whether the bar is met."""
        return self.ratio <= self.bar

    def to_json(self) -> dict[str, str | float | bool]:
        """The row as the JSON output has it."""
        beside = {name: round(each.median, 2) for name, each in self.beside}
        return {
            "case": self.case,
            "value": round(self.ours.median, 2),
            "unit": self.unit,
            "peer": self.peer,
            "peer_value": round(self.theirs.median, 2),
            "ratio": round(self.ratio, 3),
            "bar": self.bar,
            "met": self.is_met,
            **beside,
        }


HEADINGS = ("CASE", "RAY MESH", "MIN", "PEER", "PEER VALUE", "MIN", "UNIT", "RATIO", "BAR", "MET")


def table(rows: Iterable[Row]) -> str:
    """The rows for people; what was measured on a busy machine says so."""
    listed = list(rows)
    cells: list[tuple[str, ...]] = [HEADINGS, *(_cells(row) for row in listed)]
    if any(row.beside for row in listed):
        extra = [
            "BESIDE",
            *(", ".join(f"{name} {each.median:.1f}" for name, each in row.beside) for row in listed),
        ]
        cells = [(*line, more) for line, more in zip(cells, extra, strict=True)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
    for row in listed:
        if not (row.ours.is_calm and row.theirs.is_calm):
            calm = f"{row.ours.calm_rounds}+{row.theirs.calm_rounds}"
            everything = f"{row.ours.rounds}+{row.theirs.rounds}"
            lines.append(
                f"note: {row.case}: only {calm} of {everything} rounds were calm; the ratio is rough"
            )
    return "\n".join(lines)


def render_json(rows: Iterable[Row]) -> str:
    """The rows for programs."""
    return json.dumps([row.to_json() for row in rows], indent=2)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.case,
        f"{row.ours.median:.1f}",
        f"{row.ours.minimum:.1f}",
        row.peer,
        f"{row.theirs.median:.1f}",
        f"{row.theirs.minimum:.1f}",
        row.unit,
        f"{row.ratio:.2f}",
        f"{row.bar:.2f}",
        "yes" if row.is_met else "NO",
    )
