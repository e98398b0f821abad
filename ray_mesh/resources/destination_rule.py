"""Istio's DestinationRule (networking.istio.io)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field
from pydantic.alias_generators import to_camel

from ray_mesh import addresses
from ray_mesh.resources.connection_pool import ConnectionPool
from ray_mesh.resources.exports import export_flaws, placed_export_flaws
from ray_mesh.resources.host_names import host_flaws, is_host_name
from ray_mesh.resources.load_balancer import LoadBalancer
from ray_mesh.resources.schema import (
    LATER,
    DnsLabel,
    Duration,
    Flaw,
    Int32,
    LabelName,
    LabelText,
    Later,
    Model,
    NonEmpty,
    Only,
    Percent,
    PortSelector,
    UInt32,
    WholePercent,
    WorkloadSelector,
    seconds,
)

_HOST_TLS = Later("say it for the whole host")


class OutlierDetection(Model):
    """When a failing endpoint is left out."""

    split_external_local_origin_errors: bool | None = None
    consecutive_local_origin_failures: UInt32 | None = None
    consecutive_gateway_errors: UInt32 | None = None
    consecutive_5xx_errors: Annotated[UInt32 | None, Field(alias="consecutive5xxErrors")] = None
    consecutive_errors: Annotated[Int32 | None, Later("its newer form is consecutive5xxErrors")] = None
    interval: Duration | None = None
    base_ejection_time: Duration | None = None
    max_ejection_percent: WholePercent | None = None
    min_health_percent: WholePercent | None = None
    outlier_detection_http_error_codes: Annotated[
        tuple[Annotated[int, Field(ge=100, le=599)], ...], LATER
    ] = ()

    def flaws(self) -> Iterator[Flaw]:
        if self.consecutive_local_origin_failures and not self.split_external_local_origin_errors:
            path = ("consecutiveLocalOriginFailures",)
            yield Flaw(path, "counts only with splitExternalLocalOriginErrors: true")


class ClientTls(Model):
    """How the connection to the service is secured. Between proxies that is always mutual TLS; DISABLE
    lets calls go to endpoints that have none."""

    mode: Annotated[
        Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"] | None,
        Only(
            ("ISTIO_MUTUAL", "DISABLE"),
            "all traffic of the mesh is mutual TLS with the workloads' own identities",
        ),
    ] = None
    client_certificate: Annotated[str | None, LATER] = None
    private_key: Annotated[str | None, LATER] = None
    ca_certificates: Annotated[str | None, LATER] = None
    credential_name: Annotated[str | None, LATER] = None
    subject_alt_names: Annotated[tuple[str, ...], LATER] = ()
    sni: Annotated[str | None, LATER] = None
    insecure_skip_verify: Annotated[bool | None, LATER] = None
    ca_crl: Annotated[str | None, LATER] = None

    def flaws(self) -> Iterator[Flaw]:
        if self.mode is None:
            yield Flaw(("mode",), "DISABLE, which is what tls means without a mode", later=True)
        if self.insecure_skip_verify and self.mode in ("SIMPLE", "MUTUAL"):
            by_name = self.credential_name if self.mode == "SIMPLE" else None
            if self.ca_certificates or by_name or self.subject_alt_names:
                path = ("insecureSkipVerify",)
                yield Flaw(path, "nothing is verified, so caCertificates and subjectAltNames cannot be set")
        files = (self.client_certificate, self.private_key, self.ca_certificates, self.ca_crl)
        if self.mode in ("SIMPLE", "MUTUAL") and self.credential_name:
            if any(files):
                yield Flaw(("credentialName",), "cannot be set with certificates, a key or a caCrl")
        elif self.mode == "MUTUAL":
            for name in ("client_certificate", "private_key"):
                if not getattr(self, name):
                    yield Flaw((to_camel(name),), "required for MUTUAL")


class PortTrafficPolicy(Model):
    """Settings of one port."""

    port: PortSelector | None = None
    load_balancer: LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None
    outlier_detection: OutlierDetection | None = None
    tls: Annotated[ClientTls | None, _HOST_TLS] = None

    def flaws(self) -> Iterator[Flaw]:
        if self.port is None or self.port.number == 0:
            yield Flaw(("port",), "say which port: port.number, 1 to 65535")
        if not self.model_fields_set - {"port"}:
            yield Flaw((), "port traffic policy must have at least one field")


class Tunnel(Model):
    """A tunnel through another proxy."""

    protocol: str | None = None
    target_host: str
    target_port: UInt32

    def flaws(self) -> Iterator[Flaw]:
        if self.protocol not in (None, "", "CONNECT", "POST"):
            yield Flaw(("protocol",), f"{self.protocol!r} is not CONNECT or POST")
        if addresses.parse(self.target_host) is None and not is_host_name(self.target_host):
            yield Flaw(("targetHost",), f"{self.target_host!r} is neither a host name nor an IP address")
        if not 0 < self.target_port < 65536:
            yield Flaw(("targetPort",), "port must be between 1-65535")


class ProxyProtocol(Model):
    """The PROXY protocol towards the service."""

    version: Literal["V1", "V2"] = "V1"


class RetryBudget(Model):
    """How many requests may be retries."""

    percent: Percent | None = None
    budget_interval: Annotated[
        str | None, Later("the budget is of what is in flight at the moment of the retry")
    ] = None
    min_retry_concurrency: UInt32 | None = None

    def flaws(self) -> Iterator[Flaw]:
        try:
            seconds(self.budget_interval or "0s")
        except ValueError as error:
            yield Flaw(("budgetInterval",), f"{self.budget_interval!r} is {error}")


class TrafficPolicy(Model):
    """How requests to a host, or to one subset of it, are sent."""

    load_balancer: LoadBalancer | None = None
    connection_pool: ConnectionPool | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTls | None = None
    port_level_settings: Annotated[tuple[PortTrafficPolicy, ...], Field(max_length=4096)] = ()
    tunnel: Annotated[Tunnel | None, LATER] = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None

    def flaws(self) -> Iterator[Flaw]:
        if not self.model_fields_set:
            yield Flaw((), "traffic policy must have at least one field")
        if self.tunnel is not None and self.proxy_protocol is not None:
            yield Flaw((), "tunnel and proxyProtocol must not be set together")


class Subset(Model):
    """A named part of a host's endpoints, by labels."""

    name: DnsLabel
    labels: dict[LabelName, LabelText] = {}
    traffic_policy: TrafficPolicy | None = None

    def flaws(self) -> Iterator[Flaw]:
        tls = self.traffic_policy.tls if self.traffic_policy else None
        if tls and tls.mode == "DISABLE":
            path = ("trafficPolicy", "tls", "mode")
            yield Flaw(path, "DISABLE of a subset: say it for the whole host", later=True)


class DestinationRuleSpec(Model):
    """What holds for requests to a host after routing."""

    host: NonEmpty
    traffic_policy: TrafficPolicy | None = None
    subsets: tuple[Subset, ...] = ()
    export_to: tuple[str, ...] = ()
    workload_selector: WorkloadSelector | None = None

    def flaws(self) -> Iterator[Flaw]:
        yield from host_flaws(("host",), self.host)
        yield from export_flaws(self.export_to, ("exportTo",))
        names = [subset.name for subset in self.subsets]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield Flaw(("subsets", index, "name"), f"subset {name!r} is defined twice")

    def placed_flaws(self, namespace: str) -> Iterator[Flaw]:
        yield from placed_export_flaws(self.export_to, namespace)
        if self.workload_selector is not None and self.export_to not in ((), (".",), (namespace,)):
            yield Flaw(("exportTo",), "beside a workloadSelector it can only be the own namespace")
