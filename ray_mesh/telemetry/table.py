"""All series of one proxy: bounded, cumulative, cheap to record into.

Building an :class:`Edge` and looking it up costs microseconds. A proxy does it once per combination
it meets and keeps the :class:`Recorder`; recorders stay valid for the life of the table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ray_mesh.telemetry.histogram import ExpHistogram
from ray_mesh.telemetry.series import Edge, Series

OTHER = "__other__"
SERIES_PER_PART = 150
"""So many series, each with every bucket in use, stay well below the bus's 1 MB message limit."""


class Recorder:
    """The growing totals of one edge."""

    __slots__ = ("_add", "_known", "duration", "edge", "opened", "request_bytes", "response_bytes")

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.request_bytes = 0
        self.response_bytes = 0
        self.opened = 0
        self.duration = ExpHistogram()
        self._add = self.duration.add
        self._known: Series | None = None

    def record(self, duration_s: float, request_bytes: int, response_bytes: int) -> None:
        """Count one finished request."""
        self.request_bytes += request_bytes
        self.response_bytes += response_bytes
        self._add(duration_s)

    def open(self) -> None:
        """Count one opened connection."""
        self.opened += 1

    def move(self, request_bytes: int, response_bytes: int) -> None:
        """Count bytes of a connection that goes on."""
        self.request_bytes += request_bytes
        self.response_bytes += response_bytes

    @property
    def is_used(self) -> bool:
        """Whether anything was recorded."""
        return bool(self.duration.count or self.opened)

    def total(self) -> Series:
        """Totals so far; the same object as last time when nothing was recorded since."""
        requests = self.duration.count
        known = self._known
        if (
            known is None
            or known.requests != requests
            or known.opened != self.opened
            or known.request_bytes != self.request_bytes
            or known.response_bytes != self.response_bytes
        ):
            self._known = Series(
                edge=self.edge,
                requests=requests,
                request_bytes=self.request_bytes,
                response_bytes=self.response_bytes,
                duration=self.duration.snapshot(),
                opened=self.opened,
            )
        assert self._known is not None
        return self._known


class SeriesTable:
    """Recorders by edge, at most ``limit``.

    Past the limit a new edge is folded into one ``__other__`` edge per reporter, code, flags and status of
    gRPC (so that error rates stay true); whoever owns the table warns when it :attr:`is_full`.
    """

    def __init__(self, limit: int = 10_000) -> None:
        self.limit = limit
        self._recorders: dict[Edge, Recorder] = {}
        self._others: dict[Edge, Recorder] = {}

    def series(self, edge: Edge) -> Recorder:
        """The recorder of ``edge``, or of the ``__other__`` edge that it is folded into."""
        recorder = self._recorders.get(edge)
        if recorder is None:
            if len(self._recorders) < self.limit:
                recorder = self._recorders[edge] = Recorder(edge)
            else:
                recorder = self._other(edge)
        return recorder

    @property
    def folded(self) -> int:
        """Requests recorded under ``__other__``."""
        return sum(recorder.duration.count for recorder in self._others.values())

    @property
    def is_full(self) -> bool:
        """Whether a new edge would be folded."""
        return len(self._recorders) >= self.limit

    def totals(self) -> tuple[Series, ...]:
        """Cumulative totals of every edge that has been recorded."""
        both = (*self._recorders.values(), *self._others.values())
        return tuple(recorder.total() for recorder in both if recorder.is_used)

    def _other(self, edge: Edge) -> Recorder:
        other = other_edge(edge)
        recorder = self._others.get(other)
        if recorder is None:
            recorder = self._others[other] = Recorder(other)
        return recorder


def other_edge(edge: Edge) -> Edge:
    """The edge that stands for all that found no room: how they ended is kept."""
    return replace(
        edge,
        source_workload=OTHER,
        source_app=OTHER,
        source_version=OTHER,
        source_principal=OTHER,
        destination_service=OTHER,
        destination_workload=OTHER,
        destination_app=OTHER,
        destination_version=OTHER,
        destination_principal=OTHER,
        route=OTHER,
        security="unknown",
    )


def parts(series: Sequence[Series], size: int = SERIES_PER_PART) -> Iterator[tuple[Series, ...]]:
    """Split totals into parts that each fit one message; one empty part when there are none."""
    yield tuple(series[:size])
    for start in range(size, len(series), size):
        yield tuple(series[start : start + size])
