"""Consistent hashing: tables that give a key the same endpoint as long as that is there.

Both tables are made from all endpoints, healthy or not, and only anew when the set of them changes. A key
whose endpoint may not be used now goes to the next one in the table, so that the others keep theirs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from hashlib import blake2b
from math import ceil
from typing import Generic, Protocol, TypeVar

M = TypeVar("M")
M_co = TypeVar("M_co", covariant=True)
Named = Sequence[tuple[str, int, M]]
"""Name, weight and what is named; names are the same in every proxy."""
_POINTS_PER_DIGEST = 8


def hash_of(key: bytes) -> int:
    """64 bits of a key, the same in every proxy."""
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big")


class Table(Protocol[M_co]):
    """Gives keys to members."""

    def choose(self, key: int, is_usable: Callable[[M_co], bool]) -> M_co | None:
        """The member of a key, or the next one that is usable; None when there is none."""


class Ring(Generic[M]):
    """Ketama's kind: each member has points on a ring, and a key belongs to the next point. There are at
    least ``minimum_size`` points, in proportion to the weights."""

    def __init__(self, members: Named[M], minimum_size: int) -> None:
        total = sum(weight for _, weight, _ in members)
        points: list[tuple[int, int]] = []
        for number, (name, weight, _) in enumerate(members):
            count = ceil(minimum_size * weight / total)
            own = b"".join(
                blake2b(f"{name} {turn}".encode()).digest()
                for turn in range(ceil(count / _POINTS_PER_DIGEST))
            )
            points += [(int.from_bytes(own[at * 8 : at * 8 + 8], "big"), number) for at in range(count)]
        points.sort()
        self._points = [point for point, _ in points]
        self._owners = [members[number][2] for _, number in points]

    def choose(self, key: int, is_usable: Callable[[M], bool]) -> M | None:
        """See :class:`Table`."""
        return _next(self._owners, bisect_left(self._points, key), is_usable)


class Maglev(Generic[M]):
    """Maglev's table of a prime ``size``: every member has the same share of it, up to one entry, or one
    in proportion to its weight."""

    def __init__(self, members: Named[M], size: int) -> None:
        self._owners: list[M] = []
        if not members:
            return
        most = max(weight for _, weight, _ in members)
        steps = [(hash_of(f"{name} skip".encode()) % (size - 1)) + 1 for name, _, _ in members]
        at = [hash_of(f"{name} offset".encode()) % size for name, _, _ in members]
        share = [0.0] * len(members)
        table = [-1] * size
        left = size
        while True:
            for number, (_, weight, _) in enumerate(members):
                share[number] += weight / most
                if share[number] < 1.0:
                    continue
                share[number] -= 1.0
                slot, step = at[number], steps[number]
                while table[slot] >= 0:
                    slot = (slot + step) % size
                table[slot] = number
                at[number] = (slot + step) % size
                left -= 1
                if not left:
                    self._owners = [members[each][2] for each in table]
                    return

    def choose(self, key: int, is_usable: Callable[[M], bool]) -> M | None:
        """See :class:`Table`."""
        return _next(self._owners, key % len(self._owners), is_usable) if self._owners else None


def _next(owners: Sequence[M], start: int, is_usable: Callable[[M], bool]) -> M | None:
    count = len(owners)
    for step in range(count):
        owner = owners[(start + step) % count]
        if is_usable(owner):
            return owner
    return None
