"""Outlier detection: who is left out, when and for how long."""

from __future__ import annotations

import pytest

from ray_mesh.proxy.outlier import Outliers
from ray_mesh.snapshot import OutlierDetection

ALL = 100


def outliers(count: int = 4, **fields: int | float | bool) -> Outliers[str]:
    made: Outliers[str] = Outliers(OutlierDetection(**{"max_ejection_percent": ALL, **fields}), 0.0)  # type: ignore[arg-type]
    made.keep([f"e{number}" for number in range(count)])
    return made


def ejection(made: Outliers[str], at: float, failures: int = 5, member: str = "e0") -> float | None:
    """Fail so often in a row; until when it is left out."""
    told = [made.answered(member, 500, at) for _ in range(failures)]
    assert told[:-1] == [None] * (failures - 1)
    return told[-1]


@pytest.mark.parametrize(
    ("statuses", "fields", "is_ejected"),
    [
        ([500] * 4, {}, False),
        ([500] * 5, {}, True),
        ([500] * 4 + [200] + [500] * 4, {}, False),
        ([500] * 4 + [404] + [500], {}, False),
        ([500, 502, 503, 504, 599], {}, True),
        ([500] * 50, {"consecutive_5xx": 0}, False),
        ([503] * 2, {"consecutive_gateway_errors": 2}, True),
        ([502, 500, 502], {"consecutive_gateway_errors": 2}, False),
        ([504, 502], {"consecutive_gateway_errors": 2, "consecutive_5xx": 0}, True),
        ([500], {"consecutive_5xx": 1}, True),
    ],
)
def test_failures_in_a_row(statuses: list[int], fields: dict[str, int], is_ejected: bool) -> None:
    made = outliers(**fields)
    for status in statuses:
        made.answered("e0", status, 1.0)
    assert made.is_ejected("e0", 1.0) == is_ejected
    assert not made.is_ejected("e1", 1.0)


@pytest.mark.parametrize(
    ("splits", "local", "status", "is_ejected"),
    [
        (False, 5, 503, True),  # they count among the 5xx
        (True, 4, 503, False),
        (True, 5, 503, True),
        (True, 5, 504, True),
    ],
)
def test_failures_of_this_side(splits: bool, local: int, status: int, is_ejected: bool) -> None:
    made = outliers(splits_local=splits)
    for _ in range(local):
        made.failed_here("e0", status, 1.0)
    assert made.is_ejected("e0", 1.0) == is_ejected


def test_split_failures_and_responses_do_not_count_together() -> None:
    made = outliers(splits_local=True, consecutive_local_failures=3, consecutive_5xx=3)
    for _ in range(2):
        made.failed_here("e0", 503, 1.0)
        made.failed_here("e0", 503, 1.0)
        made.answered("e0", 500, 1.0)
    assert not made.is_ejected("e0", 1.0)
    assert made.answered("e0", 500, 1.0) == 40.0


def test_an_ejection_ends_at_an_interval() -> None:
    made = outliers()
    assert ejection(made, 1.0) == 40.0  # 31 s is between two intervals of 10 s
    assert made.is_ejected("e0", 39.9)
    assert not made.is_ejected("e0", 40.0)


def test_ejections_in_a_row_grow_and_rest_takes_it_back() -> None:
    made = outliers()
    assert ejection(made, 1.0) == 40.0
    assert ejection(made, 41.0) == 110.0  # twice 30 s
    assert ejection(made, 112.0) == 210.0  # three times
    assert ejection(made, 231.0) == 300.0  # two intervals of rest: twice again
    assert ejection(made, 900.0) == 930.0  # rested for long: once


def test_an_ejection_is_300_s_at_most_unless_the_base_is_longer() -> None:
    made, at = outliers(interval_s=1.0), 0.0
    for _ in range(20):
        until = ejection(made, at)
        assert until is not None
        assert until - at <= 301.0
        at = until
    assert ejection(outliers(base_ejection_s=900.0), 0.0) == 900.0


@pytest.mark.parametrize(
    ("count", "percent", "most"), [(4, 10, 0), (10, 10, 1), (10, 25, 2), (4, 50, 2), (3, 100, 3), (1, 99, 0)]
)
def test_no_more_than_a_percentage_is_left_out(count: int, percent: int, most: int) -> None:
    made = outliers(count, max_ejection_percent=percent)
    for number in range(count):
        for _ in range(5):
            made.answered(f"e{number}", 500, 1.0)
    assert sum(made.is_ejected(f"e{number}", 1.0) for number in range(count)) == most


@pytest.mark.parametrize(
    ("threshold", "healthy", "is_panic"),
    [(0, 0, False), (50, 2, False), (50, 1, True), (51, 2, True), (100, 3, True), (100, 4, False)],
)
def test_panic(threshold: int, healthy: int, is_panic: bool) -> None:
    assert outliers(4, min_health_percent=threshold).is_panic(healthy) == is_panic


def test_who_is_gone_is_forgotten() -> None:
    made = outliers(2)
    ejection(made, 1.0)
    made.keep(["e1"])
    made.keep(["e0", "e1"])
    assert not made.is_ejected("e0", 1.0)
