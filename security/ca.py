"""The certificate authority: root, intermediate and what they sign (X509-SVID specification).

root (10 years) -> intermediate (30 days, path length 0) -> leaf (1 hour). Only the public key of a
request is used; every name comes from a decision of :mod:`ray_mesh.security.registrations`. Key
identifiers are always set, since chain verifiers need them to tell a renewed CA from its
predecessor. URI name constraints are left out: common verifiers refuse chains that have them.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from ray_mesh import codec
from ray_mesh.errors import ConfigError, PeerError, Unavailable
from ray_mesh.security import profile, sealed
from ray_mesh.security.bundle import UNREADABLE, Bundle, read_certificate
from ray_mesh.security.identity import SpiffeId
from ray_mesh.security.svid import new_key

ROOT_LIFETIME_S = 10 * 365 * 86_400
INTERMEDIATE_LIFETIME_S = 30 * 86_400
SVID_LIFETIME_S = 3600
MIN_LIFETIME_S = 2
MAX_SVID_LIFETIME_S = 86_400

_MAX_CSR = 4096
_SERVER_NAME_LIMIT = 64
_DNS_NAME = re.compile(r"(?:\*\.)?[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,240}[A-Za-z0-9_])?")


class Authority:
    """A CA certificate with its key: the root, or the intermediate that issues leaves.

    repr hides the key, pickling raises TypeError; :meth:`seal` is the only way out for it.
    """

    __slots__ = ("_key", "certificate", "root", "trust_domain")

    def __init__(
        self,
        trust_domain: str,
        certificate: x509.Certificate,
        root: x509.Certificate,
        key: ec.EllipticCurvePrivateKey,
    ) -> None:
        self.trust_domain = trust_domain
        self.certificate = certificate
        self.root = root
        self._key = key

    @classmethod
    def create_root(cls, trust_domain: str, now: float, lifetime_s: int = ROOT_LIFETIME_S) -> Authority:
        """A new self-signed root, valid from ``now`` less a minute.

        Raises:
            PeerError: the trust domain is not one.
        """
        key, name = new_key(), profile.ca_name("root")
        valid = profile.validity(now, lifetime_s)
        template = profile.ca_template(SpiffeId(trust_domain), name, name, key.public_key(), valid, 1)
        certificate = profile.sign(template, key)
        return cls(trust_domain, certificate, certificate, key)

    def create_intermediate(self, now: float, lifetime_s: int = INTERMEDIATE_LIFETIME_S) -> Authority:
        """A new intermediate below this root; it ends no later than the root.

        Raises:
            ConfigError: this is itself an intermediate.
            Unavailable: this root is expired.
        """
        if not self.is_root:
            raise ConfigError("only the root makes intermediates")
        key, name, issuer = new_key(), profile.ca_name("intermediate"), self.certificate.subject
        valid = self._clamped(now, lifetime_s)
        template = profile.ca_template(SpiffeId(self.trust_domain), name, issuer, key.public_key(), valid, 0)
        return Authority(self.trust_domain, profile.sign(template, self._key), self.root, key)

    @property
    def is_root(self) -> bool:
        """Whether this is the root itself."""
        return self.certificate == self.root

    @property
    def expires_at(self) -> float:
        """When this CA certificate ends."""
        return self.certificate.not_valid_after_utc.timestamp()

    def is_due(self, now: float) -> bool:
        """Whether another should take its place: half of its life is over, or the clock was set back
        behind its begin. ``now``: seconds since 1970."""
        begin = self.certificate.not_valid_before_utc.timestamp()
        return not begin <= now < begin + (self.expires_at - begin) / 2

    def bundle(self) -> Bundle:
        """The root that this CA stands on, as a bundle of its trust domain."""
        return Bundle(self.trust_domain, (self.root,))

    def issue(self, csr_der: bytes, identity: SpiffeId, ttl_s: float, now: float) -> tuple[bytes, ...]:
        """An SVID for ``identity`` and the key of a request: chain in DER, leaf first, without root.

        The leaf never outlives this intermediate.

        Raises:
            PeerError: the request is unreadable, unproven, or not for a P-256 key.
            ConfigError: ``identity`` is of another trust domain or has no path, or ``ttl_s`` is out of
                range.
            Unavailable: this intermediate is expired or not yet valid.
        """
        if identity.trust_domain != self.trust_domain or not identity.path:
            raise ConfigError(f"the CA of {self.trust_domain} issues no SVID for {identity}")
        if not MIN_LIFETIME_S <= ttl_s <= MAX_SVID_LIFETIME_S:
            raise ConfigError(
                f"SVID lifetime {ttl_s} s is outside {MIN_LIFETIME_S} to {MAX_SVID_LIFETIME_S} s"
            )
        key = requested_key(csr_der)
        names = [x509.UniformResourceIdentifier(str(identity))]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        return self._issue_leaf(key, names, usages, self._clamped(now, int(ttl_s)))

    def issue_server_certificate(
        self,
        key: ec.EllipticCurvePublicKey,
        names: Sequence[str],
        ips: Sequence[str],
        now: float,
        lifetime_s: int = INTERMEDIATE_LIFETIME_S,
    ) -> tuple[bytes, ...]:
        """A TLS server certificate for the broker: chain in DER, leaf first. It is not an SVID.

        Raises:
            ConfigError: no name at all, or one that is not a DNS name or IP address.
            Unavailable: this intermediate is expired or not yet valid.
        """
        if not 1 <= len(names) + len(ips) <= _SERVER_NAME_LIMIT:
            raise ConfigError(f"a server certificate needs 1 to {_SERVER_NAME_LIMIT} names")
        for name in names:
            if not _DNS_NAME.fullmatch(name):
                raise ConfigError(f"{name!r} is not a DNS name")
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
        try:
            alternatives += [x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips]
        except ValueError as error:
            raise ConfigError(f"cannot stand in a server certificate: {error}") from error
        return self._issue_leaf(
            key, alternatives, [ExtendedKeyUsageOID.SERVER_AUTH], self._clamped(now, lifetime_s)
        )

    def seal(self, passphrase: bytes, n: int = sealed.PASSPHRASE_COST) -> bytes:
        """Certificates and key, encrypted with a passphrase."""
        stored = _Stored(
            self.trust_domain,
            self.certificate.public_bytes(Encoding.DER),
            self.root.public_bytes(Encoding.DER),
            self._key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        )
        return sealed.seal(codec.pack(stored), passphrase, n)

    @classmethod
    def unseal(cls, envelope: bytes, passphrase: bytes) -> Authority:
        """Read what :meth:`seal` wrote.

        Raises:
            ConfigError: wrong passphrase, or an envelope that was changed or holds something else.
        """
        raw = sealed.unseal(envelope, passphrase)
        try:
            stored = codec.unpack(_Stored, raw)
            key = load_der_private_key(stored.key, None)
            certificate, root = read_certificate(stored.certificate), read_certificate(stored.root)
        except (PeerError, ValueError) as error:
            raise ConfigError("the sealed file does not hold a certificate authority") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ConfigError("the sealed certificate authority holds a key of another certificate")
        return cls(stored.trust_domain, certificate, root, key)

    def _clamped(self, now: float, lifetime_s: int) -> profile.Validity:
        if not self.certificate.not_valid_before_utc.timestamp() <= now < self.expires_at:
            raise Unavailable(
                f"the CA certificate of {self.trust_domain} is valid from"
                f" {self.certificate.not_valid_before_utc} to {self.certificate.not_valid_after_utc} only:"
                " renew it, or set the clock"
            )
        return profile.validity(now, min(lifetime_s, int(self.expires_at) - int(now)))

    def _issue_leaf(
        self,
        key: ec.EllipticCurvePublicKey,
        names: Sequence[x509.GeneralName],
        usages: Sequence[x509.ObjectIdentifier],
        valid: profile.Validity,
    ) -> tuple[bytes, ...]:
        if self.is_root:
            raise ConfigError("the root issues no leaf certificates: make an intermediate")
        template = profile.leaf_template(names, usages, self.certificate.subject, key, valid)
        leaf = profile.sign(template, self._key)
        return leaf.public_bytes(Encoding.DER), self.certificate.public_bytes(Encoding.DER)

    def __repr__(self) -> str:
        level = "root" if self.is_root else "intermediate"
        return f"<Authority {level} of {self.trust_domain} expires_at={self.expires_at:.0f}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a CA key leaves its process only sealed: do not pickle it")


def requested_key(csr_der: bytes) -> ec.EllipticCurvePublicKey:
    """The public key of a certificate request whose sender proved to hold the private one.

    Raises:
        PeerError: the request is unreadable, its signature is wrong, or the key is not P-256.
    """
    if len(csr_der) > _MAX_CSR:
        raise PeerError(f"a certificate request of {len(csr_der)} bytes is longer than {_MAX_CSR}")
    try:
        request = x509.load_der_x509_csr(csr_der)
        key = request.public_key()
        proven = request.is_signature_valid
    except (*UNREADABLE, UnsupportedAlgorithm) as error:
        raise PeerError(f"unreadable certificate request: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise PeerError("a certificate request must be for an ECDSA P-256 key")
    if not proven:
        raise PeerError("the certificate request is not signed by its own key")
    return key


def public_key_sha256(key: ec.EllipticCurvePublicKey) -> bytes:
    """What the controller registers for a key that a proxy made: SHA-256 of its SubjectPublicKeyInfo."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def chain_pem(chain: Sequence[bytes]) -> bytes:
    """A chain in DER as one PEM text, in the same order."""
    return b"".join(read_certificate(der).public_bytes(Encoding.PEM) for der in chain)


@dataclass(frozen=True, slots=True)
class _Stored:
    trust_domain: str
    certificate: bytes
    root: bytes
    key: bytes
