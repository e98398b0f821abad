"""Credentials that the administrator of a NATS made."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from ray_mesh.bus.credentials import Credential, Login
from ray_mesh.errors import ConfigError

SEED = Credential.generate().reveal()
JWT = "eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiJVQSJ9.c2ln"
CREDS = f"""-----BEGIN NATS USER JWT-----
{JWT}
------END NATS USER JWT------

************************* IMPORTANT *************************
NKEY Seed printed below can be used to sign and prove identity.

-----BEGIN USER NKEY SEED-----
{SEED}
------END USER NKEY SEED------

*************************************************************
"""


def test_each_kind_is_told_apart() -> None:
    assert Login(SEED + "\n").kind == "nkey"
    assert Login(SEED).login() == {"nkeys_seed_str": SEED}
    assert Login("me:pass:word\n").login() == {"user": "me", "password": "pass:word"}
    assert Login("s3cr3t-token").login() == {"token": "s3cr3t-token"}


@pytest.mark.parametrize("text", [CREDS, CREDS.replace("\n", "\r\n")])
def test_a_creds_file(text: str) -> None:
    login = Login(text)
    assert login.kind == "creds"
    lines = login.login()["user_credentials"].splitlines()
    assert (lines[1], lines[4]) == (JWT, SEED)
    assert Login(login.reveal().decode()).login() == login.login()


@pytest.mark.parametrize(
    "text",
    ["", "  \n", "two words", CREDS.replace(SEED, "SUAAAA"), CREDS.partition("***")[0], "SU" + "A" * 56],
)
def test_what_is_no_credential_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Login(text)
    assert SEED not in str(caught.value)


def test_it_is_neither_shown_nor_pickled() -> None:
    for text in (SEED, CREDS, "me:word"):
        assert repr(Login(text)) == f"Login({Login(text).kind})"
        with pytest.raises(TypeError):
            pickle.dumps(Login(text))


def test_only_private_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "nats.creds"
    path.write_text(CREDS)
    path.chmod(0o600)
    assert Login.read(path).kind == "creds"
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        Login.read(path)
    path.chmod(0o600)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not text"):
        Login.read(path)
