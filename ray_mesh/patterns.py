"""Regular expressions of configuration: RE2's syntax, matched in linear time (https://github.com/google/re2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Protocol

import re2

MAX_PATTERN_BYTES = 1024
MAX_INSTRUCTIONS = 1000
"""How large a compiled expression may be; matching costs at most this many steps per byte."""

_REFERENCE = re.compile(r"\\(?:([0-9])|(\\))?")


class Match(Protocol):
    """A part of a text that matches."""

    def span(self) -> tuple[int, int]:
        """Where it begins and ends."""

    def group(self, number: int) -> bytes | None:
        """What a group matched; 0 for all of it."""


class Pattern(Protocol):
    """A compiled expression."""

    @property
    def groups(self) -> int:
        """The number of capturing groups."""

    def fullmatch(self, text: bytes) -> object | None:
        """Something when the whole text matches."""

    def finditer(self, text: bytes) -> Iterator[Match]:
        """The matches from left to right."""


def compile_pattern(text: str) -> Pattern:
    """The expression as Istio means it: RE2, over bytes.

    Raises:
        ValueError: no expression, or one that is too large; says why.
    """
    raw = text.encode()
    if not raw:
        raise ValueError("a regex is not empty")
    if len(raw) > MAX_PATTERN_BYTES:
        raise ValueError(f"a regex has at most {MAX_PATTERN_BYTES} bytes, this one has {len(raw)}")
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    try:
        pattern = re2.compile(raw, options)
    except re2.error as error:
        cause = error.args[0]
        told = cause.decode("utf-8", "replace") if isinstance(cause, bytes) else str(cause)
        raise ValueError(f"not a regular expression of RE2: {told}") from None
    if pattern.programsize > MAX_INSTRUCTIONS:
        raise ValueError(
            f"the regex compiles to {pattern.programsize} instructions, of {MAX_INSTRUCTIONS} at most: "
            "make it shorter, or its repetitions smaller"
        )
    return pattern  # type: ignore[no-any-return]


def compile_template(text: str, groups: int) -> tuple[str | int, ...]:
    r"""A substitution in RE2's syntax as literal texts and numbers of groups: ``\0`` to ``\9``, ``\\``.

    Raises:
        ValueError: a backslash before something else, or a group that the expression does not have.
    """
    parts: list[str | int] = []
    position = 0
    for found in _REFERENCE.finditer(text):
        parts.append(text[position : found.start()])
        position = found.end()
        if found[1] is not None:
            if int(found[1]) > groups:
                raise ValueError(f"{found[0]} refers to a group that the regex does not have")
            parts.append(int(found[1]))
        elif found[2] is not None:
            parts.append("\\")
        else:
            raise ValueError("a backslash is followed by the number of a group, or by a backslash")
    parts.append(text[position:])
    return tuple(part for part in parts if part != "")
