from __future__ import annotations

from typing import Literal

import pytest

from ray_mesh.quota import PATIENCE_S, LeaseBucket, lead_s


def spend(bucket: LeaseBucket, times: int, now: float) -> int:
    return sum(bucket.take(now) for _ in range(times))


def test_without_a_lease_the_first_request_waits_for_one() -> None:
    bucket = LeaseBucket(5, 60, "CLOSED")
    assert bucket.demand(100.0) == 0
    assert not bucket.take(100.0)
    assert bucket.is_waiting(100.0)
    assert bucket.demand(100.0) == 1
    bucket.grant(1, expires_at=130.0, now=100.1)
    assert not bucket.is_waiting(100.1)
    assert bucket.take(100.1)


def test_tokens_end_with_their_window() -> None:
    bucket = LeaseBucket(5, 60, "CLOSED")
    bucket.grant(5, expires_at=130.0, now=100.0)
    assert spend(bucket, 3, 129.9) == 3
    assert spend(bucket, 3, 130.0) == 0


def test_tokens_of_one_window_add_up() -> None:
    bucket = LeaseBucket(5, 60, "CLOSED")
    bucket.grant(2, expires_at=130.0, now=100.0)
    bucket.grant(2, expires_at=129.9, now=101.0)
    assert bucket.tokens(101.0) == 4


def test_a_refusal_holds_until_the_window_ends() -> None:
    bucket = LeaseBucket(5, 60, "OPEN")
    bucket.take(100.0)
    bucket.grant(0, expires_at=130.0, now=100.1)
    assert spend(bucket, 10, 120.0) == 0
    assert not bucket.is_waiting(120.0)
    assert bucket.demand(120.0) == 0
    assert bucket.demand(130.0 - lead_s(60)) > 0


def test_tokens_granted_ahead_are_kept_for_their_window() -> None:
    bucket = LeaseBucket(10, 1, "CLOSED")
    bucket.grant(3, expires_at=101.0, now=100.0)
    assert spend(bucket, 3, 100.5) == 3
    assert bucket.demand(100.95) == 3
    bucket.grant(3, expires_at=102.0, now=100.95)
    assert bucket.demand(100.96) == 0
    assert not bucket.take(100.97)
    assert bucket.is_waiting(100.97)
    assert spend(bucket, 5, 101.0) == 3


@pytest.mark.parametrize("fail_mode", ["OPEN", "CLOSED"])
def test_an_owner_that_is_back_and_grants_ahead_refuses_nobody(fail_mode: Literal["OPEN", "CLOSED"]) -> None:
    bucket = LeaseBucket(5, 60, fail_mode)
    bucket.take(0.0)
    bucket.take(30.0)
    bucket.grant(5, 119.5, 58.9)
    assert bucket.take(59.0) is False
    assert bucket.is_waiting(59.0)
    assert bucket.take(59.5) is True


@pytest.mark.parametrize(("fail_mode", "passes"), [("OPEN", True), ("CLOSED", False)])
def test_without_an_answer_the_fail_mode_decides(fail_mode: str, passes: bool) -> None:
    bucket = LeaseBucket(5, 60, "OPEN" if fail_mode == "OPEN" else "CLOSED")
    assert not bucket.take(100.0)
    assert bucket.take(100.0 + PATIENCE_S) is passes
    assert not bucket.is_waiting(100.0 + PATIENCE_S)
    bucket.grant(1, expires_at=130.0, now=102.0)
    assert spend(bucket, 2, 102.0) == 1


def test_silence_is_forgotten_when_nobody_asks() -> None:
    bucket = LeaseBucket(5, 1, "OPEN")
    bucket.take(100.0)
    for tick in range(1, 100):
        bucket.demand(100.0 + tick / 10)
    assert not bucket.take(200.0)
    assert bucket.is_waiting(200.0)


def test_an_idle_bucket_wants_nothing() -> None:
    bucket = LeaseBucket(1000, 1, "CLOSED")
    bucket.grant(10, expires_at=101.0, now=100.0)
    assert [bucket.demand(100.0 + tick / 20) for tick in range(100)] == [0] * 100


def test_demand_never_exceeds_the_limit() -> None:
    bucket = LeaseBucket(5, 60, "CLOSED")
    spend(bucket, 100, 100.0)
    assert bucket.demand(100.0) == 5
