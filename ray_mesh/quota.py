"""Mesh-wide rate limits: fixed windows of wall time, handed out in leases.

The PolicyActor that rendezvous hashing gives a limit grants tokens of the current window to the
proxies that ask; a proxy spends its tokens without asking again (:class:`LeaseBucket`). Rules:

* The tokens granted of one window never exceed the limit. Tokens that are not spent by the end of
  their window are lost, so the mesh may admit fewer requests than the limit, never more.
* An owner that took a limit over while a window was being granted grants nothing of that window,
  since it cannot know what was granted before it. The same holds for one that just started (it may
  not have heard of the others yet), that was paused for so long that others may have given it up, or
  whose clock stepped back.
* Shortly before the end of a window (:func:`lead_s`) tokens of the next one are granted ahead, so
  that steady traffic does not stop to ask at the turn of the window. The bucket keeps them until then.

Owners on machines whose clocks differ disagree about where a window begins: a takeover between them
may then admit one window's worth more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from math import ceil, floor
from typing import Literal

from ray_mesh.rendezvous import owner

SETTLE_S = 2.0
"""A new owner hears of every other live one within this time."""

PAUSE_S = 1.2
"""An owner that did not look at its peers for longer than this may have been given up by them. It is
less than the life of a heartbeat lease (2 s) minus a heartbeat (0.5 s)."""

LONGEST_WINDOW_S = 60
PATIENCE_S = 1.0
"""How long a bucket waits for the first answer before the limit's fail mode decides."""


def lead_s(per_s: int) -> float:
    """How long before the end of a window tokens of the next one are granted."""
    return min(per_s * 0.1, 1.0)


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to one request for tokens.

    ``granted`` tokens are good until the end of their window, ``expires_in_s`` from now; 0 tokens
    means that nothing is left until then, and ``retry_in_s`` is when to ask again. ``error`` says why
    there is no answer at all: the asker then acts as if the owner were away.
    """

    granted: int
    expires_in_s: float
    retry_in_s: float
    error: str = ""


@dataclass(slots=True)
class _Window:
    granted: int = 0
    demands: dict[str, int] = field(default_factory=dict)


class QuotaBook:
    """The state of one PolicyActor: what it has granted of the limits it owns. Times are wall clock."""

    def __init__(self, instance: str, now: float, settle_s: float = SETTLE_S) -> None:
        self.instance = instance
        self.settle_s = settle_s
        self._seen_at = now
        self._settled_at = now
        self._views: deque[tuple[float, frozenset[str]]] = deque()
        self._windows: dict[tuple[str, int, int], _Window] = {}
        self._restart(frozenset({instance}), now)

    def observe(self, members: Collection[str], now: float) -> None:
        """Take note of the live PolicyActors. Call at least each 0.5 s."""
        view = frozenset(members) | {self.instance}
        if not self._is_current(now):
            self._restart(view, now)
        elif view != self._views[-1][1]:
            self._views.append((now, view))
            horizon = now - 2 * LONGEST_WINDOW_S
            while len(self._views) > 1 and self._views[1][0] < horizon:
                self._views.popleft()
        self._seen_at = now
        self._forget(now)

    def hear_again(self, now: float) -> None:
        """The broker was away, so others may have taken limits over unheard: begin as after a start."""
        self._restart(self._views[-1][1], now)

    def grant(self, limit: str, requests: int, per_s: int, demand: int, proxy: str, now: float) -> Grant:
        """Answer ``proxy``, which wants ``demand`` tokens of a limit of ``requests`` per ``per_s`` s."""
        if not self._is_current(now):
            self._restart(self._views[-1][1], now)
        if requests < 1 or demand < 1 or not 1 <= per_s <= LONGEST_WINDOW_S:
            return Grant(0, 0.0, SETTLE_S, f"{limit}: {demand} of {requests} per {per_s} s cannot be granted")
        number, ends_in_s = self._window_at(per_s, now)
        owned_since = self._owned_since(limit)
        if owned_since is None:
            return Grant(0, ends_in_s, self.settle_s, f"{self.instance} does not own {limit}")
        if number * per_s - lead_s(per_s) < owned_since:
            retry_in_s = max(ends_in_s - lead_s(per_s), owned_since - now, 0.0)
            return Grant(0, ends_in_s, retry_in_s, f"{self.instance} took {limit} over in this window")
        window = self._windows.setdefault((limit, per_s, number), _Window())
        granted = self._share(window, requests, demand, proxy, (limit, per_s, number))
        window.granted += granted
        retry_in_s = 0.0 if granted else max(ends_in_s - lead_s(per_s), 0.0)
        return Grant(granted, ends_in_s, retry_in_s)

    def validate(self) -> None:
        """Assert what must always hold."""
        assert self._views, "there is always a current view"
        assert all(self.instance in view for _, view in self._views)
        assert all(window.granted >= 0 for window in self._windows.values())

    def _share(
        self, window: _Window, requests: int, demand: int, proxy: str, key: tuple[str, int, int]
    ) -> int:
        limit, per_s, number = key
        window.demands[proxy] = max(demand, window.demands.get(proxy, 0))
        before = self._windows.get((limit, per_s, number - 1))
        demands = {**before.demands, **window.demands} if before else window.demands
        left = max(0, requests - window.granted)
        fair = ceil(left * window.demands[proxy] / sum(demands.values()))
        return min(demand, fair, left)

    def _window_at(self, per_s: int, now: float) -> tuple[int, float]:
        number = floor((now + lead_s(per_s)) / per_s)
        return number, (number + 1) * per_s - now

    def _owned_since(self, limit: str) -> float | None:
        since = None
        for at, view in reversed(self._views):
            if owner(limit, view) != self.instance:
                break
            since = max(at, self._settled_at)
        return since

    def _is_current(self, now: float) -> bool:
        return 0.0 <= now - self._seen_at <= PAUSE_S

    def _restart(self, view: frozenset[str], now: float) -> None:
        self._views.clear()
        self._views.append((now, view))
        self._settled_at = now + self.settle_s
        self._seen_at = now

    def _forget(self, now: float) -> None:
        old = [key for key in self._windows if (key[2] + 3) * key[1] < now]
        for key in old:
            del self._windows[key]


class LeaseBucket:
    """A proxy's tokens of one rate limit. ``now`` is any clock that only grows, always the same one.

    Without an answer from the owner for :data:`PATIENCE_S` the fail mode decides: OPEN lets requests
    pass, CLOSED refuses them. Before that :meth:`take` refuses, and :meth:`is_waiting` says that an
    answer is on its way, so a caller that can hold a request may try again.
    """

    __slots__ = (
        "_asked_at",
        "_attempts",
        "_expected",
        "_expires_at",
        "_next",
        "_tokens",
        "_turns_at",
        "_unmet",
        "fail_mode",
        "per_s",
        "refused_until",
        "requests",
    )

    def __init__(self, requests: int, per_s: int, fail_mode: Literal["OPEN", "CLOSED"]) -> None:
        self.requests = requests
        self.per_s = per_s
        self.fail_mode = fail_mode
        self.refused_until = 0.0
        self._tokens = 0
        self._expires_at = 0.0
        self._next: tuple[int, float] = (0, 0.0)
        self._asked_at: float | None = None
        self._attempts = 0
        self._expected = 0
        self._unmet = 0
        self._turns_at = 0.0

    def take(self, now: float) -> bool:
        """Spend a token for one request: whether it may pass."""
        if now >= self._turns_at:
            self._turn(now)
        self._attempts += 1
        if self._tokens > 0:
            self._tokens -= 1
            return True
        self._unmet += 1
        if now < self.refused_until:
            return False
        if self._asked_at is None:
            self._asked_at = now
        return self.is_unanswered(now) and self.fail_mode == "OPEN"

    def is_waiting(self, now: float) -> bool:
        """Whether the owner was asked, has not answered, and may still do so in time."""
        return self._asked_at is not None and now >= self.refused_until and not self.is_unanswered(now)

    def is_unanswered(self, now: float) -> bool:
        """Whether the owner has been silent for so long that the fail mode decides."""
        return self._asked_at is not None and now - self._asked_at >= PATIENCE_S

    def demand(self, now: float) -> int:
        """How many tokens to ask for now; 0 is nothing. Poll about every 50 ms, one request at a time."""
        if now >= self._turns_at:
            self._turn(now)
        lead = lead_s(self.per_s)
        if self._next[0] or now < self.refused_until - lead:
            return 0
        if now < self.refused_until or now < self._expires_at <= now + lead:
            return min(self.requests, max(self._expected, self._attempts))
        if not self._unmet and self._tokens * 4 >= self._attempts:
            return 0
        ahead = min(self._left(now), self.requests // 10)
        return min(self.requests, max(self._unmet + ahead - self._tokens, 1))

    def grant(self, tokens: int, expires_at: float, now: float) -> None:
        """Take the owner's answer: ``tokens`` until ``expires_at``, or none until then.

        ``expires_at`` counts from when the request was sent, so that a slow answer shortens a lease
        and never extends it. A lease that ends more than a window from now belongs to the next one: it
        says nothing of what is left of this one, so until then requests wait instead of being refused.
        """
        if now >= self._turns_at:
            self._turn(now)
        self._asked_at = None
        self._unmet = 0
        starts_at = expires_at - self.per_s
        if tokens <= 0:
            self.refused_until = expires_at
        elif starts_at > now:
            self._next = (self._next[0] + tokens, expires_at)
            self._turns_at = starts_at
        elif now < expires_at:
            is_same = abs(expires_at - self._expires_at) < self.per_s / 2
            self._tokens = self._tokens + tokens if is_same else tokens
            self._turns_at = self._expires_at = min(expires_at, self._expires_at) if is_same else expires_at
            self.refused_until = 0.0

    def tokens(self, now: float) -> int:
        """Tokens that can be spent now."""
        if now >= self._turns_at:
            self._turn(now)
        return self._tokens

    def _left(self, now: float) -> int:
        """What the rest of the window will probably take."""
        share = max(0.0, min(1.0, (self._turns_at - now) / self.per_s))
        return ceil(max(self._expected, self._attempts) * share)

    def _turn(self, now: float) -> None:
        """Begin the accounts of a new window, with the tokens that were granted ahead for it."""
        if not self._attempts:
            self._asked_at = None
        self._expected, self._attempts, self._unmet = self._attempts, 0, 0
        self._tokens, self._expires_at = self._next
        self._next = (0, 0.0)
        if now >= self._expires_at:
            self._tokens, self._expires_at = 0, now + self.per_s
        self._turns_at = self._expires_at
