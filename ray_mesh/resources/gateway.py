"""Istio's Gateway (networking.istio.io): HTTP, TLS and TCP servers."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field
from pydantic.alias_generators import to_camel

from ray_mesh.resources.hosts import is_host_pattern
from ray_mesh.resources.schema import (
    LATER,
    Flaw,
    LabelValue,
    Later,
    Model,
    NonEmpty,
    Only,
    PortNumber,
    UInt32,
    is_label,
)

TlsVersion = Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]
PROTOCOLS = (
    "HTTP",
    "HTTPS",
    "GRPC",
    "GRPC-WEB",
    "HTTP2",
    "HTTP3",
    "MONGO",
    "MYSQL",
    "REDIS",
    "TCP",
    "TLS",
    "UDP",
)


Kind = Literal["http", "https", "tls", "tcp"]
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
    credential_names: Annotated[tuple[str, ...], _FILES] = ()
    ca_cert_credential_name: Annotated[str | None, _FILES] = None
    tls_certificates: Annotated[tuple[TlsCertificate, ...], LATER] = ()
    subject_alt_names: tuple[NonEmpty, ...] = ()
    verify_certificate_spki: Annotated[tuple[str, ...], LATER] = ()
    verify_certificate_hash: Annotated[tuple[str, ...], LATER] = ()
    min_protocol_version: Annotated[TlsVersion, _BROKEN] = "TLS_AUTO"
    max_protocol_version: Annotated[TlsVersion, _BROKEN] = "TLS_AUTO"
    cipher_suites: tuple[NonEmpty, ...] = ()
    insecure_skip_verify: Annotated[bool | None, LATER] = None

    def flaws(self) -> Iterator[Flaw]:
        if self.min_protocol_version == "TLSV1_3" and self.max_protocol_version == "TLSV1_2":
            yield Flaw(("maxProtocolVersion",), "lower than minProtocolVersion")
        for index, suite in enumerate(self.cipher_suites):
            if not _is_cipher(suite):
                yield Flaw(
                    ("cipherSuites", index), f"{suite!r} is no cipher suite of TLS 1.2 by OpenSSL's name"
                )
        if not self.https_redirect and not self.model_fields_set & {
            "credential_name",
            "credential_names",
            "tls_certificates",
        }:
            yield from self._certificate_flaws()

    def _certificate_flaws(self) -> Iterator[Flaw]:
        needed = {"SIMPLE": _CERTIFICATE[:2], "MUTUAL": _CERTIFICATE}.get(self.mode, ())
        if self.mode == "MUTUAL" and self.ca_cert_credential_name is not None:
            needed = _CERTIFICATE[:2]
        for name in _CERTIFICATE:
            if name in needed and not getattr(self, name):
                yield Flaw((to_camel(name),), f"is missing: {self.mode} TLS needs the path of a file")
            elif getattr(self, name) and self.mode in ("PASSTHROUGH", "ISTIO_MUTUAL"):
                yield Flaw((to_camel(name),), f"{self.mode} TLS has no certificate of its own")
            elif getattr(self, name) and not getattr(self, name).startswith("/"):
                yield Flaw((to_camel(name),), "is not the absolute path of a file")
        if self.subject_alt_names and self.mode not in ("MUTUAL", "ISTIO_MUTUAL"):
            yield Flaw(("subjectAltNames",), f"{self.mode} TLS asks callers for no certificate")


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

    number: PortNumber
    name: NonEmpty
    protocol: NonEmpty
    target_port: Annotated[UInt32 | None, LATER] = None

    @property
    def kind(self) -> Kind:
        """What it speaks, once it is known to be honoured."""
        protocol = self.protocol.upper()
        return {"HTTP": "http", "HTTPS": "https", "TLS": "tls"}.get(protocol, "tcp")  # type: ignore[return-value]

    def flaws(self) -> Iterator[Flaw]:
        protocol = self.protocol.upper()
        if protocol not in PROTOCOLS:
            yield Flaw(
                ("protocol",), f"{self.protocol!r} is not a protocol: write one of {', '.join(PROTOCOLS)}"
            )
        elif protocol in ("GRPC", "GRPC-WEB", "HTTP2", "HTTP3", "UDP"):
            yield Flaw(("protocol",), f"{self.protocol}: gateways speak HTTP/1.1, TLS and TCP", later=True)


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
        for index, text in enumerate(self.hosts):
            namespace, slash, host = text.rpartition("/")
            if slash and namespace not in ("*", ".") and not is_label(namespace):
                yield Flaw(("hosts", index), f"{namespace!r} is not a namespace, . or *")
            if not is_host_pattern(host):
                yield Flaw(("hosts", index), f"{host!r} is not a host, *.host or *")

    def _tls_flaws(self) -> Iterator[Flaw]:
        kind, tls = self.port.kind, self.tls
        if kind in ("https", "tls"):
            if tls is None:
                yield Flaw(("tls",), f"server must have TLS settings for {self.port.protocol} protocols")
            elif tls.https_redirect:
                yield Flaw(("tls", "httpsRedirect"), "is for servers of protocol HTTP")
        elif tls is not None and kind == "tcp":
            yield Flaw(("tls",), "server cannot have TLS settings for non HTTPS/TLS ports")
        elif tls is not None and tls.model_fields_set != {"https_redirect"}:
            yield Flaw(("tls",), "a server of protocol HTTP can have httpsRedirect only")


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
                message = f"port {number} is {kinds[number]} in a server above"
                yield Flaw(("servers", index, "port", "protocol"), message)


def listener_kind(kind: Kind) -> str:
    """What has to be the same for all servers of a port: who listens finds servers by name in TLS only."""
    return {"https": "TLS", "tls": "TLS", "http": "HTTP", "tcp": "TCP"}[kind]
