"""Choosing: one of several weighted destinations, one of several endpoints."""

from __future__ import annotations

import itertools
import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from ray_mesh.snapshot import Balance

_random = random.random


class Loaded(Protocol):
    """An endpoint with its number of requests in flight."""

    active: int


L = TypeVar("L", bound=Loaded)
Picker = Callable[[Sequence[L]], L]


def least_request(members: Sequence[L]) -> L:
    """The less busy of two random members (power of two choices)."""
    count = len(members)
    if count == 1:
        return members[0]
    first = int(_random() * count)
    second = int(_random() * (count - 1))
    one = members[first]
    other = members[second + (second >= first)]
    return one if one.active <= other.active else other


def uniform(members: Sequence[L]) -> L:
    """Any member."""
    return members[int(_random() * len(members))]


def round_robin() -> Picker[L]:
    """A picker that goes round; it starts anywhere, so that many proxies do not move in step."""
    turns = itertools.count(random.getrandbits(16))
    return lambda members: members[next(turns) % len(members)]


def picker(balance: Balance) -> Picker[L]:
    """The picker of a balance algorithm."""
    if balance == "ROUND_ROBIN":
        return round_robin()
    return uniform if balance == "RANDOM" else least_request


def draw_from(edges: Sequence[float], point: float) -> int:
    """The index that owns ``point`` in [0, 1), where ``edges`` are the sums of the weights so far."""
    return min(bisect_right(edges, point * edges[-1]), len(edges) - 1)


class WeightedSplit:
    """Draws an index with a probability proportional to its weight."""

    __slots__ = ("_edges", "_total")

    def __init__(self, weights: Sequence[int]) -> None:
        self._edges = list(itertools.accumulate(weights))
        self._total = self._edges[-1]

    def draw(self, point: float) -> int:
        """The index that owns ``point`` in [0, 1)."""
        return bisect_right(self._edges, point * self._total)
