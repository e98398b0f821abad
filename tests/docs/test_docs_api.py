"""docs/api.md names the routes and error words that there are."""

from __future__ import annotations

import re
from pathlib import Path

from ray_mesh import errors
from ray_mesh.errors import MeshError
from ray_mesh.gateway.api import ROUTES

TEXT = (Path(__file__).parents[2] / "docs" / "api.md").read_text()


def test_every_route_is_documented() -> None:
    documented = set(re.findall(r"^\| `([A-Z]+ /[^`]*)` \|", TEXT, re.MULTILINE))
    assert documented == {f"{method} {path}" for method, path in ROUTES}


def test_every_error_word_is_documented() -> None:
    classes = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, MeshError)]
    rows = set(re.findall(r"^\| `(\w+)` \| (\d+) \| `(\w+)`", TEXT, re.MULTILINE))
    assert rows == {(one.reason, str(one.status), one.__name__) for one in classes}
