"""From the origins that compiled resources carry back to documents, paths and lines."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import yaml

from ray_mesh.compile.world import World
from ray_mesh.explain.answer import NOWHERE, Ground
from ray_mesh.explain.assuming import is_assumed
from ray_mesh.resources import Document
from ray_mesh.resources.kinds import KINDS, key_for
from ray_mesh.resources.source import Path, Positions, read_yaml, show

Locate = Callable[[Document], Positions]
"""Where the values of a document stand."""
_STEP = re.compile(r'\.?([A-Za-z_][A-Za-z0-9_-]*)|\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\]')


def as_read(document: Document) -> Positions:
    """Where they stood in what the document was read from."""
    return document.positions


def as_printed(document: Document) -> Positions:
    """Where they stand in what ``ray-mesh get KIND NAME -o yaml`` prints of a stored document."""
    text = yaml.safe_dump(json.loads(document.json), sort_keys=False, allow_unicode=True)
    manifests = read_yaml(text, document.title)
    return manifests[0].positions if manifests else document.positions


class Places:
    """Where things stand in one world. ``locate`` is asked once for each document that is named."""

    def __init__(self, world: World, locate: Locate = as_read) -> None:
        self._world = world
        self._locate = locate
        self._known: dict[str, Positions] = {}

    def at(self, document: Document, *path: str | int) -> Ground:
        """A place in a document; none in one that was assumed."""
        if is_assumed(document):
            return NOWHERE
        return Ground(document.key, show(path), self._positions(document).at(path))

    def named(self, title: str, *path: str | int) -> Ground:
        """A place in the document of a title (``Kind namespace/name``)."""
        document = self.document(title)
        return self.at(document, *path) if document is not None else NOWHERE

    def origin(self, origin: str) -> Ground:
        """The place that a compiled resource names: a title, and perhaps a path."""
        title, path = split_origin(origin)
        return self.named(title, *path)

    def within(self, origin: str, *ending: str) -> Ground:
        """The one place in the matches of a rule whose path ends so; the rule when there is none or more."""
        title, path = split_origin(origin)
        document = self.document(title)
        if document is None:
            return NOWHERE
        wanted = tuple(step.lower() for step in ending)
        found = [
            one
            for one in self._positions(document).marks
            if one[: len(path)] == path
            and one[len(path) : len(path) + 1] in (("match",), ("matches",))
            and _ending(one, len(wanted)) == wanted
        ]
        return self.at(document, *(found[0] if len(found) == 1 else path))

    def below(self, origin: str, *steps: str | int) -> Ground:
        """A place below an origin, or the origin where there is none: a delegate's rule has inherited it."""
        title, path = split_origin(origin)
        document = self.document(title)
        if document is None:
            return NOWHERE
        whole = (*path, *steps)
        return self.at(document, *(whole if whole in self._positions(document).marks else path))

    def document(self, title: str) -> Document | None:
        """The document of a title."""
        kind, _, rest = title.partition(" ")
        namespace, _, name = rest.partition("/")
        return self._world.get(key_for(kind, namespace, name)) if kind in KINDS else None

    def _positions(self, document: Document) -> Positions:
        known = self._known.get(document.key)
        if known is None:
            known = self._known[document.key] = self._locate(document)
        return known


def split_origin(origin: str) -> tuple[str, Path]:
    """The title and the path of an origin, as ``VirtualService default/reviews spec.http[0]`` has them."""
    kind, _, rest = origin.partition(" ")
    name, _, path = rest.partition(" ")
    return f"{kind} {name}", tuple(read_path(path))


def read_path(text: str) -> Iterator[str | int]:
    """The steps of a path as :func:`ray_mesh.resources.source.show` writes it."""
    for found in _STEP.finditer(text):
        if found[1] is not None:
            yield found[1]
        elif found[2] is not None:
            yield int(found[2])
        else:
            yield str(json.loads(found[3]))


def _ending(path: Path, length: int) -> tuple[str, ...]:
    return tuple(str(step).lower() for step in path[len(path) - length :])
