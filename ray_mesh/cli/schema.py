"""The command that exports the kinds as JSON Schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from ray_mesh.cli.output import say


@click.command()
@click.argument("kind", required=False)
@click.option(
    "-o",
    "--output",
    "directory",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write files there: all.json and one for each kind, or the one of KIND.",
)
def schema(kind: str | None, directory: Path | None) -> None:
    """Print the JSON Schema of KIND, or of documents of every kind.

    Editors check and complete with it: `# yaml-language-server: $schema=all.json` as the first line of a
    file of documents.
    """
    from ray_mesh.resources.json_schema import schema_of, schema_of_all
    from ray_mesh.resources.kinds import KINDS

    names = [_chosen(kind)] if kind else sorted(KINDS)
    if directory is None:
        click.echo(_text(schema_of(names[0]) if kind else schema_of_all()))
        return
    directory.mkdir(parents=True, exist_ok=True)
    files = {f"{name.lower()}.json": schema_of(name) for name in names}
    if not kind:
        files["all.json"] = schema_of_all()
    for name, content in files.items():
        (directory / name).write_text(_text(content) + "\n")
    say(f"{len(files)} schemas in {directory}")


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False)


def _chosen(word: str) -> str:
    from ray_mesh.errors import ConfigError
    from ray_mesh.resources.kinds import KINDS, kinds_called

    called = kinds_called(word)
    if len(called) == 1:
        return called[0]
    if called:
        raise ConfigError(f"{word} may be {' or '.join(called)}: name its group too")
    raise ConfigError(f"unknown kind {word!r}: one of {', '.join(sorted(KINDS))}")
