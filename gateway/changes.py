"""Waiting for a condition over the view: checked whenever something arrives, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

TICK_S = 0.25
"""Conditions are also checked this often, since leases end without any message."""


class Changes:
    """Wakes everybody who waits, each time :meth:`notify` is called (same event loop)."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Something changed: conditions are checked again."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """True as soon as ``condition()`` is, False when ``timeout_s`` have passed."""
        deadline = time.monotonic() + timeout_s
        while True:
            event = self._event
            if condition():
                return True
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            try:
                async with asyncio.timeout(min(left_s, TICK_S)):
                    await event.wait()
            except TimeoutError:
                continue
