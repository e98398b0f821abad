"""What a follower has delivered so far, and whether it missed something. Pure.

Messages of a key come in order but some can be missing; fetched values can be newer or older than
what was heard. Two rules make the result right whatever the mixture: only a value that is newer than
the delivered one is delivered, and a message whose predecessor was never seen is a gap, so that
everything is fetched again. ``order_of`` says what newer means: by default the revision; a version
inside the value where the bucket itself may be made anew with smaller revisions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ray_mesh.bus.store import Entry

ABSENT = -1
"""The order of a key that the bucket does not have."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with a message: hand it on, and fetch everything because something was missed."""

    deliver: bool
    gap: bool


@dataclass(slots=True)
class _Known:
    order: int
    position: int


class Ledger:
    """Per key, the order of the value that was delivered and the newest revision that was seen.

    With ``whole`` set (after a first complete load of a bucket), a key that is not known is one
    that the bucket did not have.
    """

    def __init__(self, order_of: Callable[[Entry], int] | None = None) -> None:
        self._order_of = order_of or _by_revision
        self._known: dict[str, _Known] = {}
        self.whole = False

    def hear(self, entry: Entry, predecessor: int) -> Verdict:
        """A committed write was heard; ``predecessor`` is the key's revision before it.

        Raises:
            MeshError: what ``order_of`` raises; the entry then changes nothing.
        """
        order = self._order_of(entry)
        known = self._known.get(entry.key)
        if known is None:
            self._known[entry.key] = _Known(order, entry.revision)
            return Verdict(deliver=True, gap=self.whole and predecessor != 0)
        if entry.revision <= known.position and order <= known.order:
            return Verdict(deliver=False, gap=False)
        gap = predecessor != known.position
        known.position = entry.revision
        return Verdict(deliver=_advance(known, order), gap=gap)

    def fetch(self, entry: Entry) -> bool:
        """A value was read from the bucket; True if it is to be delivered.

        Raises:
            MeshError: what ``order_of`` raises; the entry then changes nothing.
        """
        order = self._order_of(entry)
        known = self._known.setdefault(entry.key, _Known(ABSENT, 0))
        if order >= known.order:
            known.position = entry.revision
        return _advance(known, order)

    def miss(self, key: str) -> None:
        """The bucket has no such key."""
        self._known.setdefault(key, _Known(ABSENT, 0))

    def behind(self, wanted: Mapping[str, int]) -> dict[str, int]:
        """The part of ``wanted`` (key to order) that was not delivered yet."""
        return {key: order for key, order in wanted.items() if self.order(key) < order}

    def order(self, key: str) -> int:
        """The order of what was delivered for ``key``, or :data:`ABSENT`."""
        known = self._known.get(key)
        return known.order if known else ABSENT

    def forget(self, key: str) -> None:
        """Begin anew with one key."""
        self._known.pop(key, None)

    def clear(self) -> None:
        """Begin anew with everything."""
        self._known.clear()
        self.whole = False


def _advance(known: _Known, order: int) -> bool:
    if order <= known.order:
        return False
    known.order = order
    return True


def _by_revision(entry: Entry) -> int:
    return entry.revision
