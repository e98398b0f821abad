"""The exported schemas: what editors are told is what documents are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from test_resources_istio import VALID, written

from ray_mesh.cli.main import cli
from ray_mesh.resources.json_schema import DIALECT, schema_of, schema_of_all
from ray_mesh.resources.kinds import KINDS
from ray_mesh.resources.source import read_yaml

jsonschema = pytest.importorskip("jsonschema")

ROOT = Path(os.environ.get("RAY_MESH_CONFORMANCE", Path(__file__).parents[3] / "shared" / "conformance"))
EVERYTHING = schema_of_all()
VIRTUAL_SERVICE: dict[str, Any] = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": {"name": "a"},
    "spec": {"hosts": ["a"], "http": [{"timeout": "7s", "route": [{"destination": {"host": "a"}}]}]},
}


def told(document: dict[str, Any], schema: dict[str, Any] = EVERYTHING) -> list[str]:
    validator = jsonschema.Draft202012Validator(schema)
    found = [validator.iter_errors(document)]
    return sorted(f"{error.json_path}: {error.message}" for errors in found for error in errors)


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("type") == "object":
            yield schema
        for below in schema.values():
            yield from objects(below)
    elif isinstance(schema, list):
        for below in schema:
            yield from objects(below)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_has_a_closed_schema_with_descriptions(kind: str) -> None:
    schema = schema_of(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == DIALECT
    assert schema["properties"]["apiVersion"]["enum"] == list(KINDS[kind].api_versions)
    assert all(one["additionalProperties"] is False and one["description"] for one in objects(schema))
    assert '"null"' not in json.dumps(schema)
    assert not schema["$defs"].keys() & KINDS.keys()
    assert "ray_mesh" not in json.dumps(schema)


def test_fields_have_their_exact_names() -> None:
    for kind, known in KINDS.items():
        schema = schema_of(kind)
        reference = schema["properties"]["spec"]["$ref"].removeprefix("#/$defs/")
        names = {field.alias for field in known.model.model_fields.values()}
        assert set(schema["$defs"][reference].get("properties", {})) == names


def test_a_field_that_is_not_honoured_says_so() -> None:
    fields = schema_of("DestinationRule")["$defs"]["LoadBalancer"]["properties"]
    assert fields["simple"]["enum"][:2] == ["UNSPECIFIED", "LEAST_CONN"]
    assert fields["simple"]["description"].startswith("Honoured by this build: UNSPECIFIED, LEAST_CONN, ")
    assert "not honoured by this build" in fields["zoneAwareLbSetting"]["description"]
    assert "not honoured by this build" in schema_of("Telemetry")["description"]


def test_one_schema_tells_kinds_apart() -> None:
    jsonschema.Draft202012Validator.check_schema(EVERYTHING)
    assert EVERYTHING["$defs"].keys() >= KINDS.keys()
    assert told(VIRTUAL_SERVICE) == []
    assert told({**VIRTUAL_SERVICE, "kind": "VirtualServce"})
    assert told({**VIRTUAL_SERVICE, "apiVersion": "networking.istio.io/v2"})
    istio = {**VIRTUAL_SERVICE, "kind": "Gateway", "spec": {"servers": []}}
    assert any("servers" in one or "[]" in one for one in told(istio))
    other = {**istio, "apiVersion": "gateway.networking.k8s.io/v1"}
    assert any("'servers' was unexpected" in one for one in told(other))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"hots": []}, "'hots' was unexpected"),
        ({"hosts": "a"}, "is not of type 'array'"),
        ({"http": [{"timeout": "7 s"}]}, "does not match"),
        ({"http": [{"route": [{}]}]}, "'destination' is a required property"),
        ({"http": [{"redirect": {"derivePort": "X"}}]}, "'X' is not one of"),
    ],
)
def test_mistakes_are_told(change: dict[str, Any], expected: str) -> None:
    document = {**VIRTUAL_SERVICE, "spec": VIRTUAL_SERVICE["spec"] | change}
    assert any(expected in one for one in told(document))


@pytest.mark.parametrize("kind", sorted(VALID))
def test_what_is_valid_fits(kind: str) -> None:
    schema = schema_of(kind)
    for spec in VALID[kind]:
        assert told(written(kind, spec), schema) == [], spec


@pytest.mark.skipif(not ROOT.is_dir(), reason=f"no conformance files in {ROOT}")
@pytest.mark.parametrize("folder", ["bookinfo", "crd-validation"])
def test_valid_documents_of_istio_fit(folder: str) -> None:
    seen = 0
    for path in sorted((ROOT / folder).glob("*.yaml")):
        for document in [manifest.value for manifest in read_yaml(path.read_text(), path.name)]:
            if "_err" not in document and document["kind"] in KINDS:
                seen += 1
                assert told(document) == [], path.name
    assert seen > 20


def test_the_command_prints_and_writes(tmp_path: Path) -> None:
    runner = CliRunner()
    printed = runner.invoke(cli, ["schema"])
    assert json.loads(printed.stdout) == EVERYTHING
    assert json.loads(runner.invoke(cli, ["schema", "vs"]).stdout) == schema_of("VirtualService")
    assert runner.invoke(cli, ["schema", "-o", str(tmp_path)]).exit_code == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"all.json", *(f"{kind.lower()}.json" for kind in KINDS)}
    assert runner.invoke(cli, ["schema", "gateway", "-o", str(tmp_path / "a")]).exit_code != 0
    assert runner.invoke(cli, ["schema", "sidecar", "-o", str(tmp_path / "a")]).exit_code == 0
    assert json.loads((tmp_path / "a" / "sidecar.json").read_text())["title"] == "Sidecar"
