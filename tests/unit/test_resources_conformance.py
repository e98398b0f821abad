"""Istio's own documents, where they are present: the ones it takes are valid here, the others are not.

Valid is not the same as honoured: a running mesh refuses by name what this build does not do.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ray_mesh.errors import NotSupported
from ray_mesh.resources import KINDS, load, read
from ray_mesh.resources.document import check
from ray_mesh.resources.problems import Problem
from ray_mesh.resources.source import Manifest, read_yaml

ROOT = Path(os.environ.get("RAY_MESH_CONFORMANCE", Path(__file__).parents[3] / "shared" / "conformance"))
BOOKINFO = sorted((ROOT / "bookinfo").glob("*.yaml"))
CASES = sorted((ROOT / "crd-validation").glob("*.yaml"))
WAIVED = {
    "EnvoyFilter": "there is no Envoy to patch, so no document of it is looked into",
    "WasmPlugin": "no code is loaded into proxies, so no document of it is looked into",
}

pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason=f"no conformance files in {ROOT}")


@pytest.mark.parametrize("path", BOOKINFO, ids=lambda path: path.name)
def test_bookinfo_is_valid(path: Path) -> None:
    documents, problems = read(path.read_text(), path.name)
    assert [problem for problem in problems if not problem.later] == []
    assert {document.kind for document in documents} <= KINDS.keys()
    assert len(documents) == len(list(filter(None, yaml.safe_load_all(path.read_text()))))


@pytest.mark.parametrize("path", BOOKINFO, ids=lambda path: path.name)
def test_bookinfo_loads(path: Path) -> None:
    if path.name == "egress-rule-google-apis.yaml":
        with pytest.raises(NotSupported, match="portLevelSettings"):
            load(path.read_text(), path.name)
        return
    assert load(path.read_text(), path.name)


def cases() -> Iterator[Any]:
    for path in CASES:
        for number, manifest in enumerate(read_yaml(path.read_text(), path.name)):
            expected = manifest.value.pop("_err", "")
            name = manifest.value["metadata"]["name"]
            yield pytest.param(manifest, expected, id=f"{path.stem}-{number}-{name}")


def invalid(problems: list[Problem]) -> list[str]:
    return [str(problem) for problem in problems if not problem.later]


@pytest.mark.parametrize(("manifest", "expected"), list(cases()))
def test_what_istio_accepts_and_rejects(manifest: Manifest, expected: str) -> None:
    document, problems = check(manifest)
    if manifest.value["kind"] in WAIVED:
        assert document is None
        assert [problem.never for problem in problems] == [True]
    elif expected:
        assert document is None
        assert invalid(problems) != []
    else:
        assert invalid(problems) == []
        assert document is not None
