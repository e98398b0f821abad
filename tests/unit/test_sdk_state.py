"""The state file: private, strict, and found by the documented rules."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from ray_mesh.errors import ConfigError, Unavailable
from ray_mesh.sdk.state import Broker, MeshState, default_path, read_state, remove_state, write_state

STATE = MeshState(
    name="default",
    version="0.1.0",
    api="http://127.0.0.1:4000",
    token="secret-token",
    pid=123,
    ingress={"8080": "http://127.0.0.1:18080"},
    broker=Broker("tls://127.0.0.1:4222", "/somewhere/root.crt"),
    state_dir="/somewhere",
    node="n1",
)


def test_write_and_read(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "mesh.json"
    write_state(path, STATE)
    assert read_state(path) == STATE
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert json.loads(path.read_text())["schema"] == 1


def test_repr_hides_the_token() -> None:
    assert "secret-token" not in repr(STATE)


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mesh.json"
    write_state(path, STATE)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match=f"chmod 600 {path}"):
        read_state(path)


def test_no_file_means_no_mesh(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="ray-mesh up"):
        read_state(tmp_path / "mesh.json")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "name": "x"}', json.dumps({"schema": 1, "extra": 1})],
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mesh.json"
    path.touch(0o600)
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"mesh\.json"):
        read_state(path)


def test_remove_only_what_is_ours(tmp_path: Path) -> None:
    path = tmp_path / "mesh.json"
    write_state(path, replace(STATE, pid=7))
    remove_state(path, 8)
    assert path.exists()
    remove_state(path, 7)
    remove_state(path, 7)
    assert not path.exists()


def test_where_it_is_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_MESH_STATE", "/run/mesh.json")
    assert default_path() == Path("/run/mesh.json")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_path("blue") == Path("/state/ray-mesh/blue.json")
    monkeypatch.delenv("RAY_MESH_STATE")
    assert default_path() == Path("/state/ray-mesh/default.json")
    monkeypatch.delenv("XDG_STATE_HOME")
    assert default_path() == Path(os.path.expanduser("~/.local/state/ray-mesh/default.json"))
    with pytest.raises(ConfigError, match="cannot name a mesh"):
        default_path("../../etc")
