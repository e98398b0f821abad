"""When to go on: the first change at once, those that follow it together. Pure; ``now`` is monotonic."""

from __future__ import annotations

from dataclasses import dataclass

MOST_PAUSE_S = 0.5
MOST_KEYS, MOST_PIECE_S = 128, 0.2
LEAST_GAP_S, MOST_GAP_S = 0.005, 0.1


@dataclass(slots=True)
class Passes:
    """The config lane: after a pass over what changed it rests as long as that took, and collects."""

    next_at: float = 0.0
    _spent_s: float = 0.0

    def is_due(self, now: float) -> bool:
        """Whether a new pass may begin."""
        return now >= self.next_at

    def worked(self, seconds: float) -> None:
        """A piece of a pass took so long."""
        self._spent_s += seconds

    def end(self, now: float) -> None:
        """The pass is over."""
        self.next_at = now + min(MOST_PAUSE_S, self._spent_s)
        self._spent_s = 0.0


@dataclass(slots=True)
class Pieces:
    """How many keys are compiled at a time: the loop must go on, above all the heartbeat, without which a
    shard does not hear itself and may not write."""

    size: int = MOST_KEYS

    def took(self, seconds: float) -> None:
        """Compiling a piece took so long."""
        if seconds > MOST_PIECE_S:
            self.size = max(1, self.size // 2)
        elif seconds < MOST_PIECE_S / 4:
            self.size = min(MOST_KEYS, self.size * 2)


@dataclass(slots=True)
class Gaps:
    """Announcements: each costs every proxy something, so their distance grows while they go on."""

    next_at: float = 0.0
    _gap_s: float = LEAST_GAP_S

    def is_due(self, now: float) -> bool:
        """Whether another one may go out."""
        return now >= self.next_at

    def sent(self, now: float) -> None:
        """One went out."""
        goes_on = now - self.next_at < self._gap_s
        self._gap_s = min(MOST_GAP_S, 2 * self._gap_s) if goes_on else LEAST_GAP_S
        self.next_at = now + self._gap_s
