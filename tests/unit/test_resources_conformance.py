"""Istio's own files and schemas, where they are present."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic.fields import FieldInfo

from ray_mesh.errors import ConfigError, NotSupported
from ray_mesh.resources import KINDS, from_manifest, load
from ray_mesh.resources.problems import _bare, _below
from ray_mesh.resources.schema import Model
from ray_mesh.resources.source import Manifest, Positions

ROOT = Path(os.environ.get("RAY_MESH_CONFORMANCE", Path(__file__).parents[3] / "shared" / "conformance"))
BOOKINFO = sorted((ROOT / "bookinfo").glob("*.yaml"))
PREFIXES = sorted(
    {path.stem.rpartition("-")[0] for path in (ROOT / "crd-validation").glob("*.yaml")}
    - {"envoyfilter", "wasm"}
)

pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason=f"no conformance files in {ROOT}")


@pytest.mark.parametrize("path", BOOKINFO, ids=lambda path: path.name)
def test_bookinfo_loads(path: Path) -> None:
    if path.name == "egress-rule-google-apis.yaml":
        with pytest.raises(NotSupported, match="portLevelSettings"):
            load(path.read_text(), path.name)
        return
    for document in load(path.read_text(), path.name):
        assert document.kind in KINDS


def cases() -> Iterator[Any]:
    for prefix in PREFIXES:
        for path in sorted((ROOT / "crd-validation").glob(f"{prefix}-*.yaml")):
            # YAML 1.2, which Istio reads, takes this for text; PyYAML takes it for a map.
            text = path.read_text().replace(" 001:db8::]", " '001:db8::']")
            for document in filter(None, yaml.safe_load_all(text)):
                expected = document.pop("_err", "")
                yield pytest.param(document, expected, id=f"{path.stem}-{document['metadata']['name']}")


@pytest.mark.parametrize(("document", "expected"), list(cases()))
def test_what_istio_accepts_and_rejects(document: dict[str, Any], expected: str) -> None:
    """Valid may still be "not supported yet", which is another class of refusal."""
    manifest = Manifest(document, Positions("case"))
    if expected:
        with pytest.raises(ConfigError) as caught:
            from_manifest(manifest)
        assert not isinstance(caught.value, NotSupported), str(caught.value)
        return
    with suppress(NotSupported):
        from_manifest(manifest)


def schemas() -> Iterator[Any]:
    path = ROOT / "istio-api" / "crds.yaml"
    if not path.is_file():
        return
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for crd in yaml.load_all(path.read_text(), Loader=loader):
        kind = crd["spec"]["names"]["kind"]
        if kind in KINDS:
            versions = {one["name"]: one for one in crd["spec"]["versions"]}
            schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
            yield pytest.param(kind, schema, list(versions), id=kind)


@pytest.mark.parametrize(("kind", "schema", "versions"), list(schemas()))
def test_models_have_exactly_the_fields_of_the_schema(
    kind: str, schema: dict[str, Any], versions: list[str]
) -> None:
    assert sorted(version.split("/")[1] for version in KINDS[kind].api_versions) == sorted(versions)
    found = set(differences(KINDS[kind].model, schema, "spec"))
    assert found - EXCUSED == set()


EXCUSED = {"spec.jwtRules[].presence is not in the schema"}


def differences(model: type[Model], schema: dict[str, Any], path: str) -> Iterator[str]:
    fields: dict[str, FieldInfo] = {field.alias or "": field for field in model.model_fields.values()}
    properties = schema.get("properties", {})
    yield from (f"{path}.{name} is not in the schema" for name in fields.keys() - properties.keys())
    yield from (f"{path}.{name} is not in the model" for name in properties.keys() - fields.keys())
    for name in fields.keys() & properties.keys():
        yield from kind_differences(fields[name].annotation, properties[name], f"{path}.{name}")


def kind_differences(annotation: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
    kind = _bare(annotation)
    while "items" in schema or isinstance(schema.get("additionalProperties"), dict):
        schema = schema.get("items") or schema["additionalProperties"]
        kind = _below(kind, 0)
        path += "[]"
    if isinstance(kind, type) and issubclass(kind, Model):
        yield from differences(kind, schema, path)
    elif "properties" in schema:
        yield f"{path} is a map in the schema and {kind} in the model"
    elif "enum" in schema and set(schema["enum"]) != set(getattr(kind, "__args__", ())):
        yield f"{path} allows {schema['enum']}"
    elif "enum" not in schema:
        names = {"string": str, "integer": int, "number": float, "boolean": bool}
        if names[schema["type"]] is not kind:
            yield f"{path} is {schema['type']} in the schema and {kind} in the model"
