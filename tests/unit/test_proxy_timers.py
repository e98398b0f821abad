"""The wheel, and alarms that are mostly called off."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import Iterator

import pytest

from ray_mesh.proxy.tcp_relay import TICK_S, Relay, Side
from ray_mesh.proxy.timers import LOOK_S, SLOT_S, Alarm, Wheel


@pytest.fixture
def wheel() -> Iterator[Wheel]:
    """On a loop that does not run: tests turn it."""
    loop = asyncio.new_event_loop()
    made = Wheel(loop)
    yield made
    made.stop()
    loop.close()


class Finished:
    """Something that an alarm would call."""

    def call(self) -> None:
        raise AssertionError("it was called off")


def test_what_was_called_off_is_not_held_and_soon_forgotten(wheel: Wheel) -> None:
    finished = Finished()
    alarms = [Alarm(wheel, 3600.0, finished.call) for _ in range(100)]
    seen = weakref.ref(finished)
    for alarm in alarms:
        alarm.call_off()
    del finished, alarm
    gc.collect()
    assert seen() is None
    assert len(wheel) == 100
    wheel.turn(time.monotonic() + LOOK_S + 2 * SLOT_S)
    assert len(wheel) == 0


@pytest.mark.parametrize("after_s", [0.0, 0.02, 1.0, LOOK_S, 17.3, 3600.0])
def test_an_alarm_calls_once_and_not_before_its_time(wheel: Wheel, after_s: float) -> None:
    calls: list[float] = []
    began_at = time.monotonic()
    now = began_at
    Alarm(wheel, after_s, lambda: calls.append(now))
    while now < began_at + after_s + 1.0:
        wheel.turn(now)
        now += SLOT_S
    assert len(calls) == 1
    assert after_s <= calls[0] - began_at <= after_s + 3 * SLOT_S
    assert len(wheel) == 0


class Linked(Side):
    """A side that has no connection."""

    def resume(self) -> None:
        return


def test_a_relay_that_is_over_is_not_held_until_its_longest_duration(wheel: Wheel) -> None:
    relay = Relay(Linked(), Linked(), wheel, lambda relay: None, lambda relay: None)
    relay.limit(24 * 3600.0)
    relay.start()
    relay.is_over = True
    assert len(wheel) == 1
    wheel.turn(time.monotonic() + TICK_S + 2 * SLOT_S)
    assert len(wheel) == 0
