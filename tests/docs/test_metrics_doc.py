from __future__ import annotations

import inspect
import re
from pathlib import Path

from ray_mesh.telemetry.export import BUCKETS_MS, HELP, LABELS
from ray_mesh.telemetry.table import SeriesTable

DOCUMENT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()


def rows(heading: str) -> list[tuple[str, str]]:
    """First cell (without backquotes) and last cell of each row of the table under a heading."""
    section = DOCUMENT.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    cells = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return [(row[0].strip("`"), row[-1]) for row in cells]


def test_names_and_meanings_are_those_of_the_code() -> None:
    assert dict(rows("Names")) == HELP


def test_labels_are_those_of_the_code_in_their_order() -> None:
    assert tuple(label for label, _ in rows("Labels")) == LABELS


def test_buckets_are_those_of_the_code() -> None:
    listed = DOCUMENT.split("in milliseconds: ", 1)[1].split(".\n", 1)[0]
    assert tuple(float(bound) for bound in re.split(r",\s+", listed)) == BUCKETS_MS


def test_the_series_limit_is_that_of_the_code() -> None:
    limit = inspect.signature(SeriesTable).parameters["limit"].default
    assert f"at most {limit:,} series".replace(",", " ") in DOCUMENT
