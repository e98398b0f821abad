"""Every document of a text on its own, whatever is wrong with the others: the way in for analysis.

Nothing that comes from here may be put in force; that is what :mod:`ray_mesh.resources.load` is for.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ray_mesh.errors import ConfigError
from ray_mesh.resources.document import Document, check
from ray_mesh.resources.problems import Problem
from ray_mesh.resources.source import MAX_NODES, Counted, Manifest, Path, Positions, read_yaml

_SEPARATOR = re.compile(r"^---(?=\s|$)", re.MULTILINE)
_REPAIRS = 8
"""How often what cannot be read is left out before a document is given up."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One document as it was written, and what could be made of it.

    ``document`` is there for valid documents, and for invalid ones without what is wrong in them: then
    ``is_repaired`` holds, and what it lacks is told by ``problems``.
    """

    value: dict[str, Any]
    positions: Positions
    document: Document | None
    problems: tuple[Problem, ...]
    is_repaired: bool = False


def read_each(text: str, source: str, namespace: str = "") -> Iterator[Reading]:
    """The documents of a YAML text, one by one; lists (``kind: List``) are taken apart.

    A document that is no YAML, or outside the bounds of :mod:`ray_mesh.resources.source`, is one problem.
    Nothing is read after more values than one text may have.
    """
    counted = Counted()
    for first_line, part in _parts(text):
        try:
            manifests = read_yaml(part, source, first_line, counted)
        except ConfigError as error:
            yield _unreadable(str(error), source, first_line)
            if counted.values > MAX_NODES:
                return
            continue
        for manifest in manifests:
            for one in _members(manifest):
                yield _read(one, namespace)


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """The documents as text, with their first line. Directives belong to what follows them."""
    starts = [0] if text.startswith("%") else [0, *(found.start() for found in _SEPARATOR.finditer(text))]
    line, last = 1, 0
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        line += text.count("\n", last, start)
        last = start
        if text[start:end].strip():
            yield line, text[start:end]


def _unreadable(message: str, source: str, first_line: int) -> Reading:
    where, colon, rest = message.partition(": ")
    known = colon and where.startswith(f"{source}:")
    problem = Problem(
        where if known else f"{source}:{first_line}:1", "", (), rest if known else message, False
    )
    return Reading({}, Positions(source), None, (problem,))


def _members(manifest: Manifest) -> Iterator[Manifest]:
    kind, items = manifest.value.get("kind"), manifest.value.get("items")
    if not isinstance(kind, str) or not kind.endswith("List") or not isinstance(items, list):
        yield manifest
        return
    marks = manifest.positions.marks
    by_item: dict[int, dict[Path, tuple[int, int]]] = {}
    for path, mark in marks.items():
        if len(path) > 1 and path[0] == "items" and isinstance(path[1], int):
            by_item.setdefault(path[1], {})[path[2:]] = mark
    for index, item in enumerate(items):
        if isinstance(item, dict):
            yield Manifest(item, Positions(manifest.positions.source, by_item.get(index, {})))


def _read(manifest: Manifest, namespace: str) -> Reading:
    document, problems = check(manifest, namespace, flawed=True)
    invalid = any(not problem.later for problem in problems)
    if document is None and invalid:
        document = _repaired(manifest, namespace)
    is_repaired = invalid and document is not None
    return Reading(manifest.value, manifest.positions, document, tuple(problems), is_repaired)


def _repaired(manifest: Manifest, namespace: str) -> Document | None:
    """The document without what cannot be read in it; a Gateway without servers has none."""
    value = copy.deepcopy(manifest.value)
    spec, version = value.get("spec"), str(value.get("apiVersion"))
    lacks_servers = value.get("kind") == "Gateway" and version.startswith("networking.istio.io/")
    if not isinstance(spec, dict) or spec.get("servers") or not lacks_servers:
        return _without_what_is_wrong(Manifest(value, manifest.positions), namespace)
    spec["servers"] = [{"port": {"number": 1, "name": "none", "protocol": "TCP"}, "hosts": ["none"]}]
    document = _without_what_is_wrong(Manifest(value, manifest.positions), namespace)
    if document is None:
        return None
    return replace(document, spec=document.spec.model_copy(update={"servers": ()}))


def _without_what_is_wrong(manifest: Manifest, namespace: str) -> Document | None:
    for _ in range(_REPAIRS):
        document, problems = check(manifest, namespace, flawed=True)
        if document is not None:
            return document
        paths = {problem.path for problem in problems if not problem.later}
        if not paths or not all(_leave_out(manifest.value, path) for path in sorted(paths, key=_last_first)):
            return None
    return None


def _last_first(path: Path) -> list[tuple[bool, int, str]]:
    """Items of a list go from its end, so that those before keep their place."""
    return [(isinstance(one, int), -one if isinstance(one, int) else 0, str(one)) for one in path]


def _leave_out(value: Any, path: Path) -> bool:
    """Remove what is at a path, or what contains it; False if that would be the whole spec or metadata."""
    for length in range(len(path), 1, -1):
        owner = value
        for step in path[: length - 1]:
            known = isinstance(owner, dict) and step in owner
            known = known or (isinstance(owner, list) and isinstance(step, int) and step < len(owner))
            if not known:
                break
            owner = owner[step]
        else:
            last = path[length - 1]
            if isinstance(owner, dict) and last in owner:
                del owner[last]
                return True
            if isinstance(owner, list) and isinstance(last, int) and last < len(owner):
                del owner[last]
                return True
    return False
