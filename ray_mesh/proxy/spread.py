"""Which worker of a node takes a connection: decided from how many each has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

W = TypeVar("W")

SLACK = 8
"""A worker keeps what comes to it as long as it has no more than one connection, and an eighth, above the
least loaded: passing a connection on costs more than the last bit of balance is worth."""


def better_place(own: int, others: Mapping[W, int]) -> W | None:
    """Who should take a connection instead of a worker with ``own`` connections; None: keep it."""
    if not others:
        return None
    best = min(others, key=others.__getitem__)
    return best if own - others[best] > others[best] // SLACK else None
