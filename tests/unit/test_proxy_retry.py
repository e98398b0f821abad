"""What a route's retries ask for."""

from __future__ import annotations

import pytest

from ray_mesh.proxy.retry import RetryPolicy
from ray_mesh.snapshot import Retries


def policy(*words: str, statuses: tuple[int, ...] = ()) -> RetryPolicy:
    return RetryPolicy(Retries(2, words, statuses))


@pytest.mark.parametrize(
    ("words", "statuses", "wanted"),
    [
        (("5xx",), (), {500, 501, 502, 503, 504, 599}),
        (("gateway-error",), (), {502, 503, 504}),
        (("retriable-4xx",), (), {409}),
        (("retriable-status-codes",), (418, 503), {418, 503}),
        ((), (429,), {429}),
        (("reset",), (), set()),
        (("connect-failure", "refused-stream"), (), set()),
        ((), (), {503}),
    ],
)
def test_statuses(words: tuple[str, ...], statuses: tuple[int, ...], wanted: set[int]) -> None:
    made = policy(*words, statuses=statuses)
    asked = {200, 404, 409, 418, 429, 500, 501, 502, 503, 504, 599}
    assert {status for status in asked if made.wants(status, b"\r\n\r\n")} == wanted


@pytest.mark.parametrize(
    ("word", "on_connect_failure", "on_reset"),
    [
        ("5xx", True, True),
        ("gateway-error", True, True),
        ("reset", True, True),
        ("connect-failure", True, False),
        ("reset-before-request", True, False),
        ("refused-stream", False, False),
        ("retriable-4xx", False, False),
        ("unavailable", False, False),
    ],
)
def test_failures_without_a_response(word: str, on_connect_failure: bool, on_reset: bool) -> None:
    made = policy(word)
    assert (made.on_connect_failure, made.on_reset) == (on_connect_failure, on_reset)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("cancelled", 1),
        ("deadline-exceeded", 4),
        ("resource-exhausted", 8),
        ("internal", 13),
        ("unavailable", 14),
    ],
)
def test_grpc_statuses_in_the_head(word: str, status: int) -> None:
    made = policy(word)
    assert made.wants(200, b"HTTP/1.1 200 OK\r\nGrpc-Status: %d\r\n\r\n" % status)
    assert not made.wants(200, b"HTTP/1.1 200 OK\r\nGrpc-Status: 0\r\n\r\n")
    assert not made.wants(200, b"HTTP/1.1 200 OK\r\nx-grpc-status: %d\r\n\r\n" % status)


def test_the_pause_grows_to_ten_times_its_base() -> None:
    made = policy("5xx")
    assert [made.delay_s(number, lambda: 1.0) for number in (1, 2, 3, 4, 5, 60)] == pytest.approx(
        [0.025, 0.075, 0.175, 0.25, 0.25, 0.25]
    )
    assert made.delay_s(4, lambda: 0.0) == 0.0
    assert RetryPolicy(Retries(1, backoff_s=0.5)).delay_s(2, lambda: 0.5) == 0.75
