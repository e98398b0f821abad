"""Backup and restore of what a mesh cannot make again: its keys and its desired state, encrypted.

A backup is an envelope of :mod:`ray_mesh.security.sealed` under a passphrase. Left out is what is made anew
(the broker's store, certificates of servers) and what must not come back: join tokens that were used since.
"""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from ray_mesh import __version__
from ray_mesh.actors.secrets import StateDir
from ray_mesh.bus.messages import decode, encode
from ray_mesh.errors import ConfigError, PeerError
from ray_mesh.gateway.desired import live_documents
from ray_mesh.gateway.export import MAX_EXPORT, Export, read_export
from ray_mesh.security.sealed import PASSPHRASE_COST, read_private, seal, unseal, write_private

KEYS = (
    "unlock",
    "token",
    "root.crt",
    "root.sealed",
    "intermediate.sealed",
    "admission.sealed",
    "compiled.sealed",
)
MIN_PASSPHRASE = 12


@dataclass(frozen=True, slots=True)
class Contents:
    """What a backup holds: so many documents as they were at ``at`` (seconds since 1970; 0 without any),
    of the mesh whose trust root has this fingerprint (hex), made by this version of the package."""

    version: str
    documents: int
    at: float
    root_sha256: str


@dataclass(frozen=True, slots=True)
class _Backup:
    version: str
    files: dict[str, bytes]


def make_backup(folder: Path, passphrase: str, cost: int = PASSPHRASE_COST) -> tuple[bytes, Contents]:
    """The backup of a state directory, whether its mesh runs or not, and what is in it.

    ``cost`` is scrypt's n.

    Raises:
        ConfigError: not the state directory of a mesh, files that are open to others or do not belong
            together, or a passphrase of less than 12 characters.
    """
    secret = _secret(passphrase)
    state_dir = StateDir(folder)
    missing = [name for name in KEYS if not (folder / name).exists()]
    if missing:
        raise ConfigError(f"{folder} is not the state directory of a mesh: it has no {', '.join(missing)}")
    files = {name: read_private(folder / name) for name in KEYS}
    if state_dir.desired_export.exists():
        files[state_dir.desired_export.name] = read_private(state_dir.desired_export, MAX_EXPORT)
    contents = _check(state_dir, __version__)
    return seal(encode(_Backup(__version__, files)), secret, cost), contents


def restore_backup(raw: bytes, passphrase: str, folder: Path) -> Contents:
    """Make a state directory of a backup, whole or not at all; ``up`` with it starts the mesh again.

    Raises:
        ConfigError: ``folder`` holds something, the passphrase is wrong, or the backup was changed or
            does not fit together.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is not empty: restore into a new folder, nothing is overwritten")
    try:
        backup = decode(_Backup, unseal(raw, _secret(passphrase)))
    except PeerError as error:
        raise ConfigError(f"not a backup that this build ({__version__}) can read: {error}") from error
    allowed = {*KEYS, StateDir(folder).desired_export.name}
    if not set(KEYS) <= set(backup.files) <= allowed:
        raise ConfigError(f"not a backup of a mesh: it has {', '.join(sorted(backup.files)) or 'no files'}")
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    fresh.mkdir(mode=0o700)
    try:
        for name, content in backup.files.items():
            write_private(fresh / name, content)
        contents = _check(StateDir(fresh), backup.version)
        os.rename(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return contents


def _check(state_dir: StateDir, version: str) -> Contents:
    """Open every key and verify every document: a backup that cannot be used must not look like one."""
    authority = state_dir.authority()
    if authority.root.public_bytes(Encoding.PEM).decode() != state_dir.root_pem():
        raise ConfigError(f"{state_dir.path}: root.crt is not the root of intermediate.sealed")
    state_dir.signing_key("compiled")
    export = _read_export(state_dir)
    return Contents(
        version=version,
        documents=len(live_documents(export.entries, state_dir.signing_key("admission").verify_key)),
        at=export.at,
        root_sha256=authority.root.fingerprint(hashes.SHA256()).hex(),
    )


def _read_export(state_dir: StateDir) -> Export:
    if not state_dir.desired_export.exists():
        return Export((), 0.0)
    raw = read_private(state_dir.desired_export, MAX_EXPORT)
    try:
        return read_export(raw, state_dir.signing_key("admission").verify_key)
    except PeerError as error:
        raise ConfigError(f"{state_dir.desired_export} is not of this mesh: {error}") from error


def _secret(passphrase: str) -> bytes:
    if len(passphrase) < MIN_PASSPHRASE:
        raise ConfigError(
            f"the passphrase protects the root key of the mesh: at least {MIN_PASSPHRASE} characters"
        )
    return passphrase.encode()
