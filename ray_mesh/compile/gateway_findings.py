"""What admission and analysis find in Gateways."""

from __future__ import annotations

from collections.abc import Iterator

from ray_mesh.compile import codes
from ray_mesh.compile.facts import Facts
from ray_mesh.compile.finding import Finding, error, make, spell, warning
from ray_mesh.compile.gateways import gateways_for, ingress_for
from ray_mesh.compile.selection import selects
from ray_mesh.compile.world import World
from ray_mesh.resources import Document, GatewaySpec, WorkloadSpec
from ray_mesh.resources.gateway import Server, ServerTls, listener_kind
from ray_mesh.resources.hosts import pattern_covers
from ray_mesh.resources.source import Path


def gateway_findings(world: World, document: Document, facts: Facts) -> Iterator[Finding]:
    """Everything about one Gateway."""
    yield from _shared_host_findings(world, document)
    yield from _certificate_findings(world, document)
    yield from _redirect_findings(document)
    ingress = ingress_for(world, document)
    if not ingress and not _selected(world, document):
        selector = spell(document.read(GatewaySpec).selector)
        message = f'Referenced selector not found: "{selector}" selects no ingress workload'
        fix = "attach a workload with these labels and gatewayPorts, or correct the selector"
        yield error(document, codes.NOT_FOUND, ("spec", "selector"), message, fix)
        return
    yield from _port_findings(document, ingress)
    yield from _protocol_findings(world, document, ingress)
    yield from _credential_findings(document, ingress, facts)


def _selected(world: World, document: Document) -> bool:
    """Whether any workload has the labels, even one that listens for no gateway."""
    selector = document.read(GatewaySpec).selector
    return any(selects(selector, one) for one in world.find("kind", "Workload"))


def _port_findings(document: Document, ingress: list[Document]) -> Iterator[Finding]:
    exposed = {int(port) for workload in ingress for port in workload.read(WorkloadSpec).gateway_ports}
    names = ", ".join(f"{one.namespace}/{one.name}" for one in ingress) or "the selected workloads"
    ports = ", ".join(str(port) for port in sorted(exposed)) or "none"
    spec = document.read(GatewaySpec)
    for index, server in enumerate(spec.servers):
        if server.port.number not in exposed:
            message = (
                f"The gateway is listening on a target port (port {server.port.number}) that is not defined "
                "in the Service associated with its workload instances (Pod selector "
                f"{spell(spec.selector)}): {names} exposes {ports}."
            )
            path = ("spec", "servers", index, "port", "number")
            fix = f"use one of {ports}, or expose the port" if exposed else "expose the port"
            yield make("warning", document, codes.PORT_NOT_EXPOSED, path, message, fix, refuses=True)


def _protocol_findings(world: World, document: Document, ingress: list[Document]) -> Iterator[Finding]:
    """Ports that are HTTP, TLS or TCP in another Gateway of the same ingress, and not here."""
    taken: dict[int, tuple[str, Document]] = {}
    for workload in ingress:
        for gateway in gateways_for(world, workload):
            for server in gateway.read(GatewaySpec).servers if gateway.key != document.key else ():
                taken.setdefault(server.port.number, (listener_kind(server.port.kind), gateway))
    for index, server in enumerate(document.read(GatewaySpec).servers):
        kind, gateway = taken.get(server.port.number, ("", document))
        if kind and kind != listener_kind(server.port.kind):
            message = f"port {server.port.number} is {kind} in {gateway.title} of the same ingress"
            path = ("spec", "servers", index, "port", "protocol")
            yield error(document, codes.PORT_CONFLICT, path, message, "use another port")


def _shared_host_findings(world: World, document: Document) -> Iterator[Finding]:
    """Hosts that another Gateway of the same workloads serves on the same port."""
    spec = document.read(GatewaySpec)
    for index, server in enumerate(spec.servers):
        others = sorted(
            f"{one.namespace}/{one.name}"
            for one in _near(world, server)
            if one.key != document.key and _is_shared(document, server, one)
        )
        if others:
            message = (
                f"Conflict with gateways {','.join(others)} (workload selector {spell(spec.selector)}, "
                f"port {server.port.number}, hosts {','.join(server.hosts)})."
            )
            path = ("spec", "servers", index, "hosts")
            fix = "serve a host in one Gateway only, or give the Gateways workloads of their own"
            yield make("error", document, codes.CONFLICTING_GATEWAYS, path, message, fix, refuses=False)


def _near(world: World, server: Server) -> list[Document]:
    port = str(server.port.number)
    hosts = [text.rpartition("/")[2].lower() for text in server.hosts]
    if any("*" in host for host in hosts):
        return world.find("listens on", port)
    found = world.find("serves pattern", port) + [
        one for host in hosts for one in world.find("serves", port, host)
    ]
    return list({one.key: one for one in found}.values())


def _is_shared(document: Document, server: Server, other: Document) -> bool:
    theirs = other.read(GatewaySpec)
    mine = document.read(GatewaySpec).selector.items()
    if not (mine <= theirs.selector.items() or theirs.selector.items() <= mine):
        return False
    return any(
        one.port.number == server.port.number and _overlap(document, text, other, host)
        for one in theirs.servers
        for text in server.hosts
        for host in one.hosts
    )


def _overlap(document: Document, text: str, other: Document, theirs: str) -> bool:
    (owner, _, host), (their_owner, _, their_host) = text.rpartition("/"), theirs.rpartition("/")
    owners = {
        document.namespace if owner == "." else owner,
        other.namespace if their_owner == "." else their_owner,
    }
    if len(owners - {"", "*"}) > 1:
        return False
    return pattern_covers(host, their_host) or pattern_covers(their_host, host)


def _certificate_findings(world: World, document: Document) -> Iterator[Finding]:
    """One certificate in several Gateways of the same workloads."""
    spec = document.read(GatewaySpec)
    told: set[str] = set()
    for index, server in enumerate(spec.servers):
        name = _certificate(server.tls)
        for other in world.find("certificate", name) if name else ():
            theirs = other.read(GatewaySpec)
            if (
                other.key == document.key
                or other.key in told
                or not spec.selector.items() <= theirs.selector.items()
            ):
                continue
            if any(_is_same(server.tls, one.tls) for one in theirs.servers):
                told.add(other.key)
                names = f"{document.namespace}/{document.name} {other.namespace}/{other.name}"
                message = (
                    f"Duplicate certificate in multiple gateways [{names}] may cause 404s if clients re-use "
                    "HTTP2 connections."
                )
                path = ("spec", "servers", index, "tls")
                fix = "serve these hosts in one Gateway, or with a certificate of their own"
                yield warning(document, codes.DUPLICATE_CERTIFICATE, path, message, fix)


def _redirect_findings(document: Document) -> Iterator[Finding]:
    """Only what is not TLS yet can be sent to https."""
    for index, server in enumerate(document.read(GatewaySpec).servers):
        if (
            server.tls is not None
            and server.tls.https_redirect
            and server.port.protocol.upper() in ("HTTPS", "TLS")
        ):
            message = "Schema validation warning: tls.httpsRedirect should only be used with http servers"
            path = ("spec", "servers", index, "tls", "httpsRedirect")
            yield warning(document, codes.SCHEMA_WARNING, path, message, "say it of the server for HTTP")


def _certificate(tls: ServerTls | None) -> str:
    return (tls.credential_name or tls.server_certificate) if tls is not None else ""


def _is_same(tls: ServerTls | None, other: ServerTls | None) -> bool:
    if tls is None or other is None:
        return False
    if tls.credential_name or other.credential_name:
        return tls.credential_name == other.credential_name
    return (
        (tls.server_certificate, tls.private_key) == (other.server_certificate, other.private_key) != ("", "")
    )


def _credential_findings(document: Document, ingress: list[Document], facts: Facts) -> Iterator[Finding]:
    """Secrets that a Gateway names, where secrets are known: they are in the namespace of the workloads."""
    if facts.credentials is None:
        return
    namespaces = sorted({one.namespace for one in ingress})
    for index, server in enumerate(document.read(GatewaySpec).servers):
        name = server.tls.credential_name if server.tls is not None else None
        if not name:
            continue
        path: Path = ("spec", "servers", index, "tls", "credentialName")
        found = [f"{one}/{name}" for one in namespaces if f"{one}/{name}" in facts.credentials]
        if not found:
            message = f'Referenced credentialName not found: "{name}"'
            fix = f"apply a Secret {name} in namespace {' or '.join(namespaces) or 'of the ingress'}"
            yield make("error", document, codes.NOT_FOUND, path, message, fix, told="analysis")
        elif all(facts.credentials[one] for one in found):
            reason = facts.credentials[found[0]]
            message = (
                f"The credential referenced by the Gateway {document.name} in namespace {document.namespace} "
                f"is invalid, which can cause the traffic not to work as expected: {reason}."
            )
            fix = f"put a certificate chain and its key into Secret {found[0]}"
            yield make("error", document, codes.INVALID_CREDENTIAL, path, message, fix, told="analysis")
