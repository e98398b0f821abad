"""Which version may replace which, and what a controller hands over."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_mesh import __version__, upgrade
from ray_mesh.actors.settings import MeshOptions, Replicas
from ray_mesh.errors import ConfigError
from ray_mesh.gateway.listening import ApiAddress

OPTIONS = MeshOptions("m", Path("/s"), False, replicas=Replicas.uniform(3, 4), api=ApiAddress("::1", ("a",)))


def test_options_survive_the_way_to_another_version() -> None:
    assert MeshOptions.from_plain(OPTIONS.to_plain()) == OPTIONS


def test_an_option_that_the_older_version_did_not_have_gets_its_default() -> None:
    older = OPTIONS.to_plain()
    del older["api_port"]
    assert MeshOptions.from_plain(older) == OPTIONS


def test_an_older_mesh_may_be_upgraded() -> None:
    upgrade.check_is_older("m", "0.0.9")


@pytest.mark.parametrize("running", [__version__, "99.0.0", "0.10.0"])
def test_a_newer_mesh_is_left_alone(running: str) -> None:
    with pytest.raises(ConfigError, match="use the newer package"):
        upgrade.check_is_older("m", running)
