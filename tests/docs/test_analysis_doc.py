"""docs/analysis.md names every code that there is, with its name, and every one of Istio's."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml

from ray_mesh.compile.codes import CODES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "analysis.md").read_text()
CONFORMANCE = Path(os.environ.get("RAY_MESH_CONFORMANCE", ROOT.parent / "shared" / "conformance"))
MESSAGES = CONFORMANCE / "istio-api" / "analysis-messages.yaml"
TOLD = dict(re.findall(r"^\| ((?:IST|RM)\d{4}) \| (\w+) \| (?:error|warning|info) \|", PAGE, re.MULTILINE))
SEVERITY = dict(re.findall(r"^\| ((?:IST|RM)\d{4}) \| \w+ \| (error|warning|info) \|", PAGE, re.MULTILINE))
UNTOLD = dict(
    re.findall(r"^\| (IST\d{4}) \| ([A-Z]\w+) \| (?!(?:error|warning|info) \|)", PAGE, re.MULTILINE)
)


def test_every_code_is_documented_under_its_name() -> None:
    assert {code: one.name for code, one in CODES.items()} == TOLD


def test_every_code_says_why() -> None:
    assert [code for code, one in CODES.items() if len(one.why) < 20] == []


@pytest.mark.skipif(not MESSAGES.exists(), reason=f"no {MESSAGES}")
def test_every_code_of_istio_is_told_or_has_a_reason_not_to_be() -> None:
    messages = yaml.safe_load(MESSAGES.read_text())["messages"]
    told = {code: name for code, name in TOLD.items() if code.startswith("IST")}
    assert told | UNTOLD == {one["code"]: one["name"] for one in messages}
    assert not told.keys() & UNTOLD.keys()
    levels = {one["code"]: one["level"].lower() for one in messages}
    assert {code: SEVERITY[code] for code in told} == {code: levels[code] for code in told}
