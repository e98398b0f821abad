"""TLS of a Gateway: of a listener by files, and what of the rest there is no store for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from ray_mesh.resources import gateway as istio
from ray_mesh.resources.gateway_api.names import GroupName, KindName, ObjectName, QualifiedName
from ray_mesh.resources.problems import find_flaws, nearest
from ray_mesh.resources.schema import DnsLabel, Flaw, Later, Model, PortNumber

_OPTIONS = {
    "mesh.ray.io/server-certificate": "serverCertificate",
    "mesh.ray.io/private-key": "privateKey",
    "mesh.ray.io/ca-certificates": "caCertificates",
    "mesh.ray.io/min-protocol-version": "minProtocolVersion",
    "mesh.ray.io/max-protocol-version": "maxProtocolVersion",
    "gateway.istio.io/tls-terminate-mode": "mode",
}
FILES = Later(
    "name files on the ingress's node in options: mesh.ray.io/server-certificate and mesh.ray.io/private-key"
)


class ObjectReference(Model):
    """A Secret or ConfigMap."""

    group: GroupName = ""
    kind: KindName = "Secret"
    name: ObjectName
    namespace: DnsLabel | None = None


class ListenerTls(Model):
    """TLS towards callers. Certificates and keys are files on the ingress's node, named in ``options``."""

    mode: Literal["Terminate", "Passthrough"] = "Terminate"
    certificate_refs: Annotated[tuple[ObjectReference, ...], Field(max_length=64), FILES] = ()
    frontend_validation: Annotated[dict[str, Any] | None, FILES] = None
    options: Annotated[dict[QualifiedName, Annotated[str, Field(max_length=4096)]], Field(max_length=16)] = {}

    @property
    def server(self) -> istio.ServerTls:
        """The same in the words of Istio's Gateway; raises ValidationError when an option is none of its."""
        if self.mode == "Passthrough":
            return istio.ServerTls(mode="PASSTHROUGH")
        said = {_OPTIONS[name]: value for name, value in self.options.items() if name in _OPTIONS}
        return istio.ServerTls.model_validate({"mode": "SIMPLE", **said})

    def flaws(self) -> Iterator[Flaw]:
        if self.mode == "Terminate" and not (self.certificate_refs or self.options):
            yield Flaw((), "certificateRefs or options must be specified when mode is Terminate")
            return
        for name in self.options:
            if name not in _OPTIONS:
                yield Flaw(("options", name), f"no such option{nearest(name, _OPTIONS)}", later=True)
            elif self.mode == "Passthrough":
                yield Flaw(("options", name), "what passes through has no certificate here")
        if self.mode == "Terminate" and not self.certificate_refs and self.options.keys() <= _OPTIONS.keys():
            yield from self._server_flaws()

    def _server_flaws(self) -> Iterator[Flaw]:
        written = {field: name for name, field in _OPTIONS.items()}
        mode = self.options.get("gateway.istio.io/tls-terminate-mode", "SIMPLE")
        if mode not in ("SIMPLE", "MUTUAL", "ISTIO_MUTUAL"):
            yield Flaw(("options", written["mode"]), f"{mode!r} is not SIMPLE, MUTUAL or ISTIO_MUTUAL")
            return
        for field in ("minProtocolVersion", "maxProtocolVersion"):
            value = self.options.get(written[field], "TLSV1_2")
            if value not in ("TLSV1_2", "TLSV1_3"):
                yield Flaw(("options", written[field]), f"{value!r} is not TLSV1_2 or TLSV1_3")
                return
        for flaw in find_flaws(self.server, ()):
            yield Flaw(("options", written[str(flaw.path[0])]), flaw.message, flaw.later)


class AuthorityReference(Model):
    """An object with certificates of authorities."""

    group: GroupName
    kind: KindName
    name: ObjectName
    namespace: DnsLabel | None = None


class FrontendValidation(Model):
    """Which certificates callers have to show."""

    ca_certificate_refs: Annotated[tuple[AuthorityReference, ...], Field(min_length=1, max_length=8)]
    mode: Literal["AllowValidOnly", "AllowInsecureFallback"] = "AllowValidOnly"


class ValidationConfig(Model):
    """Settings of listeners."""

    validation: FrontendValidation | None = None


class PortConfig(Model):
    """Settings of the listeners of a port."""

    port: PortNumber
    tls: ValidationConfig


class FrontendTls(Model):
    """Towards callers: what holds for all HTTPS listeners, and what for those of some ports."""

    default: ValidationConfig
    per_port: Annotated[tuple[PortConfig, ...], Field(max_length=64)] = ()

    def flaws(self) -> Iterator[Flaw]:
        ports = [one.port for one in self.per_port]
        if len(set(ports)) < len(ports):
            yield Flaw(("perPort",), "Port for TLS configuration must be unique within the Gateway")


class BackendTls(Model):
    """Towards backends."""

    client_certificate_ref: ObjectReference | None = None


class GatewayTls(Model):
    """TLS settings of a whole Gateway."""

    backend: BackendTls | None = None
    frontend: FrontendTls | None = None
