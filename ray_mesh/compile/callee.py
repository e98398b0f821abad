"""What can be called under one host: a Service, or a ServiceEntry under each of its hosts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ray_mesh.resources import Document, ServiceEntrySpec, ServiceSpec, WorkloadEntrySpec
from ray_mesh.resources.hosts import entry_host, is_of_mesh, service_host
from ray_mesh.resources.protocols import Protocol, of_port, said


@dataclass(frozen=True, slots=True)
class Port:
    """A port as callers name it; ``target`` is what endpoints have that do not say theirs."""

    number: int
    name: str
    target: int
    protocol: Protocol


@dataclass(frozen=True, slots=True)
class Callee:
    """One host of a document. Two are the same when both are equal."""

    document: Document
    host: str

    @property
    def namespace(self) -> str:
        """The namespace whose DestinationRules hold for it."""
        return self.document.namespace

    @property
    def ports(self) -> tuple[Port, ...]:
        """Its ports, in order."""
        spec = self.document.spec
        if isinstance(spec, ServiceEntrySpec):
            found = [
                Port(one.number, one.name, one.target_port or one.number, said(one.protocol) or "auto")
                for one in spec.ports
            ]
        else:
            ports = self.document.read(ServiceSpec).ports
            found = [
                Port(
                    one.port,
                    one.name or "",
                    one.port,
                    of_port(one.port, one.name or "", one.app_protocol) or "auto",
                )
                for one in ports
            ]
        return tuple(sorted(found, key=lambda one: one.number))

    @property
    def is_external(self) -> bool:
        """Whether its endpoints are no part of the mesh."""
        spec = self.document.spec
        return isinstance(spec, ServiceEntrySpec) and spec.location == "MESH_EXTERNAL"

    @property
    def selector(self) -> Mapping[str, str] | None:
        """The labels of what stands behind it; None when the document lists that itself."""
        return selector_of(self.document)

    @property
    def listed(self) -> tuple[WorkloadEntrySpec, ...]:
        """The endpoints in the document itself. A name to resolve is its own endpoint."""
        spec = self.document.spec
        if not isinstance(spec, ServiceEntrySpec) or self.is_dynamic:
            return ()
        if spec.resolution != "STATIC" and not spec.endpoints and spec.workload_selector is None:
            return (WorkloadEntrySpec(address=self.host),)
        return spec.endpoints

    @property
    def is_dynamic(self) -> bool:
        """Whether the host that is asked for is the endpoint: of a pattern for which nothing is listed."""
        spec = self.document.spec
        return (
            isinstance(spec, ServiceEntrySpec)
            and self.host.startswith("*.")
            and spec.resolution in ("NONE", "DYNAMIC_DNS")
        )


def selector_of(document: Document) -> Mapping[str, str] | None:
    """See :attr:`Callee.selector`."""
    spec = document.spec
    if isinstance(spec, ServiceEntrySpec):
        return spec.workload_selector.labels if spec.workload_selector else None
    return document.read(ServiceSpec).selector


def hosts_of(document: Document) -> list[str]:
    """The full hosts that a Service or ServiceEntry may be called by.

    A ServiceEntry has no say over the services of another namespace (admission refuses such a host).
    """
    spec = document.spec
    if not isinstance(spec, ServiceEntrySpec):
        return [service_host(document.namespace, document.name)]
    hosts = (entry_host(written, document.namespace) for written in spec.hosts)
    own = service_host(document.namespace, "")
    return list(dict.fromkeys(host for host in hosts if not is_of_mesh(host) or _is_below(own, host)))


def _is_below(suffix: str, host: str) -> bool:
    return host.endswith(suffix) and "." not in host.removesuffix(suffix)


def labels_of(document: Document) -> Mapping[str, str]:
    """The labels of a Workload or WorkloadEntry; of the latter's two kinds, metadata's win."""
    if isinstance(document.spec, WorkloadEntrySpec):
        return {**document.spec.labels, **document.labels}
    return document.labels
