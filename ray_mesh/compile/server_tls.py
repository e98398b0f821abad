"""TLS settings of a gateway's server, for both kinds of Gateways."""

from __future__ import annotations

from typing import Literal, cast

from ray_mesh import snapshot
from ray_mesh.resources.gateway import ServerTls

Mode = Literal["SIMPLE", "MUTUAL", "ISTIO_MUTUAL", "PASSTHROUGH"]


def compile_tls(tls: ServerTls) -> snapshot.ServerTls:
    """The settings in the form of a snapshot."""
    return snapshot.ServerTls(
        mode=cast(Mode, tls.mode),
        certificate=tls.server_certificate,
        key=tls.private_key,
        authorities=tls.ca_certificates,
        versions=(_version(tls.min_protocol_version), _version(tls.max_protocol_version)),
        ciphers=tls.cipher_suites,
        names=tls.subject_alt_names,
    )


def _version(word: str) -> str:
    return "" if word == "TLS_AUTO" else word
