"""Latency as an exponential histogram that merges exactly, in any order.

The layout is OpenTelemetry's base-2 one: bucket ``i`` counts ``base**i < x <= base**(i+1)`` with
``base = 2**(2**-scale)``. At scale 4 a quantile is off by at most 2.2 %. Halving the resolution maps
bucket ``i`` to ``i >> 1`` exactly, so how often, and when, a histogram was coarsened does not show in
the result of a merge. Only populated buckets are kept; past :data:`MAX_BUCKETS` of them the
histogram is coarsened. Durations between 1 microsecond and 1 minute fit without.
"""

from __future__ import annotations

from math import ceil, exp2, isfinite, log2

from ray_mesh.errors import PeerError
from ray_mesh.telemetry.series import Histogram

SCALE = 4
MIN_SCALE = -10
MAX_SCALE = 20
MAX_BUCKETS = 420
_OCTAVES = 1_100  # no float lies further than this many doublings from 1


class ExpHistogram:
    """Counts durations in seconds. Zero and negative durations go to the zero bucket."""

    __slots__ = ("_factor", "counts", "largest", "scale", "smallest", "total", "zeros")

    def __init__(self, scale: int = SCALE) -> None:
        self.scale = scale
        self.zeros = 0
        self.counts: dict[int, int] = {}
        self.total = 0.0
        self.smallest = float("inf")
        self.largest = 0.0
        self._factor = 2.0**scale

    def add(self, seconds: float) -> None:
        """Count one finite duration."""
        if seconds <= 0.0:
            self.zeros += 1
            self.smallest = 0.0
            return
        index = ceil(log2(seconds) * self._factor) - 1
        counts = self.counts
        if index in counts:
            counts[index] += 1
        else:
            counts[index] = 1
            if len(counts) > MAX_BUCKETS:
                self._coarsen(self.scale - 1)
        self.total += seconds
        if seconds > self.largest:
            self.largest = seconds
        if seconds < self.smallest:
            self.smallest = seconds

    @property
    def count(self) -> int:
        """How many durations were counted."""
        return self.zeros + sum(self.counts.values())

    def merge(self, other: ExpHistogram | Histogram) -> None:
        """Add all that ``other`` counted; the coarser of the two resolutions remains."""
        if other.scale < self.scale:
            self._coarsen(other.scale)
        shift = other.scale - self.scale
        counts = self.counts
        items = other.counts.items() if isinstance(other.counts, dict) else other.counts
        for index, count in items:
            counts[index >> shift] = counts.get(index >> shift, 0) + count
        if self.zeros or self.counts or other.zeros:
            self._widen(other)
        while len(self.counts) > MAX_BUCKETS:
            self._coarsen(self.scale - 1)

    def quantile(self, q: float) -> float:
        """The duration in seconds that a share ``q`` (0 to 1) of the counted ones does not exceed."""
        count = self.count
        if not count:
            return 0.0
        rank = max(1, ceil(q * count))
        seen = self.zeros
        if rank <= seen:
            return 0.0
        for index in sorted(self.counts):
            seen += self.counts[index]
            if seen >= rank:
                middle = exp2((index + 0.5) / self._factor)
                return min(max(middle, self.smallest), self.largest)
        return self.largest

    def snapshot(self) -> Histogram:
        """The same content as a frozen value, buckets in order."""
        return Histogram(
            scale=self.scale,
            zeros=self.zeros,
            counts=tuple(sorted(self.counts.items())),
            total=self.total,
            smallest=self.smallest if self.zeros or self.counts else 0.0,
            largest=self.largest,
        )

    @classmethod
    def from_snapshot(cls, snapshot: Histogram) -> ExpHistogram:
        """A histogram that continues from ``snapshot``."""
        histogram = cls(snapshot.scale)
        histogram.merge(snapshot)
        return histogram

    def _widen(self, other: ExpHistogram | Histogram) -> None:
        if not other.zeros and not other.counts:
            return
        self.zeros += other.zeros
        self.total += other.total
        self.largest = max(self.largest, other.largest)
        self.smallest = min(self.smallest, other.smallest)

    def _coarsen(self, scale: int) -> None:
        shift = self.scale - scale
        counts: dict[int, int] = {}
        for index, count in self.counts.items():
            counts[index >> shift] = counts.get(index >> shift, 0) + count
        self.counts = counts
        self.scale = scale
        self._factor = 2.0**scale


def check_histogram(snapshot: Histogram) -> None:
    """Refuse a histogram that no histogram of ours can be: what arrives may be made by anybody.

    Raises:
        PeerError: resolution, bucket or count out of bounds, or a sum that is not a number.
    """
    if not MIN_SCALE <= snapshot.scale <= MAX_SCALE:
        raise PeerError(f"histogram scale {snapshot.scale} is not in {MIN_SCALE}..{MAX_SCALE}")
    if len(snapshot.counts) > MAX_BUCKETS:
        raise PeerError(f"histogram has {len(snapshot.counts)} buckets, at most {MAX_BUCKETS} are allowed")
    edge = _OCTAVES * 2.0**snapshot.scale
    if snapshot.zeros < 0 or any(count < 1 or abs(index) > edge for index, count in snapshot.counts):
        raise PeerError("histogram has a negative count or a bucket beyond all numbers")
    if not (isfinite(snapshot.total) and isfinite(snapshot.smallest) and isfinite(snapshot.largest)):
        raise PeerError("histogram has a sum or bound that is not a finite number")


def difference(newer: Histogram, older: Histogram) -> Histogram:
    """What was counted between two snapshots of one growing histogram.

    The exact extremes of the interval are unknown; they are the bounds of its outer buckets, within
    the extremes of ``newer``.
    """
    shift = older.scale - newer.scale
    before: dict[int, int] = {}
    for index, count in older.counts:
        before[index >> shift] = before.get(index >> shift, 0) + count
    grown = ((index, count - before.get(index, 0)) for index, count in newer.counts)
    counts = tuple((index, count) for index, count in grown if count > 0)
    zeros = max(0, newer.zeros - older.zeros)
    smallest, largest = _extremes(newer, counts, zeros)
    total = max(0.0, newer.total - older.total)
    return Histogram(newer.scale, zeros, counts, total, smallest, largest)


def _extremes(newer: Histogram, counts: tuple[tuple[int, int], ...], zeros: int) -> tuple[float, float]:
    factor = 2.0**newer.scale
    if not counts:
        return 0.0, 0.0
    largest = min(newer.largest, exp2((counts[-1][0] + 1) / factor))
    smallest = 0.0 if zeros else max(newer.smallest, exp2(counts[0][0] / factor))
    return smallest, largest
