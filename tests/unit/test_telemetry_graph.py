from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ray_mesh.telemetry.graph import build_graph
from ray_mesh.telemetry.series import Edge, Series
from ray_mesh.telemetry.table import SeriesTable

SOURCE = Edge(
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
DESTINATION = replace(SOURCE, reporter="destination", route="")
ANONYMOUS = replace(DESTINATION, source_workload="", source_app="", source_version="")


def series(*counts: tuple[Edge, int], duration_s: float = 0.010) -> tuple[Series, ...]:
    table = SeriesTable()
    for edge, requests in counts:
        for _ in range(requests):
            table.series(edge).record(duration_s, 0, 64)
    return table.totals()


@pytest.mark.parametrize("destination", [DESTINATION, ANONYMOUS])
def test_an_edge_that_both_saw_is_there_once(destination: Edge) -> None:
    (edge,) = build_graph(series((SOURCE, 100), (destination, 100)), seconds=10.0).edges
    assert (edge.reporter, edge.requests, edge.rps, edge.mtls) == ("source", 100, 10.0, 1.0)


def test_the_latency_is_the_callers() -> None:
    slow, fast = series((SOURCE, 10), duration_s=0.1), series((DESTINATION, 10), duration_s=0.001)
    (edge,) = build_graph([*slow, *fast], seconds=1.0).edges
    assert edge.p50_ms == pytest.approx(100, rel=0.025)
    assert edge.p99_ms == pytest.approx(100, rel=0.025)


def test_an_edge_that_only_the_destination_saw_is_shown() -> None:
    (edge,) = build_graph(series((DESTINATION, 5)), seconds=1.0).edges
    assert (edge.reporter, edge.requests, edge.mtls) == ("destination", 5, 0.0)


def test_versions_are_edges_of_their_own() -> None:
    second = replace(SOURCE, destination_workload="default/reviews-2", destination_version="v2")
    graph = build_graph(series((SOURCE, 3), (second, 1)), seconds=1.0)
    assert [(edge.destination_version, edge.requests) for edge in graph.edges] == [("v1", 3), ("v2", 1)]
    assert [node.id for node in graph.nodes] == [
        "service:reviews.default.svc.cluster.local",
        "workload:default/reviews-1",
        "workload:default/reviews-2",
        "workload:default/web-1",
    ]


def test_errors_are_5xx_and_silence_and_not_the_callers_departure() -> None:
    counts = (
        (SOURCE, 5),
        (replace(SOURCE, code=404), 1),
        (replace(SOURCE, code=503, flags="UF"), 2),
        (replace(SOURCE, code=0, flags="UC"), 1),
        (replace(SOURCE, code=0, flags="DC"), 1),
    )
    (edge,) = build_graph(series(*counts), seconds=1.0).edges
    assert edge.error_ratio == pytest.approx(0.3)
    assert edge.cancelled == 1
    assert edge.codes == {"0": 2, "200": 5, "404": 1, "503": 2}
    assert edge.flags == {"DC": 1, "UC": 1, "UF": 2}


def test_calls_of_grpc_fail_by_their_status_and_are_counted_by_it() -> None:
    call = replace(SOURCE, protocol="grpc", grpc_status="0")
    counts = (
        (call, 5),
        (replace(call, grpc_status="14"), 2),
        (replace(call, grpc_status="5"), 1),
        (replace(call, code=503, flags="UH", grpc_status="14"), 1),
        (replace(call, code=0, flags="DC", grpc_status="1"), 1),
    )
    graph = build_graph([*series(*counts), *series((SOURCE, 3))], seconds=1.0)
    calls, plain = sorted(graph.edges, key=lambda edge: edge.protocol)
    assert (calls.protocol, plain.protocol) == ("grpc", "http")
    assert calls.error_ratio == pytest.approx(0.4)
    assert calls.cancelled == 1
    assert calls.grpc_statuses == {"0": 5, "1": 1, "5": 1, "14": 3}
    assert list(calls.grpc_statuses) == ["0", "1", "5", "14"]
    assert plain.grpc_statuses == {}
    assert "OK:5,CANCELLED:1,NOT_FOUND:1,UNAVAILABLE:3,DC:1,UH:1" in graph.to_text()


def test_flags_that_only_the_destination_knows_are_shown() -> None:
    denied = replace(DESTINATION, code=403, flags="UAEX")
    (edge,) = build_graph(series((replace(SOURCE, code=403), 4), (denied, 4)), seconds=1.0).edges
    assert edge.flags == {"UAEX": 4}
    assert edge.codes == {"403": 4}


def test_mtls_is_what_both_verified() -> None:
    half = (SOURCE, 5), (replace(SOURCE, security="none"), 5)
    (edge,) = build_graph(series(*half, (DESTINATION, 10)), seconds=1.0).edges
    assert edge.mtls == 0.5
    (edge,) = build_graph(series((SOURCE, 10)), seconds=1.0).edges
    assert edge.mtls == 0.0


def test_requests_that_never_connected_do_not_lower_mtls() -> None:
    failed = replace(SOURCE, code=503, flags="UF", security="unknown")
    (edge,) = build_graph(series((SOURCE, 8), (failed, 2), (DESTINATION, 8)), seconds=1.0).edges
    assert edge.mtls == 1.0


def test_another_services_report_proves_nothing() -> None:
    other = replace(DESTINATION, destination_service="ratings.default.svc.cluster.local")
    (edge,) = build_graph(series((SOURCE, 8), (other, 8)), seconds=1.0).edges
    assert edge.mtls == 0.0


def test_json_is_plain() -> None:
    graph = build_graph(series((SOURCE, 1), (DESTINATION, 1)), seconds=1.0)
    assert json.loads(json.dumps(graph.to_json()))["edges"][0]["service"] == SOURCE.destination_service


def test_text_is_a_table_with_the_busiest_first() -> None:
    failed = replace(
        SOURCE, destination_workload="", destination_app="", destination_version="", code=503, flags="UH"
    )
    text = build_graph(series((failed, 1), (SOURCE, 9), (DESTINATION, 9)), seconds=1.0).to_text()
    heading, first, second = text.splitlines()
    assert heading.startswith("SOURCE")
    assert "default/reviews-1" in first
    assert "100%" in first
    assert "UH:1" in second


def test_no_traffic_says_so() -> None:
    graph = build_graph((), seconds=0.0)
    assert graph.to_text() == "no traffic in this window"
    assert graph.to_json() == {"seconds": 0.0, "nodes": [], "edges": []}


def test_tcp_connections_fail_by_their_flags_and_count_while_they_last() -> None:
    table = SeriesTable()
    edge = replace(SOURCE, protocol="tcp", code=0, flags="", security="mutual_tls")
    open_one = table.series(edge)
    open_one.open()
    open_one.move(10, 20)
    table.series(replace(DESTINATION, protocol="tcp", code=0)).open()
    [shown] = build_graph(table.totals(), 1.0).edges
    assert (shown.requests, shown.error_ratio, shown.mtls) == (0, 0.0, 1.0)
    for flags in ("", "DC", "SI", "UF"):
        table.series(replace(edge, flags=flags)).record(1.0, 0, 0)
    [shown] = build_graph(table.totals(), 1.0).edges
    assert (shown.requests, shown.error_ratio, shown.protocol) == (4, 0.25, "tcp")
