"""The broker's configuration: nothing that is put into it is interpreted."""

from __future__ import annotations

import pickle
from pathlib import Path

import nkeys
import pytest

from ray_mesh.bus.credentials import Credential, is_user_key
from ray_mesh.bus.permissions import Permissions, permissions
from ray_mesh.bus.server import BrokerOptions, keep_port, render_config
from ray_mesh.errors import ConfigError

OPTIONS = BrokerOptions(store=Path("/s"), cert_file=Path("/c.pem"), key_file=Path("/k.pem"))
KEY = Credential.generate().public


def render(options: BrokerOptions = OPTIONS, users: dict[str, Permissions] | None = None) -> str:
    return render_config(options, 4222, "name", users or {KEY: permissions("gateway", "a")})


def test_the_same_input_gives_the_same_text() -> None:
    first, second = Credential.generate().public, Credential.generate().public
    some = permissions("gateway", "a")
    assert render(users={first: some, second: some}) == render(users={second: some, first: some})


def test_what_the_mesh_relies_on_is_configured() -> None:
    text = render()
    for line in (
        'host: "127.0.0.1"',
        "sync_interval: always",
        "no_fast_producer_stall: true",
        'min_version: "1.3"',
        "jetstream: enabled",
    ):
        assert line in text
    assert "no_auth_user" not in text
    assert "http" not in text
    assert "deny" not in text
    assert text.count("jetstream: enabled") == 1


def test_a_user_is_in_its_account_only() -> None:
    other = Credential.generate().public
    text = render(users={KEY: permissions("gateway", "a"), other: permissions("proxy", "p", node="n")})
    control, edge = text.split("  edge: {")
    assert KEY in control
    assert KEY not in edge
    assert other in edge
    assert other not in control


def test_paths_are_quoted() -> None:
    odd = BrokerOptions(
        store=Path('/a "b" \\ $c #d'), cert_file=Path("/c'.pem"), key_file=Path("/k}.pem"), host="::1"
    )
    text = render(odd)
    assert 'store_dir: "/a \\"b\\" \\\\ $c #d"' in text
    assert 'cert_file: "/c\'.pem"' in text
    with pytest.raises(ConfigError, match="control character"):
        render(BrokerOptions(store=Path("/a\nusers: []"), cert_file=Path("/c"), key_file=Path("/k")))


def test_only_keys_of_users_with_rights_are_rendered() -> None:
    some = permissions("gateway", "a")
    for bad in ("", "U" * 56, KEY[:-1], KEY.lower(), f"{KEY}\n", 'x", permissions: {}'):
        with pytest.raises(ConfigError, match="not the public NKEY"):
            render(users={bad: some})
    for empty in (Permissions((), ("x",)), Permissions(("x",), ())):
        with pytest.raises(ConfigError, match="empty allow-list"):
            render(users={KEY: empty})
    with pytest.raises(ConfigError, match="would let everybody in"):
        render_config(OPTIONS, 4222, "name", {})


def test_the_port_is_chosen_once(tmp_path: Path) -> None:
    options = BrokerOptions(store=tmp_path, cert_file=tmp_path, key_file=tmp_path)
    port = keep_port(options)
    assert 0 < port < 65536
    assert keep_port(options) == port
    fixed = BrokerOptions(store=tmp_path, cert_file=tmp_path, key_file=tmp_path, port=4222)
    assert keep_port(fixed) == 4222


def test_a_credential_shows_its_public_half_only(tmp_path: Path) -> None:
    credential = Credential.generate()
    seed = credential.reveal()
    assert is_user_key(credential.public)
    assert not is_user_key(seed)
    assert seed not in repr(credential)
    assert seed not in str(credential)
    with pytest.raises(TypeError, match="does not leave its process"):
        pickle.dumps(credential)
    credential.write(tmp_path / "seed")
    assert (tmp_path / "seed").stat().st_mode & 0o777 == 0o600
    again = Credential.read(tmp_path / "seed")
    assert again.public == credential.public
    (tmp_path / "seed").chmod(0o644)
    with pytest.raises(ConfigError):
        Credential.read(tmp_path / "seed")


@pytest.mark.parametrize("seed", ["", "SU", "nonsense", "SUA" + "A" * 55, "SÜA"])
def test_a_bad_seed_is_refused_without_showing_it(seed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Credential(seed)
    assert len(seed) < 3 or seed not in str(caught.value)


def test_the_seed_of_another_kind_is_refused() -> None:
    seed = nkeys.encode_seed(bytes(32), nkeys.PREFIX_BYTE_ACCOUNT).decode()
    with pytest.raises(ConfigError, match="must begin with SU"):
        Credential(seed)
