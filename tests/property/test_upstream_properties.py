"""Invariants of what protects upstreams, under any order of events."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ray_mesh.proxy.breaker import Breaker, Hold
from ray_mesh.proxy.outlier import LONGEST_EJECTION_S, Outliers
from ray_mesh.snapshot import ConnectionLimits, OutlierDetection, RetryBudget, TrafficPolicy


class Calls:
    """Requests to one destination as they come and go; connections are made and lost by the events."""

    def __init__(self, limits: ConnectionLimits, budget: RetryBudget | None) -> None:
        self.breaker = Breaker("reviews")
        self.breaker.set_policy(TrafficPolicy("rule", limits, budget))
        self.held: list[tuple[Call, Hold]] = []
        self.refused = 0

    def begin(self) -> None:
        """A request comes that finds no free connection."""
        breaker = self.breaker
        if not breaker.may_begin():
            self.refused += 1
            return
        hold = Hold(breaker)
        call = Call(self)
        if not breaker.may_wait():
            hold.end(call)
            self.refused += 1
            return
        hold.wait()
        self.held.append((call, hold))
        if breaker.has_room():
            call.dial()
        else:
            breaker.waiting[call] = None

    def start(self, number: int) -> None:
        """A connection is there."""
        call, hold = self.held[number]
        if call.has_connection:
            hold.start(call)

    def retry(self, number: int) -> None:
        """The request may be tried again."""
        if self.breaker.may_retry():
            before = self.breaker.retries
            self.held[number][1].retry()
            allowed = self.breaker.budget
            if allowed is not None and self.breaker.retries > before:
                most = max(allowed.min_concurrency, allowed.percent * self.breaker.requests / 100)
                assert self.breaker.retries <= most

    def end(self, number: int) -> None:
        """The request is over, and its connection closed."""
        call, hold = self.held.pop(number)
        hold.end(call)
        if call.has_connection:
            self.breaker.connections -= 1
            self.breaker.wake()


class Call:
    """One request."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.has_connection = False

    def dial(self) -> None:
        """There is room."""
        assert self._calls.breaker.may_connect()
        self._calls.breaker.connections += 1
        self.has_connection = True

    def may_use(self, pool: Any, member: Any, breaker: Breaker) -> bool:
        """No connection is ever free here."""
        return False

    def start_on(self, connection: Any) -> None:
        """See :meth:`may_use`."""
        raise AssertionError


LIMITS = st.builds(
    ConnectionLimits,
    max_connections=st.integers(0, 3),
    max_pending=st.integers(0, 3),
    max_requests=st.integers(0, 5),
    max_retries=st.integers(0, 2),
)
BUDGETS = st.none() | st.builds(RetryBudget, percent=st.floats(0, 100), min_concurrency=st.integers(0, 3))
EVENTS = st.lists(
    st.tuples(st.sampled_from(["begin", "begin", "start", "retry", "end"]), st.integers(0, 99)), max_size=60
)


@given(LIMITS, BUDGETS, EVENTS)
def test_a_breaker_never_goes_over_its_limits(
    limits: ConnectionLimits, budget: RetryBudget | None, events: list[tuple[str, int]]
) -> None:
    calls = Calls(limits, budget)
    breaker = calls.breaker
    for event, number in events:
        if event == "begin":
            calls.begin()
        elif calls.held:
            getattr(calls, event)(number % len(calls.held))
        assert 0 <= breaker.requests <= breaker.max_requests
        assert 0 <= breaker.pending <= breaker.max_pending
        assert 0 <= breaker.connections <= breaker.max_connections
        if budget is None:
            assert 0 <= breaker.retries <= breaker.max_retries
        assert not (breaker.waiting and breaker.may_connect()), "somebody waits though there is room"
    while calls.held:
        calls.end(0)
    assert (breaker.requests, breaker.pending, breaker.connections, breaker.retries) == (0, 0, 0, 0)
    assert not breaker.waiting


@given(
    st.builds(
        OutlierDetection,
        consecutive_5xx=st.integers(0, 3),
        consecutive_gateway_errors=st.integers(0, 3),
        consecutive_local_failures=st.integers(1, 3),
        splits_local=st.booleans(),
        interval_s=st.floats(0.01, 20.0),
        base_ejection_s=st.floats(0.01, 400.0),
        max_ejection_percent=st.integers(1, 100),
    ),
    st.integers(1, 12),
    st.lists(
        st.tuples(st.integers(0, 11), st.sampled_from([200, 404, 500, 503]), st.booleans(), st.floats(0, 50)),
        max_size=80,
    ),
)
def test_no_more_endpoints_are_left_out_than_allowed(
    policy: OutlierDetection, count: int, events: list[tuple[int, int, bool, float]]
) -> None:
    outliers: Outliers[int] = Outliers(policy, 0.0)
    outliers.keep(range(count))
    now = 0.0
    for number, status, has_answered, later_s in events:
        now += later_s
        member = number % count
        judge = outliers.answered if has_answered else outliers.failed_here
        back_at = judge(member, status, now)
        if back_at is not None:
            longest_s = max(policy.base_ejection_s, LONGEST_EJECTION_S)
            assert policy.base_ejection_s - 1e-6 <= back_at - now <= longest_s + policy.interval_s + 1e-6
        ejected = sum(outliers.is_ejected(each, now) for each in range(count))
        assert 100 * ejected <= policy.max_ejection_percent * count
