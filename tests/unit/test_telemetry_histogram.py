from __future__ import annotations

from math import exp2

import pytest

from ray_mesh.errors import PeerError
from ray_mesh.telemetry.histogram import MAX_BUCKETS, ExpHistogram, check_histogram, difference
from ray_mesh.telemetry.series import Histogram


def filled(*seconds: float) -> ExpHistogram:
    histogram = ExpHistogram()
    for one in seconds:
        histogram.add(one)
    return histogram


def test_an_empty_histogram_answers_zero() -> None:
    histogram = ExpHistogram()
    assert histogram.quantile(0.99) == 0.0
    assert histogram.snapshot() == Histogram(4, 0, (), 0.0, 0.0, 0.0)


def test_a_bucket_includes_its_upper_bound() -> None:
    assert filled(1.0).snapshot().counts == ((-1, 1),)
    assert filled(exp2(1 / 16)).snapshot().counts == ((0, 1),)


def test_zero_and_negative_durations_are_counted_as_zero() -> None:
    histogram = filled(0.0, -0.5, 0.010)
    assert histogram.count == 3
    assert histogram.zeros == 2
    assert histogram.quantile(0.5) == 0.0
    assert histogram.snapshot().smallest == 0.0


def test_quantiles_stay_within_what_was_seen() -> None:
    histogram = filled(0.010, 0.020, 0.030)
    assert histogram.quantile(0.0) >= 0.010
    assert histogram.quantile(1.0) <= 0.030
    assert histogram.quantile(0.5) == pytest.approx(0.020, rel=0.025)


def test_too_many_buckets_coarsen_and_lose_nobody() -> None:
    histogram = ExpHistogram()
    for octave in range(-400, 400):
        histogram.add(exp2(octave / 16 - 0.01))
    assert len(histogram.counts) <= MAX_BUCKETS
    assert histogram.scale < 4
    assert histogram.count == 800


def test_a_microsecond_to_a_minute_keeps_its_resolution() -> None:
    histogram = ExpHistogram()
    for step in range(-20 * 16, 6 * 16):
        histogram.add(exp2(step / 16))
    assert histogram.scale == 4


def test_a_snapshot_can_be_continued() -> None:
    histogram = ExpHistogram.from_snapshot(filled(0.010).snapshot())
    histogram.add(0.010)
    assert histogram.snapshot() == filled(0.010, 0.010).snapshot()


def test_merging_an_empty_histogram_changes_nothing() -> None:
    histogram = filled(0.010)
    before = histogram.snapshot()
    histogram.merge(ExpHistogram())
    assert histogram.snapshot() == before


def test_difference_holds_what_came_between() -> None:
    histogram = filled(0.010, 0.500)
    older = histogram.snapshot()
    histogram.add(0.020)
    histogram.add(0.0)
    grown = difference(histogram.snapshot(), older)
    assert grown.zeros == 1
    assert sum(count for _, count in grown.counts) == 1
    assert grown.total == pytest.approx(0.020)
    assert grown.largest == pytest.approx(0.020, rel=0.05)


def test_difference_of_a_coarsened_histogram() -> None:
    histogram = filled(*(exp2(step / 16) for step in range(-200, 200)))
    older = histogram.snapshot()
    for step in range(200, 260):
        histogram.add(exp2(step / 16))
    newer = histogram.snapshot()
    assert newer.scale < older.scale
    assert sum(count for _, count in difference(newer, older).counts) == 60


@pytest.mark.parametrize(
    "broken",
    [
        Histogram(40, 0, (), 0.0, 0.0, 0.0),
        Histogram(4, -1, (), 0.0, 0.0, 0.0),
        Histogram(4, 0, ((1, 0),), 0.0, 0.0, 0.0),
        Histogram(4, 0, ((10**9, 1),), 0.0, 0.0, 0.0),
        Histogram(4, 0, ((1, 1),), float("nan"), 0.0, 0.0),
        Histogram(4, 0, ((1, 1),), 1.0, 0.0, float("inf")),
        Histogram(4, 0, tuple((index, 1) for index in range(MAX_BUCKETS + 1)), 1.0, 0.0, 1.0),
    ],
)
def test_a_histogram_that_cannot_be_is_refused(broken: Histogram) -> None:
    with pytest.raises(PeerError, match="histogram"):
        check_histogram(broken)
