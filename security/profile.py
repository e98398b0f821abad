"""The certificates of the mesh, as the authority signs them (X509-SVID sections 2 to 4, RFC 5280)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ray_mesh.security.identity import SpiffeId
from ray_mesh.security.svid import MAX_BACKDATE_S

Validity = tuple[datetime, datetime]
"""First and last second of a certificate."""


CA_BACKDATE_S = 86_400
"""How far before they are made certificates begin that nobody renews while a mesh runs (CAs, servers), so
that they stay valid when the clock is set back."""


def validity(now: float, lifetime_s: int, backdate_s: int = int(MAX_BACKDATE_S)) -> Validity:
    """From ``now``, backdated by at most ``backdate_s`` and at most the lifetime. Whole seconds, as X.509
    has no others."""
    start = int(now)
    begins = start - min(backdate_s, lifetime_s)
    return datetime.fromtimestamp(begins, UTC), datetime.fromtimestamp(start + lifetime_s, UTC)


def ca_name(level: str) -> x509.Name:
    """A subject that is unique per key, so that a chain is never built over a namesake."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Ray Mesh"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{level} {secrets.token_hex(8)}"),
        ]
    )


def ca_template(
    identity: SpiffeId,
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    valid: Validity,
    path_length: int,
) -> x509.CertificateBuilder:
    """A certificate that signs certificates for a trust domain, whose own ID it carries."""
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(identity))])
    return (
        _template(subject, issuer, key, valid)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
    )


def leaf_template(
    names: Sequence[x509.GeneralName],
    usages: Sequence[x509.ObjectIdentifier],
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    valid: Validity,
) -> x509.CertificateBuilder:
    """A certificate that only authenticates; its subject is empty, so its names are critical."""
    return (
        _template(x509.Name([]), issuer, key, valid)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    )


def sign(template: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    """The certificate, signed by the issuer's key."""
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return template.add_extension(authority, critical=False).sign(key, hashes.SHA256())


def _template(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, valid: Validity
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
