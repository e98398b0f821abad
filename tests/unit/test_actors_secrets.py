"""The keys of a mesh over its life: made once, and the intermediate anew in time."""

from __future__ import annotations

import time
from pathlib import Path

from cryptography import x509

from ray_mesh.actors.secrets import StateDir
from ray_mesh.gateway.listening import ApiAddress

DAY = 86_400
ADDRESSES = ["127.0.0.1"]


def test_the_intermediate_and_server_certificates_are_renewed_at_half_life(tmp_path: Path) -> None:
    state_dir, api, now = StateDir(tmp_path / "mesh"), ApiAddress("0.0.0.0"), time.time()
    keys = state_dir.create("mesh.local", ADDRESSES, api)
    old, certificates = state_dir.authority(), served(state_dir)
    assert not state_dir.renew(ADDRESSES, api, now + 14 * DAY)
    assert served(state_dir) == certificates

    assert state_dir.renew(ADDRESSES, api, now + 16 * DAY)
    new = state_dir.authority()
    assert new.root == old.root
    assert new.expires_at > now + 45 * DAY
    assert all(one not in certificates for one in served(state_dir))
    assert not state_dir.renew(ADDRESSES, api, now + 17 * DAY)
    assert state_dir.create("mesh.local", ADDRESSES, api) == keys


def test_a_mesh_that_was_down_for_longer_than_its_intermediate_lives_starts_again(tmp_path: Path) -> None:
    state_dir, api = StateDir(tmp_path / "mesh"), ApiAddress()
    state_dir.create("mesh.local", ADDRESSES, api)
    assert state_dir.renew(ADDRESSES, api, time.time() + 400 * DAY)


def served(state_dir: StateDir) -> list[bytes]:
    """The server certificates of broker and API, without their chains."""
    files = (state_dir.broker / "server.crt", state_dir.api_certificate()[0])
    return [x509.load_pem_x509_certificates(file.read_bytes())[0].tbs_certificate_bytes for file in files]


def test_a_removed_folder_leaves_nothing_beside_it(tmp_path: Path) -> None:
    made = StateDir(tmp_path / "kept")
    made.create("mesh.local", ["127.0.0.1"], ApiAddress())
    made.state_file.write_text("{}")
    made.remove()
    assert list(tmp_path.iterdir()) == []
    made.remove()
