"""Outlier detection: endpoints of a cluster that fail in a row are left out for a while.

Envoy's semantics, with Istio's fields. Consecutive kinds only; counted are 5xx of any kind, gateway errors
(502, 503, 504), and failures of this side (no connection, a reset, a timeout), which count as 503 or 504
among the others unless they are split off. An ejection lasts the base time as often as the endpoint was
ejected in a row, at most 300 s (or the base time), and ends at the next interval; each interval without
one takes one off the number. No more than a percentage of the endpoints is left out at a time, also when
that means none. Unlike in Envoy nothing runs while nothing happens: intervals are counted from times.

Pure: times are passed in.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable
from typing import Generic, TypeVar

from ray_mesh.snapshot import OutlierDetection

LONGEST_EJECTION_S = 300.0
_GATEWAY_ERRORS = (502, 503, 504)

H = TypeVar("H", bound=Hashable)


class Standing:
    """How one endpoint did lately."""

    __slots__ = ("back_at", "ejections", "gateway_errors", "local_failures", "server_errors")

    def __init__(self) -> None:
        self.server_errors = 0
        self.gateway_errors = 0
        self.local_failures = 0
        self.ejections = 0
        self.back_at = 0.0


class Outliers(Generic[H]):
    """The standing of each endpoint of one cluster. ``began_at`` is when its intervals begin."""

    def __init__(self, policy: OutlierDetection, began_at: float) -> None:
        self.policy = policy
        self._began_at = began_at
        self._standings: dict[H, Standing] = {}
        self._members: Collection[H] = ()

    def keep(self, members: Collection[H]) -> None:
        """These are the endpoints now; the others are forgotten."""
        self._members = members
        for gone in self._standings.keys() - set(members):
            del self._standings[gone]

    def is_ejected(self, member: H, now: float) -> bool:
        """Whether it is left out."""
        standing = self._standings.get(member)
        return standing is not None and standing.back_at > now

    def is_panic(self, healthy: int) -> bool:
        """Whether so few of the endpoints are left that all of them are used."""
        return 100 * healthy < self.policy.min_health_percent * len(self._members)

    def answered(self, member: H, status: int, now: float) -> float | None:
        """A response came; when the endpoint is ejected for it, until when."""
        standing = self._standings.get(member)
        if status < 500:
            if standing is not None:
                standing.server_errors = standing.gateway_errors = standing.local_failures = 0
            return None
        if standing is None:
            standing = self._standings[member] = Standing()
        standing.local_failures = 0
        return self._failed(member, standing, status, now)

    def failed_here(self, member: H, status: int, now: float) -> float | None:
        """No response came; ``status`` is what the client was told. As :meth:`answered`."""
        standing = self._standings.setdefault(member, Standing())
        if not self.policy.splits_local:
            return self._failed(member, standing, status, now)
        standing.local_failures += 1
        if standing.local_failures != self.policy.consecutive_local_failures:
            return None
        standing.local_failures = 0
        return self._eject(member, standing, now)

    def _failed(self, member: H, standing: Standing, status: int, now: float) -> float | None:
        policy = self.policy
        standing.server_errors += 1
        standing.gateway_errors = standing.gateway_errors + 1 if status in _GATEWAY_ERRORS else 0
        back_at = None
        if standing.gateway_errors and standing.gateway_errors == policy.consecutive_gateway_errors:
            standing.gateway_errors = 0
            back_at = self._eject(member, standing, now)
        if standing.server_errors == policy.consecutive_5xx:
            standing.server_errors = 0
            back_at = self._eject(member, standing, now) or back_at
        return back_at

    def _eject(self, member: H, standing: Standing, now: float) -> float | None:
        if standing.back_at > now or member not in self._members:
            return None
        ejected = sum(one.back_at > now for one in self._standings.values())
        if 100 * (ejected + 1) > self.policy.max_ejection_percent * len(self._members):
            return None
        base_s, interval_s = self.policy.base_ejection_s, self.policy.interval_s
        if standing.ejections:
            rested = self._interval(now) - self._interval(standing.back_at)
            standing.ejections = max(0, standing.ejections - rested)
        standing.ejections += 1
        lasts_s = min(base_s * standing.ejections, max(base_s, LONGEST_EJECTION_S))
        intervals = math.ceil((now + lasts_s - self._began_at) / interval_s)
        standing.back_at = self._began_at + intervals * interval_s
        return standing.back_at

    def _interval(self, at: float) -> int:
        return round((at - self._began_at) // self.policy.interval_s)
