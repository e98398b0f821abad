"""One object as a person wrote it, checked against its kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError

from ray_mesh.resources.exports import ANNOTATION, export_flaws, service_exports
from ray_mesh.resources.kinds import KINDS, Kind, api_group, find_kind, key_for
from ray_mesh.resources.problems import Problem, find_flaws, invalid_fields, nearest, not_supported
from ray_mesh.resources.refused import INSTEAD, what_instead
from ray_mesh.resources.schema import LATER, DnsLabel, DnsName, Flaw, LabelName, LabelText, Model, NonEmpty
from ray_mesh.resources.source import Manifest, Path, Positions

M = TypeVar("M", bound=Model)

ANALYZE_SUPPRESS = "galley.istio.io/analyze-suppress"
"""Istio's annotation for analysis: codes that are not to be told of the object. It changes nothing else."""

_TOP_LEVEL = ("apiVersion", "kind", "metadata", "spec", "status")
SET_BY_SERVER = (
    "creationTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
)
"""Metadata that a Kubernetes server adds: it records where an object was, and asks for nothing."""


class Metadata(Model):
    """What names an object."""

    name: DnsName
    namespace: DnsLabel | None = None
    labels: dict[LabelName, LabelText] = {}
    annotations: dict[NonEmpty, str] = {}
    generate_name: Annotated[str | None, LATER] = None
    finalizers: Annotated[tuple[str, ...] | None, LATER] = None
    owner_references: Annotated[tuple[dict[str, Any], ...] | None, LATER] = None
    deletion_timestamp: Annotated[str | None, LATER] = None
    deletion_grace_period_seconds: Annotated[int | None, LATER] = None


class TokenMetadata(Metadata):
    """What names an object whose name is one DNS label."""

    name: Annotated[DnsLabel, Field()]


@dataclass(frozen=True, slots=True)
class Document:
    """A checked document. ``json`` is its canonical form: equal documents have equal text.

    ``kind`` is its name among :data:`~ray_mesh.resources.kinds.KINDS`, which tells kinds of two groups apart.
    ``admitted_at`` (seconds since 1970) says which of several documents is the oldest.
    """

    kind: str
    api_version: str
    namespace: str
    name: str
    labels: dict[str, str]
    annotations: dict[str, str]
    spec: Model
    json: str
    positions: Positions = field(compare=False, repr=False)
    admitted_at: float = 0.0

    @property
    def key(self) -> str:
        """``<kind lower>.<namespace>.<name>``, the key of desired state."""
        return key_for(self.kind, self.namespace, self.name)

    @property
    def title(self) -> str:
        """How messages name it: ``VirtualService default/reviews``."""
        return f"{self.kind} {self.namespace}/{self.name}"

    def read(self, model: type[M]) -> M:
        """The spec as the model of its kind.

        Raises:
            TypeError: the document is of another kind.
        """
        if not isinstance(self.spec, model):
            raise TypeError(f"{self.title} is not a {model.__name__}")
        return self.spec


def check(
    manifest: Manifest, namespace: str = "", admitted_at: float = 0.0, *, flawed: bool = False
) -> tuple[Document | None, list[Problem]]:
    """The document, unless it is invalid, and everything that is wrong with it or not honoured.

    ``namespace`` is for documents that do not say theirs; empty means the default of the kind. ``flawed``
    gives also a document with flaws, as long as its values are of their types: it may be talked about, and
    never be put in force.
    """
    return _Check(manifest, namespace, admitted_at).run(flawed=flawed)


class _Check:
    def __init__(self, manifest: Manifest, namespace: str, admitted_at: float) -> None:
        self._value = manifest.value
        self._positions = manifest.positions
        self._namespace = namespace
        self._admitted_at = admitted_at
        self._title = "document"
        self._name = ""
        self._problems: list[Problem] = []

    def run(self, *, flawed: bool) -> tuple[Document | None, list[Problem]]:
        kind = self._kind()
        if kind is None:
            return None, self._problems
        self._check_top_level()
        metadata = self._metadata(kind)
        if metadata is None:
            return None, self._problems
        if kind.needs_spec and self._value.get("spec") is None:
            self._add(("spec",), "required")
            return None, self._problems
        if kind.later:
            self._add(("kind",), f"not supported yet: kind {self._value['kind']}: {kind.later}", later=True)
        spec = self._parse(kind.model, ("spec",), self._value.get("spec") or {})
        for flaw in spec.placed_flaws(str(metadata.namespace)) if spec else ():
            self._add(("spec", *flaw.path), flaw.message)
        if spec is None or (not flawed and any(not problem.later for problem in self._problems)):
            return None, self._problems
        return self._document(metadata, spec), self._problems

    def _document(self, metadata: Metadata, spec: Model) -> Document:
        named: dict[str, Any] = {"name": metadata.name, "namespace": metadata.namespace}
        for optional in ("labels", "annotations"):
            if getattr(metadata, optional):
                named[optional] = getattr(metadata, optional)
        plain = {
            "apiVersion": self._value["apiVersion"],
            "kind": self._value["kind"],
            "metadata": named,
            "spec": self._value.get("spec") or {},
        }
        return Document(
            kind=self._name,
            api_version=plain["apiVersion"],
            namespace=str(metadata.namespace),
            name=metadata.name,
            labels=metadata.labels,
            annotations=metadata.annotations,
            spec=spec,
            json=json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
            positions=self._positions,
            admitted_at=self._admitted_at,
        )

    def _kind(self) -> Kind | None:
        name, version = self._value.get("kind"), self._value.get("apiVersion")
        if not isinstance(name, str) or not isinstance(version, str):
            self._add((), "a document has apiVersion and kind, both text")
            return None
        self._title = f"{name} {self._label()}"
        found = find_kind(name, version) or _meant(name, version)
        if found and version in KINDS[found].api_versions:
            self._name = found
            return KINDS[found]
        if found:
            right = _nearest_version(version, KINDS[found].api_versions)
            self._add(("apiVersion",), f"{version} is not a version of {name}: write {right}")
        elif instead := what_instead(name):
            message = f"not supported: kind {name} of {version}: {instead}"
            refusal = self._problem(("kind",), message, later=True)
            self._problems.append(replace(refusal, never=name in INSTEAD))
        elif name not in KINDS and (near := _nearest_kind(name)):
            self._add(("kind",), f"unknown kind {name}; did you mean {near}?")
        else:
            self._add(("kind",), f"not supported yet: kind {name} of {version}", later=True)
        return None

    def _label(self) -> str:
        metadata = self._value.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        return str(name) if isinstance(name, str) else "without name"

    def _check_top_level(self) -> None:
        for name in self._value:
            if name not in _TOP_LEVEL:
                self._add((name,), f"unknown field{nearest(name, _TOP_LEVEL)}")
        if not isinstance(self._value.get("spec"), dict | None):
            self._add(("spec",), "spec is a map")

    def _metadata(self, kind: Kind) -> Metadata | None:
        value = self._value.get("metadata")
        if not isinstance(value, dict):
            self._add(("metadata",), "metadata is missing: it names the object")
            return None
        kept = {name: item for name, item in value.items() if name not in SET_BY_SERVER}
        if kind.is_namespace:
            kept.setdefault("namespace", value.get("name"))
        kept.setdefault("namespace", self._namespace or kind.namespace)
        metadata = self._parse(TokenMetadata if kind.is_token else Metadata, ("metadata",), kept)
        if metadata is not None:
            self._title = f"{self._name} {metadata.namespace}/{metadata.name}"
            self._check_istio_metadata(metadata)
            if kind.is_namespace and metadata.namespace != metadata.name:
                self._add(("metadata", "namespace"), "a namespace lies in no other: remove the field")
        return metadata

    def _check_istio_metadata(self, metadata: Metadata) -> None:
        """Istio's own annotations change what an object does, so none may be overlooked."""
        dry = metadata.annotations.get("istio.io/dry-run")
        if dry is not None and not _may_be_dry(self._value, dry):
            message = "is true or false, and for AuthorizationPolicies that ALLOW or DENY"
            self._add(("metadata", "annotations", "istio.io/dry-run"), message)
        for name in metadata.annotations:
            domain = name.partition("/")[0]
            if name == ANNOTATION and self._value["kind"] == "Service":
                self._check_exports(name, service_exports(metadata.annotations))
            elif name == ANALYZE_SUPPRESS:
                continue
            elif "/" in name and (domain == "istio.io" or domain.endswith(".istio.io")):
                self._add_later(("metadata", "annotations", name))
        for name in metadata.labels:
            if name.startswith("istio.io/"):
                self._add_later(("metadata", "labels", name))

    def _check_exports(self, name: str, exports: tuple[str, ...]) -> None:
        path = ("metadata", "annotations", name)
        for flaw in export_flaws(exports, (), may_be_nobody=True):
            self._add(path, flaw.message)
        if not exports:
            self._add(path, "empty: remove it, or name namespaces")

    def _parse(self, model: type[M], path: Path, value: Any) -> M | None:
        if not isinstance(value, dict):
            return None
        nulls = list(_nulls(value, path))
        for null in nulls:
            self._add(null, "null is not a value: remove the field, or say what is meant")
        if nulls:
            return None
        try:
            parsed = model.model_validate_json(json.dumps(value))
        except ValidationError as error:
            for step, message in invalid_fields(error, model, value):
                self._add((*path, *step), message)
            return None
        for flaw in find_flaws(parsed, path):
            text = not_supported(flaw) if flaw.later else flaw.message
            self._add(flaw.path, text, later=flaw.later)
        return parsed

    def _add_later(self, path: Path) -> None:
        self._problems.append(self._problem(path, not_supported(Flaw(path, "", later=True)), later=True))

    def _add(self, path: Path, message: str, *, later: bool = False) -> None:
        self._problems.append(self._problem(path, message, later=later))

    def _problem(self, path: Path, message: str, *, later: bool) -> Problem:
        return Problem(self._positions.at(path), self._title, path, message, later)


def _meant(name: str, version: str) -> str | None:
    """The kind of that name whose group is nearly the one that is written."""
    groups = {kind.group: one for one, kind in KINDS.items() if one.partition(".")[0] == name}
    close = get_close_matches(api_group(version), groups, 1, 0.8)
    return groups[close[0]] if close else None


def _nearest_kind(name: str) -> str:
    by_fold = {one.partition(".")[0].lower(): one.partition(".")[0] for one in (*KINDS, *INSTEAD)}
    close = get_close_matches(name.lower(), by_fold, 1, 0.75)
    return by_fold[close[0]] if close else ""


def _nearest_version(version: str, known: tuple[str, ...]) -> str:
    return (get_close_matches(version, known, 1, 0.9) or known)[0]


def _may_be_dry(value: dict[str, Any], text: str) -> bool:
    spec = value.get("spec") or {}
    action = spec.get("action", "ALLOW") if isinstance(spec, dict) else ""
    words = ("1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False")
    return value["kind"] == "AuthorizationPolicy" and action in ("ALLOW", "DENY") and text in words


def _nulls(value: Any, path: Path) -> Iterator[Path]:
    if value is None:
        yield path
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _nulls(item, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _nulls(item, (*path, index))
