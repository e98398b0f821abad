"""Istio's Sidecar (networking.istio.io): what the proxies of workloads listen on, and whom they know.

It narrows what a workload can call by name. It is no security boundary: AuthorizationPolicies are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from ray_mesh import addresses
from ray_mesh.resources import protocols
from ray_mesh.resources.connection_pool import ConnectionPool
from ray_mesh.resources.destination import Destination
from ray_mesh.resources.gateway import ServerTls
from ray_mesh.resources.host_names import entry_flaws, is_host_name
from ray_mesh.resources.schema import Flaw, LabelSelector, Later, Model, Only, UInt32, is_label
from ray_mesh.resources.source import Path
from ray_mesh.resources.workload_entry import unix_problem

CaptureMode = Literal["DEFAULT", "IPTABLES", "NONE"]
_ONE_LISTENER = Later("a workload calls through one listener of its proxy, whatever the port")
_LOOPBACKS = ("", "127.0.0.1", "0.0.0.0", "::1", "::")  # noqa: S104 - names, nothing is bound
_ENDPOINT = re.compile(r"(?:\[([^][]*)\]|([^:]*)):([0-9]+)")
_ENDPOINT_FORM = "write 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT or unix:///PATH"


class SidecarPort(Model):
    """A port of a listener. Number 0 means a Unix socket."""

    number: UInt32 = 0
    protocol: str = ""
    name: str = ""
    target_port: UInt32 | None = None

    def flaws(self) -> Iterator[Flaw]:
        if self.name and not is_label(self.name):
            yield Flaw(("name",), f"{self.name!r} is not a DNS label")
        if self.protocol and not protocols.is_known(self.protocol):
            yield Flaw(("protocol",), protocols.unknown(self.protocol))
        if self.number > 65535:
            yield Flaw(("number",), "port must be between 1-65535")
        if self.target_port:
            yield Flaw(("targetPort",), "targetPort has no impact on Sidecars")


class IngressListener(Model):
    """A port that the proxy listens on for the workload, and where the workload really is."""

    port: SidecarPort
    bind: str = ""
    capture_mode: CaptureMode = "DEFAULT"
    default_endpoint: str = ""
    tls: ServerTls | None = None
    connection_pool: ConnectionPool | None = None

    def flaws(self) -> Iterator[Flaw]:
        if self.port.number == 0:
            yield Flaw(("port", "number"), "port must be between 1-65535")
        if self.bind and addresses.parse(self.bind) is None:
            yield Flaw(("bind",), f"{self.bind!r} is not an IP address")
        if self.default_endpoint and (message := _endpoint_problem(self.default_endpoint)):
            yield Flaw(("defaultEndpoint",), message)
        if self.tls is not None:
            yield from self._tls_flaws(self.tls)

    @staticmethod
    def _tls_flaws(tls: ServerTls) -> Iterator[Flaw]:
        for name, given in (
            ("subjectAltNames", tls.subject_alt_names),
            ("httpsRedirect", tls.https_redirect),
            ("credentialName", tls.credential_name),
        ):
            if given:
                yield Flaw(("tls", name), f"{name} is not supported in ingress tls")
        if tls.mode in ("ISTIO_MUTUAL", "AUTO_PASSTHROUGH"):
            yield Flaw(("tls", "mode"), f"cannot set mode to {tls.mode} in sidecar ingress tls")


class EgressListener(Model):
    """Whom the workload may call, as ``namespace/host``: over one port, or over all others."""

    port: Annotated[SidecarPort | None, _ONE_LISTENER] = None
    bind: Annotated[str, _ONE_LISTENER] = ""
    capture_mode: Annotated[CaptureMode, Only(("DEFAULT", "NONE"), "nothing is captured")] = "DEFAULT"
    hosts: Annotated[tuple[str, ...], Field(min_length=1)]

    def flaws(self) -> Iterator[Flaw]:
        if self.port is not None:
            yield from self._bind_flaws(self.port)
        for index, text in enumerate(self.hosts):
            yield from _host_flaws(("hosts", index), text)

    def _bind_flaws(self, port: SidecarPort) -> Iterator[Flaw]:
        if port.number:
            if self.bind and addresses.parse(self.bind) is None:
                yield Flaw(("bind",), f"{self.bind!r} is not an IP address")
            return
        if not self.bind.startswith("unix://"):
            yield Flaw(("bind",), "ports with 0 value must have a unix domain socket bind address")
        elif message := unix_problem(self.bind):
            yield Flaw(("bind",), message)
        if self.capture_mode == "IPTABLES":
            yield Flaw(("captureMode",), "captureMode must be DEFAULT/NONE for unix domain socket listeners")


class OutboundTrafficPolicy(Model):
    """What happens to calls of hosts that nobody has declared; ``egressProxy`` gets them all."""

    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY"] = "REGISTRY_ONLY"
    egress_proxy: Annotated[Destination | None, Later("declare the hosts and route them there")] = None

    def flaws(self) -> Iterator[Flaw]:
        if self.egress_proxy is None:
            return
        if self.mode != "ALLOW_ANY":
            yield Flaw(("egressProxy",), "egressProxy must be set only with mode ALLOW_ANY")
        if not is_host_name(self.egress_proxy.host):
            yield Flaw(("egressProxy", "host"), f"{self.egress_proxy.host!r} is not a host name")
        if self.egress_proxy.port is None:
            yield Flaw(("egressProxy", "port"), "required")


class SidecarSpec(Model):
    """What holds for the selected workloads; without a selector, for all of the namespace that none of its
    other Sidecars selects (in the root namespace: of the mesh)."""

    workload_selector: LabelSelector | None = None
    ingress: Annotated[
        tuple[IngressListener, ...], Later("a workload says its own port when it attaches")
    ] = ()
    egress: tuple[EgressListener, ...] = ()
    inbound_connection_pool: Annotated[
        ConnectionPool | None, Later("limits are kept by callers, as a DestinationRule says")
    ] = None
    outbound_traffic_policy: OutboundTrafficPolicy | None = None

    def flaws(self) -> Iterator[Flaw]:
        parts = (self.ingress, self.egress, self.inbound_connection_pool, self.outbound_traffic_policy)
        if not any(part is not None and part != () for part in parts):
            yield Flaw((), "empty: say egress, ingress, outboundTrafficPolicy or inboundConnectionPool")
        yield from _twice("ingress", [one.port.number for one in self.ingress])
        yield from _twice("egress", [one.port.number if one.port else 0 for one in self.egress])
        sockets = [one.bind if one.port and not one.port.number else "" for one in self.egress]
        yield from _twice("egress", sockets)
        for index, listener in enumerate(self.egress[:-1]):
            if listener.port is None:
                message = "the egress listener without port is the last one, and the only one of its kind"
                yield Flaw(("egress", index), message)


def _twice(field: str, values: list[int] | list[str]) -> Iterator[Flaw]:
    for index, value in enumerate(values):
        if value and value in values[:index]:
            place = ("port", "number") if isinstance(value, int) else ("bind",)
            yield Flaw((field, index, *place), f"{value} is there already: listeners must be unique")


def _endpoint_problem(text: str) -> str:
    if text.startswith("unix://"):
        return unix_problem(text)
    found = _ENDPOINT.fullmatch(text)
    if found is None or (found[1] or found[2] or "") not in _LOOPBACKS or not 1 <= int(found[3]) <= 65535:
        return f"{text!r} is no endpoint of a workload: {_ENDPOINT_FORM}"
    return ""


def _host_flaws(path: Path, text: str) -> Iterator[Flaw]:
    namespace, slash, host = text.partition("/")
    if not slash:
        yield Flaw(path, f"{text!r} names no namespace: write NAMESPACE/HOST, ./HOST or */HOST")
    elif namespace not in ("*", ".", "~") and not is_label(namespace.removeprefix("~")):
        yield Flaw(path, f"{namespace!r} is not a namespace, ., * or ~")
    else:
        yield from entry_flaws(path, host)
