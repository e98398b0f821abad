"""What :meth:`AsyncMesh.apply` takes: YAML text, paths, manifests, or a list of these."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from ray_mesh.errors import ConfigError

Manifest: TypeAlias = Mapping[str, object]
Source: TypeAlias = str | Path | Manifest
SUFFIXES = (".yaml", ".yml", ".json")


def gather(sources: Source | Sequence[Source]) -> list[dict[str, str]]:
    """Named texts, in order: ``[{"name": "routes.yaml", "text": "..."}]``.

    A string with a line break is YAML, any other string is a path. A folder stands for its YAML and
    JSON files by name, without folders in it.

    Raises:
        ConfigError: a path cannot be read, or is a folder without such files.
    """
    many = [sources] if isinstance(sources, (str, Path, Mapping)) else list(sources)
    return [named for number, source in enumerate(many) for named in _read(source, number)]


def _read(source: Source, number: int) -> list[dict[str, str]]:
    if isinstance(source, Mapping):
        return [{"name": f"manifest {number}", "text": json.dumps(source)}]
    if isinstance(source, str) and "\n" in source:
        return [{"name": f"text {number}", "text": source}]
    path = Path(source)
    if not path.is_dir():
        return [_named(path)]
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file())
    if not files:
        raise ConfigError(f"{path} has no {', '.join(SUFFIXES)} file")
    return [_named(file) for file in files]


def _named(path: Path) -> dict[str, str]:
    try:
        return {"name": str(path), "text": path.read_text(encoding="utf-8")}
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror} (YAML given as text must have a line break)"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}") from error
