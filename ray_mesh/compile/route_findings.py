"""What admission finds in VirtualServices."""

from __future__ import annotations

from collections.abc import Iterator

from ray_mesh.compile import finding
from ray_mesh.compile.callee import Callee
from ray_mesh.compile.client_rules import every_rule, merge_rules
from ray_mesh.compile.delegation import delegate_of, merge
from ray_mesh.compile.finding import Finding, error, spell, warning
from ray_mesh.compile.gateways import served_hosts
from ray_mesh.compile.merge_findings import merge_findings
from ray_mesh.compile.world import World, gateways_of
from ray_mesh.resources import Document, GatewaySpec, VirtualServiceSpec
from ray_mesh.resources.destination import Destination
from ray_mesh.resources.hosts import MESH_GATEWAY, gateway_host, pattern_covers, resolve_gateway
from ray_mesh.resources.source import Path
from ray_mesh.resources.virtual_service import HttpMatch, HttpRoute


def virtual_service_findings(world: World, document: Document) -> Iterator[Finding]:
    """Everything about one VirtualService."""
    yield from _gateway_findings(world, document)
    yield from _host_findings(world, document)
    yield from _unused_findings(world, document)
    taken_by: int | None = None
    for index, rule in enumerate(document.read(VirtualServiceSpec).http):
        path: Path = ("spec", "http", index)
        if taken_by is not None:
            message = f"rule {index} is never used: rule {taken_by} above takes every request"
            yield warning(document, finding.UNREACHABLE_RULE, path, message, "move it above that rule")
        elif _takes_all(rule):
            taken_by = index
        yield from _rule_findings(world, document, rule, path)
        yield from _delegate_findings(world, document, rule, path)
    yield from _connection_findings(world, document)


def _connection_findings(world: World, document: Document) -> Iterator[Finding]:
    """Everything about the TLS and TCP routes."""
    spec = document.read(VirtualServiceSpec)
    for kind, rules in (("tls", spec.tls), ("tcp", spec.tcp)):
        for number, rule in enumerate(rules):
            for index, share in enumerate(rule.route):
                below: Path = ("spec", kind, number, "route", index, "destination")
                takes_traffic = len(rule.route) == 1 or bool(share.weight)
                yield from _destination_findings(world, document, share.destination, below, takes_traffic)


def _unused_findings(world: World, document: Document) -> Iterator[Finding]:
    name = f"{document.namespace}/{document.name}"
    if not document.read(VirtualServiceSpec).hosts and not world.has("delegates to", name):
        message = "it has no hosts and nothing delegates to it, so its routes hold for nothing"
        fix = "add hosts, or delegate to it"
        yield warning(document, finding.DELEGATE_UNUSED, ("spec",), message, fix)


def _delegate_findings(world: World, document: Document, rule: HttpRoute, path: Path) -> Iterator[Finding]:
    if rule.delegate is None:
        return
    path = (*path, "delegate")
    name = f"{rule.delegate.namespace or document.namespace}/{rule.delegate.name}"
    delegate = delegate_of(world, document, rule.delegate)
    if delegate is None:
        message = f'Referenced delegate not found: "{name}", a VirtualService without hosts'
        yield error(document, finding.NOT_FOUND, path, message, "apply it first, or with this")
        return
    for index, below in enumerate(delegate.read(VirtualServiceSpec).http):
        if merge(document, rule, delegate, below) is None:
            message = f"rule {index} of {name} can match what this rule does not: it would hold for nothing"
            fix = "let each of its matches say the same or less"
            yield error(document, finding.DELEGATE_CONFLICT, path, message, fix)


def _gateway_findings(world: World, document: Document) -> Iterator[Finding]:
    for index, written in enumerate(document.read(VirtualServiceSpec).gateways):
        name = resolve_gateway(written, document.namespace)
        if name == MESH_GATEWAY:
            continue
        path: Path = ("spec", "gateways", index)
        namespace, _, gateway_name = name.partition("/")
        gateway = world.get(f"gateway.{namespace}.{gateway_name}")
        if gateway is None:
            message = f'Referenced gateway not found: "{name}"'
            yield error(document, finding.NOT_FOUND, path, message, "apply the Gateway first, or with it")
        else:
            yield from _unserved_hosts(document, gateway, path)


def _unserved_hosts(document: Document, gateway: Document, path: Path) -> Iterator[Finding]:
    servers = gateway.read(GatewaySpec).servers
    served = {host for server in servers for host in served_hosts(server, gateway, document)}
    for written in document.read(VirtualServiceSpec).hosts:
        host = gateway_host(written, document.namespace)
        if not any(pattern_covers(host, one) or pattern_covers(one, host) for one in served):
            message = f"host {written} is served by no server of {gateway.title}"
            yield warning(
                document, finding.HOST_NOT_IN_GATEWAY, path, message, "add it to the servers' hosts"
            )


def _host_findings(world: World, document: Document) -> Iterator[Finding]:
    for index, host in enumerate(_mesh_hosts(world, document)):
        path: Path = ("spec", "hosts", index)
        hosts = [host] if world.callee(host) else []
        if "*" in host:
            hosts = [one.host for one in world.callees() if pattern_covers(host, one.host)]
        if not hosts:
            make = warning if "*" in host else error
            message = f"there is no Service for host {host}, so these routes would hold for nothing"
            fix = "apply the Service first, or correct the host"
            yield make(document, finding.ROUTES_WITHOUT_SERVICE, path, message, fix)
        yield from merge_findings(world, document, hosts, path)


def _mesh_hosts(world: World, document: Document) -> list[str]:
    """The hosts for which it routes inside the mesh, as this world understands them."""
    if MESH_GATEWAY not in gateways_of(document):
        return []
    return [world.resolve(host, document.namespace) for host in document.read(VirtualServiceSpec).hosts]


def _takes_all(rule: HttpRoute) -> bool:
    return rule.delegate is None and (not rule.match or any(_is_empty(match) for match in rule.match))


def _is_empty(match: HttpMatch) -> bool:
    names = match.model_fields_set - {"name", "ignore_uri_case"}
    conditions = {name for name in names if getattr(match, name)}
    return not conditions or (conditions == {"uri"} and match.uri is not None and match.uri.prefix == "/")


def _rule_findings(world: World, document: Document, rule: HttpRoute, path: Path) -> Iterator[Finding]:
    total = sum(share.weight or 0 for share in rule.route)
    if len(rule.route) > 1 and total != 100:
        message = f"the weights sum to {total}: traffic is split in proportion to them"
        yield warning(document, finding.UNEVEN_WEIGHTS, (*path, "route"), message, "make them sum to 100")
    for name, part in (
        ("delay", rule.fault and rule.fault.delay),
        ("abort", rule.fault and rule.fault.abort),
    ):
        if part and part.percentage is None and not getattr(part, "percent", None):
            message = f"the {name} has no percentage, so it is never injected"
            fault_path = (*path, "fault", name)
            yield warning(document, finding.FAULT_NEVER_INJECTED, fault_path, message, "set percentage.value")
    if rule.retries is not None and rule.retries.lacks_statuses:
        message = "retriable-status-codes stands for the statuses in retryOn, and there are none"
        fix = "write them, as in 'retriable-status-codes,503'"
        yield warning(document, finding.RETRIES_NOTHING, (*path, "retries", "retryOn"), message, fix)
    for index, share in enumerate(rule.route):
        below = (*path, "route", index, "destination")
        takes_traffic = len(rule.route) == 1 or bool(share.weight)
        yield from _destination_findings(world, document, share.destination, below, takes_traffic)
    for index, mirror in enumerate(rule.copies):
        below = (*path, "mirror") if rule.mirror else (*path, "mirrors", index, "destination")
        yield from _destination_findings(world, document, mirror.destination, below, True)


def _destination_findings(
    world: World, document: Document, destination: Destination, path: Path, takes_traffic: bool
) -> Iterator[Finding]:
    host = world.resolve(destination.host, document.namespace)
    callee = world.callee(host)
    if callee is None:
        message = f'Referenced host not found: "{destination.host}" ({host})'
        yield error(
            document, finding.NOT_FOUND, (*path, "host"), message, "apply the Service first, or with it"
        )
        return
    yield from _port_findings(world, document, callee, destination, path)
    if destination.subset:
        yield from _subset_findings(world, document, callee, destination.subset, path, takes_traffic)


def _port_findings(
    world: World, document: Document, callee: Callee, destination: Destination, path: Path
) -> Iterator[Finding]:
    numbers = [port.number for port in callee.ports]
    host = callee.host
    if destination.port is not None:
        number = destination.port.number
        if number not in numbers:
            message = f'Referenced host:port not found: "{host}:{number}"; it has {_listed(numbers)}'
            yield error(document, finding.NOT_FOUND, (*path, "port", "number"), message, "correct the port")
    elif len(numbers) > 1 and not (
        gateways_of(document) == [MESH_GATEWAY] and _mesh_hosts(world, document) == [host]
    ):
        message = f"{host} has several ports ({_listed(numbers)}), so the destination must say which"
        yield error(document, finding.PORT_REQUIRED, path, message, "set destination.port.number")


def _listed(numbers: list[int]) -> str:
    return ", ".join(str(number) for number in sorted(numbers))


def _subset_findings(
    world: World, document: Document, callee: Callee, name: str, path: Path, takes_traffic: bool
) -> Iterator[Finding]:
    host = callee.host
    _, subsets = merge_rules(every_rule(world, callee))
    subset = next((one for one in subsets if one.name == name), None)
    if subset is None:
        known = ", ".join(sorted(one.name for one in subsets)) or "none"
        message = f'Referenced host+subset in destinationrule not found: "{host}+{name}"; defined: {known}'
        fix = "define the subset in a DestinationRule of that host, before or with this"
        yield error(document, finding.NOT_FOUND, (*path, "subset"), message, fix)
    elif takes_traffic and not world.has_behind(callee, subset.labels):
        yield error(
            document, finding.EMPTY_SUBSET, (*path, "subset"), *_nobody(world, callee, name, subset.labels)
        )


def _nobody(world: World, callee: Callee, subset: str, labels: dict[str, str]) -> tuple[str, str]:
    """Message and cure for a subset that picks nobody."""
    behind = list(world.labels_behind(callee))
    present = {f"{label}={one[label]}" for one in behind for label in labels if label in one}
    message = (
        f"subset {subset} of {callee.host} selects no registered workload: "
        f"nobody behind {callee.document.title} has labels {spell(labels)}"
    )
    have = f"; workloads have {', '.join(sorted(present))}" if present else ""
    return message, f"attach a workload with {spell(labels)} first, or route to another subset{have}"
