"""The kinds as JSON Schema (2020-12), for editors.

Schemas say what the types of the models say: names, types, enumerations, bounds, what is required. What
takes more than one field to judge is told by admission and by ``ray-mesh analyze`` only. A field that this
build does not honour is there, and says so.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from ray_mesh.resources.document import SET_BY_SERVER, Metadata, TokenMetadata
from ray_mesh.resources.kinds import KINDS, Kind

_PACKAGE = "ray_mesh__resources__"
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(kind: str) -> dict[str, Any]:
    """The schema of one kind's documents; ``kind`` is a name of :data:`ray_mesh.resources.kinds.KINDS`."""
    documents, definitions = _documents([kind])
    return {"$schema": DIALECT, **documents[kind], "$defs": definitions}


def schema_of_all() -> dict[str, Any]:
    """One schema for documents of every kind, told apart by kind and apiVersion."""
    documents, definitions = _documents(list(KINDS))
    versions = sorted({version for kind in KINDS.values() for version in kind.api_versions})
    return {
        "$schema": DIALECT,
        "title": "Ray Mesh",
        "description": "A document of the mesh's configuration.",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata"],
        "properties": {
            "apiVersion": {"enum": versions},
            "kind": {"enum": sorted({name.partition(".")[0] for name in KINDS})},
        },
        "allOf": [
            {"if": _is_of(name, kind), "then": {"$ref": f"#/$defs/{name}"}} for name, kind in KINDS.items()
        ],
        "$defs": definitions | documents,
    }


def _is_of(name: str, kind: Kind) -> dict[str, Any]:
    """Of that kind and group, in whatever version: a wrong version is to be told by the kind's own schema."""
    group = f"{kind.group}/" if kind.group else ""
    version = {"pattern": f"^{group.replace('.', '[.]')}[^/]*$"}
    return {
        "properties": {"kind": {"const": name.partition(".")[0]}, "apiVersion": version},
        "required": ["kind", "apiVersion"],
    }


def _documents(names: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The documents of some kinds by name, and what they refer to."""
    models = [KINDS[name].model for name in names] + [Metadata, TokenMetadata]
    inputs = [(model, "validation") for model in dict.fromkeys(models)]
    references, whole = models_json_schema(inputs, schema_generator=_Generator)  # type: ignore[arg-type]
    definitions: dict[str, Any] = _readable(whole["$defs"])
    for model in (Metadata, TokenMetadata):
        properties = definitions[model.__name__]["properties"]
        properties |= {name: {"description": "Set by a server."} for name in SET_BY_SERVER}
    documents = {}
    for name in names:
        kind = KINDS[name]
        metadata = references[TokenMetadata if kind.is_token else Metadata, "validation"]
        documents[name] = _document(name, kind, _readable(references[kind.model, "validation"]), metadata)
    return documents, definitions


def _readable(schema: dict[str, Any]) -> dict[str, Any]:
    """With the names that models share told apart by their module alone, and descriptions in Markdown."""
    text = json.dumps(schema).replace(_PACKAGE, "").replace("``", "`")
    plain: dict[str, Any] = json.loads(text)
    return plain


def _document(name: str, kind: Kind, spec: JsonSchemaValue, metadata: JsonSchemaValue) -> dict[str, Any]:
    about = " ".join((kind.model.__doc__ or "").replace("``", "`").split())
    if kind.later:
        about += f"\n\nValid, not honoured by this build: {kind.later}."
    required = ["apiVersion", "kind", "metadata"]
    if kind.needs_spec or any(field.is_required() for field in kind.model.model_fields.values()):
        required.append("spec")
    return {
        "title": name,
        "description": about,
        "type": "object",
        "properties": {
            "apiVersion": {"enum": list(kind.api_versions)},
            "kind": {"const": name.partition(".")[0]},
            "metadata": metadata,
            "spec": spec,
            "status": {"description": "Written by servers; not read."},
        },
        "required": required,
        "additionalProperties": False,
    }


class _Generator(GenerateJsonSchema):
    """Without null, which documents never have, and without titles that repeat names."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        inner = self.generate_inner(schema["schema"])
        default = schema.get("default")
        is_plain = isinstance(default, str | int | float) and default not in ("", 0)
        return {**inner, "default": default} if is_plain else inner

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False
