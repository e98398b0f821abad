"""What the plane tells people: a reason word, a severity and a sentence; floods are thinned."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

Severity = Literal["info", "warning", "error"]
OnEvent = Callable[[str, Severity, str], None]
QUIET_S = 1.0


class Events:
    """Passes on at most one event per reason and ``QUIET_S``; the next one says how many were left out."""

    def __init__(self) -> None:
        self.on_event: OnEvent | None = None
        self.counts: dict[str, int] = {}
        self._quiet_until: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def report(self, reason: str, severity: Severity, message: str) -> None:
        """Something happened."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        now = time.monotonic()
        if now < self._quiet_until.get(reason, 0.0):
            self._left_out[reason] = self._left_out.get(reason, 0) + 1
            return
        self._quiet_until[reason] = now + QUIET_S
        left_out = self._left_out.pop(reason, 0)
        if left_out:
            message = f"{message} (and {left_out} more like it)"
        if self.on_event is not None:
            self.on_event(reason, severity, message)
