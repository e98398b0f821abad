"""Documents from text: the one way in, for people's YAML and for what is stored."""

from __future__ import annotations

from ray_mesh.errors import ConfigError, NotSupported
from ray_mesh.resources.document import Document, check
from ray_mesh.resources.problems import Problem
from ray_mesh.resources.source import Manifest, read_json, read_yaml


def read(text: str, source: str, namespace: str = "") -> tuple[list[Document], list[Problem]]:
    """Every valid document of a YAML text, and all problems, of which those that are ``later`` do not
    make a document invalid. For analysis; what is to be enforced comes through :func:`load`.

    Raises:
        ConfigError: the text is not YAML, or outside the bounds of :mod:`ray_mesh.resources.source`.
    """
    documents: list[Document] = []
    problems: list[Problem] = []
    for manifest in read_yaml(text, source):
        document, found = check(manifest, namespace)
        problems += found
        if document is not None:
            documents.append(document)
    return documents, problems


def load(text: str, source: str, namespace: str = "") -> list[Document]:
    """The documents of a YAML text, all of them valid and honoured by this build.

    ``source`` is how messages name the text, ``namespace`` is for documents that do not say theirs.

    Raises:
        ConfigError: something is invalid; one line per problem, each with file, line, column and path.
        NotSupported: all is valid, but this build does not enforce it all; one line per field or kind.
    """
    documents, problems = read(text, source, namespace)
    _refuse(problems)
    return documents


def from_json(text: str, admitted_at: float = 0.0, source: str = "stored document") -> Document:
    """One document from its canonical JSON. ``admitted_at``: seconds since 1970.

    Raises:
        ConfigError: invalid.
        NotSupported: valid, but this build does not enforce all of it.
    """
    return from_manifest(read_json(text, source), admitted_at)


def from_manifest(manifest: Manifest, admitted_at: float = 0.0) -> Document:
    """One document from plain values. ``admitted_at``: seconds since 1970.

    Raises:
        ConfigError: invalid.
        NotSupported: valid, but this build does not enforce all of it.
    """
    document, problems = check(manifest, admitted_at=admitted_at)
    _refuse(problems)
    if document is None:
        raise ConfigError(f"{manifest.positions.source}: not a document")
    return document


def _refuse(problems: list[Problem]) -> None:
    if not problems:
        return
    invalid = any(not problem.later for problem in problems)
    text = "\n".join(str(problem) for problem in problems)
    raise ConfigError(text) if invalid else NotSupported(text)
