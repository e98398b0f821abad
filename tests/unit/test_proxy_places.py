"""Localities: who is near, and how much goes where."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ray_mesh.proxy.places import Place, Places, distance, is_within, label_rank, priority_loads
from ray_mesh.snapshot import Endpoint, LocalityPolicy, LocalityShares


@pytest.mark.parametrize(
    ("counts", "loads"),
    [
        ([(100, 100), (100, 100)], [100, 0]),
        ([(72, 100), (72, 100)], [100, 0]),
        ([(71, 100), (100, 100)], [99, 1]),
        ([(50, 100), (100, 100)], [70, 30]),
        ([(25, 100), (100, 100)], [35, 65]),
        ([(0, 100), (100, 100)], [0, 100]),
        ([(50, 100), (50, 100)], [70, 30]),
        ([(25, 100), (25, 100)], [50, 50]),
        ([(0, 100), (1, 100)], [0, 100]),
        ([(25, 100), (25, 100), (100, 100)], [35, 35, 30]),
        ([(25, 100), (25, 100), (20, 100)], [37, 35, 28]),
        ([(0, 100), (0, 100)], [0, 0]),
        ([(0, 0), (3, 3)], [0, 100]),
        ([(3, 3)], [100]),
    ],
)
def test_loads_of_priorities(counts: list[tuple[int, int]], loads: list[int]) -> None:
    assert priority_loads(counts) == loads


@pytest.mark.parametrize(
    ("locality", "pattern", "is_in"),
    [
        ("r/z/s", "r/z/s", True),
        ("r/z/s", "r/z", True),
        ("r/z/s", "r", True),
        ("r/z/s", "r/*", True),
        ("r/z/s", "r/z/*", True),
        ("r/z/s", "*", True),
        ("r/z/s", "r/y/*", False),
        ("r/z/s", "q", False),
        ("r/z", "r/z/s", False),
        ("", "r", False),
        ("", "*", True),
    ],
)
def test_patterns(locality: str, pattern: str, is_in: bool) -> None:
    assert is_within(locality, pattern) == is_in


@pytest.mark.parametrize(
    ("other", "failover", "rank"),
    [
        ("r/z/s", {}, 0),
        ("r/z/t", {}, 1),
        ("r/y/s", {}, 2),
        ("q/z/s", {}, 3),
        ("", {}, 3),
        ("q/z/s", {"r": "q"}, 3),
        ("p/z/s", {"r": "q"}, 4),
        ("p/z/s", {"x": "q"}, 3),
    ],
)
def test_distances(other: str, failover: dict[str, str], rank: int) -> None:
    assert distance("r/z/s", other, failover) == rank


@pytest.mark.parametrize(
    ("other", "rank"),
    [
        ({"net": "n", "zone": "z"}, 0),
        ({"net": "n", "zone": "y"}, 1),
        ({"net": "m", "zone": "z"}, 2),
        ({}, 2),
    ],
)
def test_labels(other: dict[str, str], rank: int) -> None:
    mine = (("net", "n"), ("zone", "z"))
    assert label_rank(("net", "zone"), mine, tuple(other.items())) == rank
    assert label_rank(("net=n", "zone=z"), (), tuple(other.items())) == rank


@dataclass(eq=False)
class One:
    """An endpoint."""

    endpoint: Endpoint


def ones(*localities: str) -> list[One]:
    return [One(Endpoint("w", "10.0.0.1", 80, "", "", (), "", locality=each)) for each in localities]


def test_the_nearest_first_and_what_they_cannot_take_to_the_next() -> None:
    places: Places[One] = Places(LocalityPolicy(), Place("r/z/s"))
    near, next_door, far = members = ones("r/z/s", "r/z/t", "q")
    places.refresh(members, members)
    assert places.draw((), lambda: 0.99) == (near,)
    places.refresh(members, [next_door, far])
    assert places.draw((), lambda: 0.0) == places.draw((), lambda: 0.99) == (next_door,)
    assert places.draw((next_door,), lambda: 0.5) == ()
    assert places.neighbours((near,)) == (near,)
    places.refresh(members, [])
    assert places.draw((), lambda: 0.5) == ()


def test_shares() -> None:
    to = (("q", 20), ("r/z/*", 80))
    shares = (LocalityShares("x", (("q", 100),)), LocalityShares("r/*", to))
    places: Places[One] = Places(LocalityPolicy(shares), Place("r/z/s"))
    a, b, c, _ = members = ones("q", "r/z/s", "r/z/t", "p")
    places.refresh(members, members)
    assert places.draw((), lambda: 0.19) == (a,)
    assert places.draw((), lambda: 0.21) == (b, c)
    places.refresh(members, [a, b])  # half of them take 70 % of the 80
    assert places.draw((), lambda: 20 / 76 - 0.01) == (a,)
    assert places.draw((), lambda: 20 / 76 + 0.01) == (b,)


def test_a_caller_of_no_place_has_no_preference() -> None:
    members = ones("q", "r")
    for policy in (LocalityPolicy(), LocalityPolicy((LocalityShares("r", (("q", 100),)),))):
        places: Places[One] = Places(policy, Place())
        places.refresh(members, members)
        assert places.draw((), lambda: 0.5) == tuple(members)
