"""Asking all live TelemetryActors, and making one answer of theirs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from ray_mesh.bus import subjects
from ray_mesh.bus.client import Bus
from ray_mesh.bus.messages import EdgesReply, EdgesRequest, decode, encode
from ray_mesh.errors import MeshError
from ray_mesh.gateway.view import MeshView
from ray_mesh.telemetry.export import MeshMetrics
from ray_mesh.telemetry.graph import Graph, build_graph
from ray_mesh.telemetry.merge import merge_series
from ray_mesh.telemetry.series import Histogram, Series

QUERY_TIMEOUT_S = 2.0
METRICS_TYPE = CONTENT_TYPE_LATEST


@dataclass(frozen=True, slots=True)
class Collected:
    """All series of the mesh. ``missing`` are live collectors that did not answer."""

    series: tuple[Series, ...]
    seconds: float
    lost_reports: int
    missing: tuple[str, ...]


class Collectors:
    """The live telemetry collectors, as one."""

    def __init__(self, bus: Bus, view: MeshView, convergence: Callable[[], Histogram]) -> None:
        self._bus = bus
        self._view = view
        self._convergence = convergence

    async def collect(self, window_s: float) -> Collected:
        """The series of the last ``window_s`` seconds (0: totals) from every collector that answers."""
        names = [lease.instance for lease in self._view.roles(time.monotonic(), "telemetry")]
        results = await asyncio.gather(*(self._ask(name, window_s) for name in names))
        replies = [reply for reply in results if reply is not None]
        return Collected(
            series=merge_series(one for reply in replies for one in reply.series),
            seconds=max((reply.seconds for reply in replies), default=0.0),
            lost_reports=sum(reply.lost_reports for reply in replies),
            missing=tuple(name for name, reply in zip(names, results, strict=True) if reply is None),
        )

    async def graph(self, window_s: float) -> tuple[Graph, tuple[str, ...]]:
        """The service graph, and which collectors are missing from it."""
        collected = await self.collect(window_s)
        return build_graph(collected.series, collected.seconds), collected.missing

    async def metrics(self) -> bytes:
        """Totals in the Prometheus text format."""
        collected = await self.collect(0.0)
        registry = CollectorRegistry()
        registry.register(
            MeshMetrics(lambda: collected.series, lambda: collected.lost_reports, self._convergence)
        )
        return generate_latest(registry)

    async def _ask(self, name: str, window_s: float) -> EdgesReply | None:
        try:
            answer = await self._bus.request(
                subjects.query(name), encode(EdgesRequest(window_s)), timeout_s=QUERY_TIMEOUT_S
            )
            return decode(EdgesReply, answer.data)
        except MeshError:
            # The caller says which collectors are missing; an error of one must not hide the others.
            return None
