"""The command line starts fast because nothing heavy is imported before it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("ray", "pandas", "nats", "aiohttp", "pydantic", "cryptography", "yaml", "asyncio")


def modules_after(statement: str) -> set[str]:
    program = f"import sys\n{statement}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("heavy", HEAVY)
def test_the_command_line_imports_nothing_heavy(heavy: str) -> None:
    assert heavy not in modules_after("import ray_mesh.cli.main")


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert not {"ray", "pandas", "nats", "aiohttp", "pydantic"} & modules_after("import ray_mesh")


def test_the_client_needs_no_ray_and_no_pandas() -> None:
    loaded = modules_after("import ray_mesh; ray_mesh.Mesh; ray_mesh.AsyncMesh; ray_mesh.MeshError")
    assert not {"ray", "pandas", "nats", "pydantic"} & loaded


def test_unknown_names_of_the_package_are_errors() -> None:
    import ray_mesh

    assert {"AsyncMesh", "Mesh", "MeshError", "up"} <= set(dir(ray_mesh))
    with pytest.raises(AttributeError, match="nothing_like_this"):
        ray_mesh.nothing_like_this  # noqa: B018
