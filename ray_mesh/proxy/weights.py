"""Picking by weight: endpoints that count more than others, and new ones that are warmed up.

A weight is the one of the endpoint; while it is new, less. Least request takes two endpoints by weight and
of these the one with fewer requests in flight for its weight, so that idle endpoints share by weight; round
robin takes turns smoothly, and random draws.
"""

from __future__ import annotations

import itertools
import random
import time
from bisect import bisect_right
from collections.abc import Sequence
from math import inf
from typing import Generic, Protocol, TypeVar

from ray_mesh.snapshot import Balance, Endpoint, Warmup

_STEPS = 50
"""In how many steps a weight grows."""
_SHORTEST_STEP_S = 0.02
_KEPT = 64
"""Endpoints whose turn is remembered beside those that are asked about."""
_random = random.random


class Weighed(Protocol):
    """An endpoint with its requests in flight and its beginning."""

    active: int
    born_at: float
    endpoint: Endpoint


W = TypeVar("W", bound=Weighed)


def warmth(warmup: Warmup, age_s: float) -> float:
    """The share of its weight that an endpoint of this age has, as Envoy's slow start."""
    if age_s >= warmup.duration_s:
        return 1.0
    reached = max(age_s, 0.0) / warmup.duration_s
    return float(max(warmup.minimum_percent / 100, reached ** (1.0 / warmup.aggression)))


class WeightedPicker(Generic[W]):
    """A :data:`.balance.Picker`."""

    def __init__(self, balance: Balance, warmup: Warmup | None) -> None:
        self._balance = balance
        self._warmup = warmup
        self._members: Sequence[W] = ()
        self._weights: list[float] = []
        self._edges: list[float] = []
        self._good_until = inf
        self._credit: dict[W, float] = {}

    def __call__(self, members: Sequence[W]) -> W:
        """One of the members, of which there is one at least."""
        if members is not self._members or (
            self._warmup is not None and time.monotonic() >= self._good_until
        ):
            self._weigh(members, time.monotonic())
        if len(members) == 1:
            return members[0]
        if self._balance == "ROUND_ROBIN":
            return self._in_turn()
        one = self._draw()
        if self._balance == "RANDOM":
            return members[one]
        other = self._draw()
        weights = self._weights
        is_first = members[one].active * weights[other] <= members[other].active * weights[one]
        return members[one if is_first else other]

    def _weigh(self, members: Sequence[W], now: float) -> None:
        warmup = self._warmup
        self._members = members
        self._good_until = inf
        self._weights = [float(member.endpoint.weight) for member in members]
        if warmup is not None:
            shares = [warmth(warmup, now - member.born_at) for member in members]
            self._weights = [weight * share for weight, share in zip(self._weights, shares, strict=True)]
            if any(share < 1.0 for share in shares):
                self._good_until = now + max(warmup.duration_s / _STEPS, _SHORTEST_STEP_S)
        self._edges = list(itertools.accumulate(self._weights))
        if len(self._credit) > 2 * len(members) + _KEPT:
            self._credit = {}
        for member in members:
            self._credit.setdefault(member, 0.0)

    def _draw(self) -> int:
        edges = self._edges
        return min(bisect_right(edges, _random() * edges[-1]), len(edges) - 1)

    def _in_turn(self) -> W:
        credit = self._credit
        for member, weight in zip(self._members, self._weights, strict=True):
            credit[member] += weight
        best = max(self._members, key=credit.__getitem__)
        credit[best] -= self._edges[-1]
        return best
