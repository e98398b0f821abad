"""The object that a manifest describes, of whatever kind, as far as anybody may talk about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray_mesh.compile.finding import Finding, Severity
from ray_mesh.resources.mesh import DEFAULT_NAMESPACE
from ray_mesh.resources.reading import Reading
from ray_mesh.resources.source import Path, Positions, show

_CLUSTER_WIDE = frozenset(
    {"Namespace", "Node", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
)


@dataclass(frozen=True, slots=True)
class Subject:
    """Kind and names as they are written. ``key`` is like that of a document, also for foreign kinds."""

    kind: str
    api_version: str
    namespace: str
    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    positions: Positions

    @property
    def key(self) -> str:
        """``<kind lower>.<namespace>.<name>``."""
        return f"{self.kind.lower()}.{self.namespace}.{self.name}"

    @property
    def title(self) -> str:
        """How messages name it."""
        name = f"{self.namespace}/{self.name}" if self.namespace and self.name else self.name
        return f"{self.kind} {name}".rstrip()

    def find(self, severity: Severity, code: str, path: Path, message: str, fix: str = "") -> Finding:
        """A finding about it, for analysis only."""
        where = self.positions.at(path)
        return Finding(
            code, severity, self.key, show(path), message, fix, where, self.title, None, "analysis"
        )


def subject_of(reading: Reading, namespace: str = "") -> Subject:
    """Whom a manifest is about; what it does not say, or says in another type than text, is empty.

    ``namespace`` is for those that do not say theirs.
    """
    if reading.document is not None:
        one = reading.document
        labels, annotations = one.labels, one.annotations
        return Subject(
            one.kind, one.api_version, one.namespace, one.name, labels, annotations, reading.positions
        )
    metadata = _map(reading.value.get("metadata"))
    kind = _text(reading.value.get("kind"))
    default = "" if kind in _CLUSTER_WIDE or not kind else namespace or DEFAULT_NAMESPACE
    return Subject(
        kind,
        _text(reading.value.get("apiVersion")),
        _text(metadata.get("namespace")) or default,
        _text(metadata.get("name")),
        texts(metadata.get("labels")),
        texts(metadata.get("annotations")),
        reading.positions,
    )


def texts(value: Any) -> dict[str, str]:
    """The entries of a map that are text."""
    return {name: one for name, one in _map(value).items() if isinstance(one, str)}


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
