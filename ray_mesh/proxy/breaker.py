"""Circuit breakers: how much may be under way to one destination (a service, or a subset of it).

Closed means that traffic flows. A breaker is open towards what would go over one of its limits, and
closed again as soon as that is less; there is no time in which it stays open. As in Envoy a request that
finds no free connection is pending, while its connection is made or while it waits for one, and requests
and connections of all workloads that this process calls for are counted together. Unlike Envoy's, the
limit of connections has no exception for the first one of each endpoint, and requests that are pending
count among those that are under way.

This module decides and counts; it closes and dials nothing but by telling requests and pools.
"""

from __future__ import annotations

from math import inf
from typing import Any, Protocol

from ray_mesh.proxy.pool import (
    CONNECT_TIMEOUT_S,
    IDLE_S,
    MAX_STREAMS,
    PING_TIMEOUT_S,
    SHARED_IDLE_S,
)
from ray_mesh.snapshot import ConnectionLimits, RetryBudget, TrafficPolicy

MAX_PENDING = 1024
"""Requests that wait for a connection, where nobody says how many may."""
_UNSAID = ConnectionLimits()
_LOOKED_AT = 16
_PASSED_OVER = 16


class Counted(Protocol):
    """A pool whose connections a breaker counts."""

    idle_s: float
    connect_timeout_s: float
    is_http2: bool
    max_served: float
    max_streams: int
    ping_interval_s: float
    ping_timeout_s: float

    def close_one(self) -> bool:
        """Close an idle connection; whether there was one."""


class Waiter(Protocol):
    """A request that waits for a connection."""

    def start_on(self, connection: Any) -> None:
        """Here is one."""

    def may_use(self, pool: Any, member: Any, breaker: Breaker) -> bool:
        """Whether a free connection of the pool to the member will do."""

    def dial(self) -> None:
        """There is room: connect."""


class Breaker:
    """The limits of one destination, and what is under way to it. ``name`` is for people."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.requests = 0
        self.pending = 0
        self.retries = 0
        self.connections = 0
        self.pools: list[Counted] = []
        self.waiting: dict[Waiter, None] = {}
        self._passed_over = 0

    def set_policy(self, traffic: TrafficPolicy) -> None:
        """Take new limits; what is over them stays and counts."""
        limits = traffic.connections or _UNSAID
        self.origin = traffic.origin
        self.limits = limits
        self.max_connections: float = limits.max_connections or inf
        self.max_pending = limits.max_pending or MAX_PENDING
        self.max_requests: float = limits.max_requests or inf
        self.max_retries: float = limits.max_retries or inf
        self.budget: RetryBudget | None = traffic.retry_budget
        for pool in self.pools:
            self._set_times(pool)
        self.wake()

    def add(self, pool: Counted) -> None:
        """A pool whose connections count here."""
        self._set_times(pool)
        self.pools.append(pool)

    def may_begin(self) -> bool:
        """Whether one more request may be under way."""
        return self.requests < self.max_requests

    def may_wait(self) -> bool:
        """Whether one more request may wait for a connection."""
        return self.pending < self.max_pending

    def may_retry(self) -> bool:
        """Whether one more of the requests may be a retry; a budget stands for ``maxRetries``."""
        budget = self.budget
        if budget is None:
            return self.retries < self.max_retries
        return self.retries < max(budget.min_concurrency, int(budget.percent * self.requests / 100))

    def may_connect(self) -> bool:
        """Whether one more connection may be made."""
        return self.connections < self.max_connections

    def has_room(self) -> bool:
        """As :meth:`may_connect`; where not, an idle connection is closed to make some."""
        if self.may_connect() and not self.waiting:
            return True
        for pool in self.pools:
            if pool.close_one():
                break
        return False

    def heir(self, pool: Counted, member: object) -> Waiter | None:
        """Who gets a connection that is free now. None: close it, so that who came first can connect."""
        for number, waiter in enumerate(self.waiting):
            if number == _LOOKED_AT or (number and self._passed_over >= _PASSED_OVER):
                break
            if waiter.may_use(pool, member, self):
                self._passed_over = self._passed_over + 1 if number else 0
                del self.waiting[waiter]
                return waiter
        self._passed_over = 0
        return None

    def wake(self) -> None:
        """Let who waits connect, as far as there is room."""
        while self.waiting and self.may_connect():
            waiter = next(iter(self.waiting))
            del self.waiting[waiter]
            waiter.dial()

    def _set_times(self, pool: Counted) -> None:
        pool.idle_s = self.limits.idle_timeout_s or (SHARED_IDLE_S if pool.is_http2 else IDLE_S)
        pool.max_served = self.limits.max_requests_per_connection or inf
        pool.max_streams = self.limits.max_streams or MAX_STREAMS
        pool.ping_interval_s = self.limits.ping_interval_s
        pool.ping_timeout_s = self.limits.ping_timeout_s or PING_TIMEOUT_S
        pool.connect_timeout_s = self.limits.connect_timeout_s or CONNECT_TIMEOUT_S


class Hold:
    """What one request counts for in a breaker, from its beginning to its end."""

    __slots__ = ("breaker", "is_pending", "is_retry")

    def __init__(self, breaker: Breaker) -> None:
        self.breaker = breaker
        self.is_pending = False
        self.is_retry = False
        breaker.requests += 1

    def wait(self) -> None:
        """It has no connection yet."""
        self.is_pending = True
        self.breaker.pending += 1

    def start(self, waiter: Waiter) -> None:
        """It waits no more."""
        if self.is_pending:
            self.is_pending = False
            self.breaker.pending -= 1
            self.breaker.waiting.pop(waiter, None)

    def retry(self) -> None:
        """It is a retry from now on; see :meth:`Breaker.may_retry`."""
        if not self.is_retry:
            self.is_retry = True
            self.breaker.retries += 1

    def end(self, waiter: Waiter) -> None:
        """It is over."""
        self.start(waiter)
        self.breaker.requests -= 1
        self.breaker.retries -= self.is_retry
