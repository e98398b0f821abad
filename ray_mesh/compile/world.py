"""All desired state at one moment, with an index from what documents speak about to the documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property

from ray_mesh import snapshot
from ray_mesh.compile.callee import Callee, adds_to, hosts_of, labels_of
from ray_mesh.compile.gateway_api.terms import terms as gateway_api_terms
from ray_mesh.compile.selection import (
    Term,
    picked_terms,
    picking_terms,
    selection_terms,
    selector_in,
    selects,
)
from ray_mesh.resources import (
    DestinationRuleSpec,
    Document,
    GatewaySpec,
    HealthCheckSpec,
    MeshConfigSpec,
    ServiceEntrySpec,
    VirtualServiceSpec,
    WorkloadBindingSpec,
    WorkloadSpec,
)
from ray_mesh.resources.hosts import MESH_GATEWAY, SERVICE_SUFFIX, meanings, pattern_covers, resolve_gateway
from ray_mesh.resources.mesh import MESH_NAME, ROOT_NAMESPACE

MESH_CONFIG_KEY = f"meshconfig.{ROOT_NAMESPACE}.{MESH_NAME}"


class World:
    """Immutable. Keys are those of :attr:`Document.key`; every answer is in a fixed order."""

    def __init__(self, documents: Mapping[str, Document]) -> None:
        self._documents = dict(documents)
        self._callees: dict[str, Callee | None] = {}
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
        world._callees = {}
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

    def picked(self, kind: str, namespace: str, selector: Mapping[str, str]) -> list[Document]:
        """The documents of a kind (``workload``, ``workloadentry``) that a selector picks, by key."""
        terms = picked_terms(kind, namespace, selector)
        fewest = min(terms, key=lambda term: len(self._index.get(term, ())))
        return [one for one in self.find(*fewest) if selects(selector, one)]

    def picking(self, kind: str, namespace: str, document: Document) -> list[Document]:
        """The documents of a kind (in lower case) in a namespace whose selector picks a document, by key."""
        if not self.has(f"{kind} in", namespace):
            return []
        keys: set[str] = set()
        for term in picking_terms(kind, namespace, document):
            keys |= self._index.get(term, frozenset())
        found = (self._documents[key] for key in sorted(keys))
        return [one for one in found if selects(selector_in(one) or {}, document)]

    @cached_property
    def config(self) -> MeshConfigSpec:
        """The settings of the whole mesh."""
        config = self._documents.get(MESH_CONFIG_KEY)
        return config.read(MeshConfigSpec) if config else MeshConfigSpec()

    @property
    def trust_domain(self) -> str:
        """The mesh's own trust domain."""
        return self.config.trust_domain

    def has(self, *term: str) -> bool:
        """Whether any document has a term."""
        return bool(self._index.get(term))

    def callee(self, host: str) -> Callee | None:
        """What is called under a full host: a Service before any ServiceEntry, of these the oldest, with
        those that add to it."""
        if host not in self._callees:
            self._callees[host] = self._find_callee(host)
        return self._callees[host]

    def _find_callee(self, host: str) -> Callee | None:
        if host.endswith(SERVICE_SUFFIX):
            name, _, namespace = host.removesuffix(SERVICE_SUFFIX).partition(".")
            service = self._documents.get(f"service.{namespace}.{name}")
            if service is not None:
                return Callee(service, host)
        entries = self.oldest("entry for", host)
        if not entries:
            return None
        return Callee(entries[0], host, tuple(one for one in entries[1:] if adds_to(entries[0], one)))

    def resolve(self, host: str, namespace: str) -> str:
        """The full host that a host in a document of a namespace means in this world."""
        known = meanings(host, namespace)
        return next((one for one in known if self.callee(one) is not None), known[0])

    def callees_in(self, document: Document) -> list[Callee]:
        """What a Service or ServiceEntry is called by or adds to, without hosts that another document has."""
        found = (self.callee(host) for host in hosts_of(document))
        return [
            one
            for one in found
            if one is not None and any(each.key == document.key for each in one.documents)
        ]

    def callees(self) -> Iterator[Callee]:
        """Everything that can be called."""
        for kind in ("Service", "ServiceEntry"):
            for document in self.find("kind", kind):
                for one in self.callees_in(document):
                    if one.document.key == document.key:
                        yield one

    def callees_of(self, workload: Document) -> list[Callee]:
        """What a Workload or WorkloadEntry stands behind."""
        found: list[Callee] = []
        for kind in ("service", "serviceentry"):
            for document in self.picking(kind, workload.namespace, workload):
                found += self.callees_in(document)
        return found

    def attached(self, callee: Callee) -> Iterator[Document]:
        """The registered workloads behind a host."""
        return self._behind("workload", callee)

    def entries(self, callee: Callee) -> Iterator[Document]:
        """The WorkloadEntries behind a host."""
        return self._behind("workloadentry", callee)

    def labels_behind(self, callee: Callee) -> Iterator[Mapping[str, str]]:
        """The labels of everything that may serve a host."""
        for document in (*self.attached(callee), *self.entries(callee)):
            yield labels_of(document)
        for _, endpoint in callee.listed:
            yield endpoint.labels

    def has_behind(self, callee: Callee, labels: Mapping[str, str]) -> bool:
        """Whether anything with these labels may serve a host."""
        return any(labels.items() <= one.items() for one in self.labels_behind(callee))

    def endpoints_of(self, workload_key: str) -> list[str]:
        """The ``endpoints`` keys that a workload with this key is part of."""
        workload = self._documents.get(workload_key)
        if workload is None:
            return []
        return [snapshot.key_for("endpoints", one.host) for one in self.callees_of(workload)]

    def _behind(self, kind: str, callee: Callee) -> Iterator[Document]:
        selector = callee.selector
        return iter(() if selector is None else self.picked(kind, callee.namespace, selector))


def mesh_hosts(document: Document) -> list[str]:
    """Full hosts and patterns for which a VirtualService may route inside the mesh."""
    spec = document.read(VirtualServiceSpec)
    if MESH_GATEWAY not in gateways_of(document):
        return []
    return [one for host in spec.hosts for one in meanings(host, document.namespace)]


def gateways_of(document: Document) -> list[str]:
    """The gateways of a VirtualService as ``namespace/name``, ``mesh`` for the mesh itself."""
    names = document.read(VirtualServiceSpec).gateways or (MESH_GATEWAY,)
    return list(dict.fromkeys(resolve_gateway(name, document.namespace) for name in names))


def destination_hosts(document: Document) -> set[str]:
    """The full hosts to which a VirtualService may route."""
    spec = document.read(VirtualServiceSpec)
    destinations = [one for rule in spec.http for one in rule.destinations]
    destinations += [share.destination for rule in spec.tls for share in rule.route]
    destinations += [share.destination for rule in spec.tcp for share in rule.route]
    return {host for one in destinations for host in meanings(one.host, document.namespace)}


def is_wildcard(host: str) -> bool:
    """Whether a host of a ServiceEntry is a pattern."""
    return host.startswith("*.")


def pattern_entry(world: World, host: str) -> Document | None:
    """The first ServiceEntry with a pattern that covers a host."""
    for entry in world.find("wildcard"):
        if any(is_wildcard(one) and pattern_covers(one, host) for one in hosts_of(entry)):
            return entry
    return None


def rule_hosts(rule: Document) -> tuple[str, ...]:
    """The full hosts that a DestinationRule may be for, or its pattern."""
    return meanings(rule.read(DestinationRuleSpec).host, rule.namespace)


def is_ingress(workload: Document) -> bool:
    """Whether a workload listens for gateways."""
    return bool(workload.read(WorkloadSpec).gateway_ports)


def _terms(document: Document) -> Iterable[Term]:
    yield ("kind", document.kind)
    yield ("in namespace", document.namespace)
    yield (f"{document.kind.lower()} in", document.namespace)
    yield from selection_terms(document)
    yield from gateway_api_terms(document)
    match document.spec:
        case VirtualServiceSpec():
            yield from _virtual_service_terms(document)
        case DestinationRuleSpec():
            for host in rule_hosts(document):
                yield ("rule for pattern",) if "*" in host else ("rule for", host)
        case ServiceEntrySpec():
            for host in hosts_of(document):
                yield ("entry for", host)
                if is_wildcard(host):
                    yield ("wildcard",)
            if document.spec.addresses:
                yield ("addresses",)
        case GatewaySpec():
            yield from _gateway_terms(document)
        case HealthCheckSpec(host=checked):
            for host in meanings(checked, document.namespace):
                yield ("check for", host)
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
    for rule in document.read(VirtualServiceSpec).http:
        if rule.delegate is not None:
            yield ("delegates to", f"{rule.delegate.namespace or document.namespace}/{rule.delegate.name}")


def _gateway_terms(document: Document) -> Iterable[Term]:
    for server in document.read(GatewaySpec).servers:
        port = str(server.port.number)
        yield ("listens on", port)
        for text in server.hosts:
            host = text.rpartition("/")[2].lower()
            yield ("serves pattern", port) if "*" in host else ("serves", port, host)
        if server.tls is not None:
            for certificate in filter(None, (server.tls.credential_name, server.tls.server_certificate)):
                yield ("certificate", certificate)
