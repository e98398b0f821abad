"""What admission finds in ServiceEntries and WorkloadEntries, and in what stands beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ray_mesh.compile import codes
from ray_mesh.compile.callee import Callee, adds_to, hosts_of
from ray_mesh.compile.endpoints import plain_endpoints
from ray_mesh.compile.finding import Finding, error, unsupported, warning
from ray_mesh.compile.grounds import Grounds
from ray_mesh.compile.services import allows_plaintext
from ray_mesh.compile.world import World
from ray_mesh.resources import Document, ServiceEntrySpec
from ray_mesh.resources.hosts import SERVICE_SUFFIX, entry_host, is_of_mesh
from ray_mesh.resources.source import Path


def service_findings(world: World, document: Document) -> Iterator[Finding]:
    """A Service does not take the host of a ServiceEntry away."""
    short = f"{document.name}.{document.namespace}"
    for host in (*hosts_of(document), short):
        for entry in world.find("entry for", host):
            message = f"host {host} is that of {entry.title}"
            fix = "delete the ServiceEntry, or name the Service otherwise"
            yield unsupported(document, codes.HOST_TAKEN, ("metadata", "name"), message, fix)


def service_entry_findings(world: World, document: Document) -> Iterator[Finding]:
    """Everything about one ServiceEntry."""
    for index, written in enumerate(document.read(ServiceEntrySpec).hosts):
        host = entry_host(written, document.namespace)
        owner = _owner(world, document, host)
        if owner:
            message = f"host {written} is {owner}: a ServiceEntry takes no host over"
            yield unsupported(
                document, codes.HOST_TAKEN, ("spec", "hosts", index), message, "use another host"
            )
    for callee in world.callees_in(document):
        yield from _plaintext_findings(world, document, callee)


def workload_entry_findings(world: World, document: Document) -> Iterator[Finding]:
    """Everything about one WorkloadEntry."""
    callees = world.callees_of(document)
    if not callees:
        message = "no Service or ServiceEntry of its namespace selects its labels, so nobody can call it"
        fix = "label it as a selector asks, or apply a ServiceEntry with a workloadSelector"
        yield warning(document, codes.UNSELECTED_ENTRY, ("spec", "labels"), message, fix)
    for callee in callees:
        yield from _plaintext_findings(world, document, callee)


def address_findings(world: World, document: Document, grounds: Grounds) -> Iterator[Finding]:
    """Endpoints without proxy are not where the mesh itself is, nor a workload where they are."""
    told: set[tuple[str, int]] = set()
    for callee in _around(world, document):
        for endpoint in plain_endpoints(world, callee):
            at = (endpoint.address, endpoint.port)
            if document.kind == "WorkloadEntry" and endpoint.workload != document.key:
                continue
            is_attaching = document.kind == "Workload"
            reason = grounds.why_of(document, *at) if is_attaching else grounds.why_unfit(world, *at)
            if reason and at not in told:
                told.add(at)
                message = f"endpoint {at[0]}:{at[1]} of {callee.host} {reason}"
                fix = "call workloads of the mesh by their Service, and others at addresses of their own"
                yield error(document, codes.ENDPOINT_UNFIT, _where(document, endpoint.address), message, fix)


def _around(world: World, document: Document) -> Iterable[Callee]:
    match document.kind:
        case "Service" | "ServiceEntry":
            return world.callees_in(document)
        case "WorkloadEntry":
            return world.callees_of(document)
        case "Workload":
            entries = (world.callees_in(one) for one in world.find("kind", "ServiceEntry"))
            selected = (world.callees_of(one) for one in world.find("kind", "WorkloadEntry"))
            found = [callee for callees in (*entries, *selected) for callee in callees]
            return {callee.host: callee for callee in found}.values()
    return ()


def _where(document: Document, address: str) -> Path:
    if document.kind == "WorkloadEntry":
        return ("spec", "address")
    if isinstance(document.spec, ServiceEntrySpec):
        for index, endpoint in enumerate(document.spec.endpoints):
            if (endpoint.address or "").lower() == address:
                return ("spec", "endpoints", index, "address")
    return ("spec",)


def _owner(world: World, document: Document, host: str) -> str:
    """Whose a host is already; empty when the ServiceEntry may have it."""
    name, _, namespace = host.removesuffix(SERVICE_SUFFIX).partition(".")
    if is_of_mesh(host):
        if namespace != document.namespace:
            return f"of namespace {namespace}"
        service = world.get(f"service.{namespace}.{name}")
        if service is not None:
            return f"that of {service.title}"
    elif "." not in namespace and (world.has("service in", namespace) or world.has("workload in", namespace)):
        return f"what callers say for service {name} of namespace {namespace}, which is in use"
    for other in world.find("entry for", host):
        if other.key != document.key and not adds_to(other, document):
            return (
                f"that of {other.title} (entries share one within a namespace, with the same resolution, "
                "location, exportTo and protocols, and without workloadSelector)"
            )
    return ""


def _plaintext_findings(world: World, document: Document, callee: Callee) -> Iterator[Finding]:
    if allows_plaintext(world, callee) or not any(plain_endpoints(world, callee)):
        return
    message = (
        f"endpoints of {callee.host} have no proxy, so mutual TLS with them is impossible, "
        "and calls to them are answered with 503"
    )
    fix = f"allow plain HTTP with a DestinationRule for {callee.host}, trafficPolicy.tls.mode: DISABLE"
    yield warning(document, codes.NO_PROXY, ("spec",), message, fix)
