"""Which level of overload a row of samples gives."""

from __future__ import annotations

import pytest

from ray_mesh.proxy.overload import FALL_AFTER_S, Level, Overload, OverloadLimits, Sample
from ray_mesh.proxy.timers import Lag

LIMITS = OverloadLimits(max_connections=1000, max_memory_bytes=100 << 20, max_lag_s=0.5)


def connections(number: int) -> Sample:
    return Sample(number, 0, 0.0)


@pytest.mark.parametrize(
    ("sample", "level"),
    [
        (Sample(0, 0, 0.0), Level.NORMAL),
        (Sample(799, 79 << 20, 0.39), Level.NORMAL),
        (Sample(800, 0, 0.0), Level.NO_EXTRAS),
        (Sample(0, 85 << 20, 0.0), Level.NO_KEEP_ALIVE),
        (Sample(0, 0, 0.45), Level.NO_INGRESS),
        (Sample(940, 0, 0.0), Level.NO_OUTBOUND),
        (Sample(970, 0, 0.45), Level.NO_INBOUND),
        (Sample(10, 100 << 20, 0.1), Level.NO_CONNECTIONS),
        (Sample(0, 0, 60.0), Level.NO_CONNECTIONS),
    ],
)
def test_the_largest_share_decides(sample: Sample, level: Level) -> None:
    assert Overload(LIMITS).update(sample, 1.0) == level


def test_a_level_rises_at_once_and_falls_late() -> None:
    overload = Overload(LIMITS)
    told: list[tuple[Level, str]] = []
    overload.on_change = lambda level, cause: told.append((level, cause))
    rows = [
        (0.0, 910, Level.NO_INGRESS),
        (0.5, 1000, Level.NO_CONNECTIONS),
        (1.0, 960, Level.NO_CONNECTIONS),  # within the margin: it counts as justified
        (1.0 + FALL_AFTER_S, 100, Level.NORMAL),
        (4.0, 1000, Level.NO_CONNECTIONS),
        (4.5, 910, Level.NO_CONNECTIONS),
        (4.0 + FALL_AFTER_S, 910, Level.NO_OUTBOUND),  # 0.96 with the margin
        (4.1 + FALL_AFTER_S, 0, Level.NO_OUTBOUND),
        (4.0 + 2 * FALL_AFTER_S, 0, Level.NORMAL),
    ]
    for at, number, level in rows:
        assert overload.update(connections(number), at) == level, at
    assert [level for level, _ in told] == [
        Level.NO_INGRESS,
        Level.NO_CONNECTIONS,
        Level.NORMAL,
        Level.NO_CONNECTIONS,
        Level.NO_OUTBOUND,
        Level.NORMAL,
    ]
    assert told[0][1] == "910 of 1000 connections"


def test_without_limits_nothing_is_too_much() -> None:
    overload = Overload(OverloadLimits(max_lag_s=0.0))
    assert overload.update(Sample(10**9, 10**15, 1e6), 0.0) == Level.NORMAL


def test_only_lateness_that_lasts_counts() -> None:
    lag = Lag()
    for late_s in (0.001, 0.9, 0.002, 0.001):
        lag.note(late_s)
    assert lag.take(0.25) == (0.25, 0.9), "too few turns to say"
    lag.note(0.003)
    assert lag.take(0.25) == (0.001, 0.9)
    for _ in range(5):
        lag.note(0.7)
    assert lag.take(0.0) == (0.7, 0.7)
