"""What :meth:`AsyncMesh.apply` takes: YAML text, paths, manifests, or a list of these."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ray_mesh.errors import ConfigError

Manifest: TypeAlias = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Named:
    """YAML text, and how messages name it."""

    name: str
    text: str


Source: TypeAlias = str | Path | Manifest | Named
SUFFIXES = (".yaml", ".yml", ".json")


def gather(sources: Source | Sequence[Source]) -> list[dict[str, str]]:
    """Named texts, in order: ``[{"name": "routes.yaml", "text": "..."}]``.

    A string with a line break is YAML, any other string is a path. A folder stands for its YAML and
    JSON files by name, without folders in it.

    Raises:
        ConfigError: a path cannot be read, or is a folder without such files.
    """
    many = [sources] if isinstance(sources, (str, Path, Mapping, Named)) else list(sources)
    named = [one for number, source in enumerate(many) for one in _read(source, number)]
    return [{"name": one.name, "text": one.text} for one in named]


def gather_named(paths: Sequence[str], *, recursive: bool = False) -> list[Named]:
    """The texts that paths of a command line mean: ``-`` is standard input, a folder its files, with
    ``recursive`` also those in folders in it.

    Raises:
        ConfigError: as :func:`gather`.
    """
    found: list[Named] = []
    for path in paths:
        if path == "-":
            found.append(Named("stdin", sys.stdin.read()))
        elif recursive and Path(path).is_dir():
            files = sorted(one for one in Path(path).rglob("*") if one.suffix in SUFFIXES and one.is_file())
            found += [_named(one) for one in files]
        else:
            found += _read(Path(path), 0)
    return found


def _read(source: Source, number: int) -> list[Named]:
    if isinstance(source, Named):
        return [source]
    if isinstance(source, Mapping):
        return [Named(f"manifest {number}", json.dumps(source))]
    if isinstance(source, str) and "\n" in source:
        return [Named(f"text {number}", source)]
    path = Path(source)
    if not path.is_dir():
        return [_named(path)]
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file())
    if not files:
        raise ConfigError(f"{path} has no {', '.join(SUFFIXES)} file")
    return [_named(file) for file in files]


def _named(path: Path) -> Named:
    try:
        return Named(str(path), path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror} (YAML given as text must have a line break)"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
