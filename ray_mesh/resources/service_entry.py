"""Istio's ServiceEntry (networking.istio.io): hosts that no Service names, over HTTP, TCP or TLS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from ray_mesh import addresses
from ray_mesh.resources import protocols
from ray_mesh.resources.exports import export_flaws, placed_export_flaws
from ray_mesh.resources.host_names import host_flaws, network_flaws
from ray_mesh.resources.hosts import SERVICE_SUFFIX
from ray_mesh.resources.schema import (
    DnsLabel,
    Flaw,
    LabelSelector,
    Model,
    PortNumber,
)
from ray_mesh.resources.source import Path
from ray_mesh.resources.workload_entry import WorkloadEntrySpec

_SHARED = ("HTTP", "HTTP2", "HTTP_PROXY", "GRPC", "GRPC-WEB", "HTTPS", "TLS")
"""Protocols whose hosts can be told apart on one port."""


class EntryPort(Model):
    """A port as callers name it. ``targetPort`` is what the endpoints have instead."""

    number: PortNumber
    name: Annotated[DnsLabel, Field(max_length=256)]
    protocol: Annotated[str, Field(max_length=256)] = ""
    target_port: PortNumber | None = None

    def flaws(self) -> Iterator[Flaw]:
        if not self.protocol:
            return  # the first bytes tell
        if not protocols.is_known(self.protocol):
            yield Flaw(("protocol",), protocols.unknown(self.protocol))
        elif protocols.said(self.protocol) in (None, "auto"):
            yield Flaw(("protocol",), f"{self.protocol}: {protocols.why_later(self.protocol)}", later=True)


class EntrySelector(LabelSelector):
    """The WorkloadEntries and attached workloads of the document's namespace with these labels."""

    def flaws(self) -> Iterator[Flaw]:
        yield from super().flaws()
        if not self.labels:
            yield Flaw(("labels",), "empty, which would pick a whole namespace", later=True)


class ServiceEntrySpec(Model):
    """Hosts, how their endpoints are found, and whether they belong to the mesh."""

    hosts: Annotated[tuple[str, ...], Field(min_length=1, max_length=256)]
    addresses: Annotated[tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=256)] = ()
    ports: Annotated[tuple[EntryPort, ...], Field(max_length=256)] = ()
    location: Literal["MESH_EXTERNAL", "MESH_INTERNAL"] = "MESH_EXTERNAL"
    resolution: Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"] = "NONE"
    endpoints: Annotated[tuple[WorkloadEntrySpec, ...], Field(max_length=4096)] = ()
    workload_selector: EntrySelector | None = None
    export_to: tuple[str, ...] = ()
    subject_alt_names: tuple[str, ...] = ()

    def flaws(self) -> Iterator[Flaw]:
        yield from self._host_flaws()
        yield from self._port_flaws()
        yield from self._resolution_flaws()
        yield from self._endpoint_flaws()
        yield from self._selector_flaws()
        yield from export_flaws(self.export_to, ("exportTo",), may_be_nobody=True)

    def placed_flaws(self, namespace: str) -> Iterator[Flaw]:
        yield from placed_export_flaws(self.export_to, namespace)

    def _host_flaws(self) -> Iterator[Flaw]:
        for index, host in enumerate(self.hosts):
            path: tuple[Any, ...] = ("hosts", index)
            if host == "*":
                yield Flaw(path, "hostname cannot be wildcard")
            elif problems := [flaw for flaw in host_flaws(path, host) if not flaw.later]:
                yield from problems
            elif host.startswith("*"):
                yield from _wildcard_flaws(host.lower(), path)
            elif host.endswith("."):
                yield from host_flaws(path, host)
            elif host.lower() in [one.lower() for one in self.hosts[:index]]:
                yield Flaw(path, f"{host}, which is listed twice", later=True)

    def _port_flaws(self) -> Iterator[Flaw]:
        numbers = [port.number for port in self.ports]
        names = [port.name for port in self.ports]
        for index, port in enumerate(self.ports):
            if port.number in numbers[:index]:
                path = ("ports", index, "number")
                yield Flaw(path, f"port number cannot be duplicated: {port.number} is there already")
            if port.name in names[:index]:
                yield Flaw(("ports", index, "name"), f"Duplicate value {port.name!r}")
        if self.resolution != "NONE" and len(self.hosts) > 1:
            for index, port in enumerate(self.ports):
                if port.protocol.upper() not in _SHARED:
                    message = "multiple hosts provided with non-HTTP, non-TLS ports"
                    yield Flaw(("ports", index, "protocol"), message)
        if not self.ports:
            yield Flaw(("ports",), "empty: without ports nobody can call it", later=True)

    def _resolution_flaws(self) -> Iterator[Flaw]:
        if self.resolution not in ("NONE", "STATIC"):
            for index, address in enumerate(self.addresses):
                if "/" in address:
                    message = "CIDR addresses are allowed only for NONE/STATIC resolution types"
                    yield Flaw(("addresses", index), message)
        if self.resolution in ("DNS", "DNS_ROUND_ROBIN") and not self.endpoints:
            for index, host in enumerate(self.hosts):
                if host.startswith("*"):
                    message = (
                        f"{host!r}: hosts must be FQDN if no endpoints are provided for {self.resolution}"
                    )
                    yield Flaw(("hosts", index), message)
        if self.resolution != "STATIC" and not self.endpoints and self.workload_selector is None:
            for index, host in enumerate(self.hosts):
                if host.startswith("*"):
                    continue
                if "." not in host or host.lower().endswith((".svc", SERVICE_SUFFIX)):
                    message = f"{host!r}, a name of the mesh, which DNS does not know: list endpoints"
                    yield Flaw(("hosts", index), message, later=True)
        yield from network_flaws(("addresses",), self.addresses)

    def _endpoint_flaws(self) -> Iterator[Flaw]:
        if self.resolution == "NONE" and self.endpoints:
            yield Flaw(("endpoints",), "NONE mode cannot set endpoints")
        if self.resolution == "DNS_ROUND_ROBIN" and len(self.endpoints) > 1:
            yield Flaw(("endpoints",), "DNS_ROUND_ROBIN mode cannot have multiple endpoints")
        if self.resolution == "STATIC" and not self.endpoints and self.workload_selector is None:
            message = "empty, STATIC: list them, or say a workloadSelector that picks WorkloadEntries"
            yield Flaw(("endpoints",), message, later=True)
        for index, endpoint in enumerate(self.endpoints):
            address, path = endpoint.address or "", ("endpoints", index, "address")
            unix = address.startswith("unix://")
            if self.resolution == "STATIC" and address and not unix and addresses.parse(address) is None:
                message = f"{address!r} is a name: STATIC endpoints have IP addresses, DNS resolves names"
                yield Flaw(path, message)
            elif self.resolution == "STATIC" and unix and len(self.ports) != 1:
                yield Flaw(path, "exactly 1 service port required for unix endpoints")
            elif self.resolution != "STATIC" and (unix or not address):
                yield Flaw(path, f"{address!r} is neither a host name nor an IP address")
        port_names = {port.name for port in self.ports}
        for index, endpoint in enumerate(self.endpoints):
            for name in endpoint.ports.keys() - port_names:
                yield Flaw(("endpoints", index, "ports", name), f"there is no port {name!r} in spec.ports")

    def _selector_flaws(self) -> Iterator[Flaw]:
        if self.subject_alt_names and self.workload_selector is None:
            message = "without workloadSelector: what has no proxy proves no name"
            yield Flaw(("subjectAltNames",), message, later=True)
        if self.workload_selector is None:
            return
        if "endpoints" in self.model_fields_set:
            yield Flaw(("workloadSelector",), "only one of WorkloadSelector or Endpoints can be set")
        if self.location == "MESH_EXTERNAL":
            yield Flaw(("workloadSelector",), "of a ServiceEntry that is MESH_EXTERNAL", later=True)
        elif self.resolution not in ("STATIC", "NONE"):
            yield Flaw(("workloadSelector",), f"with resolution {self.resolution}", later=True)


def _wildcard_flaws(host: str, path: Path) -> Iterator[Flaw]:
    if not host.startswith("*."):
        yield Flaw(path, f"{host}: the star stands for whole labels, as in *.example.com", later=True)
    elif SERVICE_SUFFIX.endswith(host[1:]) or host.endswith((SERVICE_SUFFIX, ".svc")):
        yield Flaw(path, f"{host}, which covers names of the mesh's own services", later=True)
