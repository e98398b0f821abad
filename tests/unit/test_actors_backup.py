"""Backup and restore: everything that cannot be made again comes back, and nothing that was changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ray_mesh.actors.backup import KEYS, make_backup, restore_backup
from ray_mesh.actors.secrets import StateDir
from ray_mesh.bus.messages import Desired, encode
from ray_mesh.bus.store import Entry
from ray_mesh.errors import ConfigError
from ray_mesh.gateway.desired import PURPOSE
from ray_mesh.gateway.export import write_export
from ray_mesh.gateway.listening import ApiAddress
from ray_mesh.security.sealed import RANDOM_SECRET_COST, seal, write_private

PASSPHRASE = "correct horse battery"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A state directory with one document and one deletion."""
    state_dir = StateDir(tmp_path / "mesh")
    state_dir.create("mesh.local", ["127.0.0.1"], ApiAddress())
    write_private(state_dir.desired_export, export(state_dir))
    write_private(state_dir.path / "actors.json", b"{}")
    return state_dir.path


def export(state_dir: StateDir) -> bytes:
    signing = state_dir.signing_key("admission")
    entries = []
    for revision, (key, text) in enumerate({"service.default.a": "{}", "service.default.b": ""}.items(), 1):
        value = encode(Desired(key, text, 1.0, "test", "s"))
        entries.append(Entry(key, revision, value, signing.sign(PURPOSE, value), 1.0))
    return write_export(entries, signing, 1234.0)


def backup(folder: Path) -> bytes:
    raw, _ = make_backup(folder, PASSPHRASE, RANDOM_SECRET_COST)
    return raw


def test_keys_and_documents_come_back_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    raw, made = make_backup(folder, PASSPHRASE, RANDOM_SECRET_COST)
    target = tmp_path / "elsewhere" / "mesh"
    restored = restore_backup(raw, PASSPHRASE, target)
    assert restored == made
    assert (made.documents, made.at) == (1, 1234.0)
    assert {path.name for path in target.iterdir()} == {*KEYS, "desired.export"}
    for name in (*KEYS, "desired.export"):
        assert (target / name).read_bytes() == (folder / name).read_bytes()
        assert (target / name).stat().st_mode & 0o777 == 0o600
    assert target.stat().st_mode & 0o777 == 0o700
    keys = StateDir(target).create("mesh.local", ["127.0.0.1"], ApiAddress())
    assert keys == StateDir(folder).create("mesh.local", ["127.0.0.1"], ApiAddress())


def test_no_secret_can_be_read_in_a_backup(folder: Path) -> None:
    raw = backup(folder)
    for name in ("unlock", "token"):
        assert (folder / name).read_bytes() not in raw


def test_a_wrong_passphrase_or_a_changed_file_makes_no_folder(folder: Path, tmp_path: Path) -> None:
    raw, target = backup(folder), tmp_path / "new"
    with pytest.raises(ConfigError, match="passphrase is wrong"):
        restore_backup(raw, "another passphrase", target)
    with pytest.raises(ConfigError, match="was changed"):
        restore_backup(raw[:-1] + bytes([raw[-1] ^ 1]), PASSPHRASE, target)
    with pytest.raises(ConfigError, match="not a backup"):
        restore_backup(seal(b"something else", PASSPHRASE.encode(), RANDOM_SECRET_COST), PASSPHRASE, target)
    assert not target.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["mesh"]


def test_nothing_is_overwritten(folder: Path) -> None:
    with pytest.raises(ConfigError, match="not empty"):
        restore_backup(backup(folder), PASSPHRASE, folder)


def test_an_empty_folder_is_filled(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    restore_backup(backup(folder), PASSPHRASE, tmp_path / "empty")
    assert (tmp_path / "empty" / "root.crt").exists()


def test_documents_of_another_mesh_are_refused(folder: Path, tmp_path: Path) -> None:
    other = StateDir(tmp_path / "other")
    other.create("mesh.local", ["127.0.0.1"], ApiAddress())
    write_private(folder / "desired.export", export(other))
    with pytest.raises(ConfigError, match="is not of this mesh"):
        make_backup(folder, PASSPHRASE, RANDOM_SECRET_COST)


def test_what_is_no_state_directory_or_open_to_others_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not the state directory of a mesh"):
        make_backup(tmp_path, PASSPHRASE)
    os.chmod(folder / "root.sealed", 0o644)
    with pytest.raises(ConfigError, match="open to other users"):
        make_backup(folder, PASSPHRASE)


def test_a_short_passphrase_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="at least 12 characters"):
        make_backup(folder, "short")
