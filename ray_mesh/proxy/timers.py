"""Deadlines for many requests with one timer: a wheel of coarse slots.

An event-loop timer costs more than a microsecond to make and cancel, and most deadlines are never
reached. So an item is put into the slot of its deadline and never taken out; when the slot comes, the
item decides whether it still cares. What is far away is put into a nearer slot and looked at on the way
(:class:`Alarm`), so that a wheel holds the requests of seconds and not those of an hour.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Protocol

SLOT_S = 0.05
PAUSE_SLOT_S = 0.005
"""Of a wheel for pauses that are part of an answer's time: retries and injected delays."""
LOOK_S = 5.0
"""How long an alarm that was called off may stay in its wheel."""


class Timed(Protocol):
    """Something with a deadline."""

    def on_deadline(self, now: float) -> None:
        """Called once, at most one slot after the deadline. What it raises is reported and stops no other."""


class Place:
    """A place in the wheel that its item can leave, so that nothing holds the item until the deadline."""

    __slots__ = ("_item",)

    def __init__(self, item: Timed) -> None:
        self._item: Timed | None = item

    def leave(self) -> None:
        """Hold the item no more."""
        self._item = None

    def on_deadline(self, now: float) -> None:
        """See :class:`Timed`."""
        if self._item is not None:
            self._item.on_deadline(now)


class Alarm:
    """A call ``after_s`` from now, unless it is called off before."""

    __slots__ = ("_at", "_call", "_wheel", "after_s")

    def __init__(self, wheel: Wheel, after_s: float, call: Callable[[], None]) -> None:
        now = time.monotonic()
        self.after_s = after_s
        self._at = now + after_s
        self._call: Callable[[], None] | None = call
        self._wheel = wheel
        wheel.add(self._at if after_s <= LOOK_S else now + LOOK_S, self)

    def call_off(self) -> None:
        """Do not call, and hold what would have been called no more."""
        self._call = None

    def on_deadline(self, now: float) -> None:
        """See :class:`Timed`."""
        call = self._call
        if call is None:
            return
        if now < self._at:
            self._wheel.add(min(self._at, now + LOOK_S), self)
            return
        self._call = None
        call()


class Closing:
    """Closes a connection at its deadline."""

    __slots__ = ("_transport",)

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def on_deadline(self, now: float) -> None:
        """See :class:`Timed`."""
        self._transport.close()


class Lag:
    """How late the wheel turns, which is how long anything waits for the loop."""

    LASTING_TURNS = 5

    def __init__(self) -> None:
        self._turns = 0
        self._least_s = math.inf
        self._longest_s = 0.0

    def note(self, late_s: float) -> None:
        """One turn."""
        self._turns += 1
        self._least_s = min(self._least_s, late_s)
        self._longest_s = max(self._longest_s, late_s)

    def take(self, before_s: float) -> tuple[float, float]:
        """What every turn was late by (``before_s`` until enough have come), and the latest one, since last
        asked. Seconds."""
        if self._turns < self.LASTING_TURNS:
            return before_s, self._longest_s
        lag = max(self._least_s, 0.0), self._longest_s
        self._turns, self._least_s, self._longest_s = 0, math.inf, 0.0
        return lag


class Wheel:
    """Runs on one event loop; times are those of ``time.monotonic``, in seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, slot_s: float = SLOT_S) -> None:
        self.lag = Lag()
        self._loop = loop
        self._slot_s = slot_s
        self._due_at = 0.0
        self._slots: dict[int, list[Timed]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, at: float, item: Timed) -> None:
        """Call ``item.on_deadline`` at ``at`` or up to one slot later."""
        slot = int(at / self._slot_s) + 1
        items = self._slots.get(slot)
        if items is None:
            self._slots[slot] = [item]
            if self._timer is None:
                self._wind(time.monotonic())
        else:
            items.append(item)

    def stop(self) -> None:
        """Forget every deadline."""
        self._slots.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __len__(self) -> int:
        """How many items it holds."""
        return sum(map(len, self._slots.values()))

    def turn(self, now: float) -> None:
        """Call what is due."""
        current = int(now / self._slot_s)
        for slot in [slot for slot in self._slots if slot <= current]:
            for item in self._slots.pop(slot):
                try:
                    item.on_deadline(now)
                except Exception as error:  # noqa: BLE001 - reported; the others must not stop
                    report = {"message": f"a deadline of {item!r} failed", "exception": error}
                    self._loop.call_exception_handler(report)

    def _on_timer(self) -> None:
        now = time.monotonic()
        self.lag.note(now - self._due_at)
        self.turn(now)
        self._timer = None
        if self._slots:
            self._wind(now)

    def _wind(self, now: float) -> None:
        self._due_at = now + self._slot_s
        self._timer = self._loop.call_later(self._slot_s, self._on_timer)
