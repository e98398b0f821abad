from __future__ import annotations

from dataclasses import replace

from ray_mesh.telemetry.series import Edge
from ray_mesh.telemetry.table import OTHER, SeriesTable, parts

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


def test_totals_grow_with_each_record() -> None:
    table = SeriesTable()
    recorder = table.series(EDGE)
    recorder.record(0.010, 5, 64)
    recorder.record(0.020, 0, 64)
    (series,) = table.totals()
    assert series.edge == EDGE
    assert (series.requests, series.request_bytes, series.response_bytes) == (2, 5, 128)
    assert series.duration.largest == 0.020


def test_an_edge_without_requests_is_not_reported() -> None:
    table = SeriesTable()
    table.series(EDGE)
    assert table.totals() == ()


def test_the_same_edge_has_one_recorder() -> None:
    table = SeriesTable()
    assert table.series(EDGE) is table.series(replace(EDGE))


def test_unchanged_totals_are_the_same_object() -> None:
    table = SeriesTable()
    recorder = table.series(EDGE)
    recorder.record(0.010, 0, 0)
    first = table.totals()[0]
    assert table.totals()[0] is first
    recorder.record(0.010, 0, 0)
    assert table.totals()[0] is not first
    assert first.requests == 1


def test_a_full_table_folds_and_counts() -> None:
    table = SeriesTable(limit=1)
    table.series(EDGE).record(0.010, 0, 0)
    assert table.is_full
    for route in ("a", "b"):
        table.series(replace(EDGE, route=route, code=503, flags="UF")).record(0.010, 0, 0)
    table.series(EDGE).record(0.010, 0, 0)
    assert table.folded == 2
    _, other = table.totals()
    assert (other.edge.destination_service, other.edge.code, other.edge.flags) == (OTHER, 503, "UF")
    assert other.edge.security == "unknown"
    assert sum(series.requests for series in table.totals()) == 4


def test_parts_cover_all_series_once() -> None:
    table = SeriesTable()
    for code in range(200, 205):
        table.series(replace(EDGE, code=code)).record(0.010, 0, 0)
    totals = table.totals()
    assert list(parts(totals, 2)) == [totals[:2], totals[2:4], totals[4:]]
    assert list(parts((), 2)) == [()]
