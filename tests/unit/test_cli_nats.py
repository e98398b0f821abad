"""``ray-mesh nats-accounts``."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ray_mesh.bus.credentials import Credential, Login
from ray_mesh.bus.server import render_accounts
from ray_mesh.cli.main import run


def test_keys_are_made_once_and_only_their_public_halves_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "keys"
    assert run(["nats-accounts", "--keys", str(folder)]) == 0
    printed = capsys.readouterr()
    control, proxies = (Credential.read(folder / name) for name in ("control.nk", "proxies.nk"))
    assert printed.out == render_accounts(control.public, proxies.public)
    assert printed.err.strip() == f"--nats-creds {folder}/control.nk --nats-proxy-creds {folder}/proxies.nk"
    for key in (control, proxies):
        assert key.reveal() not in printed.out + printed.err
    assert Login.read(folder / "control.nk").kind == "nkey"
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert run(["nats-accounts", "--keys", str(folder)]) == 0
    assert capsys.readouterr().out == printed.out


def test_public_keys_of_others(capsys: pytest.CaptureFixture[str]) -> None:
    public = Credential.generate().public
    assert run(["nats-accounts", "--control", public]) == 0
    assert capsys.readouterr().out == render_accounts(public)
    assert run(["nats-accounts", "--control", "UNOTAKEY"]) == 65
    assert "not the public NKEY" in capsys.readouterr().err
    for wrong in ([], ["--keys", "x", "--control", public], ["--proxies", public]):
        assert run(["nats-accounts", *wrong]) == 2


def test_the_options_of_nats_go_with_its_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["up", "--nats-creds", "x"]) == 2
    assert "go with --nats URL" in capsys.readouterr().err
