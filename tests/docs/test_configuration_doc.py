"""docs/configuration.md names every kind, and no others."""

from __future__ import annotations

import re
from pathlib import Path

from ray_mesh.resources import KINDS

TEXT = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()


def test_every_kind_is_documented() -> None:
    rows = set(re.findall(r"^\| ([A-Z][A-Za-z.0-9]+) \| (?:`|the same)", TEXT, re.MULTILINE))
    assert rows == set(KINDS)
