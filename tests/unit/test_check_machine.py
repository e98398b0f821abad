"""Checks of a machine, given what the machine says."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from ray_mesh.check import machine, mesh
from ray_mesh.sdk.answers import Proxy


@pytest.mark.parametrize(
    ("version", "outcome"),
    [("2.60.0", "ok"), ("2.61.1", "warning"), ("3.0.0", "warning"), ("2.59.3", "failed")],
)
def test_ray(version: str, outcome: str) -> None:
    assert machine.ray_version(version).outcome == outcome


@pytest.mark.parametrize(
    ("env", "outcome"),
    [
        ({}, "warning"),
        ({"RAY_AUTH_MODE": "disabled"}, "warning"),
        ({"RAY_AUTH_MODE": "token"}, "failed"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a"}, "ok"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "b"}, "ok"),
    ],
)
def test_token(env: dict[str, str], outcome: str, tmp_path: Path) -> None:
    assert machine.token(env, tmp_path / "none").outcome == outcome


def test_a_token_file_is_a_token(tmp_path: Path) -> None:
    (tmp_path / "auth_token").write_text("a")
    assert machine.token({"RAY_AUTH_MODE": "token"}, tmp_path / "auth_token").outcome == "ok"


@pytest.mark.parametrize(
    ("limit", "outcome"),
    [(65536, "ok"), (resource.RLIM_INFINITY, "ok"), (20000, "warning"), (1024, "failed")],
)
def test_files(limit: int, outcome: str) -> None:
    assert machine.files(limit).outcome == outcome


@pytest.mark.parametrize(
    ("words", "environment", "outcome"),
    [
        (("/x/gcs_server", "--gcs_server_port=0"), "A=b", "warning"),
        (("/x/gcs_server", "--redis_address=r:6379"), "A=b", "ok"),
        (("/x/gcs_server", "--redis_address="), "A=b", "warning"),
        (("/x/gcs_server",), "RAY_gcs_storage=rocksdb", "ok"),
        (("/x/raylet",), "A=b", "skipped"),
    ],
)
def test_gcs(words: tuple[str, ...], environment: str, outcome: str, tmp_path: Path) -> None:
    process = tmp_path / "42"
    process.mkdir()
    (process / "cmdline").write_text("\0".join(words) + "\0")
    (process / "environ").write_text(environment + "\0")
    assert machine.gcs(tmp_path).outcome == outcome


def test_the_kernel_has_an_answer() -> None:
    assert machine.clock().outcome in {"ok", "warning", "skipped"}


@pytest.mark.parametrize(
    ("theirs", "outcome"), [(1000.0, "ok"), (996.0, "ok"), (1010.0, "warning"), (960.0, "failed")]
)
def test_clocks(theirs: float, outcome: str) -> None:
    assert mesh.clocks(theirs, 1000.0).outcome == outcome


def test_an_expired_certificate_is_told_with_its_proxy() -> None:
    good = Proxy("p1", "head", "HEALTHY", "0", "SYNCED", "", {}, (), "192.0.2.1", 7443, 1, 2000.0)
    late = Proxy("p2", "head", "HEALTHY", "0", "SYNCED", "", {}, (), "192.0.2.1", 7443, 1, 900.0)
    assert mesh.renewals((good,), 1000.0).outcome == "ok"
    assert "p2" in mesh.renewals((good, late), 1000.0).detail
