"""Whatever text comes, only our own errors come out, and what is accepted is stable."""

from __future__ import annotations

import json
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_mesh.errors import ConfigError
from ray_mesh.resources import KINDS, Document, from_json, load

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 70000),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "a", "*", "*.a", "7s", "80", "STRICT", "ALLOW", "a/b", "HTTP", "\u00e9", "{*}"]),
)


def field_names(model: Any, depth: int = 0) -> set[str]:
    names = set()
    for field in model.model_fields.values():
        names.add(field.alias)
        for inner in _models(field.annotation):
            names |= field_names(inner, depth + 1) if depth < 8 else set()
    return names


def _models(annotation: Any) -> list[Any]:
    if hasattr(annotation, "model_fields"):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models(part)]


ALIASES = {kind: sorted(field_names(entry.model)) for kind, entry in KINDS.items()}


def trees(kind: str) -> st.SearchStrategy[Any]:
    keys = st.sampled_from([*ALIASES[kind], "zzz", "end-user", "8080"])
    return st.recursive(
        SCALARS,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=4)),
        max_leaves=12,
    )


@st.composite
def texts(draw: st.DrawFn) -> str:
    kind = draw(st.sampled_from(sorted(KINDS)))
    spec = draw(st.dictionaries(st.sampled_from(ALIASES[kind]), trees(kind), max_size=4))
    plain = {
        "apiVersion": draw(st.sampled_from(KINDS[kind].api_versions)),
        "kind": kind.partition(".")[0],
        "metadata": {"name": "a"},
        "spec": spec,
    }
    return json.dumps(plain) if draw(st.booleans()) else str(yaml.safe_dump(plain))


def accepted(text: str) -> list[Document]:
    """The documents of a text; none when it is refused. Any other error is a failure."""
    try:
        return load(text, "f.yaml")
    except ConfigError:
        return []


@settings(max_examples=400, deadline=None)
@given(texts())
def test_documents_of_every_kind(text: str) -> None:
    for document in accepted(text):
        again = from_json(document.json)
        assert again.json == document.json
        assert again.spec == document.spec


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=60), st.text(alphabet="&*a:[]{}-!<|>%@\"'\n #?,", max_size=40)))
def test_any_text(text: str) -> None:
    accepted(text)
