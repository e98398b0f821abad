"""What one proxy measured, for Prometheus: the mesh's metrics, and those of the process."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ray_mesh.telemetry.export import metrics
from ray_mesh.telemetry.series import Series

_COUNTERS = frozenset({"flaws", "gc_pauses", "handed_over", "taken", "gc_pause_total_s"})


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def exposition(numbers: Mapping[str, float], events: Mapping[str, int], series: Iterable[Series]) -> str:
    """The text that a scrape gets. ``numbers`` are seconds where their name ends in ``_s``."""
    registry = CollectorRegistry()
    registry.register(_Families([*metrics(series, 0), *_own(numbers, events)]))
    return generate_latest(registry).decode()


def _own(numbers: Mapping[str, float], events: Mapping[str, int]) -> Iterator[Metric]:
    for name, value in numbers.items():
        kind = CounterMetricFamily if name in _COUNTERS else GaugeMetricFamily
        full = "ray_mesh_proxy_" + re.sub("_s$", "_seconds", name)
        yield kind(full, f"{name.replace('_', ' ')} of this proxy", value=value)
    counted = CounterMetricFamily(
        "ray_mesh_proxy_events", "What the proxy told of, by reason", labels=("reason",)
    )
    for reason, count in sorted(events.items()):
        counted.add_metric((reason,), count)
    yield counted
