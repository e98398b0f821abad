"""What admission and analysis find in the ports of Services, and in what ServiceEntries say of one port."""

from __future__ import annotations

from collections.abc import Iterator

from ray_mesh.compile import codes
from ray_mesh.compile.callee import Callee
from ray_mesh.compile.exports import PUBLIC, exported_to
from ray_mesh.compile.finding import Finding, info, warning
from ray_mesh.compile.workloads import VERSIONS
from ray_mesh.compile.world import World
from ray_mesh.resources import Document, ServiceEntrySpec, ServiceSpec, WorkloadSpec
from ray_mesh.resources.hosts import entry_host
from ray_mesh.resources.mesh import ROOT_NAMESPACE

_SYSTEM = frozenset({"kube-system", "kube-public", "kube-node-lease", "local-path-storage", ROOT_NAMESPACE})
_NAMED = frozenset(
    {"tcp", "udp", "grpc", "grpc-web", "http", "http_proxy", "http2", "https", "hbone", "tls"}
    | {"mongo", "redis", "mysql"}
)
"""The protocols that the name of a port may begin with (istio.io, protocol selection)."""
_KUBERNETES = frozenset({"kubernetes.io/h2c", "kubernetes.io/ws", "kubernetes.io/wss"})
_WELL_KNOWN = frozenset({25, 53, 3306, 27017})
"""Ports that are taken for TCP without a name: SMTP, DNS, MySQL, MongoDB."""


def port_name_findings(world: World, document: Document) -> Iterator[Finding]:
    """Names of ports that do not say what the port speaks."""
    if document.namespace in _SYSTEM:
        return
    spec = document.read(ServiceSpec)
    for index, port in enumerate(spec.ports):
        path = ("spec", "ports", index)
        known = port.protocol == "UDP" or _is_known(port.name or "", port.app_protocol, port.port)
        if spec.type == "ExternalName" and (not known or port.name == "tcp"):
            message = (
                "Port name for ExternalName service is invalid. Proxy may prevent tcp named ports and "
                "unmatched traffic for ports serving TCP protocol from being forwarded correctly"
            )
            fix = "name it after what it speaks: http, https, tls, ..."
            yield warning(document, codes.EXTERNAL_NAME_PORT, path, message, fix)
        elif not known:
            target = port.target_port if port.target_port is not None else port.port
            message = (
                f"Port name {port.name or ''} (port: {port.port}, targetPort: {target}) doesn't "
                "follow the naming convention of Istio port."
            )
            fix = "call it <protocol> or <protocol>-<suffix>, such as http or tcp-db, or set appProtocol"
            yield info(document, codes.PORT_NAME, path, message, fix)


def _is_known(name: str, app_protocol: str | None, number: int) -> bool:
    word = (name if app_protocol is None else app_protocol).lower()
    if app_protocol is not None and word in _KUBERNETES:
        return True
    return word.startswith("grpc-web") or word.partition("-")[0] in _NAMED or number in _WELL_KNOWN


def version_findings(world: World, document: Document) -> Iterator[Finding]:
    """Services that say of one application that it speaks HTTP/1.1, and that it speaks HTTP/2."""
    for callee in world.callees_in(document):
        mine = _versions(callee)
        undecided = (one for one in world.attached(callee) if not one.read(WorkloadSpec).protocol)
        alike = {frozenset(one.labels.items()): one for one in undecided}
        together = [world.callees_of(workload) for workload in alike.values()]
        others = {one.host: one for callees in together for one in callees}
        for other in [one for one in (callee, *others.values()) if len(mine | _versions(one)) > 1][:1]:
            where = "its ports"
            if other.host != callee.host:
                where += f" and those of {other.document.title}"
            message = f"{where} say both HTTP/1.1 and HTTP/2 of the one port that a workload has"
            fix = "say the same of all of them, or nothing"
            yield warning(document, codes.VERSIONS_DIFFER, ("spec", "ports"), message, fix)


def _versions(callee: Callee) -> set[str]:
    return {VERSIONS[one.protocol] for one in callee.ports if one.is_http}


def protocol_findings(world: World, document: Document) -> Iterator[Finding]:
    """ServiceEntries that name other protocols for a port of the same host, where both are seen."""
    mine = document.read(ServiceEntrySpec)
    for index, written in enumerate(mine.hosts):
        host = entry_host(written, document.namespace)
        entries = [one for one in world.find("entry for", host) if _seen_together(world, document, one)]
        for port in mine.ports:
            spoken = {
                one.protocol.upper()
                for entry in entries
                for one in entry.read(ServiceEntrySpec).ports
                if one.number == port.number
            }
            if len(spoken) > 1:
                names = ", ".join(sorted(f"{one.namespace}/{one.name}" for one in entries))
                message = (
                    f'Multiple ServiceEntries ({names}) define the same host "{written}" and port '
                    f"{port.number} with conflicting protocols ({', '.join(sorted(spoken))})."
                )
                path = ("spec", "hosts", index)
                yield warning(document, codes.CONFLICTING_PROTOCOLS, path, message, "agree on one protocol")
                return


def _seen_together(world: World, document: Document, other: Document) -> bool:
    mine, theirs = exported_to(world.config, document), exported_to(world.config, other)
    return PUBLIC in (mine, theirs) or bool({*mine} & {*theirs})
