from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from ray_mesh.errors import PeerError
from ray_mesh.telemetry.merge import Collector, merge_series
from ray_mesh.telemetry.series import Edge, Series
from ray_mesh.telemetry.table import SeriesTable

EDGE = Edge(
    reporter="source",
    source_workload="default/web-1",
    source_app="web",
    source_version="v1",
    source_principal="mesh.local/ns/default/sa/web",
    destination_service="reviews.default.svc.cluster.local",
    destination_workload="default/reviews-1",
    destination_app="reviews",
    destination_version="v1",
    destination_principal="mesh.local/ns/default/sa/reviews",
    route="default",
    protocol="http",
    code=200,
    flags="",
    security="mutual_tls",
)


class Proxy:
    """A proxy as a collector sees it: a table that grows, and numbered reports of it."""

    def __init__(self, name: str, epoch: str = "one") -> None:
        self.name = name
        self.epoch = epoch
        self.sequence = 0
        self.table = SeriesTable()

    def serve(self, requests: int, edge: Edge = EDGE) -> None:
        recorder = self.table.series(edge)
        for _ in range(requests):
            recorder.record(0.010, 1, 64)

    def report(self, collector: Collector, now: float) -> bool:
        self.sequence += 1
        return self.send(collector, now, 0, 1, self.table.totals())

    def send(self, collector: Collector, now: float, part: int, parts: int, series: Sequence[Series]) -> bool:
        return collector.add_report(
            self.name, self.epoch, self.sequence, part, parts, at=now, series=series, now=now
        )


def requests(collector: Collector, window_s: float, now: float) -> int:
    return sum(series.requests for series in collector.edges(window_s, now).series)


def test_totals_are_those_of_the_newest_report() -> None:
    collector, proxy = Collector(), Proxy("p1")
    for second in range(1, 4):
        proxy.serve(10)
        assert proxy.report(collector, float(second))
    assert requests(collector, 0, 3.0) == 30
    assert collector.proxies == ("p1",)


def test_a_window_is_the_difference_of_totals() -> None:
    collector, proxy = Collector(), Proxy("p1")
    for second in range(1, 31):
        proxy.serve(10)
        proxy.report(collector, float(second))
    edges = collector.edges(10, now=30.0)
    assert edges.seconds == 10.0
    assert edges.series[0].requests == 100
    assert edges.series[0].response_bytes == 6400


def test_a_fresh_proxy_counts_from_zero() -> None:
    collector, proxy = Collector(), Proxy("p1")
    proxy.serve(10)
    proxy.report(collector, 1.0)
    edges = collector.edges(60, now=1.0)
    assert (edges.series[0].requests, edges.seconds) == (10, 1.0)


def test_a_takeover_is_a_baseline_and_no_spike() -> None:
    proxy = Proxy("p1")
    proxy.serve(1_000_000 // 1000)
    proxy.sequence = 500
    collector = Collector()
    proxy.report(collector, 1.0)
    assert requests(collector, 60, 1.0) == 0
    assert requests(collector, 0, 1.0) == 1000
    proxy.serve(7)
    proxy.report(collector, 2.0)
    assert collector.edges(60, 2.0).seconds == 1.0
    assert requests(collector, 60, 2.0) == 7


def test_an_edge_that_appears_later_counts_from_zero() -> None:
    collector, proxy = Collector(), Proxy("p1")
    proxy.sequence = 100
    proxy.serve(1000)
    proxy.report(collector, 1.0)
    proxy.serve(5, replace(EDGE, code=503))
    proxy.report(collector, 2.0)
    assert [(s.edge.code, s.requests) for s in collector.edges(60, 2.0).series] == [(503, 5)]


def test_a_report_counts_when_all_its_parts_are_there() -> None:
    collector, proxy = Collector(), Proxy("p1")
    proxy.serve(1)
    proxy.serve(2, replace(EDGE, code=404))
    first, second = proxy.table.totals()
    proxy.sequence = 1
    assert not proxy.send(collector, 1.0, 1, 2, [second])
    assert requests(collector, 0, 1.0) == 0
    assert proxy.send(collector, 1.0, 0, 2, [first])
    assert requests(collector, 0, 1.0) == 3


def test_a_torn_report_is_lost_and_the_next_one_heals() -> None:
    collector, proxy = Collector(), Proxy("p1")
    proxy.serve(1)
    proxy.report(collector, 1.0)
    proxy.sequence += 1
    proxy.send(collector, 2.0, 0, 2, proxy.table.totals())
    proxy.serve(4)
    proxy.report(collector, 3.0)
    assert collector.lost_reports == 1
    assert requests(collector, 0, 3.0) == 5


def test_lost_and_repeated_reports_are_told_apart() -> None:
    collector, proxy = Collector(), Proxy("p1")
    proxy.report(collector, 1.0)
    proxy.sequence += 3
    proxy.report(collector, 5.0)
    assert collector.lost_reports == 3
    proxy.sequence -= 2
    assert not proxy.report(collector, 6.0)
    assert collector.lost_reports == 3


def test_a_proxy_restart_keeps_the_totals() -> None:
    collector, before = Collector(), Proxy("p1", "one")
    before.serve(10)
    before.report(collector, 1.0)
    after = Proxy("p1", "two")
    after.serve(3)
    after.report(collector, 5.0)
    assert requests(collector, 0, 5.0) == 13
    assert requests(collector, 60, 5.0) == 3
    before.sequence = 50
    before.serve(100)
    assert not before.send(collector, 4.0, 0, 1, before.table.totals())
    assert requests(collector, 0, 5.0) == 13


def test_a_collector_restart_heals_with_the_first_report() -> None:
    proxy = Proxy("p1")
    first = Collector()
    for second in range(1, 20):
        proxy.serve(10)
        proxy.report(first, float(second))
    second_life = Collector()
    proxy.report(second_life, 20.0)
    assert requests(second_life, 0, 20.0) == requests(first, 0, 20.0) == 190


def test_a_silent_proxy_keeps_its_totals_and_loses_its_window() -> None:
    collector, proxy, other = Collector(), Proxy("p1"), Proxy("p2")
    proxy.serve(100)
    proxy.report(collector, 1.0)
    for second in range(2, 200):
        other.report(collector, float(second))
    assert requests(collector, 10, 199.0) == 0
    assert requests(collector, 0, 199.0) == 100


def test_the_last_requests_of_a_dead_proxy_are_no_spike() -> None:
    collector, proxy = Collector(), Proxy("p1")
    for second in range(1, 61):
        proxy.serve(10)
        proxy.report(collector, float(second))
    edges = collector.edges(60, now=110.0)
    assert edges.series[0].requests == 100
    assert edges.seconds == 60.0


def test_a_released_proxy_counts_elsewhere() -> None:
    one, two, proxy = Collector(), Collector(), Proxy("p1")
    proxy.serve(10)
    proxy.report(one, 1.0)
    one.release("p1")
    proxy.report(two, 2.0)
    merged = merge_series([*one.edges(0, 2.0).series, *two.edges(0, 2.0).series])
    assert [series.requests for series in merged] == [10]


def test_totals_never_shrink_when_a_report_is_wrong() -> None:
    collector, proxy = Collector(), Proxy("p1")
    proxy.serve(10)
    proxy.report(collector, 1.0)
    proxy.table = SeriesTable()
    proxy.serve(4)
    proxy.report(collector, 2.0)
    assert requests(collector, 0, 2.0) == 10


@pytest.mark.parametrize(("part", "parts"), [(1, 1), (-1, 1), (0, 0), (0, 100_000)])
def test_impossible_parts_are_refused(part: int, parts: int) -> None:
    with pytest.raises(PeerError, match="p1: part"):
        Collector().add_report("p1", "one", 1, part, parts, at=1.0, series=(), now=1.0)


def test_totals_that_do_not_add_up_are_refused() -> None:
    collector, proxy = Collector(), Proxy("p1")
    proxy.serve(2)
    proxy.sequence = 1
    (series,) = proxy.table.totals()
    with pytest.raises(PeerError, match="3 requests has 2 durations"):
        proxy.send(collector, 1.0, 0, 1, [replace(series, requests=3)])
    assert requests(collector, 0, 1.0) == 0
