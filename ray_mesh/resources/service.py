"""Kubernetes' Service (v1): ports and selector honoured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from ray_mesh.resources import protocols
from ray_mesh.resources.host_names import is_host_name
from ray_mesh.resources.schema import LATER, DnsLabel, Flaw, LabelValue, Later, Model, Only, PortNumber

_OWN_PORT = Later("a workload says its own port when it attaches")
_ADDRESS = Later("services have no address of their own, callers reach them by name")


class ServicePort(Model):
    """A port as callers name it."""

    name: DnsLabel | None = None
    port: PortNumber
    protocol: Annotated[Literal["TCP", "UDP", "SCTP"], Only(("TCP",))] = "TCP"
    app_protocol: str | None = None
    target_port: Annotated[int | str | None, _OWN_PORT] = None
    node_port: Annotated[int | None, _ADDRESS] = None

    def flaws(self) -> Iterator[Flaw]:
        if (
            self.protocol == "TCP"
            and protocols.of_port(self.port, self.name or "", self.app_protocol) is None
        ):
            field, text = "name", f"protocol of port name {self.name!r}"
            if self.app_protocol is not None:
                field, text = "appProtocol", self.app_protocol
            reason = protocols.why_later(self.app_protocol or self.name or "")
            yield Flaw((field,), f"{text}: {reason}", later=True)


class ServiceSpec(Model):
    """A name for the workloads of a namespace that ``selector`` picks."""

    ports: tuple[ServicePort, ...] = ()
    selector: dict[str, LabelValue] = {}
    type: Annotated[
        Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"], Only(("ClusterIP",))
    ] = "ClusterIP"
    session_affinity: Annotated[Literal["None", "ClientIP"], Only(("None",))] = "None"
    session_affinity_config: Annotated[dict[str, Any] | None, LATER] = None
    cluster_ip: Annotated[str | None, _ADDRESS, Field(alias="clusterIP")] = None
    cluster_ips: Annotated[tuple[str, ...] | None, _ADDRESS, Field(alias="clusterIPs")] = None
    external_ips: Annotated[tuple[str, ...] | None, _ADDRESS, Field(alias="externalIPs")] = None
    load_balancer_ip: Annotated[str | None, _ADDRESS, Field(alias="loadBalancerIP")] = None
    load_balancer_class: Annotated[str | None, _ADDRESS] = None
    load_balancer_source_ranges: Annotated[tuple[str, ...] | None, _ADDRESS] = None
    allocate_load_balancer_node_ports: Annotated[bool | None, _ADDRESS] = None
    external_name: Annotated[str | None, _ADDRESS] = None
    external_traffic_policy: Annotated[str | None, LATER] = None
    internal_traffic_policy: Annotated[str | None, LATER] = None
    traffic_distribution: Annotated[str | None, LATER] = None
    health_check_node_port: Annotated[int | None, LATER] = None
    publish_not_ready_addresses: Annotated[bool | None, LATER] = None
    ip_families: Annotated[tuple[str, ...] | None, _ADDRESS] = None
    ip_family_policy: Annotated[str | None, _ADDRESS] = None

    def flaws(self) -> Iterator[Flaw]:
        if not self.selector:
            yield Flaw(
                ("selector",), "a Service without selector: nothing else names its workloads", later=True
            )
        if not self.ports:
            may_be = self.type == "ExternalName" or self.cluster_ip == "None"
            yield Flaw(("ports",), "empty: nobody can call it" if may_be else "required", later=may_be)
        if self.type == "ExternalName" and not is_host_name(self.external_name or ""):
            yield Flaw(("externalName",), f"{self.external_name or ''!r} is not a host name")
        yield from self._port_flaws()

    def _port_flaws(self) -> Iterator[Flaw]:
        names = [port.name for port in self.ports]
        places = [(port.port, port.protocol) for port in self.ports]
        for index, port in enumerate(self.ports):
            if port.name is None and len(self.ports) > 1:
                yield Flaw(("ports", index, "name"), "required, since there are several ports")
            elif port.name in names[:index]:
                yield Flaw(("ports", index, "name"), f"name {port.name!r} is used twice")
            if places[index] in places[:index]:
                yield Flaw(("ports", index, "port"), f"port {port.port} is used twice")
