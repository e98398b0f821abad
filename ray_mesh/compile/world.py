"""All desired state at one moment, with an index from what documents speak about to the documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from ray_mesh.resources import (
    DestinationRuleSpec,
    Document,
    MeshConfigSpec,
    ServiceSpec,
    VirtualServiceSpec,
    WorkloadBindingSpec,
    WorkloadSpec,
)
from ray_mesh.resources.hosts import MESH_GATEWAY, SERVICE_SUFFIX, full_host, resolve_gateway, service_host
from ray_mesh.resources.mesh import DEFAULT_TRUST_DOMAIN, MESH_NAME, ROOT_NAMESPACE

Term: TypeAlias = tuple[str, ...]
"""Something documents can be found by, such as ``("workload in", "default")``."""

MESH_CONFIG_KEY = f"meshconfig.{ROOT_NAMESPACE}.{MESH_NAME}"


class World:
    """Immutable. Keys are those of :attr:`Document.key`; every answer is in a fixed order."""

    def __init__(self, documents: Mapping[str, Document]) -> None:
        self._documents = dict(documents)
        self._index: dict[Term, frozenset[str]] = {}
        found: dict[Term, set[str]] = {}
        for key, document in self._documents.items():
            for term in _terms(document):
                found.setdefault(term, set()).add(key)
        self._index = {term: frozenset(keys) for term, keys in found.items()}

    def replace(self, changes: Mapping[str, Document | None]) -> World:
        """This world with some documents put or (None) removed; costs about the changes only."""
        world = World.__new__(World)
        world._documents = dict(self._documents)
        world._index = dict(self._index)
        touched: dict[Term, set[str]] = {}
        for key, document in changes.items():
            before = world._documents.pop(key, None)
            for term in _terms(before) if before else ():
                touched.setdefault(term, set(world._index.get(term, ()))).discard(key)
            if document is not None:
                world._documents[key] = document
                for term in _terms(document):
                    touched.setdefault(term, set(world._index.get(term, ()))).add(key)
        world._index.update((term, frozenset(keys)) for term, keys in touched.items())
        return world

    @property
    def documents(self) -> Mapping[str, Document]:
        """Every document by key."""
        return self._documents

    def get(self, key: str) -> Document | None:
        """The document with this key."""
        return self._documents.get(key)

    def find(self, *term: str) -> list[Document]:
        """The documents of a term, by key."""
        return [self._documents[key] for key in sorted(self._index.get(term, ()))]

    def oldest(self, *term: str) -> list[Document]:
        """The documents of a term, oldest first; what was admitted together goes by key."""
        return sorted(self.find(*term), key=lambda document: (document.admitted_at, document.key))

    @property
    def trust_domain(self) -> str:
        """The mesh's own trust domain."""
        config = self._documents.get(MESH_CONFIG_KEY)
        return config.read(MeshConfigSpec).trust_domain if config else DEFAULT_TRUST_DOMAIN

    def service(self, host: str) -> Document | None:
        """The Service with this full host."""
        if not host.endswith(SERVICE_SUFFIX):
            return None
        name, _, namespace = host.removesuffix(SERVICE_SUFFIX).partition(".")
        return self._documents.get(f"service.{namespace}.{name}")

    def services_of(self, workload: Document) -> list[Document]:
        """The Services whose selector picks a workload."""
        services = self.find("service in", workload.namespace)
        return [one for one in services if selects(one.read(ServiceSpec).selector, workload)]

    def workloads_of(self, service: Document, labels: Mapping[str, str] | None = None) -> Iterator[Document]:
        """The registered workloads behind a Service that also carry ``labels``."""
        wanted = {**service.read(ServiceSpec).selector, **(labels or {})}
        return (one for one in self.find("workload in", service.namespace) if selects(wanted, one))

    def endpoints_of(self, workload_key: str) -> list[str]:
        """The ``endpoints`` keys that a workload with this key is part of."""
        workload = self._documents.get(workload_key)
        if workload is None:
            return []
        return [f"endpoints.{one.namespace}.{one.name}" for one in self.services_of(workload)]


def selects(selector: Mapping[str, str], document: Document) -> bool:
    """Whether a document carries every label of a selector; an empty selector picks all."""
    return all(document.labels.get(name) == value for name, value in selector.items())


def host_of(service: Document) -> str:
    """The full host of a Service."""
    return service_host(service.namespace, service.name)


def mesh_hosts(document: Document) -> list[str]:
    """Full hosts and patterns for which a VirtualService routes inside the mesh."""
    spec = document.read(VirtualServiceSpec)
    if MESH_GATEWAY not in gateways_of(document):
        return []
    return [full_host(host, document.namespace) for host in spec.hosts]


def gateways_of(document: Document) -> list[str]:
    """The gateways of a VirtualService as ``namespace/name``, ``mesh`` for the mesh itself."""
    names = document.read(VirtualServiceSpec).gateways or (MESH_GATEWAY,)
    return list(dict.fromkeys(resolve_gateway(name, document.namespace) for name in names))


def destination_hosts(document: Document) -> set[str]:
    """The full hosts to which a VirtualService routes."""
    return {
        full_host(share.destination.host, document.namespace)
        for rule in document.read(VirtualServiceSpec).http
        for share in rule.route
    }


def is_ingress(workload: Document) -> bool:
    """Whether a workload listens for gateways."""
    return bool(workload.read(WorkloadSpec).gateway_ports)


def _terms(document: Document) -> Iterable[Term]:
    yield ("kind", document.kind)
    yield (f"{document.kind.lower()} in", document.namespace)
    match document.spec:
        case VirtualServiceSpec():
            yield from _virtual_service_terms(document)
        case DestinationRuleSpec():
            host = full_host(document.spec.host, document.namespace)
            yield ("rule for pattern",) if "*" in host else ("rule for", host)
        case WorkloadSpec():
            yield ("on node", document.spec.node)
            yield ("account", document.namespace, document.spec.service_account)
            if is_ingress(document):
                yield ("ingress",)
        case WorkloadBindingSpec():
            yield ("binding", document.namespace, document.spec.service_account)


def _virtual_service_terms(document: Document) -> Iterable[Term]:
    for host in mesh_hosts(document):
        yield ("routes pattern",) if "*" in host else ("routes", host)
    for gateway in gateways_of(document):
        yield ("behind gateway", gateway)
    for host in destination_hosts(document):
        yield ("routes to", host)
