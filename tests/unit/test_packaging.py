"""The shape of the repository: what is packaged, how the root folders join the package, what is pinned."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import ray_mesh

ROOT = Path(__file__).resolve().parents[2]
JOINED = ("actors", "configs", "gateway", "security")
"""Root folders that are packages of ``ray_mesh``."""

REGISTRIES = (
    "pypi" + ".org",
    "python" + "hosted",
    "npm" + "js.",
    "crates" + ".io",
    "proxy." + "golang",
    "index" + "-url",
)
MACHINE_PATH = re.compile(r"(?<![\w.~}-])/(?:wor" r"k|roo" r"t|hom" r"e|User" r"s)/\w")
TEXT = {".py", ".md", ".toml", ".txt", ".yaml", ".yml", ".in", ".ipynb", ".html", ".css", ".js", ".sh", ""}


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages_on_disk() -> set[str]:
    found = set()
    for root in ("ray_mesh", *JOINED):
        for init in (ROOT / root).rglob("__init__.py"):
            folder = init.parent.relative_to(ROOT)
            if folder.parts[0] == "ray_mesh" and len(folder.parts) > 1 and folder.parts[1] in JOINED:
                continue
            found.add(".".join(folder.parts if root == "ray_mesh" else ("ray_mesh", *folder.parts)))
    return found


def repository_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [file for file in files if file.is_file() and not file.is_symlink() and file.suffix in TEXT]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_the_package_list_is_what_is_on_disk(pyproject: dict[str, Any]) -> None:
    assert sorted(pyproject["tool"]["setuptools"]["packages"]) == sorted(packages_on_disk())


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {file.parent for root in ("ray_mesh", *JOINED) for file in (ROOT / root).rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("name", JOINED)
def test_a_root_folder_is_linked_into_the_package_and_mapped(name: str, pyproject: dict[str, Any]) -> None:
    link = ROOT / "ray_mesh" / name
    assert link.is_symlink()
    assert str(link.readlink()) == f"../{name}"
    assert (ROOT / name).is_dir()
    assert not (ROOT / name).is_symlink()
    assert pyproject["tool"]["setuptools"]["package-dir"][f"ray_mesh.{name}"] == name


def test_nothing_else_is_mapped(pyproject: dict[str, Any]) -> None:
    mapped = pyproject["tool"]["setuptools"]["package-dir"]
    assert set(mapped) == {"ray_mesh"} | {f"ray_mesh.{name}" for name in JOINED}


@pytest.mark.parametrize("name", JOINED)
def test_a_root_folder_refuses_its_bare_name(name: str) -> None:
    done = run_python(f"import {name}")
    assert done.returncode == 1
    assert f"ImportError: import ray_mesh.{name}, not {name}" in done.stderr


def test_a_ray_job_ships_each_root_folder_once() -> None:
    ignored = (ROOT / ".rayignore").read_text().split()
    assert {f"/{name}" for name in JOINED} <= set(ignored)


def test_importing_the_package_imports_neither_ray_nor_pandas() -> None:
    heavy = "('ray', 'pandas', 'numpy', 'nats', 'aiohttp')"
    done = run_python(f"import ray_mesh, sys; print([name for name in {heavy} if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_the_version_is_one(pyproject: dict[str, Any]) -> None:
    version = pyproject["project"]["version"]
    assert ray_mesh.__version__ == version
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_everything_that_is_required_is_pinned(pyproject: dict[str, Any]) -> None:
    project = pyproject["project"]
    required = [*project["dependencies"], *pyproject["build-system"]["requires"]]
    required += [item for extra in project["optional-dependencies"].values() for item in extra]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    names = {re.split(r"[\[<>=~! ]", item)[0] for item in required}
    assert sorted(names - {_normal(name) for name in pinned} - set(pinned)) == []


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what belongs to the repository is not known")
    offences = []
    for file in repository_files():
        text = file.read_text(errors="replace")
        found = [host for host in REGISTRIES if host in text] + MACHINE_PATH.findall(text)
        offences += [f"{file.relative_to(ROOT)}: {what}" for what in found]
    assert offences == []


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
