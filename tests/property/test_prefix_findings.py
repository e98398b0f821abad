"""Matches that are never used are found as by comparing each with each, and in far fewer steps."""

from __future__ import annotations

import json
import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ray_mesh.compile.prefix_index import PrefixIndex, PrefixMatch, conditions_of
from ray_mesh.resources.virtual_service import HttpMatch

TEXTS = st.sampled_from([{"exact": "a"}, {"prefix": "a"}, {"regex": "a"}])
WORDS = st.sampled_from(["a", "b"])
MATCHES = st.fixed_dictionaries(
    {"uri": st.fixed_dictionaries({"prefix": st.text("/a", max_size=4)})},
    optional={
        "method": TEXTS,
        "authority": TEXTS,
        "headers": st.dictionaries(WORDS, TEXTS, max_size=2),
        "withoutHeaders": st.dictionaries(WORDS, TEXTS, max_size=1),
        "queryParams": st.dictionaries(WORDS, TEXTS, max_size=1),
        "sourceLabels": st.dictionaries(WORDS, WORDS, max_size=1),
        "sourceNamespace": WORDS,
        "port": st.sampled_from([80, 81]),
        "ignoreUriCase": st.booleans(),
        "gateways": st.lists(WORDS, max_size=2, unique=True),
    },
)


def takes(match: HttpMatch, other: HttpMatch) -> bool:
    """Whether ``other`` takes all of ``match``, by each field's own rule."""
    assert match.uri is not None
    assert other.uri is not None
    prefix, shorter = match.uri.prefix or "", other.uri.prefix or ""
    return (
        prefix.startswith(shorter)
        and prefix != shorter
        and other.headers.items() <= match.headers.items()
        and other.without_headers.items() <= match.without_headers.items()
        and other.query_params.items() <= match.query_params.items()
        and other.source_labels.items() <= match.source_labels.items()
        and all(getattr(other, one) in (None, getattr(match, one)) for one in ("method", "authority", "port"))
        and other.source_namespace in ("", match.source_namespace)
        and other.ignore_uri_case == match.ignore_uri_case
        and (not other.gateways or (bool(match.gateways) and {*match.gateways} <= {*other.gateways}))
    )


def indexed(matches: list[HttpMatch]) -> list[PrefixMatch]:
    return [
        PrefixMatch(number, 0, match.uri.prefix or "", conditions_of(match))
        for number, match in enumerate(matches)
        if match.uri is not None
    ]


def takers(matches: list[HttpMatch]) -> list[int | None]:
    ones = indexed(matches)
    index, found = PrefixIndex(ones), list[int | None]()
    for one in ones:
        taker = index.taker(one)
        found.append(None if taker is None else taker.number)
        index.add(one)
    return found


@settings(max_examples=300, deadline=None)
@given(st.lists(MATCHES, max_size=12))
def test_the_first_match_that_takes_another_is_found(written: list[dict[str, Any]]) -> None:
    matches = [HttpMatch.model_validate_json(json.dumps(one)) for one in written]
    assert takers(matches) == [
        next((other for other in range(number) if takes(match, matches[other])), None)
        for number, match in enumerate(matches)
    ]


def test_thousands_of_matches_take_no_minute() -> None:
    """Compared each with each, each of these kinds took 20 s and more."""
    many = range(4000)
    kinds: list[list[dict[str, Any]]] = [
        [{"uri": {"prefix": "/" + "a" * (n % 50)}, "headers": {"h": {"exact": str(n)}}} for n in many],
        [{"uri": {"prefix": "/" + "a" * (n % 50)}, "gateways": [f"g{n}"]} for n in many],
        [{"uri": {"prefix": f"/{'a' * (n % 2)}"}, "method": {"exact": "ABC"[n % 2 + 1]}} for n in many],
    ]
    for written in kinds:
        matches = [HttpMatch.model_validate_json(json.dumps(one)) for one in written]
        begun_s = time.process_time()
        assert takers(matches) == [None] * len(matches)
        assert time.process_time() - begun_s < 5.0
