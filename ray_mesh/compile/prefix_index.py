"""Which match of a path's prefix takes all that another one would, found without comparing each with each.

A VirtualService may have thousands of matches. A match can only be taken by one whose prefix begins its own,
and all of whose conditions it has itself, so each is filed under its prefix and the rarest of its conditions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from ray_mesh.resources.virtual_service import HttpMatch

_TEXTS = ("scheme", "method", "authority")
_MAPS = ("headers", "without_headers", "query_params", "source_labels")
_ALWAYS = ""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a match asks of a request, but for its path: ``texts`` names each condition with its value."""

    texts: frozenset[str]
    gateways: frozenset[str]
    ignores_case: bool

    def imply(self, other: Conditions) -> bool:
        """Whether a request that meets these meets the others, too."""
        return (
            self.ignores_case == other.ignores_case
            and other.texts <= self.texts
            and (not other.gateways or (bool(self.gateways) and self.gateways <= other.gateways))
        )


@dataclass(frozen=True, slots=True)
class PrefixMatch:
    """Match ``index`` of rule ``number``, which asks for a prefix of the path."""

    number: int
    index: int
    prefix: str
    conditions: Conditions

    @property
    def position(self) -> tuple[int, int]:
        """Its place in the order of matching."""
        return self.number, self.index


def conditions_of(match: HttpMatch) -> Conditions:
    """The conditions of a match."""
    values = {name: getattr(match, name) for name in _TEXTS}
    texts = [f"{name} {value!r}" for name, value in values.items() if value is not None]
    texts += [f"{name} {key} {value!r}" for name in _MAPS for key, value in getattr(match, name).items()]
    texts += [f"port {match.port}"] if match.port is not None else []
    texts += [f"namespace {match.source_namespace}"] if match.source_namespace else []
    return Conditions(frozenset(texts), frozenset(match.gateways), match.ignore_uri_case)


@dataclass(slots=True)
class PrefixIndex:
    """The matches above, of ``all_`` that there are."""

    all_: Sequence[PrefixMatch]
    _numbers: Counter[str] = field(init=False)
    _shorter: dict[str, str | None] = field(init=False)
    _filed: dict[str, dict[str, dict[Conditions, PrefixMatch]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = Counter(chain.from_iterable(one.conditions.texts for one in self.all_))
        self._shorter = _next_shorter({one.prefix for one in self.all_})

    def add(self, one: PrefixMatch) -> None:
        """A match that is above those that are looked up from now on."""
        filed = self._filed.setdefault(one.prefix, {})
        for key in self._places(one.conditions):
            filed.setdefault(key, {}).setdefault(one.conditions, one)

    def taker(self, one: PrefixMatch) -> PrefixMatch | None:
        """The first match above with a shorter prefix that takes everything from this one."""
        keys = {_ALWAYS, *one.conditions.texts, *(_gateway(name) for name in [*one.conditions.gateways][:1])}
        found = [
            other
            for filed in self._above(one.prefix)
            for key in filed.keys() & keys
            if (other := _first(filed[key], one.conditions)) is not None
        ]
        return min(found, key=lambda other: other.position, default=None)

    def _places(self, conditions: Conditions) -> Collection[str]:
        if conditions.texts:
            return [min(conditions.texts, key=lambda text: (self._numbers[text], text))]
        return [_gateway(name) for name in conditions.gateways] or [_ALWAYS]

    def _above(self, prefix: str) -> Iterator[dict[str, dict[Conditions, PrefixMatch]]]:
        shorter = self._shorter[prefix]
        while shorter is not None:
            if shorter in self._filed:
                yield self._filed[shorter]
            shorter = self._shorter[shorter]


def _first(filed: dict[Conditions, PrefixMatch], conditions: Conditions) -> PrefixMatch | None:
    return next((other for others, other in filed.items() if conditions.imply(others)), None)


def _gateway(name: str) -> str:
    return f"gateway {name}"


def _next_shorter(prefixes: Collection[str]) -> dict[str, str | None]:
    """For each prefix the longest other one that it begins with."""
    found: dict[str, str | None] = {}
    open_: list[str] = []
    for prefix in sorted(prefixes):
        while open_ and not prefix.startswith(open_[-1]):
            open_.pop()
        found[prefix] = open_[-1] if open_ else None
        open_.append(prefix)
    return found
