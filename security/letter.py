"""Secrets for one process: encrypted to a key that it made, so that they may travel where others look.

What passes through Ray is seen by its dashboard, its object store and its logs. A letter is not: an
ephemeral X25519 key and the ciphertext (HKDF-SHA256, ChaCha20-Poly1305), which only the process that made
the letterbox can read. A letter does not prove who wrote it.
"""

from __future__ import annotations

from typing import NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ray_mesh.errors import PeerError

_DOMAIN = b"ray-mesh/letter/v1\0"
_KEY_BYTES = 32
_NONCE = bytes(12)
"""Each letter has a key of its own, so the nonce need not vary."""


class Letterbox:
    """The private half, in memory only. ``public`` is what others write to."""

    __slots__ = ("_key", "public")

    def __init__(self) -> None:
        self._key = X25519PrivateKey.generate()
        self.public: bytes = self._key.public_key().public_bytes_raw()

    def open(self, letter: bytes) -> bytes:
        """What :func:`write` was given.

        Raises:
            PeerError: the letter is for somebody else, or was changed.
        """
        sender, ciphertext = letter[:_KEY_BYTES], letter[_KEY_BYTES:]
        try:
            shared = self._key.exchange(X25519PublicKey.from_public_bytes(sender))
            return ChaCha20Poly1305(_derive(shared, sender, self.public)).decrypt(_NONCE, ciphertext, None)
        except (InvalidTag, ValueError) as error:
            raise PeerError("the letter is for another process, or was changed on its way") from error

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a letterbox never leaves its process: do not pickle it")


def write(public: bytes, content: bytes) -> bytes:
    """``content`` for the process that holds the letterbox of ``public``.

    Raises:
        PeerError: ``public`` is no letterbox.
    """
    ephemeral = X25519PrivateKey.generate()
    sender = ephemeral.public_key().public_bytes_raw()
    try:
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise PeerError(f"not the public half of a letterbox: {error}") from error
    return sender + ChaCha20Poly1305(_derive(shared, sender, public)).encrypt(_NONCE, content, None)


def _derive(shared: bytes, sender: bytes, receiver: bytes) -> bytes:
    return HKDF(hashes.SHA256(), _KEY_BYTES, salt=None, info=_DOMAIN + sender + receiver).derive(shared)
