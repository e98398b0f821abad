"""Regular expressions of configuration."""

from __future__ import annotations

import pytest

from ray_mesh.patterns import compile_pattern, compile_template


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "is not empty"),
        ("(", "missing )"),
        ("(?=a)", "invalid perl operator"),
        ("*", "no argument for repetition operator"),
        ("a" * 1025, "at most 1024 bytes, this one has 1025"),
        ("(abcd){500}", "instructions, of 1000 at most"),
    ],
)
def test_what_is_refused(text: str, cause: str) -> None:
    with pytest.raises(ValueError, match=r"regex|expression") as caught:
        compile_pattern(text)
    assert cause in str(caught.value)


def test_the_whole_text_matches() -> None:
    pattern = compile_pattern("/a[0-9]")
    assert pattern.fullmatch(b"/a1")
    assert not pattern.fullmatch(b"/a1/")
    assert not pattern.fullmatch(b"x/a1")
    assert compile_pattern("é.").fullmatch("éx".encode())


def test_templates() -> None:
    assert compile_template(r"/x/\1\\\0", 1) == ("/x/", 1, "\\", 0)
    for text in (r"\2", r"\x", "\\"):
        with pytest.raises(ValueError, match=r"backslash|group"):
            compile_template(text, 1)
