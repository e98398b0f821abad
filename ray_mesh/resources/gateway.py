"""Istio's Gateway (networking.istio.io): plain HTTP servers honoured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from ray_mesh.resources.hosts import is_host_pattern
from ray_mesh.resources.schema import LATER, Flaw, LabelValue, Model, NonEmpty, PortNumber, UInt32, is_label

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


class TlsCertificate(Model):
    """Certificate files of a server."""

    server_certificate: str | None = None
    private_key: str | None = None
    ca_certificates: str | None = None


class ServerTls(Model):
    """TLS towards callers."""

    https_redirect: bool | None = None
    mode: (
        Literal["PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"]
        | None
    ) = None
    server_certificate: str | None = None
    private_key: str | None = None
    ca_certificates: str | None = None
    ca_crl: str | None = None
    credential_name: str | None = None
    credential_names: tuple[str, ...] = ()
    ca_cert_credential_name: str | None = None
    tls_certificates: tuple[TlsCertificate, ...] = ()
    subject_alt_names: tuple[str, ...] = ()
    verify_certificate_spki: tuple[str, ...] = ()
    verify_certificate_hash: tuple[str, ...] = ()
    min_protocol_version: TlsVersion | None = None
    max_protocol_version: TlsVersion | None = None
    cipher_suites: tuple[str, ...] = ()
    insecure_skip_verify: bool | None = None


class GatewayPort(Model):
    """A port of a gateway."""

    number: PortNumber
    name: NonEmpty
    protocol: NonEmpty
    target_port: Annotated[UInt32 | None, LATER] = None

    def flaws(self) -> Iterator[Flaw]:
        protocol = self.protocol.upper()
        if protocol not in PROTOCOLS:
            yield Flaw(
                ("protocol",), f"{self.protocol!r} is not a protocol: write one of {', '.join(PROTOCOLS)}"
            )
        elif protocol != "HTTP":
            yield Flaw(("protocol",), f"{self.protocol}: gateways speak HTTP", later=True)


class Server(Model):
    """A port that a gateway listens on, and for which hosts."""

    port: GatewayPort
    hosts: Annotated[tuple[NonEmpty, ...], Field(min_length=1)]
    name: Annotated[str | None, LATER] = None
    bind: Annotated[str | None, LATER] = None
    tls: Annotated[ServerTls | None, LATER] = None
    default_endpoint: Annotated[str | None, LATER] = None

    def flaws(self) -> Iterator[Flaw]:
        for index, text in enumerate(self.hosts):
            namespace, slash, host = text.rpartition("/")
            if slash and namespace not in ("*", ".") and not is_label(namespace):
                yield Flaw(("hosts", index), f"{namespace!r} is not a namespace, . or *")
            if not is_host_pattern(host):
                yield Flaw(("hosts", index), f"{host!r} is not a host, *.host or *")


class GatewaySpec(Model):
    """Where traffic enters: the workloads that ``selector`` picks listen on ``servers``."""

    servers: Annotated[tuple[Server, ...], Field(min_length=1)]
    selector: dict[str, LabelValue] = {}

    def flaws(self) -> Iterator[Flaw]:
        names = [server.port.name for server in self.servers]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield Flaw(("servers", index, "port", "name"), f"port name {name!r} is used twice")
