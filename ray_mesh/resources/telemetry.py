"""Istio's Telemetry (telemetry.istio.io): metrics, access logs and traces of selected workloads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from ray_mesh.resources.schema import Duration, Flaw, Model, NonEmpty
from ray_mesh.resources.target_ref import TargetedSpec

WorkloadMode = Literal["CLIENT_AND_SERVER", "CLIENT", "SERVER"]
Metric = Literal[
    "ALL_METRICS",
    "REQUEST_COUNT",
    "REQUEST_DURATION",
    "REQUEST_SIZE",
    "RESPONSE_SIZE",
    "TCP_OPENED_CONNECTIONS",
    "TCP_CLOSED_CONNECTIONS",
    "TCP_SENT_BYTES",
    "TCP_RECEIVED_BYTES",
    "GRPC_REQUEST_MESSAGES",
    "GRPC_RESPONSE_MESSAGES",
]


class ProviderRef(Model):
    """A provider by its name."""

    name: NonEmpty


class ModeSelector(Model):
    """Which side of a call is meant."""

    mode: WorkloadMode = "CLIENT_AND_SERVER"


class LiteralTag(Model):
    """A fixed text."""

    value: NonEmpty


class NamedTag(Model):
    """A header or an environment variable."""

    name: NonEmpty
    default_value: str = ""


class CustomTag(Model):
    """Where the value of a tag of a span comes from: one of four."""

    literal: LiteralTag | None = None
    environment: NamedTag | None = None
    header: NamedTag | None = None
    formatter: LiteralTag | None = None

    def flaws(self) -> Iterator[Flaw]:
        if len(self.model_fields_set) > 1:
            yield Flaw((), "set one of literal, environment, header and formatter")


class Tracing(Model):
    """Which spans are made, how many, and who gets them."""

    match: ModeSelector | None = None
    providers: tuple[ProviderRef, ...] = ()
    random_sampling_percentage: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None
    disable_span_reporting: bool | None = None
    custom_tags: dict[str, CustomTag] = {}
    use_request_id_for_trace_sampling: bool | None = None
    enable_istio_tags: bool | None = None
    disable_context_propagation: bool | None = None

    def flaws(self) -> Iterator[Flaw]:
        if "" in self.custom_tags:
            yield Flaw(("customTags",), "a tag has a name")


class MetricSelector(Model):
    """Which metric is meant, and on which side of a call."""

    metric: Metric | None = None
    custom_metric: NonEmpty | None = None
    mode: WorkloadMode = "CLIENT_AND_SERVER"

    def flaws(self) -> Iterator[Flaw]:
        if self.metric is not None and self.custom_metric is not None:
            yield Flaw((), "set one of metric and customMetric")


class TagOverride(Model):
    """A tag of a metric that is set (UPSERT) or left out (REMOVE)."""

    operation: Literal["UPSERT", "REMOVE"] = "UPSERT"
    value: str | None = None

    def flaws(self) -> Iterator[Flaw]:
        if self.operation == "UPSERT" and not self.value:
            yield Flaw(("value",), "value must be set when operation is UPSERT")
        if self.operation == "REMOVE" and self.value is not None:
            yield Flaw(("value",), "value must not be set when operation is REMOVE")


class MetricsOverride(Model):
    """A change of some metrics."""

    match: MetricSelector | None = None
    disabled: bool | None = None
    tag_overrides: dict[str, TagOverride] = {}


class Metrics(Model):
    """Which metrics are made, and who gets them."""

    providers: tuple[ProviderRef, ...] = ()
    overrides: tuple[MetricsOverride, ...] = ()
    reporting_interval: Duration | None = None


class LogFilter(Model):
    """Which requests are logged: an expression of CEL."""

    expression: str = ""


class AccessLogging(Model):
    """Which requests are logged, and who gets the log."""

    match: ModeSelector | None = None
    providers: tuple[ProviderRef, ...] = ()
    disabled: bool | None = None
    filter: LogFilter | None = None


class TelemetrySpec(TargetedSpec):
    """What the proxies of workloads report."""

    tracing: tuple[Tracing, ...] = ()
    metrics: tuple[Metrics, ...] = ()
    access_logging: tuple[AccessLogging, ...] = ()
