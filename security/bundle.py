"""Trust bundles: the roots of one trust domain.

Bundles of different trust domains are never pooled. A pool would let any of its roots speak for
all of its domains.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import Store

from ray_mesh.errors import PeerError
from ray_mesh.security.identity import SpiffeId

UNREADABLE = (
    ValueError,
    TypeError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What reading a malformed certificate may raise."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """The roots that may vouch for one trust domain. No roots means that nobody is trusted.

    Raises:
        PeerError: a bad trust domain, or a root that is not a CA certificate.
    """

    trust_domain: str
    roots: tuple[x509.Certificate, ...]
    store: Store | None = field(init=False, repr=False, compare=False)
    """The roots as the chain verifier wants them; None when there are none."""

    def __post_init__(self) -> None:
        SpiffeId(self.trust_domain)
        for root in self.roots:
            _check_root(root)
        object.__setattr__(self, "store", Store(list(self.roots)) if self.roots else None)

    @classmethod
    def from_der(cls, trust_domain: str, roots: Iterable[bytes]) -> Bundle:
        """Read roots from DER.

        Raises:
            PeerError: bytes that are not a certificate, or not one of a CA.
        """
        return cls(trust_domain, tuple(read_certificate(der) for der in roots))

    def der(self) -> tuple[bytes, ...]:
        """The roots in DER, in order."""
        return tuple(root.public_bytes(Encoding.DER) for root in self.roots)

    def pem(self) -> str:
        """The roots as one PEM text."""
        return "".join(root.public_bytes(Encoding.PEM).decode("ascii") for root in self.roots)


def read_certificate(der: bytes) -> x509.Certificate:
    """A certificate from DER.

    Raises:
        PeerError: it is not one.
    """
    try:
        return x509.load_der_x509_certificate(der)
    except UNREADABLE as error:
        raise PeerError(f"not a certificate: {error}") from error


def _check_root(root: x509.Certificate) -> None:
    try:
        constraints = root.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = root.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, *UNREADABLE) as error:
        raise PeerError(f"a root of a bundle is not a CA certificate: {error}") from error
    if not (constraints.ca and usage.key_cert_sign):
        raise PeerError("a root of a bundle is not a CA certificate: it may not sign certificates")
