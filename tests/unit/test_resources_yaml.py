"""The strict reader: what it takes, what it refuses, and where it says things stand."""

from __future__ import annotations

from typing import Any

import pytest

from ray_mesh.errors import ConfigError
from ray_mesh.resources.reading import read_each
from ray_mesh.resources.source import (
    MAX_ADDRESSES,
    MAX_BYTES,
    MAX_DEPTH,
    MAX_DOCUMENTS,
    MAX_INNER,
    read_inner,
    read_json,
    read_yaml,
    show,
)


def value(text: str) -> Any:
    [manifest] = read_yaml(text, "f.yaml")
    return manifest.value


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_yaml(text, "f.yaml")
    return str(caught.value)


def test_documents_are_separate_and_empty_ones_are_skipped() -> None:
    assert [one.value for one in read_yaml("a: 1\n---\n---\nb: x\n---\n# end\n", "f")] == [
        {"a": 1},
        {"b": "x"},
    ]


def test_scalars() -> None:
    assert value("{a: 1, b: '1', c: 1.50, d: true, e: null, f: 2020-01-01, g: -7, h: !!str 5}") == {
        "a": 1,
        "b": "1",
        "c": 1.5,
        "d": True,
        "e": None,
        "f": "2020-01-01",
        "g": -7,
        "h": "5",
    }


@pytest.mark.parametrize("text", ["010", "0x1f", "12:30:45", "1_000", ".inf", ".nan", "9" * 30, "0b1"])
def test_numbers_that_readers_disagree_about_are_refused(text: str) -> None:
    assert refusal(f"a: {text}").startswith("f.yaml:1:4: ")
    assert value(f'a: "{text}"') == {"a": text}


def test_keys_are_text_and_numbers_become_text() -> None:
    assert value("8080: {mode: STRICT}") == {"8080": {"mode": "STRICT"}}
    assert "quote it" in refusal("on: 1")
    assert "a key is text" in refusal("[a]: 1")


def test_duplicate_keys_are_refused_where_the_second_stands() -> None:
    assert refusal("a:\n  b: 1\n  c: 2\n  b: 3\n") == "f.yaml:4:3: duplicate key 'b'"


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!mine", "!!binary", "!!set", "!!omap"])
def test_tags_are_refused(tag: str) -> None:
    assert "tag" in refusal(f"a: {tag} {{}}")


def test_anchors_and_merges_are_expanded_and_own_keys_win() -> None:
    text = "base: &b {x: 1, y: 2}\nuse: {<<: *b, y: 3}\nmany: {<<: [*b, {x: 9, z: 4}]}\n"
    assert value(text) == {
        "base": {"x": 1, "y": 2},
        "use": {"x": 1, "y": 3},
        "many": {"x": 1, "y": 2, "z": 4},
    }


def test_an_anchor_in_itself_is_refused() -> None:
    assert "contains itself" in refusal("a: &a [*a]")


def test_expanded_anchors_are_bounded() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    assert "after anchors are expanded" in refusal("\n".join(lines))


def test_depth_size_and_documents_are_bounded() -> None:
    assert "nested deeper" in refusal("a: " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))
    assert "nested deeper" in refusal("[" * 500_000)
    assert "larger than" in refusal("a: " + "x" * MAX_BYTES)
    assert "too many" in refusal("---\na: 1\n" * (MAX_DOCUMENTS + 1))


@pytest.mark.parametrize(
    "text", ["a: [1", "a: *nobody", "\x00", "a: b: c", "%YAML 9.9\n---\na: 1", "- 1", "text"]
)
def test_what_is_not_a_document_is_refused_with_its_place(text: str) -> None:
    assert refusal(text).startswith("f.yaml")


def test_positions() -> None:
    [manifest] = read_yaml("spec:\n  http:\n  - name: a\n    route: []\n", "f.yaml")
    at = manifest.positions.at
    assert at(("spec", "http", 0, "route")) == "f.yaml:4:5"
    assert at(("spec", "http", 0)) == "f.yaml:3:5"
    assert at(("spec", "http", 0, "missing", "below")) == "f.yaml:3:5"


def test_paths_are_shown_as_people_write_them() -> None:
    assert show(("spec", "http", 0, "match")) == "spec.http[0].match"
    assert show(("metadata", "labels", "a.b/c")) == 'metadata.labels["a.b/c"]'


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 2}', '{"a": NaN}', "[1]", "{", '{"a": Infinity}', "[" * 100_000]
)
def test_json_is_read_under_the_same_rules(text: str) -> None:
    with pytest.raises(ConfigError):
        read_json(text, "stored")


def test_an_address_in_brackets_is_text() -> None:
    assert read_yaml("a: [1.2.3.4, 001:db8::, fe80::/10]", "f")[0].value == {
        "a": ["1.2.3.4", "001:db8::", "fe80::/10"]
    }
    assert read_yaml("a: {b: 2001:db8::}", "f")[0].value == {"a": {"b": "2001:db8::"}}
    assert read_yaml("a: ' [2001:db8::] '", "f")[0].value == {"a": " [2001:db8::] "}
    assert "not YAML" in refusal("a: [b:]")
    assert "not in quotes" in refusal(f"a: [{', '.join(['2001:db8::'] * (MAX_ADDRESSES + 1))}]")


def test_yaml_inside_of_a_value_is_text() -> None:
    assert read_inner("[{a: 010, b: yes, c: 2027-01-15}]", "it") == [
        {"a": "010", "b": "yes", "c": "2027-01-15"}
    ]
    assert read_inner("", "it") is None


@pytest.mark.parametrize(
    "text",
    [
        "[" * 60_000,
        "- " * (MAX_DEPTH + 1) + "a",
        "[&a [x], *a]",
        "{a: &a {b: c}, d: {<<: *a}}",
        "x" * (MAX_INNER + 1),
        "a: [",
        "a\n---\nb",
        "\x00",
    ],
    ids=["open", "deep", "alias", "merge", "long", "broken", "two", "control"],
)
def test_yaml_inside_of_a_value_is_bounded(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^it:"):
        read_inner(text, "it")


def test_values_are_counted_over_all_documents_that_are_read_one_by_one() -> None:
    names = ["a", "b", "c", "d"]
    tens = [
        f"{name}: &{name} [{', '.join([f'*{names[i - 1]}' if i else '1'] * 10)}]"
        for i, name in enumerate(names)
    ]
    large = "\n".join(["---", *tens, f"e: [{', '.join(['*d'] * 10)}]", ""])
    readings = list(read_each(large * 5, "f.yaml"))
    assert len(readings) == 3, "each has some 120,000 values"
    [problem] = readings[-1].problems
    assert "more than 300000 values" in str(problem)
