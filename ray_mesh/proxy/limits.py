"""The rate limits of a plane: one bucket per limit, shared by the workloads that it covers."""

from __future__ import annotations

from collections.abc import Mapping

from ray_mesh.quota import LeaseBucket
from ray_mesh.snapshot import RateLimit


class Limits:
    """Buckets by name of the limit."""

    def __init__(self) -> None:
        self._buckets: dict[str, tuple[RateLimit, LeaseBucket]] = {}

    def bucket(self, limit: RateLimit) -> LeaseBucket:
        """The bucket of a limit; a limit that changed starts anew."""
        known = self._buckets.get(limit.name)
        if known is None or known[0] != limit:
            known = (limit, LeaseBucket(limit.requests, limit.per_s, limit.fail_mode))
            self._buckets[limit.name] = known
        return known[1]

    def keep(self, names: frozenset[str]) -> None:
        """Forget the limits that no workload has any more."""
        for name in self._buckets.keys() - names:
            del self._buckets[name]

    def demand(self, now: float) -> Mapping[str, int]:
        """Tokens wanted now, by limit."""
        wanted = {name: bucket.demand(now) for name, (_, bucket) in self._buckets.items()}
        return {name: tokens for name, tokens in wanted.items() if tokens}

    def grant(self, name: str, tokens: int, expires_at: float, now: float) -> None:
        """A lease for a limit came; a limit that is gone is ignored."""
        known = self._buckets.get(name)
        if known is not None:
            known[1].grant(tokens, expires_at, now)
