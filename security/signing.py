"""Detached Ed25519 signatures over configuration.

A signature is made for one purpose and does not verify for another, so that bytes signed as a
beacon can never be passed off as policy.
"""

from __future__ import annotations

import base64
import binascii
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric import ed25519
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from ray_mesh.errors import ConfigError, PeerError
from ray_mesh.security import sealed
from ray_mesh.security.sealed import PASSPHRASE_COST

SIGNATURE_BYTES = 64

PURPOSES = ("desired", "compiled", "vouching", "beacon", "export")


class SigningKey:
    """The key that signs for a mesh. repr hides it, pickling raises TypeError."""

    __slots__ = ("_key", "public")

    def __init__(self, key: ed25519.Ed25519PrivateKey) -> None:
        self._key = key
        self.public: bytes = key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> SigningKey:
        """A new random key."""
        return cls(ed25519.Ed25519PrivateKey.generate())

    @classmethod
    def unseal(cls, envelope: bytes, passphrase: bytes) -> SigningKey:
        """Read what :meth:`seal` wrote.

        Raises:
            ConfigError: wrong passphrase, or an envelope that was changed or holds something else.
        """
        raw = sealed.unseal(envelope, passphrase)
        if len(raw) != 32:
            raise ConfigError("the sealed file does not hold a signing key")
        return cls(ed25519.Ed25519PrivateKey.from_private_bytes(raw))

    def seal(self, passphrase: bytes, n: int = PASSPHRASE_COST) -> bytes:
        """The key, encrypted with a passphrase (see :func:`ray_mesh.security.sealed.seal`)."""
        return sealed.seal(self._key.private_bytes_raw(), passphrase, n)

    @property
    def verify_key(self) -> VerifyKey:
        """The public half."""
        return VerifyKey(self.public)

    def sign(self, purpose: str, data: bytes) -> str:
        """The base64 signature over ``data`` for one of :data:`PURPOSES` (ValueError otherwise)."""
        return base64.b64encode(self._key.sign(_domain(purpose) + data)).decode("ascii")

    def __repr__(self) -> str:
        return f"<SigningKey public={self.public.hex()[:16]}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a signing key never leaves its process: do not pickle it")


class VerifyKey:
    """The public half of a :class:`SigningKey`, from its 32 raw bytes.

    Every proxy checks every change that concerns it, so libsodium does that: 71 us here, OpenSSL 133.

    Raises:
        PeerError: not a public key.
    """

    __slots__ = ("public",)

    def __init__(self, public: bytes) -> None:
        try:
            ed25519.Ed25519PublicKey.from_public_bytes(public)
        except (ValueError, TypeError) as error:
            raise PeerError(f"not an Ed25519 public key: {error}") from error
        self.public = public

    def verify(self, purpose: str, data: bytes, signature: str) -> None:
        """Return if ``signature`` was made over ``data`` for ``purpose`` by this mesh's key.

        Raises:
            PeerError: it was not.
        """
        try:
            raw = base64.b64decode(signature, validate=True)
            if len(raw) != SIGNATURE_BYTES:
                raise ValueError(f"{len(raw)} bytes are no signature")
            crypto_sign_open(raw + _domain(purpose) + data, self.public)
        except (BadSignatureError, binascii.Error, ValueError) as error:
            raise PeerError(f"the signature over {purpose} bytes is not one of this mesh's key") from error

    def __repr__(self) -> str:
        return f"<VerifyKey {self.public.hex()[:16]}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VerifyKey) and other.public == self.public

    def __hash__(self) -> int:
        return hash(self.public)

    def __reduce__(self) -> tuple[type[VerifyKey], tuple[bytes]]:
        return VerifyKey, (self.public,)


_DOMAINS = {purpose: f"ray-mesh/{purpose}/v1\0".encode() for purpose in PURPOSES}


def _domain(purpose: str) -> bytes:
    try:
        return _DOMAINS[purpose]
    except KeyError:
        raise ValueError(f"nothing is signed as {purpose!r}; purposes: {', '.join(PURPOSES)}") from None
