"""Istio's Gateway (networking.istio.io): HTTP, TLS and TCP servers."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field
from pydantic.alias_generators import to_camel

from ray_mesh import addresses
from ray_mesh.resources import protocols
from ray_mesh.resources.host_names import entry_flaws
from ray_mesh.resources.schema import (
    LATER,
    Flaw,
    LabelValue,
    Later,
    Model,
    NonEmpty,
    Only,
    UInt32,
    is_label,
)
from ray_mesh.resources.workload_entry import unix_problem

TlsVersion = Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]
_SPOKEN = ("HTTP", "HTTP2", "GRPC", "HTTPS", "TLS", "TCP", "MONGO", "MYSQL", "REDIS")
_HTTP = ("HTTP", "HTTP2", "HTTP_PROXY", "GRPC", "GRPC-WEB")


Kind = Literal["http", "https", "tls", "tcp"]
_KINDS: dict[str, Kind] = {"HTTP": "http", "HTTP2": "http", "GRPC": "http", "HTTPS": "https", "TLS": "tls"}
_FILES = Later("name files on the ingress's node in serverCertificate and privateKey")
_BROKEN = Only(("TLS_AUTO", "TLSV1_2", "TLSV1_3"), "TLS 1.0 and 1.1 are broken")
_CERTIFICATE = ("server_certificate", "private_key", "ca_certificates")


class TlsCertificate(Model):
    """Certificate files of a server."""

    server_certificate: str | None = None
    private_key: str | None = None
    ca_certificates: str | None = None


class ServerTls(Model):
    """TLS towards callers. Certificates, keys and authorities are files on the node of the ingress."""

    https_redirect: bool = False
    mode: Annotated[
        Literal["PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"],
        Only(("PASSTHROUGH", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL")),
    ] = "PASSTHROUGH"
    server_certificate: str = ""
    private_key: str = ""
    ca_certificates: str = ""
    ca_crl: Annotated[str | None, LATER] = None
    credential_name: Annotated[str | None, _FILES] = None
    credential_names: Annotated[tuple[str, ...] | None, Field(min_length=1, max_length=2), _FILES] = None
    ca_cert_credential_name: Annotated[str | None, _FILES] = None
    tls_certificates: Annotated[
        tuple[TlsCertificate, ...] | None, Field(min_length=1, max_length=2), LATER
    ] = None
    subject_alt_names: tuple[NonEmpty, ...] = ()
    verify_certificate_spki: Annotated[tuple[str, ...], LATER] = ()
    verify_certificate_hash: Annotated[tuple[str, ...], LATER] = ()
    min_protocol_version: Annotated[TlsVersion, _BROKEN] = "TLS_AUTO"
    max_protocol_version: Annotated[TlsVersion, _BROKEN] = "TLS_AUTO"
    cipher_suites: tuple[NonEmpty, ...] = ()
    insecure_skip_verify: Annotated[bool | None, LATER] = None

    @property
    def has_files(self) -> bool:
        """Whether it names a certificate, a key or authorities."""
        return any(getattr(self, name) for name in _CERTIFICATE)

    def flaws(self) -> Iterator[Flaw]:
        if self.min_protocol_version == "TLSV1_3" and self.max_protocol_version == "TLSV1_2":
            yield Flaw(("maxProtocolVersion",), "lower than minProtocolVersion")
        for index, suite in enumerate(self.cipher_suites):
            if not _is_cipher(suite):
                reason = f"{suite!r}, which is none of TLS 1.2 by OpenSSL's name"
                yield Flaw(("cipherSuites", index), reason, later=True)
        named = ("credential_name", "credential_names", "tls_certificates")
        if sum(bool(getattr(self, name)) for name in named) > 1:
            yield Flaw((), "only one of credentialName, credentialNames and tlsCertificates can be set")
        if self.ca_crl and (self.credential_name or self.mode == "SIMPLE"):
            other = "credentialName" if self.credential_name else "SIMPLE TLS"
            yield Flaw(("caCrl",), f"CRL is not supported with {other}")
        if self.mode == "ISTIO_MUTUAL" and self.credential_name:
            yield Flaw(("credentialName",), "ISTIO_MUTUAL TLS cannot have associated credentialName")
        if not self.https_redirect and not self.model_fields_set & {
            "credential_name",
            "credential_names",
            "tls_certificates",
        }:
            yield from self._certificate_flaws()

    def _certificate_flaws(self) -> Iterator[Flaw]:
        mutual = self.mode in ("MUTUAL", "OPTIONAL_MUTUAL")
        needed = _CERTIFICATE if mutual else _CERTIFICATE[:2] if self.mode == "SIMPLE" else ()
        if mutual and self.ca_cert_credential_name is not None:
            needed = _CERTIFICATE[:2]
        for name in _CERTIFICATE:
            if name in needed and not getattr(self, name):
                yield Flaw((to_camel(name),), f"is missing: {self.mode} TLS needs the path of a file")
            elif getattr(self, name) and self.mode == "ISTIO_MUTUAL":
                yield Flaw((to_camel(name),), f"{self.mode} TLS has no certificate of its own")
            elif getattr(self, name) and self.mode in ("PASSTHROUGH", "AUTO_PASSTHROUGH"):
                yield Flaw((to_camel(name),), f"beside {self.mode}, which uses none", later=True)
            elif getattr(self, name) and not getattr(self, name).startswith("/"):
                yield Flaw((to_camel(name),), "that is not an absolute path", later=True)
        if self.subject_alt_names and self.mode in ("SIMPLE", "PASSTHROUGH", "AUTO_PASSTHROUGH"):
            reason = f"beside {self.mode}, which asks callers for no certificate"
            yield Flaw(("subjectAltNames",), reason, later=True)


def _is_cipher(suite: str) -> bool:
    if ":" in suite or not suite[0].isalpha():
        return False
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(suite)
    except ssl.SSLError:
        return False
    return True


class GatewayPort(Model):
    """A port of a gateway."""

    number: UInt32
    name: NonEmpty
    protocol: NonEmpty
    target_port: UInt32 | None = None

    @property
    def kind(self) -> Kind:
        """What it speaks, once it is known to be honoured. Clients choose the version of HTTP."""
        return _KINDS.get(self.protocol.upper(), "tcp")

    def flaws(self) -> Iterator[Flaw]:
        protocol = self.protocol.upper()
        if not protocols.is_known(self.protocol):
            yield Flaw(("protocol",), protocols.unknown(self.protocol))
        elif protocol not in _SPOKEN:
            yield Flaw(("protocol",), f"{self.protocol}: gateways speak HTTP, gRPC, TLS and TCP", later=True)
        if self.target_port:
            yield Flaw(("targetPort",), "targetPort has no impact on Gateways")
        if self.number > 65535:
            yield Flaw(("number",), "port must be between 1-65535")


class Server(Model):
    """A port that a gateway listens on, and for which hosts."""

    port: GatewayPort
    hosts: Annotated[tuple[NonEmpty, ...], Field(min_length=1)]
    name: Annotated[str | None, LATER] = None
    bind: Annotated[str | None, LATER] = None
    tls: ServerTls | None = None
    default_endpoint: Annotated[str | None, LATER] = None

    def flaws(self) -> Iterator[Flaw]:
        yield from self._tls_flaws()
        yield from self._bind_flaws()
        for index, text in enumerate(self.hosts):
            namespace, slash, host = text.partition("/") if "/" in text else ("", "", text)
            if slash and namespace not in ("*", ".") and not is_label(namespace):
                yield Flaw(("hosts", index), f"{namespace!r} is not a namespace, . or *")
            if addresses.parse(host) is None:
                yield from entry_flaws(("hosts", index), host)

    def _bind_flaws(self) -> Iterator[Flaw]:
        bind = self.bind or ""
        if bind.startswith("unix://"):
            if message := unix_problem(bind):
                yield Flaw(("bind",), message)
            if self.port.number:
                yield Flaw(("port", "number"), "port number must be 0 for unix domain socket")
            return
        if bind and addresses.parse(bind) is None:
            yield Flaw(("bind",), f"{bind!r} is not an IP address, or unix:// and a path")
        if self.port.number == 0:
            yield Flaw(("port", "number"), "port must be between 1-65535")

    def _tls_flaws(self) -> Iterator[Flaw]:
        kind, tls = self.port.kind, self.tls
        if kind in ("https", "tls"):
            if tls is None:
                yield Flaw(("tls",), f"server must have TLS settings for {self.port.protocol} protocols")
            elif tls.https_redirect:
                yield Flaw(("tls", "httpsRedirect"), "of a server whose protocol is not HTTP", later=True)
        elif tls is not None and self.port.protocol.upper() not in _HTTP:
            yield Flaw(("tls",), "server cannot have TLS settings for non HTTPS/TLS ports")
        elif tls is not None and (tls.mode != "PASSTHROUGH" or tls.has_files):
            yield Flaw(("tls",), "server cannot have TLS settings for plain text HTTP ports")
        elif tls is not None and tls.model_fields_set - {"https_redirect", "mode"}:
            yield Flaw(("tls",), "of a server of protocol HTTP, beyond httpsRedirect", later=True)


class GatewaySpec(Model):
    """Where traffic enters: the workloads that ``selector`` picks listen on ``servers``."""

    servers: Annotated[tuple[Server, ...], Field(min_length=1)]
    selector: dict[str, LabelValue] = {}

    def flaws(self) -> Iterator[Flaw]:
        names = [server.port.name for server in self.servers]
        kinds: dict[int, str] = {}
        for index, server in enumerate(self.servers):
            if server.port.name in names[:index]:
                name = server.port.name
                yield Flaw(("servers", index, "port", "name"), f"port name {name!r} is used twice")
            number, spoken = server.port.number, listener_kind(server.port.kind)
            if kinds.setdefault(number, spoken) != spoken:
                message = f"beside {kinds[number]} on port {number}, in a server above"
                yield Flaw(("servers", index, "port", "protocol"), message, later=True)


def listener_kind(kind: Kind) -> str:
    """What has to be the same for all servers of a port: who listens finds servers by name in TLS only."""
    return {"https": "TLS", "tls": "TLS", "http": "HTTP", "tcp": "TCP"}[kind]
