"""Analysis of anything that may stand in a file: it never fails, and order changes nothing."""

from __future__ import annotations

import copy
import json
from typing import Any

import yaml
from analyze_cases import CASES, SELECTED
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_mesh.analyze import analyze_files, to_json

DOCUMENTS: list[dict[str, Any]] = [
    document
    for text, _ in (*CASES.values(), *SELECTED.values())
    for document in yaml.safe_load_all(text)
    if isinstance(document, dict)
]
WRONG: tuple[Any, ...] = (None, "", [], {}, 0, -1, "*", "a/b", True, 1.5, ["x"], {"a": "b"}, "reviews", 70000)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for step, one in below for found in paths(one, (*path, step)))]


@st.composite
def damaged(draw: st.DrawFn) -> str:
    document = json.loads(json.dumps(draw(st.sampled_from(DOCUMENTS))))
    for _ in range(draw(st.integers(0, 2))):
        *above, last = draw(st.sampled_from(paths(document)[1:] or [("kind",)]))
        owner = document
        for step in above:
            owner = owner[step]
        owner[last] = copy.deepcopy(draw(st.sampled_from(WRONG)))
    return json.dumps(document) + "\n"


def summary(texts: list[str]) -> set[tuple[str, ...]]:
    report = to_json(analyze_files([("f", "---\n".join(texts))], 1.8e9))
    return {tuple(one[name] for name in ("code", "severity", "key", "path")) for one in report["findings"]}


@settings(max_examples=40, deadline=None)
@given(st.lists(damaged(), min_size=1, max_size=8), st.randoms())
def test_any_documents_in_any_order(texts: list[str], random: Any) -> None:
    found = summary(texts)
    if not any("RM0001" in one for one in found):  # Of two for one object the first is the one that is there.
        assert summary(random.sample(texts, len(texts))) == found
