"""Secrets at rest: a passphrase envelope, and files that only their owner can read.

An envelope is one line of JSON (the header: key derivation, its parameters, salt and nonce), a
newline, and the AES-256-GCM ciphertext with the header as associated data. The key comes from
scrypt. PKCS#8's own encryption is not used: its 2,048 PBKDF2 rounds do not protect a passphrase
that a person chose.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from ray_mesh.errors import ConfigError

PASSPHRASE_COST = 2**17
"""scrypt's n for a passphrase of a person: about 0.3 s and 128 MiB."""

RANDOM_SECRET_COST = 2**10
"""scrypt's n when the passphrase is 32 random bytes, which cannot be guessed at any speed."""

_MIN_COST, _MAX_COST = 2**10, 2**20
MAX_SECRET = 1 << 20
_MAX_HEADER = 1024


def seal(plaintext: bytes, passphrase: bytes, n: int = PASSPHRASE_COST) -> bytes:
    """Encrypt with a passphrase; ``n`` is scrypt's cost, a power of two.

    Raises:
        ConfigError: an empty passphrase, or a cost outside 2**10 to 2**20.
    """
    salt, nonce = secrets.token_bytes(16), secrets.token_bytes(12)
    fields = {"kdf": "scrypt", "n": n, "r": 8, "p": 1, "salt": _text(salt), "nonce": _text(nonce)}
    header = json.dumps({"v": 1, **fields}).encode("ascii")
    key = _derive(passphrase, salt, n)
    return header + b"\n" + AESGCM(key).encrypt(nonce, plaintext, header)


def unseal(envelope: bytes, passphrase: bytes) -> bytes:
    """Decrypt what :func:`seal` made.

    Raises:
        ConfigError: wrong passphrase, or an envelope that is damaged or was changed.
    """
    header, newline, ciphertext = envelope.partition(b"\n")
    if not newline or len(header) > _MAX_HEADER:
        raise ConfigError("not a sealed secret: no header")
    salt, nonce, n = _read_header(header)
    try:
        return AESGCM(_derive(passphrase, salt, n)).decrypt(nonce, ciphertext, header)
    except InvalidTag:
        raise ConfigError("cannot unseal: the passphrase is wrong, or the file was changed") from None


def write_private(path: Path, content: bytes) -> None:
    """Write a file of mode 0600 that is there whole or not at all, also after a power cut.

    Raises:
        OSError: the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    _sync_folder(path.parent)


def read_private(path: Path, limit: int = MAX_SECRET) -> bytes:
    """Read a secret file of at most ``limit`` bytes, if nobody else could have read or replaced it.

    Raises:
        ConfigError: the file is missing, a link, not a plain file, of another owner, open to others
            or too large, or its folder is writable by others; the message says what to fix.
    """
    _check_folder(path.parent)
    try:
        with open(path, "rb", opener=_open_strictly) as file:
            _check_file(path, os.fstat(file.fileno()))
            content = file.read(limit + 1)
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror} (links are refused; the file must be readable)"
        ) from error
    if len(content) > limit:
        raise ConfigError(f"{path} is larger than {limit} bytes: this is no file of the mesh")
    return content


def _open_strictly(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _check_file(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path} is not a plain file")
    if status.st_uid not in (os.geteuid(), 0):
        raise ConfigError(f"{path} belongs to uid {status.st_uid}: chown it to uid {os.geteuid()}")
    if status.st_mode & 0o077:
        raise ConfigError(
            f"{path} is open to other users ({stat.filemode(status.st_mode)}): chmod 600 {path}"
        )


def _check_folder(folder: Path) -> None:
    try:
        status = os.stat(folder)
    except OSError as error:
        raise ConfigError(f"cannot look at {folder}: {error.strerror}") from error
    if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
        raise ConfigError(
            f"{folder} is writable by other users, who could replace its files: chmod go-w {folder}"
        )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _derive(passphrase: bytes, salt: bytes, n: int) -> bytes:
    if not passphrase:
        raise ConfigError("the passphrase is empty")
    if not _MIN_COST <= n <= _MAX_COST or n & (n - 1):
        raise ConfigError(f"scrypt cost {n} is not a power of two from {_MIN_COST} to {_MAX_COST}")
    return Scrypt(salt=salt, length=32, n=n, r=8, p=1).derive(passphrase)


def _read_header(header: bytes) -> tuple[bytes, bytes, int]:
    try:
        fields: dict[str, Any] = json.loads(header)
        known = fields["v"] == 1 and fields["kdf"] == "scrypt" and (fields["r"], fields["p"]) == (8, 1)
        salt = base64.b64decode(fields["salt"], validate=True)
        nonce = base64.b64decode(fields["nonce"], validate=True)
        n = fields["n"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError("not a sealed secret: unreadable header") from error
    if not known or type(n) is not int or len(nonce) != 12 or len(salt) < 16:
        raise ConfigError("sealed in a way that this build does not know")
    return salt, nonce, n


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
