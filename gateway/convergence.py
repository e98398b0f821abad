"""How long changes take from their admission until every live proxy has applied them. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ray_mesh.telemetry.histogram import ExpHistogram

MOST_PENDING = 10_000
"""Changes that are waited for; older ones are no longer measured when there are more."""


class Convergence:
    """Revisions with the time of their admission in, durations out. Times are seconds since 1970."""

    def __init__(self) -> None:
        self.durations = ExpHistogram()
        self._pending: deque[tuple[int, float]] = deque(maxlen=MOST_PENDING)
        self._newest = 0

    def admit(self, revision: int, at: float) -> None:
        """The store holds a change."""
        if revision > self._newest:
            self._newest = revision
            self._pending.append((revision, at))

    def settle(self, is_applied: Callable[[int], bool], now: float) -> None:
        """Measure what is applied by now, oldest first: what came later is not applied before that."""
        while self._pending and is_applied(self._pending[0][0]):
            _, at = self._pending.popleft()
            self.durations.add(max(0.0, now - at))

    def reset(self) -> None:
        """Desired state was made anew: what was waited for may never come."""
        self._pending.clear()
        self._newest = 0
