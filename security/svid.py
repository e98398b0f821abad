"""X.509-SVIDs: holding one, asking for one, and verifying a peer's (X509-SVID specification).

TLS libraries leave holes where SPIFFE is concerned: two URI names in one certificate, a certificate
that may not sign a handshake, and above all one pool of roots for all trust domains, where any root
can forge any identity. :func:`verify_svid` closes them and is meant to run after every handshake,
whatever TLS has verified before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NoReturn

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, VerificationError

from ray_mesh.errors import PeerError
from ray_mesh.security.bundle import UNREADABLE, Bundle, read_certificate
from ray_mesh.security.identity import SpiffeId

MAX_BACKDATE_S = 60.0
"""How far before its issue an SVID begins to be valid, so that clocks may differ."""

_MAX_CHAIN = 5
_RENEWAL_JITTER = 0.1


class Svid:
    """An identity in use: certificate chain (leaf first, without root) and private key.

    It never leaves the process that made the key: repr hides the key, pickling raises TypeError.

    Raises:
        PeerError: the chain is empty, its leaf is not an SVID, or belongs to another key.
    """

    __slots__ = ("_key", "chain", "expires_at", "id", "not_before_at")

    def __init__(self, chain: tuple[x509.Certificate, ...], key: ec.EllipticCurvePrivateKey) -> None:
        if not chain:
            raise PeerError("an SVID needs a certificate: the chain is empty")
        self.chain = chain
        self.id = leaf_identity(chain[0])
        if chain[0].public_key() != key.public_key():
            raise PeerError(f"the certificate of {self.id} belongs to another key")
        self.not_before_at = max(each.not_valid_before_utc.timestamp() for each in chain)
        self.expires_at = min(each.not_valid_after_utc.timestamp() for each in chain)
        self._key = key

    @classmethod
    def from_der(cls, chain: Sequence[bytes], key: ec.EllipticCurvePrivateKey) -> Svid:
        """The SVID of a chain as the CA sends it (DER, leaf first).

        Raises:
            PeerError: as for the class, or bytes that are not a certificate.
        """
        return cls(tuple(read_certificate(each) for each in chain), key)

    @property
    def issued_at(self) -> float:
        """When it was issued, with the backdating taken out (exact for certificates of our CA)."""
        life_s = self.expires_at - self.not_before_at
        return self.not_before_at + min(MAX_BACKDATE_S, life_s / 2)

    def chain_der(self) -> tuple[bytes, ...]:
        """The chain in DER, leaf first."""
        return tuple(each.public_bytes(Encoding.DER) for each in self.chain)

    def chain_pem(self) -> bytes:
        """The chain in PEM, leaf first."""
        return b"".join(each.public_bytes(Encoding.PEM) for each in self.chain)

    def key_pem(self) -> bytes:
        """The private key in PEM, for ``ssl`` by way of memory only: never store, log or send it."""
        return key_pem(self._key)

    def __repr__(self) -> str:
        return f"<Svid {self.id} expires_at={self.expires_at:.0f}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("an SVID holds a private key, which never leaves its process: do not pickle it")


def new_key() -> ec.EllipticCurvePrivateKey:
    """A new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key in unencrypted PKCS#8 PEM: never store it unsealed, log or send it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def csr(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate request (DER) that proves possession of the key and asks for nothing else."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.DER)


def renewal_at(svid: Svid, jitter: float) -> float:
    """When to renew: half the lifetime after issue, moved by ``jitter`` (-1 to 1) times a tenth of that."""
    half_s = (svid.expires_at - svid.issued_at) / 2
    return svid.issued_at + half_s * (1 + _RENEWAL_JITTER * max(-1.0, min(1.0, jitter)))


def verify_svid(
    chain: Sequence[x509.Certificate | bytes], bundles: Mapping[str, Bundle], now: float
) -> SpiffeId:
    """The identity that a peer's chain (leaf first) proves at ``now`` (seconds since the epoch).

    The chain must end at a root of the bundle of the SVID's own trust domain; other bundles do not
    count.

    Raises:
        PeerError: no chain, a leaf that is not an SVID, an unknown trust domain, or no valid path.
    """
    if not 1 <= len(chain) <= _MAX_CHAIN:
        raise PeerError(f"a certificate chain has 1 to {_MAX_CHAIN} certificates, not {len(chain)}")
    certificates = [_certificate(each) for each in chain]
    if not all(map(_is_written_whole, certificates)):
        raise PeerError("a certificate's signature is not a whole number of bytes")
    identity = leaf_identity(certificates[0])
    bundle = bundles.get(identity.trust_domain)
    if bundle is None or bundle.trust_domain != identity.trust_domain or bundle.store is None:
        raise PeerError(f"{identity}: no trust bundle for trust domain {identity.trust_domain}")
    try:
        at = datetime.fromtimestamp(now, UTC).replace(tzinfo=None)
        verifier = PolicyBuilder().store(bundle.store).time(at).max_chain_depth(_MAX_CHAIN)
        verifier.build_client_verifier().verify(certificates[0], certificates[1:])
    except (VerificationError, ValueError, OverflowError, OSError) as error:
        raise PeerError(f"{identity}: {_why(certificates, now)}{error}") from error
    return identity


def _is_written_whole(certificate: x509.Certificate) -> bool:
    """Whether the signature is all of its bit string. Bits that are said to be unused would be read as
    nothing, so one certificate could be written in several ways."""
    return certificate.public_bytes(Encoding.DER).endswith(b"\x00" + certificate.signature)


def leaf_identity(leaf: x509.Certificate) -> SpiffeId:
    """The SPIFFE ID of a leaf certificate. It proves nothing: the issuer is not looked at.

    Raises:
        PeerError: the certificate breaks a rule for leaves (X509-SVID sections 2, 4 and 5.2).
    """
    try:
        extensions = leaf.extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        usage = extensions.get_extension_for_class(x509.KeyUsage)
    except x509.ExtensionNotFound as error:
        raise PeerError(f"not an X.509-SVID: no {error.oid._name} extension") from error
    except UNREADABLE as error:
        raise PeerError(f"not an X.509-SVID: unreadable extensions: {error}") from error
    _check_usage(usage)
    _check_extensions(extensions)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise PeerError(f"not an X.509-SVID: {len(uris)} URI names, exactly one is required")
    identity = SpiffeId.parse(uris[0])
    if not identity.path:
        raise PeerError(f"{identity} names a trust domain, not a workload")
    return identity


def _check_usage(usage: x509.Extension[x509.KeyUsage]) -> None:
    if not usage.critical:
        raise PeerError("not an X.509-SVID: key usage is not critical")
    if not usage.value.digital_signature:
        raise PeerError("not an X.509-SVID: key usage lacks digitalSignature")
    if usage.value.key_cert_sign or usage.value.crl_sign:
        raise PeerError("not an X.509-SVID: key usage allows signing certificates or revocation lists")


def _check_extensions(extensions: x509.Extensions) -> None:
    for extension in extensions:
        value = extension.value
        if isinstance(value, x509.BasicConstraints) and value.ca:
            raise PeerError("not an X.509-SVID: a CA certificate cannot authenticate a workload")
        if isinstance(value, x509.ExtendedKeyUsage) and not _BOTH_SIDES.issubset(value):
            raise PeerError("not an X.509-SVID: extended key usage lacks server or client authentication")


_BOTH_SIDES = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH})


def _certificate(each: x509.Certificate | bytes) -> x509.Certificate:
    return each if isinstance(each, x509.Certificate) else read_certificate(each)


def _why(certificates: Sequence[x509.Certificate], now: float) -> str:
    for each in certificates:
        starts, ends = each.not_valid_before_utc, each.not_valid_after_utc
        if now > ends.timestamp():
            return f"a certificate of the chain expired at {ends:%Y-%m-%d %H:%M:%S} UTC: "
        if now < starts.timestamp():
            return f"a certificate of the chain is valid from {starts:%Y-%m-%d %H:%M:%S} UTC (clocks?): "
    return ""
