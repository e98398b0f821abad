from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ray_mesh.telemetry.export import (
    DURATION,
    LABELS,
    REQUESTS,
    MeshMetrics,
    classic_buckets,
    label_values,
    metrics,
)
from ray_mesh.telemetry.series import Edge, Series
from ray_mesh.telemetry.table import SeriesTable

EDGE = Edge(
    reporter="source",
    source_workload="default/web-1",
    source_app="web",
    source_version="v1",
    source_principal="mesh.local/ns/default/sa/web",
    destination_service="reviews.shop.svc.cluster.local",
    destination_workload="",
    destination_app="",
    destination_version="",
    destination_principal="",
    route="canary",
    protocol="http",
    code=503,
    flags="UH",
    security="unknown",
)


def totals(*edges: Edge) -> tuple[Series, ...]:
    table = SeriesTable()
    for edge in edges:
        table.series(edge).record(0.003, 10, 64)
    return table.totals()


def scrape(series: Iterable[Series]) -> dict[str, list[tuple[dict[str, str], float]]]:
    registry = CollectorRegistry()
    registry.register(MeshMetrics(lambda: series, lambda: 2))
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


def test_calls_of_grpc_have_their_status_as_a_label_and_others_an_empty_one() -> None:
    call = replace(EDGE, protocol="grpc", code=200, flags="", grpc_status="14")
    samples = scrape(totals(EDGE, call))
    shown = {
        labels["request_protocol"]: (labels["response_code"], labels["grpc_response_status"])
        for labels, _ in samples[REQUESTS]
    }
    assert shown == {"http": ("503", ""), "grpc": ("200", "14")}


def test_a_scrape_has_istios_names_and_labels() -> None:
    samples = scrape(totals(EDGE))
    ((labels, value),) = samples[REQUESTS]
    assert value == 1.0
    assert set(labels) == set(LABELS)
    assert labels["destination_service_name"] == "reviews"
    assert labels["destination_service_namespace"] == "shop"
    assert labels["source_workload"] == "web-1"
    assert labels["source_workload_namespace"] == "default"
    assert labels["destination_workload"] == "unknown"
    assert labels["response_flags"] == "UH"
    assert samples["istio_response_bytes_sum"][0][1] == 64.0
    assert samples["ray_mesh_telemetry_lost_reports_total"] == [({}, 2.0)]


def test_durations_are_cumulative_milliseconds() -> None:
    samples = scrape(totals(EDGE, EDGE))
    buckets = {labels["le"]: value for labels, value in samples[f"{DURATION}_bucket"]}
    assert buckets["2.5"] == 0.0
    assert buckets["5"] == buckets["+Inf"] == 2.0
    assert samples[f"{DURATION}_count"][0][1] == 2.0
    assert samples[f"{DURATION}_sum"][0][1] == 6.0


def test_routes_are_added_up() -> None:
    samples = scrape(totals(EDGE, replace(EDGE, route="stable")))
    assert [value for _, value in samples[REQUESTS]] == [2.0]


def test_every_label_has_a_value() -> None:
    assert len(label_values(EDGE)) == len(LABELS)
    assert label_values(replace(EDGE, destination_service="example.com"))[
        LABELS.index("destination_service_name")
    ] == ("example.com")


def test_classic_buckets_never_fall() -> None:
    table = SeriesTable()
    for step in range(2_000):
        table.series(EDGE).record(1e-5 * 1.01**step, 0, 0)
    counts = [count for _, count in classic_buckets(table.totals()[0].duration)]
    assert counts == sorted(counts)
    assert counts[-1] == 2_000


def test_tcp_has_metrics_of_its_own() -> None:
    table = SeriesTable()
    edge = replace(EDGE, protocol="tcp", code=0, flags="")
    table.series(edge).open()
    table.series(edge).move(5, 7)
    table.series(replace(edge, flags="UC")).record(1.0, 0, 0)
    found = {
        sample.name: (sample.value, sample.labels["response_flags"])
        for family in metrics(table.totals(), 0)
        for sample in family.samples
        if sample.value and sample.labels
    }
    assert found == {
        "istio_tcp_connections_opened_total": (1, "-"),
        "istio_tcp_connections_closed_total": (1, "UC"),
        "istio_tcp_received_bytes_total": (5, "-"),
        "istio_tcp_sent_bytes_total": (7, "-"),
    }
