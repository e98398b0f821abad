"""Values to people and programs: tables, JSON, YAML. Data goes to stdout, everything else to stderr."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any, Literal

import click

Format = Literal["table", "json", "yaml"]

output_option = click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["table", "json", "yaml"]),
    default="table",
    show_default=True,
    help="How to print the data.",
)


def show(value: object, form: Format, table: Callable[[], str], *, documents: bool = False) -> None:
    """Print a value: as data in JSON or YAML, or what ``table`` makes of it.

    ``documents`` prints a list as YAML documents, as ``apply`` reads them.
    """
    if form == "table":
        text = table()
    elif form == "json":
        text = json.dumps(to_plain(value), indent=2, sort_keys=False)
    else:
        import yaml

        plain = to_plain(value)
        dumped = plain if documents else [plain]
        text = yaml.safe_dump_all(dumped, sort_keys=False, allow_unicode=True).rstrip("\n")
    if text:
        click.echo(text)


def say(message: str) -> None:
    """Tell the person something that is no data."""
    click.echo(message, err=True)


def render(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Left-aligned columns, two spaces apart, without trailing spaces. No rows: nothing."""
    if not rows:
        return ""
    lines = [[*header], *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    padded = (
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )
    return "\n".join(line.rstrip() for line in padded)


def to_plain(value: object) -> Any:
    """Dataclasses, tuples and maps as JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [to_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(key): to_plain(one) for key, one in value.items()}
    return value


def _cell(value: object) -> str:
    """One cell on one line: what came from documents cannot move the cursor."""
    text = "-" if value in ("", None) else str(value)
    return "".join(one if one.isprintable() else " " for one in text)
