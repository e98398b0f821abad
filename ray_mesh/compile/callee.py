"""What can be called under one host: a Service, or a ServiceEntry under each of its hosts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ray_mesh.resources import Document, ServiceEntrySpec, ServiceSpec, WorkloadEntrySpec
from ray_mesh.resources.hosts import entry_host, is_of_mesh, service_host
from ray_mesh.resources.protocols import Protocol, of_port, said
from ray_mesh.snapshot import HTTP_PROTOCOLS


@dataclass(frozen=True, slots=True)
class Port:
    """A port as callers name it; ``target`` is what endpoints have that do not say theirs."""

    number: int
    name: str
    target: int
    protocol: Protocol

    @property
    def is_http(self) -> bool:
        """Whether it is declared to be for requests, of whatever version."""
        return self.protocol in HTTP_PROTOCOLS


@dataclass(frozen=True)
class Callee:
    """One host of a document, and ServiceEntries that add endpoints and ports to it (:func:`adds_to`), oldest
    first. Two are the same when all of it is equal."""

    document: Document
    host: str
    others: tuple[Document, ...] = ()

    @property
    def namespace(self) -> str:
        """The namespace whose DestinationRules hold for it."""
        return self.document.namespace

    @property
    def documents(self) -> tuple[Document, ...]:
        """All that say something of it."""
        return (self.document, *self.others)

    @cached_property
    def ports(self) -> tuple[Port, ...]:
        """Its ports, in order."""
        found = {port.number: port for one in reversed(self.documents) for port in ports_of(one)}
        return tuple(found[number] for number in sorted(found))

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
    def listed(self) -> tuple[tuple[Document, WorkloadEntrySpec], ...]:
        """The endpoints in the documents themselves. A name to resolve is its own endpoint."""
        if self.is_dynamic and self.host.startswith("*."):
            return ()
        return tuple((one, spec) for one in self.documents for spec in _listed(one, self.host))

    @property
    def identities(self) -> tuple[str, ...]:
        """The identities that its endpoints must have one of; none: any will do."""
        spec = self.document.spec
        return spec.subject_alt_names if isinstance(spec, ServiceEntrySpec) else ()

    @property
    def is_dynamic(self) -> bool:
        """Whether what is asked for is the endpoint: a host of a pattern, or an address, for which nothing is
        listed."""
        spec = self.document.spec
        if not isinstance(spec, ServiceEntrySpec) or spec.workload_selector is not None:
            return False
        if self.host.startswith("*."):
            return spec.resolution in ("NONE", "DYNAMIC_DNS")
        return spec.resolution == "NONE" and bool(spec.addresses)


def ports_of(document: Document) -> list[Port]:
    """The ports that a document gives its hosts."""
    spec = document.spec
    if isinstance(spec, ServiceEntrySpec):
        return [
            Port(one.number, one.name, one.target_port or one.number, said(one.protocol) or "auto")
            for one in spec.ports
        ]
    return [
        Port(
            one.port,
            one.name or "",
            one.port,
            of_port(one.port, one.name or "", one.app_protocol) or "auto",
        )
        for one in document.read(ServiceSpec).ports
    ]


def adds_to(owner: Document, other: Document) -> bool:
    """Whether a ServiceEntry may share a host with an older one: of one namespace, found in the same way
    without a selector, and what both say of a port is the same."""
    one, two = owner.spec, other.spec
    if not isinstance(one, ServiceEntrySpec) or not isinstance(two, ServiceEntrySpec):
        return False
    if owner.namespace != other.namespace or one.workload_selector or two.workload_selector:
        return False
    spoken = {port.number: port.protocol for port in ports_of(owner)}
    return (
        (one.resolution, one.location, one.export_to) == (two.resolution, two.location, two.export_to)
        and one.subject_alt_names == two.subject_alt_names
        and all(spoken.get(port.number, port.protocol) == port.protocol for port in ports_of(other))
    )


def _listed(document: Document, host: str) -> tuple[WorkloadEntrySpec, ...]:
    spec = document.spec
    if not isinstance(spec, ServiceEntrySpec):
        return ()
    if spec.resolution != "STATIC" and not spec.endpoints and spec.workload_selector is None:
        return (WorkloadEntrySpec(address=host),)
    return spec.endpoints


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
