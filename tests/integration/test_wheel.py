"""What a person installs: a wheel built from the sdist, in an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
JOINED = ("actors", "configs", "gateway", "security")
NOT_SOURCE = (".venv", ".git", "*.egg-info", "build", "dist", "__pycache__", ".*_cache", ".hypothesis")

IMPORT_ALL = """
import importlib, pkgutil, sys
import ray_mesh
def refuse(name): raise ImportError(name)
for module in pkgutil.walk_packages(ray_mesh.__path__, "ray_mesh.", onerror=refuse):
    importlib.import_module(module.name)
print(ray_mesh.__file__)
"""
LIST_CONFIGS = """
from importlib.resources import files
from ray_mesh.demo.bookinfo import INSTANCES
folder = files("ray_mesh.configs").joinpath("bookinfo")
print(len(INSTANCES), *sorted(entry.name for entry in folder.iterdir()))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that was built from it. Nothing is fetched."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    shutil.copytree(ROOT, source, symlinks=True, ignore=shutil.ignore_patterns(*NOT_SOURCE))
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)])
    return folder


@pytest.fixture(scope="module")
def python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment: the wheel, and this environment's dependencies."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    wheel = str(only(built, "*.whl"))
    run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(python),
            "install",
            "--quiet",
            "--no-index",
            "--no-deps",
            wheel,
        ]
    )
    purelib = run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
    Path(purelib, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def run(command: list[str], cwd: Path | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def modules_on_disk() -> set[str]:
    """Every module and configuration by its place in the package."""
    own = {
        file.relative_to(ROOT)
        for file in (ROOT / "ray_mesh").rglob("*.py")
        if not set(file.relative_to(ROOT / "ray_mesh").parts[:1]) & set(JOINED)
    }
    joined = {
        "ray_mesh" / file.relative_to(ROOT)
        for name in JOINED
        for file in (ROOT / name).rglob("*")
        if file.suffix in (".py", ".yaml", ".sh")
    }
    return {str(path) for path in own | joined}


def test_the_sdist_carries_real_files_once(built: Path) -> None:
    with tarfile.open(only(built, "*.tar.gz")) as archive:
        members = archive.getmembers()
    names = [member.name.split("/", 1)[-1] for member in members]
    assert [member.name for member in members if member.issym() or member.islnk()] == []
    assert len(names) == len(set(names))
    for name in JOINED:
        assert f"{name}/__init__.py" in names
        assert not [path for path in names if path.startswith(f"ray_mesh/{name}/")]
    assert {"Makefile", "constraints.txt", "tests/unit/test_packaging.py", "README.md"} <= set(names)


def test_the_wheel_is_complete_and_claims_one_name(built: Path) -> None:
    with zipfile.ZipFile(only(built, "*.whl")) as archive:
        names = set(archive.namelist())
    assert {name.split("/")[0].removesuffix(".dist-info").split("-")[0] for name in names} == {"ray_mesh"}
    assert modules_on_disk() - names == set()
    assert "ray_mesh/py.typed" in names


def test_every_module_of_the_wheel_imports(python: Path, tmp_path: Path) -> None:
    imported_from = Path(run([str(python), "-W", "ignore", "-c", IMPORT_ALL], cwd=tmp_path).strip())
    assert imported_from.is_relative_to(python.parents[1])


def test_bookinfo_and_its_configuration_are_inside(python: Path, tmp_path: Path) -> None:
    count, *configs = run([str(python), "-c", LIST_CONFIGS], cwd=tmp_path).split()
    assert count == "9"
    assert {"services.yaml", "bindings.yaml", "destination-rules.yaml", "gateway.yaml"} <= set(configs)


def test_the_command_runs(python: Path, tmp_path: Path) -> None:
    assert "0.1.0" in run([str(python.parent / "ray-mesh"), "version"], cwd=tmp_path)
