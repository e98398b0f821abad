"""Labels and the selectors that pick them, as terms to find documents by without comparing all with all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from ray_mesh.compile.callee import labels_of, selector_of
from ray_mesh.resources import Document, ServiceEntrySpec, ServiceSpec, WorkloadEntrySpec, WorkloadSpec
from ray_mesh.resources.schema import WorkloadSelector

Term: TypeAlias = tuple[str, ...]
"""Something documents can be found by, such as ``("workload in", "default")``."""


def selects(selector: Mapping[str, str], document: Document) -> bool:
    """Whether a document carries every label of a selector; an empty selector picks all."""
    return selector.items() <= labels_of(document).items()


def selector_in(document: Document) -> Mapping[str, str] | None:
    """The labels that a document picks workloads of its namespace by; None when it picks none."""
    spec = document.spec
    if isinstance(spec, ServiceSpec | ServiceEntrySpec):
        return selector_of(document)
    if "selector" not in type(spec).model_fields:
        return None
    said = getattr(spec, "selector")  # noqa: B009
    if said is None:
        return {}
    return said.match_labels if isinstance(said, WorkloadSelector) else None


def selection_terms(document: Document) -> Iterator[Term]:
    """A workload is found by each of its labels, what picks workloads by the first label that it wants."""
    kind, namespace = document.kind.lower(), document.namespace
    if isinstance(document.spec, WorkloadSpec | WorkloadEntrySpec):
        for label in labels_of(document).items():
            yield (f"{kind} labelled", namespace, *label)
    selector = selector_in(document)
    if selector is not None:
        yield (f"{kind} picks", namespace, *min(selector.items(), default=()))


def picking_terms(kind: str, namespace: str, document: Document) -> Iterator[Term]:
    """Where what picks a document is found."""
    yield (f"{kind} picks", namespace)
    for label in labels_of(document).items():
        yield (f"{kind} picks", namespace, *label)


def picked_terms(kind: str, namespace: str, selector: Mapping[str, str]) -> list[Term]:
    """Where what a selector picks is found: under every one of these."""
    return [(f"{kind} labelled", namespace, *label) for label in selector.items()] or [
        (f"{kind} in", namespace)
    ]
