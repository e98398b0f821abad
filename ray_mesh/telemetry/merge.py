"""What one TelemetryActor knows: the newest totals of its proxies, and how they grew lately.

Proxies send cumulative totals. So a lost report loses nothing but freshness, and a collector that
restarts, or takes a proxy over from another one, is whole again with the first complete report.
Rules that keep the numbers true:

* A window is the difference of two totals of one proxy and one epoch. The first report after a
  takeover is only a baseline: what it counts happened at an unknown time. A proxy that has just
  begun (low sequence) started from zero.
* A proxy that restarts begins a new epoch. The totals of the epoch that ended are kept by the
  collector that saw it end, and by nobody else: they count once in the mesh.
* A proxy that falls silent keeps its totals; its windows run out by themselves.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

from ray_mesh.errors import PeerError
from ray_mesh.telemetry.histogram import ExpHistogram, check_histogram, difference
from ray_mesh.telemetry.series import Edge, Series

INTERVAL_S = 1.0
SWEEP_S = 10.0
FRESH_SEQUENCE = 3
"""A proxy whose first known report has at most this number began counting moments ago."""
MAX_PARTS = 1_000
MAX_SERIES = 25_000
MAX_SILENT = 1_000

_order = attrgetter(*Edge.__dataclass_fields__)


class Edges(NamedTuple):
    """Series summed over proxies, and the seconds in which they came about."""

    series: tuple[Series, ...]
    seconds: float


class Collector:
    """Totals and recent growth of the proxies whose reports it is given.

    Which proxies those are, rendezvous hashing over the live collectors decides; a proxy that now
    belongs to another one is let go with :meth:`release`. Times are seconds of one clock that never
    goes back; ``at`` of a report is its sender's clock. ``ring`` is how many seconds of growth are kept.
    """

    def __init__(self, ring: int = 120) -> None:
        self.lost_reports = 0
        self._ring = ring
        self._began_at: float | None = None
        self._swept_at = 0.0
        self._proxies: dict[str, _Proxy] = {}
        self._ended: dict[Edge, Series] = {}

    @property
    def proxies(self) -> tuple[str, ...]:
        """The proxies whose totals are kept."""
        return tuple(sorted(self._proxies))

    def release(self, proxy: str) -> None:
        """Let go of a proxy that another collector keeps. Its earlier epochs, which only this one saw
        end, stay."""
        self._proxies.pop(proxy, None)

    def add_report(
        self,
        proxy: str,
        epoch: str,
        sequence: int,
        part: int,
        parts: int,
        at: float,
        series: Sequence[Series],
        now: float,
    ) -> bool:
        """Take one part of a report; whether a report became complete by it.

        Late and repeated reports are ignored.

        Raises:
            PeerError: the report cannot come from a proxy that works; nothing of it is kept.
        """
        if not 0 <= part < parts <= MAX_PARTS or sequence < 1:
            raise PeerError(f"{proxy}: part {part} of {parts} of report {sequence} cannot be")
        state = self._state(proxy, epoch, at)
        if state is None or sequence <= state.sequence:
            return False
        complete = state.assemble(sequence, part, parts, series)
        if complete is None:
            return False
        self.lost_reports += state.apply(sequence, complete, at, now, self._ring)
        if self._began_at is None:
            self._began_at = now
        if now - self._swept_at >= SWEEP_S:
            self._sweep(now)
        return True

    def edges(self, window_s: float, now: float) -> Edges:
        """What the last ``window_s`` seconds brought (0: everything since the proxies began)."""
        if window_s <= 0:
            current = [series for state in self._proxies.values() for series in state.totals()]
            seconds = 0.0 if self._began_at is None else max(0.0, now - self._began_at)
            return Edges(merge_series([*self._ended.values(), *current]), seconds)
        windows = [state.window(window_s, now) for state in self._proxies.values()]
        seconds = max((window.seconds for window in windows), default=0.0)
        return Edges(merge_series(series for window in windows for series in window.series), seconds)

    def _sweep(self, now: float) -> None:
        """Drop windows that have run out, and fold the longest silent of very many proxies."""
        self._swept_at = now
        horizon = now - self._ring * INTERVAL_S
        silent = [name for name, state in self._proxies.items() if state.heard_at < horizon]
        for name in silent:
            self._proxies[name].forget_growth()
        silent.sort(key=lambda name: self._proxies[name].heard_at)
        for name in silent[: max(0, len(silent) - MAX_SILENT)]:
            self._end(self._proxies.pop(name))

    def _state(self, proxy: str, epoch: str, at: float) -> _Proxy | None:
        state = self._proxies.get(proxy)
        if state is not None and state.epoch != epoch:
            if at < state.reported_at:
                return None
            self._end(state)
            state = None
        if state is None:
            state = self._proxies[proxy] = _Proxy(proxy, epoch)
        return state

    def _end(self, state: _Proxy) -> None:
        merged = merge_series([*self._ended.values(), *state.totals()])
        self._ended = {series.edge: series for series in merged}


class _Proxy:
    """One epoch of one proxy."""

    def __init__(self, name: str, epoch: str) -> None:
        self.name = name
        self.epoch = epoch
        self.sequence = 0
        self.heard_at = 0.0
        self.reported_at = 0.0
        self._assembling = 0
        self._parts: dict[int, Sequence[Series]] = {}
        self._times: deque[float] = deque()
        self._growth: dict[Edge, deque[tuple[float, Series]]] = {}

    def totals(self) -> Iterable[Series]:
        return (steps[-1][1] for steps in self._growth.values())

    def assemble(self, sequence: int, part: int, parts: int, series: Sequence[Series]) -> list[Series] | None:
        """All series of the report once its parts are there. A newer report displaces an older one."""
        if sequence < self._assembling:
            return None
        if sequence > self._assembling:
            self._assembling, self._parts = sequence, {}
        self._parts[part] = series
        if sum(map(len, self._parts.values())) > MAX_SERIES:
            self._parts = {}
            raise PeerError(f"{self.name}: a report has more than {MAX_SERIES} series")
        if len(self._parts) < parts:
            return None
        complete = [one for number in sorted(self._parts) for one in self._parts[number]]
        self._parts = {}
        return complete

    def apply(self, sequence: int, series: Sequence[Series], at: float, now: float, ring: int) -> int:
        """Take a complete report; returns how many before it were lost."""
        news = [one for one in series if self._is_news(one)]
        for one in news:
            check_series(self.name, one)
        self._begin(sequence, now)
        for one in news:
            steps = self._growth.get(one.edge)
            if steps is None:
                self._growth[one.edge] = deque([(now, one)])
            else:
                steps.append((now, one))
        lost = sequence - self.sequence - 1 if self.sequence else 0
        self.sequence, self.reported_at, self.heard_at = sequence, at, now
        self._times.append(now)
        self._trim(now - ring * INTERVAL_S)
        return lost

    def window(self, window_s: float, now: float) -> Edges:
        """Growth since the newest report that is at least ``window_s`` old, or since the first."""
        times = self._times
        if not times or times[-1] <= now - window_s:
            return Edges((), 0.0)
        base_at = times[max(0, bisect_right(times, now - window_s) - 1)]
        ends_at = times[-1] if now - times[-1] <= 2 * INTERVAL_S else now
        grown = (self._growth_since(steps, base_at) for steps in self._growth.values())
        return Edges(tuple(series for series in grown if series is not None), ends_at - base_at)

    def forget_growth(self) -> None:
        """Keep the totals only; the next report is a baseline again."""
        self._times.clear()
        for steps in self._growth.values():
            while len(steps) > 1:
                steps.popleft()

    def _is_news(self, one: Series) -> bool:
        steps = self._growth.get(one.edge)
        return steps is None or _has_grown(one, steps[-1][1])

    def _begin(self, sequence: int, now: float) -> None:
        """The first report of a proxy that just began counts from zero, some reports ago."""
        if not self._times and not self.sequence and sequence <= FRESH_SEQUENCE:
            self._times.append(now - sequence * INTERVAL_S)

    def _growth_since(self, steps: deque[tuple[float, Series]], base_at: float) -> Series | None:
        newest_at, newest = steps[-1]
        if newest_at <= base_at:
            return None
        index = len(steps) - 1
        while index >= 0 and steps[index][0] > base_at:
            index -= 1
        return newest if index < 0 else subtract(newest, steps[index][1])

    def _trim(self, horizon: float) -> None:
        """Drop what no window can ask for; the newest step before the horizon stays as a baseline."""
        while len(self._times) > 1 and self._times[1] <= horizon:
            self._times.popleft()
        for steps in self._growth.values():
            while len(steps) > 1 and steps[1][0] <= horizon:
                steps.popleft()


def _has_grown(newer: Series, older: Series) -> bool:
    """By a request, or by what a connection that goes on has moved."""
    return (
        newer.requests > older.requests
        or newer.opened > older.opened
        or newer.request_bytes > older.request_bytes
        or newer.response_bytes > older.response_bytes
    )


def check_series(proxy: str, series: Series) -> None:
    """Refuse totals that cannot be.

    Raises:
        PeerError: a negative number, or a histogram of another size than ``requests``.
    """
    check_histogram(series.duration)
    counted = series.duration.zeros + sum(count for _, count in series.duration.counts)
    if counted != series.requests or min(series.request_bytes, series.response_bytes, series.opened) < 0:
        raise PeerError(f"{proxy}: a series of {series.requests} requests has {counted} durations")


def subtract(newer: Series, older: Series) -> Series:
    """What one growing series gained between two totals; never negative."""
    duration = difference(newer.duration, older.duration)
    return Series(
        edge=newer.edge,
        requests=duration.zeros + sum(count for _, count in duration.counts),
        request_bytes=max(0, newer.request_bytes - older.request_bytes),
        response_bytes=max(0, newer.response_bytes - older.response_bytes),
        duration=duration,
        opened=max(0, newer.opened - older.opened),
    )


def merge_series(series: Iterable[Series]) -> tuple[Series, ...]:
    """One series per edge, sorted by edge: the sum of all with that edge, in whatever order they come."""
    groups: dict[Edge, list[Series]] = {}
    for one in series:
        groups.setdefault(one.edge, []).append(one)
    return tuple(add(groups[edge]) for edge in sorted(groups, key=_order))


def add(series: Sequence[Series]) -> Series:
    """The sum of at least one series of one edge; the first names the edge."""
    if len(series) == 1:
        return series[0]
    duration = ExpHistogram.from_snapshot(series[0].duration)
    for one in series[1:]:
        duration.merge(one.duration)
    return Series(
        edge=series[0].edge,
        requests=sum(one.requests for one in series),
        request_bytes=sum(one.request_bytes for one in series),
        response_bytes=sum(one.response_bytes for one in series),
        duration=duration.snapshot(),
        opened=sum(one.opened for one in series),
    )
