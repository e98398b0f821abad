"""The mesh's numbers in Prometheus form, under Istio's names, so that dashboards made for Istio work.

Names and labels are constants here and documented in docs/metrics.md. Prometheus wants classic
buckets: an exponential bucket is counted under the first bound that its middle does not exceed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from math import exp2

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector as PrometheusCollector

from ray_mesh.telemetry.merge import merge_series
from ray_mesh.telemetry.series import Edge, Histogram, Series

REQUESTS = "istio_requests_total"
DURATION = "istio_request_duration_milliseconds"
REQUEST_BYTES = "istio_request_bytes"
RESPONSE_BYTES = "istio_response_bytes"
TCP_OPENED = "istio_tcp_connections_opened_total"
TCP_CLOSED = "istio_tcp_connections_closed_total"
TCP_RECEIVED = "istio_tcp_received_bytes_total"
TCP_SENT = "istio_tcp_sent_bytes_total"
LOST_REPORTS = "ray_mesh_telemetry_lost_reports_total"
CONVERGENCE = "ray_mesh_config_convergence_milliseconds"

LABELS = (
    "reporter",
    "source_workload",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_canonical_service",
    "source_canonical_revision",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service",
    "destination_service_name",
    "destination_service_namespace",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
)

_EMPTY = tuple("" if label == "grpc_response_status" else "unknown" for label in LABELS)

BUCKETS_MS = (0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1e3, 2.5e3, 5e3, 1e4, 3e4, 6e4, 3e5)

HELP = {
    REQUESTS: "Requests, by who called whom and how it ended",
    DURATION: "Duration of requests in milliseconds",
    REQUEST_BYTES: "Bytes of request bodies",
    RESPONSE_BYTES: "Bytes of response bodies",
    TCP_OPENED: "TCP connections that were opened",
    TCP_CLOSED: "TCP connections that were closed, by how they ended",
    TCP_RECEIVED: "Bytes that callers sent over TCP connections",
    TCP_SENT: "Bytes that callers got over TCP connections",
    LOST_REPORTS: "Telemetry reports of proxies that did not arrive",
    CONVERGENCE: "Milliseconds from the admission of a change until every live proxy has applied it",
}


class MeshMetrics(PrometheusCollector):
    """Turns cumulative series into metrics at each scrape. ``totals`` is called once per scrape."""

    def __init__(
        self,
        totals: Callable[[], Iterable[Series]],
        lost_reports: Callable[[], int],
        convergence: Callable[[], Histogram] | None = None,
    ) -> None:
        self._totals = totals
        self._lost_reports = lost_reports
        self._convergence = convergence

    def describe(self) -> Iterator[Metric]:
        """No series yet, only what there may be."""
        yield from metrics((), 0)
        if self._convergence is not None:
            yield HistogramMetricFamily(CONVERGENCE, HELP[CONVERGENCE])

    def collect(self) -> Iterator[Metric]:
        """All series as they are now."""
        yield from metrics(self._totals(), self._lost_reports())
        if self._convergence is not None:
            took = self._convergence()
            yield HistogramMetricFamily(
                CONVERGENCE, HELP[CONVERGENCE], buckets=classic_buckets(took), sum_value=took.total * 1e3
            )


def metrics(series: Iterable[Series], lost_reports: int) -> Iterator[Metric]:
    """Every metric of the mesh. Routes are no label of Istio's and are added up."""
    requests = CounterMetricFamily(REQUESTS, HELP[REQUESTS], labels=LABELS)
    duration = HistogramMetricFamily(DURATION, HELP[DURATION], labels=LABELS)
    request_bytes = HistogramMetricFamily(REQUEST_BYTES, HELP[REQUEST_BYTES], labels=LABELS)
    response_bytes = HistogramMetricFamily(RESPONSE_BYTES, HELP[RESPONSE_BYTES], labels=LABELS)
    opened, closed, received, sent = (
        CounterMetricFamily(name, HELP[name], labels=LABELS)
        for name in (TCP_OPENED, TCP_CLOSED, TCP_RECEIVED, TCP_SENT)
    )
    for one in merge_series(replace(one, edge=replace(one.edge, route="")) for one in series):
        labels = label_values(one.edge)
        if one.edge.protocol == "tcp":
            opened.add_metric(labels, one.opened)
            closed.add_metric(labels, one.requests)
            received.add_metric(labels, one.request_bytes)
            sent.add_metric(labels, one.response_bytes)
            continue
        requests.add_metric(labels, one.requests)
        duration.add_metric(labels, classic_buckets(one.duration), one.duration.total * 1e3)
        everything = [("+Inf", float(one.requests))]
        request_bytes.add_metric(labels, everything, one.request_bytes)
        response_bytes.add_metric(labels, everything, one.response_bytes)
    lost = CounterMetricFamily(LOST_REPORTS, HELP[LOST_REPORTS], value=lost_reports)
    yield from (requests, duration, request_bytes, response_bytes, opened, closed, received, sent, lost)


def label_values(edge: Edge) -> tuple[str, ...]:
    """The values of :data:`LABELS` for one edge; what is not known is ``unknown``, as in Istio.

    A request that is not gRPC has an empty status of gRPC, which Prometheus takes for no such label.
    """
    source_namespace, _, source = edge.source_workload.rpartition("/")
    namespace, _, destination = edge.destination_workload.rpartition("/")
    service_name, service_namespace = _service(edge.destination_service)
    values = (
        edge.reporter,
        source,
        source_namespace,
        edge.source_principal,
        edge.source_app,
        edge.source_version,
        edge.source_app or source,
        edge.source_version or "latest",
        destination,
        namespace,
        edge.destination_principal,
        edge.destination_app,
        edge.destination_version,
        edge.destination_app or destination,
        edge.destination_version or "latest",
        edge.destination_service,
        service_name,
        service_namespace,
        edge.protocol,
        str(edge.code),
        edge.grpc_status,
        edge.flags or "-",
        edge.security,
    )
    return tuple(value or empty for value, empty in zip(values, _EMPTY, strict=True))


def classic_buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative counts by upper bound in milliseconds, ``+Inf`` last."""
    factor = 2.0**histogram.scale
    counts = [(exp2((index + 0.5) / factor) * 1e3, count) for index, count in histogram.counts]
    buckets: list[tuple[str, float]] = []
    seen, position = histogram.zeros, 0
    for bound in BUCKETS_MS:
        while position < len(counts) and counts[position][0] <= bound:
            seen += counts[position][1]
            position += 1
        buckets.append((f"{bound:g}", float(seen)))
    everything = histogram.zeros + sum(count for _, count in histogram.counts)
    return [*buckets, ("+Inf", float(everything))]


def _service(host: str) -> tuple[str, str]:
    """Name and namespace of ``<name>.<namespace>.svc...``; another host is its own name."""
    name, _, rest = host.partition(".")
    namespace, _, kind = rest.partition(".")
    return (name, namespace) if kind.split(".", 1)[0] == "svc" else (host, "")
