"""What the controller remembers."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_mesh.actors.inventory import Inventory, Member
from ray_mesh.bus.credentials import Credential
from ray_mesh.errors import ConfigError


@pytest.fixture
def known(tmp_path: Path) -> Inventory:
    inventory = Inventory(tmp_path / "actors.json")
    inventory.members["ca-1"] = Member("ca", 0, "n1", "ca-1", Credential.generate().public)
    return inventory


def test_an_observer_of_the_same_name_is_replaced(known: Inventory) -> None:
    first, second = Credential.generate().public, Credential.generate().public
    known.put_observer("me", first)
    known.put_observer("me", first)
    known.put_observer("me", second)
    assert first not in known.users()
    assert second in known.users()


def test_an_observer_does_not_take_the_rights_of_a_role_away(known: Inventory) -> None:
    nkey = known.members["ca-1"].nkey_public
    before = known.users()[nkey]
    with pytest.raises(ConfigError, match="a key of its own"):
        known.put_observer("me", nkey)
    assert known.users()[nkey] == before
    with pytest.raises(ConfigError):
        known.put_observer("a.b", Credential.generate().public)
