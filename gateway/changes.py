"""Waiting for a condition over the view: checked whenever something arrives, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

COALESCE_S = 0.002
"""Thousands of proxies acknowledge a change at the same time."""
TICK_S = 0.25
"""Conditions are also checked this often, since leases end without any message."""


class Changes:
    """Wakes everybody who waits, soon after :meth:`notify` is called (same event loop)."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._is_due = False

    def notify(self) -> None:
        """Something changed: conditions are checked, once for all that changes within ``COALESCE_S``."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(COALESCE_S, self._wake)

    def _wake(self) -> None:
        self._is_due = False
        self._event.set()
        self._event = asyncio.Event()

    async def next(self) -> None:
        """Return after the next change."""
        await self._event.wait()

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
