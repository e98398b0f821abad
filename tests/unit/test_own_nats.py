"""What ``up --nats`` reads before anything is started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ray_mesh.actors.secrets import StateDir
from ray_mesh.bus.credentials import Credential, Login
from ray_mesh.bus.external import ExternalNats
from ray_mesh.errors import ConfigError
from ray_mesh.own_nats import CREDENTIAL_VARIABLE, PROXY_VARIABLE, NatsChoice, OwnNats

URL = "tls://nats.example:4222"


def test_credentials_leave_the_environment_before_a_child_could_inherit_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(CREDENTIAL_VARIABLE, "me:hunter2")
    monkeypatch.setenv(PROXY_VARIABLE, Credential.generate().reveal())
    read = OwnNats.read(NatsChoice(URL))
    assert read.control is not None
    assert read.proxies is not None
    assert (read.control.kind, read.proxies.kind) == ("password", "nkey")
    assert read.settings == ExternalNats(URL, has_proxy_login=True)
    assert {CREDENTIAL_VARIABLE, PROXY_VARIABLE}.isdisjoint(os.environ)
    assert "hunter2" not in repr(read)


def test_files_come_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CREDENTIAL_VARIABLE, "me:hunter2")
    path = tmp_path / "control.nk"
    Credential.generate().write(path)
    read = OwnNats.read(NatsChoice(URL, credentials=path))
    assert read.control is not None
    assert read.control.kind == "nkey"
    assert CREDENTIAL_VARIABLE not in os.environ
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        OwnNats.read(NatsChoice(URL, credentials=path))
    with pytest.raises(ConfigError, match="cannot read the CA of NATS"):
        OwnNats.read(NatsChoice(URL, ca_file=tmp_path / "none.pem"))


def test_nothing_is_kept_without_a_credential(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs a credential for it.*--nats-creds.*RAY_MESH_NATS_CREDS"):
        OwnNats.read(NatsChoice(URL)).prepare(StateDir(tmp_path / "state"), "default")
    assert not (tmp_path / "state").exists()


def test_what_is_kept_is_sealed_and_read_back(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path / "state")
    state_dir.admission_public()
    control, proxies = Credential.generate().reveal(), "proxies:word"
    state_dir.store_logins(Login(control), Login(proxies), "")
    assert state_dir.login("control").reveal().decode() == control
    assert state_dir.login("proxies").reveal().decode() == proxies
    for path in (tmp_path / "state").rglob("*"):
        if path.is_file():
            assert path.stat().st_mode & 0o077 == 0
            assert control.encode() not in path.read_bytes()
            assert b"word" not in path.read_bytes()
    # Proxies that have none of their own any more do not keep an old one.
    state_dir.store_logins(Login(control), None, "")
    assert state_dir.login("proxies").reveal().decode() == control
