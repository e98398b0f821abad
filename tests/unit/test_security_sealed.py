"""Secrets at rest: the envelope, and the files it lies in."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ray_mesh.errors import ConfigError
from ray_mesh.security.sealed import (
    PASSPHRASE_COST,
    RANDOM_SECRET_COST,
    read_private,
    seal,
    unseal,
    write_private,
)

SECRET = b"a private key"
ENVELOPE = seal(SECRET, b"correct horse", RANDOM_SECRET_COST)


def test_round_trip() -> None:
    assert unseal(ENVELOPE, b"correct horse") == SECRET
    assert SECRET not in ENVELOPE


def test_the_default_cost_is_for_passphrases() -> None:
    envelope = seal(SECRET, b"correct horse")
    assert json.loads(envelope.split(b"\n", 1)[0])["n"] == PASSPHRASE_COST
    assert unseal(envelope, b"correct horse") == SECRET


def test_equal_secrets_do_not_look_equal() -> None:
    assert seal(SECRET, b"x", RANDOM_SECRET_COST) != seal(SECRET, b"x", RANDOM_SECRET_COST)


@pytest.mark.parametrize("passphrase", [b"wrong", b"correct horse ", b"Correct horse"])
def test_wrong_passphrase(passphrase: bytes) -> None:
    with pytest.raises(ConfigError, match="passphrase is wrong"):
        unseal(ENVELOPE, passphrase)


def test_an_empty_passphrase_is_refused() -> None:
    with pytest.raises(ConfigError, match="empty"):
        seal(SECRET, b"", RANDOM_SECRET_COST)
    with pytest.raises(ConfigError, match="empty"):
        unseal(ENVELOPE, b"")


@pytest.mark.parametrize("n", [0, -1, 1, 512, 1025, 2**21])
def test_costs_that_are_refused(n: int) -> None:
    with pytest.raises(ConfigError, match="scrypt cost"):
        seal(SECRET, b"x", n)


def test_every_changed_byte_is_noticed() -> None:
    for position in range(len(ENVELOPE)):
        changed = bytearray(ENVELOPE)
        changed[position] ^= 1
        with pytest.raises(ConfigError):
            unseal(bytes(changed), b"correct horse")


def test_a_header_that_means_the_same_is_still_another() -> None:
    header, ciphertext = ENVELOPE.split(b"\n", 1)
    with pytest.raises(ConfigError, match="was changed"):
        unseal(json.dumps({**json.loads(header), "note": 1}).encode() + b"\n" + ciphertext, b"correct horse")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kdf", "none"),
        ("v", 2),
        ("n", "1024"),
        ("n", 2**30),
        ("n", True),
        ("r", 9),
        ("nonce", ""),
        ("salt", "AA=="),
    ],
)
def test_parameters_that_are_refused(field: str, value: object) -> None:
    header, ciphertext = ENVELOPE.split(b"\n", 1)
    with pytest.raises(ConfigError):
        unseal(
            json.dumps({**json.loads(header), field: value}).encode() + b"\n" + ciphertext, b"correct horse"
        )


@pytest.mark.parametrize(
    "envelope",
    [b"", b"\n", b"{}\n", b"[]\nx", b"1\nx", b"{" * 900 + b"\n", b"[" * 900 + b"\n", b"a" * 5000 + b"\n"],
)
def test_things_that_are_no_envelope(envelope: bytes) -> None:
    with pytest.raises(ConfigError):
        unseal(envelope, b"x")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "store"
    made.mkdir(mode=0o700)
    return made


def test_files_round_trip_and_leave_nothing_else(folder: Path) -> None:
    before = os.umask(0)
    try:
        write_private(folder / "key", b"one")
        write_private(folder / "key", b"two")
    finally:
        os.umask(before)
    assert read_private(folder / "key") == b"two"
    assert [path.name for path in folder.iterdir()] == ["key"]
    assert (folder / "key").stat().st_mode & 0o777 == 0o600


def test_a_failed_write_keeps_the_old_file(folder: Path) -> None:
    (folder / "key").mkdir()
    (folder / "key" / "inside").touch()
    with pytest.raises(OSError, match="directory"):
        write_private(folder / "key", b"new")
    assert [path.name for path in folder.iterdir()] == ["key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o610, 0o666])
def test_files_open_to_others_are_refused(folder: Path, mode: int) -> None:
    write_private(folder / "key", SECRET)
    (folder / "key").chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_private(folder / "key")


def test_read_only_files_are_fine(folder: Path) -> None:
    write_private(folder / "key", SECRET)
    (folder / "key").chmod(0o400)
    assert read_private(folder / "key") == SECRET


def test_links_are_refused(folder: Path) -> None:
    write_private(folder / "key", SECRET)
    (folder / "link").symlink_to(folder / "key")
    with pytest.raises(ConfigError, match="links are refused"):
        read_private(folder / "link")


def test_what_is_not_a_plain_file_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe", 0o600)
    with pytest.raises(ConfigError, match="not a plain file"):
        read_private(folder / "pipe")
    (folder / "sub").mkdir(mode=0o700)
    with pytest.raises(ConfigError):
        read_private(folder / "sub")


def test_missing_and_huge_files(folder: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_private(folder / "none")
    with pytest.raises(ConfigError, match="cannot look at"):
        read_private(folder / "none" / "none")
    write_private(folder / "huge", b"x" * (1 << 20) + b"x")
    with pytest.raises(ConfigError, match="larger"):
        read_private(folder / "huge")


def test_a_folder_that_others_may_write_is_refused(folder: Path) -> None:
    write_private(folder / "key", SECRET)
    folder.chmod(0o777)
    with pytest.raises(ConfigError, match="chmod go-w"):
        read_private(folder / "key")
    folder.chmod(0o1777)
    assert read_private(folder / "key") == SECRET


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_files_of_others_are_refused(folder: Path) -> None:
    write_private(folder / "key", SECRET)
    os.chown(folder / "key", 12345, 12345)
    with pytest.raises(ConfigError, match="uid 12345"):
        read_private(folder / "key")
