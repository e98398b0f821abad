"""``exportTo``: namespaces, ``.`` for the document's own, ``*`` for all, ``~`` for none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ray_mesh.resources.schema import Flaw, is_label
from ray_mesh.resources.source import Path

EVERYONE = "*"
OWN = "."
NOBODY = "~"
ANNOTATION = "networking.istio.io/exportTo"
"""How a Service says it, with commas."""


def service_exports(annotations: Mapping[str, str]) -> tuple[str, ...]:
    """What a Service's annotation names; empty when there is none."""
    return tuple(part.strip() for part in annotations.get(ANNOTATION, "").split(",") if part.strip())


def export_flaws(exports: tuple[str, ...], path: Path, *, may_be_nobody: bool = False) -> Iterator[Flaw]:
    """What is wrong with the items of a list. Of an object that only proxies read, ``~`` makes no sense."""
    for index, one in enumerate(exports):
        at = (*path, index)
        if one not in (EVERYONE, OWN, NOBODY) and not is_label(one):
            yield Flaw(at, f"{one!r} is no namespace: write a name, or . for this one, * for all, ~ for none")
        elif one == NOBODY and not may_be_nobody:
            yield Flaw(at, "~ is for services only")
        elif one in exports[:index]:
            yield Flaw(at, f"{one!r} is listed twice")
    for alone in (EVERYONE, NOBODY):
        if alone in exports and len(exports) > 1:
            yield Flaw((*path, exports.index(alone)), f"{alone} stands alone: remove the others")


def placed_export_flaws(exports: tuple[str, ...], namespace: str) -> Iterator[Flaw]:
    """What is wrong with ``exportTo`` in an object of ``namespace``."""
    if OWN in exports and namespace in exports:
        yield Flaw(("exportTo", exports.index(namespace)), f"is listed already: . is {namespace}")
