"""Where endpoints are, and how much of the traffic goes to each place (``localityLbSetting``).

A locality is ``region/zone/subzone``. Endpoints are put into groups: by priority, nearest first, of which
one gets what those before it cannot take (Envoy's priorities), or by pattern with a weight each (Envoy's
locality weights). A group is as healthy as 1.4 times its share of usable endpoints, so that some may fail
before anything is moved. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, zip_longest
from typing import Generic, Protocol, TypeVar

from ray_mesh.proxy.balance import draw_from
from ray_mesh.snapshot import Endpoint, Labels, LocalityPolicy

OVERPROVISIONED = 1.4


@dataclass(frozen=True, slots=True)
class Place:
    """Where a caller is, and its labels."""

    locality: str = ""
    labels: Labels = ()


class Placed(Protocol):
    """An endpoint."""

    endpoint: Endpoint


P = TypeVar("P", bound=Placed)


class Places(Generic[P]):
    """The groups of one cluster as one caller sees them."""

    def __init__(self, policy: LocalityPolicy, place: Place) -> None:
        self._policy = policy
        self._place = place
        shares = [share for share in policy.distribute if is_within(place.locality, share.origin)]
        self._share = shares[0] if shares and place.locality else None
        self._groups: list[tuple[P, ...]] = []
        self._usable: list[tuple[P, ...]] = []
        self._edges: list[float] = []

    def refresh(self, members: Sequence[P], available: Sequence[P]) -> None:
        """The members, and those of them that are to be used."""
        usable = frozenset(available)
        weights = self._group(members)
        self._usable = [tuple(each for each in group if each in usable) for group in self._groups]
        counts = [(len(some), len(group)) for some, group in zip(self._usable, self._groups, strict=True)]
        if weights is None:
            loads = priority_loads(counts)
        else:
            loads = [weight * health(*count) for weight, count in zip(weights, counts, strict=True)]
        self._edges = list(accumulate(loads))

    def draw(self, tried: Iterable[P], point: Callable[[], float]) -> tuple[P, ...]:
        """The endpoints that are usable in the group of one request, without those that were tried."""
        if not self._edges or not self._edges[-1]:
            return ()
        drawn = self._usable[draw_from(self._edges, point())]
        return tuple(each for each in drawn if each not in tried) if tried else drawn

    def neighbours(self, tried: Iterable[P]) -> tuple[P, ...]:
        """All endpoints of the groups that one of ``tried`` is in."""
        asked = frozenset(tried)
        return tuple(each for group in self._groups if not asked.isdisjoint(group) for each in group)

    def _group(self, members: Sequence[P]) -> list[int] | None:
        """Form the groups; their weights, None for priorities."""
        if self._share is not None:
            to = self._share.to
            self._groups = [
                tuple(each for each in members if is_within(each.endpoint.locality, pattern))
                for pattern, _ in to
            ]
            return [weight for _, weight in to]
        ranked: dict[int, list[P]] = {}
        for member in members:
            ranked.setdefault(self._rank(member.endpoint), []).append(member)
        self._groups = [tuple(ranked[rank]) for rank in sorted(ranked)]
        return None

    def _rank(self, endpoint: Endpoint) -> int:
        if self._policy.priority_labels:
            return label_rank(self._policy.priority_labels, self._place.labels, endpoint.labels)
        if not self._place.locality or self._policy.distribute:
            return 0
        return distance(self._place.locality, endpoint.locality, dict(self._policy.failover))


def is_within(locality: str, pattern: str) -> bool:
    """Whether a locality is in a pattern: ``*`` is any, and what is not said is any too."""
    parts = zip_longest(locality.split("/", 2), pattern.split("/", 2), fillvalue="")
    return all(asked in ("*", part) or (not asked and at > 0) for at, (part, asked) in enumerate(parts))


def distance(mine: str, other: str, failover: dict[str, str]) -> int:
    """0 in the same subzone, then zone and region; 3 for another region, or for the one to fail over to, and
    then 4 for the rest."""
    own = [*mine.split("/", 2), "", ""]
    its = [*other.split("/", 2), "", ""]
    if own[0] == its[0]:
        if own[1] != its[1]:
            return 2
        return 0 if own[2] == its[2] else 1
    preferred = failover.get(own[0])
    return 3 if preferred in (None, its[0]) else 4


def label_rank(names: Sequence[str], mine: Labels, other: Labels) -> int:
    """0 when all these labels are the caller's, one more for each from the first on that is not. A
    name may be ``name=value`` and then asks for that value."""
    own, its = dict(mine), dict(other)
    for matched, text in enumerate(names):
        name, is_said, value = text.partition("=")
        wanted = value if is_said else own.get(name, "")
        if its.get(name, "") != wanted:
            return len(names) - matched
    return 0


def health(usable: int, total: int) -> float:
    """How much of its traffic a group can take, at most 1."""
    return min(1.0, OVERPROVISIONED * usable / total) if total else 0.0


def priority_loads(counts: Iterable[tuple[int, int]]) -> list[float]:
    """The percentage of each priority from its usable and all endpoints, as Envoy computes it."""
    healths = [int(100 * health(usable, total) + 1e-9) for usable, total in counts]
    total = min(100, sum(healths))
    if not total:
        return [0.0 for _ in healths]
    loads: list[float] = []
    left = 100
    for each in healths:
        loads.append(min(left, each * 100 // total))
        left -= int(loads[-1])
    first = next(at for at, each in enumerate(healths) if each)
    loads[first] += left
    return loads
