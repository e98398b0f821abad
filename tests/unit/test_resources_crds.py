"""Every field of Istio's published schemas against the models: names, types, bounds, enums, oneofs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from ray_mesh.resources.kinds import KINDS
from ray_mesh.resources.problems import _bare, _below, find_flaws
from ray_mesh.resources.schema import Model

ROOT = Path(os.environ.get("RAY_MESH_CONFORMANCE", Path(__file__).parents[3] / "shared" / "conformance"))
CRDS = ROOT / "istio-api" / "crds.yaml"
WAIVED = {
    "EnvoyFilter": "there is no Envoy",
    "WasmPlugin": "no code is loaded into proxies",
    "TrafficExtension": "no code is loaded into proxies",
}
Schema = dict[str, Any]

pytestmark = pytest.mark.skipif(not CRDS.is_file(), reason=f"no schemas in {ROOT}")


def crds() -> dict[str, Any]:
    if not CRDS.is_file():
        return {}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return {crd["spec"]["names"]["kind"]: crd["spec"] for crd in yaml.load_all(CRDS.read_text(), loader)}


ALL = crds()


def spec_of(kind: str) -> Schema:
    top: Schema = ALL[kind]["versions"][0]["schema"]["openAPIV3Schema"]
    return dict(top["properties"]["spec"])


def fields_of(
    model: type[Model], schema: Schema, path: str
) -> Iterator[tuple[type[Model], Schema, str, str]]:
    """Owner, the owner's schema, name and path of every field that both sides have, to the leaves."""
    known = {field.alias: field.annotation for field in model.model_fields.values()}
    for name, below in schema.get("properties", {}).items():
        yield model, schema, name, f"{path}.{name}"
        kind, place = _bare(known.get(name)), f"{path}.{name}"
        while isinstance(kind, type) is False and kind is not None:
            below = below.get("items") or below.get("additionalProperties") or {}
            kind, place = _below(kind, 0), f"{place}[]"
        if isinstance(kind, type) and issubclass(kind, Model):
            yield from fields_of(kind, below, place)


def everything() -> Iterator[tuple[type[Model], Schema, str, str]]:
    for kind in ALL:
        if kind not in WAIVED:
            yield from fields_of(KINDS[kind].model, spec_of(kind), kind)


def sample(schema: Schema, kind: Any = None) -> Any:
    """Something that a schema takes, with what a model of it asks for besides."""
    if "enum" in schema:
        return schema["enum"][0]
    match schema.get("type"):
        case "object":
            below = schema.get("additionalProperties")
            return {"80": sample(below, _below(kind, 0))} if isinstance(below, dict) else needed(kind, schema)
        case "array":
            return [sample(schema["items"], _below(kind, 0))]
        case "boolean":
            return True
        case "integer":
            return min(schema.get("maximum", 404), 404)
        case "number":
            return 7.0
    rules = " ".join(rule["rule"] for rule in schema.get("x-kubernetes-validations", []))
    if "duration(self)" in rules:
        return "7s"
    return "https://a.io" if "url(self)" in rules else "a"


def needed(model: Any, schema: Schema) -> dict[str, Any]:
    """A sample of every field that is required."""
    names, kinds = set(schema.get("required", [])), {}
    if isinstance(model, type) and issubclass(model, Model):
        fields = {str(field.alias): field for field in model.model_fields.values()}
        names |= {name for name, field in fields.items() if field.is_required()}
        kinds = {name: _bare(field.annotation) for name, field in fields.items()}
    return {name: sample(schema["properties"][name], kinds.get(name)) for name in sorted(names)}


def given(model: type[Model], schema: Schema, name: str) -> dict[str, Any]:
    """Everything that is required, and one more field."""
    kind = next(_bare(field.annotation) for field in model.model_fields.values() if field.alias == name)
    return needed(model, schema) | {name: sample(schema["properties"][name], kind)}


def bad_values(schema: Schema) -> Iterator[Any]:
    """What a schema does not take."""
    kind, rules = schema.get("type"), [one["rule"] for one in schema.get("x-kubernetes-validations", [])]
    yield {"object": [], "array": {}, "string": 7, "boolean": "true"}.get(str(kind), "7")
    if "enum" in schema:
        yield "NO_SUCH_WORD"
    if "minimum" in schema:
        yield schema["minimum"] - 1
    if "maximum" in schema:
        yield schema["maximum"] + 1
    if schema.get("format") == "int32":
        yield 2**31
    if schema.get("minLength") or schema.get("pattern"):
        yield ""
    if "maxLength" in schema:
        yield "a" * (schema["maxLength"] + 1)
    if "pattern" in schema:
        yield "a b/c"
    if schema.get("minItems"):
        yield []
    if schema.get("maxItems", 9999) < 9999:
        yield [sample(schema["items"])] * (schema["maxItems"] + 1)
    if schema.get("minProperties"):
        yield {}
    if schema.get("maxProperties", 9999) < 9999:
        yield {f"a{n}": sample(schema["additionalProperties"]) for n in range(schema["maxProperties"] + 1)}
    if any("duration(self)" in rule for rule in rules):
        yield from ("0s", "soon")
    if any("self <= 65535" in rule for rule in rules):
        yield from (0, 65536)
    if any("url(self)" in rule for rule in rules):
        yield "ftp://a.io"


def refused(model: type[Model], value: Any, *, by_type: bool = False) -> bool:
    """Whether a model calls a value invalid: by the types of its fields, or by what it checks beyond."""
    try:
        parsed = model.model_validate_json(json.dumps(value))
    except ValidationError:
        return True
    return not by_type and any(not flaw.later for flaw in find_flaws(parsed, ()))


def test_every_kind_is_there_in_every_version() -> None:
    for kind, crd in ALL.items():
        served = {f"{crd['group']}/{version['name']}" for version in crd["versions"] if version["served"]}
        assert kind in WAIVED or set(KINDS[kind].api_versions) == served, kind


EXTRA_FIELDS = {
    "RequestAuthentication.jwtRules[].presence": "of a newer Istio than the schema; its documents have it",
}


def test_models_have_the_fields_of_the_schema_and_no_others() -> None:
    found = set()
    owners = {path.rpartition(".")[0]: (model, schema) for model, schema, _, path in everything()}
    for path, (model, schema) in owners.items():
        names = {str(field.alias) for field in model.model_fields.values()}
        found |= {f"{path}.{name}" for name in names ^ set(schema.get("properties", {}))}
    assert found == EXTRA_FIELDS.keys()


NARROWER = {
    "Delay.percent": "a percentage",
    "Distribute.to": "Istio's validation: a weight of a locality is 1 to 100",
    "OutlierDetection.maxEjectionPercent": "Istio's validation: 0 to 100",
    "OutlierDetection.minHealthPercent": "Istio's validation: 0 to 100",
}
"""Numbers of which the schema takes more than the model (404, here), and why."""


def test_types_are_those_of_the_schema() -> None:
    """A value that the schema takes for a field is one for the model, with what else the owner needs."""
    found = {
        f"{model.__name__}.{name}"
        for model, schema, name, _ in everything()
        if refused(model, given(model, schema, name), by_type=True)
    }
    assert found == NARROWER.keys()


STRICTER = {
    "Distribute.from": "Istio's validation refuses an empty locality",
    "Failover.from": "Istio's validation refuses two equal regions, so not both are empty",
    "Failover.to": "Istio's validation refuses two equal regions, so not both are empty",
    "From.source": "Istio's validation: from.source must not be nil",
    "To.operation": "Istio's validation: to.operation must not be nil",
    "GatewaySpec.servers": "Istio's validation: at least one server",
    "JwtRule.issuer": "Istio's validation: issuer must be set",
    "TcpRoute.route": "Istio's validation: a TCP route is required",
    "TlsRoute.route": "Istio's validation: a TLS route is required",
}
"""Fields that the schema does not require, and why the model does."""


def test_required_fields_are_those_of_the_schema() -> None:
    found, missing = set(), set()
    for model, schema, name, path in everything():
        fields = {field.alias: field for field in model.model_fields.values()}
        in_model, in_schema = fields[name].is_required(), name in schema.get("required", [])
        if in_model and not in_schema:
            found.add(f"{model.__name__}.{name}")
        if in_schema and not in_model:
            missing.add(path)
    assert missing == set()
    assert found == STRICTER.keys()


def test_what_the_schema_does_not_take_is_invalid() -> None:
    found = []
    for model, schema, name, path in everything():
        for value in bad_values(schema["properties"][name]):
            if not refused(model, needed(model, schema) | {name: value}):
                found.append((path, repr(value)[:40]))
    assert found == []


def test_items_that_the_schema_does_not_take_are_invalid() -> None:
    found = []
    for model, schema, name, path in everything():
        below = schema["properties"][name]
        inner = below.get("items") or below.get("additionalProperties")
        if isinstance(inner, dict) and inner.get("type") != "object":
            for value in bad_values(inner):
                whole = [value] if "items" in below else {"80": value}
                if not refused(model, needed(model, schema) | {name: whole}):
                    found.append((path, repr(value)[:40]))
    assert found == []


def choices(schema: Schema) -> Iterator[list[str]]:
    """The names of which only one may be set, for each group of them."""
    for part in [schema, *schema.get("allOf", [])]:
        names = [one["required"][0] for one in part.get("oneOf", []) if "required" in one]
        if len(names) > 1:
            yield names


def test_of_a_oneof_only_one_is_taken() -> None:
    found, seen = [], 0
    owners = {path.rpartition(".")[0]: (model, schema) for model, schema, _, path in everything()}
    for path, (model, schema) in owners.items():
        for names in choices(schema):
            seen += 1
            for pair in combinations(names, 2):
                both = given(model, schema, pair[0]) | given(model, schema, pair[1])
                if not refused(model, both):
                    found.append((path, pair))
    assert found == []
    assert seen > 20
