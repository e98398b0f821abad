"""The sample files, ours and Istio's, are admitted and compiled in a mesh that runs Bookinfo."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

import pytest
from compile_world import bookinfo, document, workload, world

from ray_mesh.compile import World, admit, compile_key, has_errors, stored_keys
from ray_mesh.errors import NotSupported
from ray_mesh.resources import Document, load
from ray_mesh.snapshot import decode, encode

ROOT = Path(os.environ.get("RAY_MESH_CONFORMANCE", Path(__file__).parents[3] / "shared" / "conformance"))
ISTIO = sorted((ROOT / "bookinfo").glob("*.yaml"))
CONFIGS = Path(str(files("ray_mesh.configs")))
OWN = sorted(path for path in CONFIGS.rglob("*.yaml") if path.parent.name != "ray")

REFUSED = {
    "certmanager-gateway.yaml": ("IST0101", "cert-manager-resolver"),
    "virtual-service-ratings-db.yaml": ("IST0173", "version=v2"),
    "virtual-service-ratings-mysql.yaml": ("IST0173", "version=v2-mysql"),
    "virtual-service-ratings-mysql-vm.yaml": ("IST0173", "version=v2-mysql-vm"),
}


def after(before: World, documents: Iterable[Document]) -> World:
    return before.replace({one.key: one for one in documents})


def compile_all(of: World) -> None:
    for key in stored_keys(of):
        snapshot_key = key if key.startswith(("service.", "mesh.", "endpoints.")) else key.partition(".")[2]
        if not key.startswith("endpoints."):
            resource = compile_key(of, key)
            assert resource is not None, key
            assert decode(snapshot_key, encode(resource)) == resource


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_our_samples(path: Path) -> None:
    before = world(*bookinfo())
    rules = (path.parent / "destination-rules.yaml") if path.parent.name == "bookinfo" else None
    if rules:
        before = after(before, load(rules.read_text(), rules.name))
    if path.name.startswith("recommendations-"):
        base = path.parent / "recommendations.yaml"
        versions = [workload("recommendations", version) for version in ("v1", "v2")]
        before = after(before, [*load(base.read_text(), base.name), *versions])
    documents = load(path.read_text(), path.name)
    assert not has_errors(admit(before, documents)), admit(before, documents)
    compile_all(after(before, documents))


def test_our_samples_are_listed() -> None:
    readme = (Path(str(files("ray_mesh.configs"))) / "README.md").read_text()
    assert [path.name for path in OWN if path.parent.name == "bookinfo" and path.name not in readme] == []


@pytest.mark.skipif(not ISTIO, reason=f"no conformance files in {ROOT}")
@pytest.mark.parametrize("path", ISTIO, ids=lambda path: path.name)
def test_istios_samples(path: Path) -> None:
    rules = ROOT / "bookinfo" / "destination-rule-all.yaml"
    before = after(world(*bookinfo()), load(rules.read_text(), rules.name))
    if path.name == "egress-rule-google-apis.yaml":
        with pytest.raises(NotSupported, match="portLevelSettings"):
            load(path.read_text(), path.name)
        return
    documents = load(path.read_text(), path.name)
    errors = [one for one in admit(before, documents) if one.severity == "error"]
    if path.name in REFUSED:
        code, word = REFUSED[path.name]
        assert any(one.code == code and word in one.message for one in errors), errors
    else:
        assert errors == []
    compile_all(after(before, documents))


@pytest.mark.skipif(not ISTIO, reason=f"no conformance files in {ROOT}")
def test_istios_sample_of_a_database_on_a_machine() -> None:
    rules = ROOT / "bookinfo" / "destination-rule-all.yaml"
    labels = "{app: ratings, version: v2-mysql-vm}"
    entry = document("WorkloadEntry", "mysql-vm", f"{{address: 10.0.0.7, labels: {labels}}}")
    before = after(world(*bookinfo()), [*load(rules.read_text(), rules.name), entry])
    documents = load((ROOT / "bookinfo" / "virtual-service-ratings-mysql-vm.yaml").read_text(), "vm.yaml")
    assert admit(before, documents) == []
    compile_all(after(before, documents))
