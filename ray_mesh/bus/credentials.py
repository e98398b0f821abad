"""Who a connection is: a NATS user key (NKEY, Ed25519) and the broker to show it to.

The seed stays in the process that made it, or in a private file for clients outside the mesh's
processes. The broker knows only the public half.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias
from urllib.parse import urlsplit

import nkeys

from ray_mesh.errors import ConfigError
from ray_mesh.security.sealed import read_private, write_private

_PUBLIC = re.compile(r"U[A-Z2-7]{55}")
_SEED_LENGTH = 58
_CREDS = re.compile(
    r"-----BEGIN NATS USER JWT-----\s*(\S+)\s*------?END NATS USER JWT-----"
    r".*-----BEGIN USER NKEY SEED-----\s*(\S+)\s*------?END USER NKEY SEED-----",
    re.DOTALL,
)
_CREDS_TEXT = """-----BEGIN NATS USER JWT-----
{jwt}
------END NATS USER JWT------
-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------
"""

LoginKind: TypeAlias = Literal["creds", "nkey", "password", "token"]


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker listens, and whose certificate it must show.

    ``url`` is ``tls://host:port``, or several of them separated by commas. ``ca_pem`` holds the
    only roots that are trusted for the broker's certificate. A broker that is not ``embedded`` is
    somebody's own NATS (:mod:`ray_mesh.bus.external`): there an empty ``ca_pem`` means the roots of the
    machine, TLS 1.2 will do, and ``nats://`` on loopback may go without TLS.
    """

    url: str
    ca_pem: str
    embedded: bool = True

    def ports(self) -> frozenset[int]:
        """The ports of its servers."""
        ports = (urlsplit(server.strip()).port for server in self.url.split(","))
        return frozenset(port for port in ports if port)


class Credential:
    """A NATS user key with its seed in memory. It shows only its public half and cannot be pickled."""

    __slots__ = ("_seed", "public")

    def __init__(self, seed: str) -> None:
        """
        Raises:
            ConfigError: ``seed`` is not the seed of a NATS user key (``SU...``).
        """
        try:
            prefix, _ = nkeys.decode_seed(seed.encode())
            public = nkeys.from_seed(seed.encode()).public_key.decode()
        except (nkeys.NkeysError, ValueError) as error:
            raise ConfigError(f"not the seed of a NATS user key: {error}") from None
        if not _is_whole(seed):
            raise ConfigError("the seed of the NATS user key is damaged: its checksum is wrong")
        if prefix != nkeys.PREFIX_BYTE_USER:
            raise ConfigError("the seed is of a NATS key, but not of a user: it must begin with SU")
        self._seed = seed
        self.public: str = public

    @classmethod
    def generate(cls) -> Credential:
        """A new random key."""
        return cls(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER).decode())

    @classmethod
    def read(cls, path: Path) -> Credential:
        """The key whose seed :meth:`write` stored.

        Raises:
            ConfigError: the file is missing, readable by others, or holds no seed of a user key.
        """
        return cls(read_private(path).decode("ascii", "replace").strip())

    def write(self, path: Path) -> None:
        """Store the seed in a file that only its owner can read."""
        write_private(path, self._seed.encode() + b"\n")

    def reveal(self) -> str:
        """The seed itself: only for the connection that proves itself with it."""
        return self._seed

    def login(self) -> dict[str, Any]:
        """What nats-py is given to log in."""
        return {"nkeys_seed_str": self._seed}

    def __repr__(self) -> str:
        return f"Credential({self.public})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Credential does not leave its process: make one where it is used")


class Login:
    """A credential that the administrator of a NATS made: the text of a ``.creds`` file, the seed of a
    user key, ``user:password``, or a token. It shows only what kind it is and cannot be pickled."""

    __slots__ = ("_options", "_text", "kind")

    def __init__(self, text: str) -> None:
        """
        Raises:
            ConfigError: it is empty, has several lines that are no ``.creds`` file, or a damaged key.
        """
        self._text = text.strip()
        self.kind: LoginKind
        self.kind, self._options = _read_login(self._text)

    @classmethod
    def read(cls, path: Path) -> Login:
        """The credential in a private file.

        Raises:
            ConfigError: the file is missing, open to others, or holds no credential.
        """
        try:
            return cls(read_private(path).decode())
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} holds no credential for NATS: it is not text") from error

    def reveal(self) -> bytes:
        """The text itself: only to be sealed, or for the process that logs in with it."""
        return self._text.encode()

    def login(self) -> dict[str, Any]:
        """What nats-py is given to log in."""
        return dict(self._options)

    def __repr__(self) -> str:
        return f"Login({self.kind})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Login leaves its process only sealed")


def _read_login(text: str) -> tuple[LoginKind, dict[str, Any]]:
    if "-----BEGIN NATS USER JWT-----" in text:
        found = _CREDS.search(text)
        if found is None:
            raise ConfigError("the .creds file has no user JWT or no user seed")
        jwt, seed = found[1], Credential(found[2]).reveal()
        return "creds", {"user_credentials": _CREDS_TEXT.format(jwt=jwt, seed=seed)}
    if not text or len(text.split()) != 1:
        raise ConfigError(
            "a credential for NATS is a .creds file, the seed of a user key (SU...), user:password or a token"
        )
    if text.startswith("SU") and len(text) == _SEED_LENGTH:
        return "nkey", Credential(text).login()
    user, colon, password = text.partition(":")
    if colon:
        return "password", {"user": user, "password": password}
    return "token", {"token": text}


def is_user_key(public: str) -> bool:
    """Whether ``public`` is the public half of a NATS user key (``U...``), by its checksum too."""
    if not _PUBLIC.fullmatch(public):
        return False
    return _is_whole(public) and base64.b32decode(public)[0] == nkeys.PREFIX_BYTE_USER


def _is_whole(key: str) -> bool:
    try:
        raw = base64.b32decode(key + "=" * (-len(key) % 8))
    except binascii.Error:
        return False
    return bool(nkeys.crc16_checksum(raw[:-2]) == raw[-2:])
