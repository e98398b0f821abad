"""Commands on objects: apply, get, delete."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ray_mesh.cli.connection import connect
from ray_mesh.cli.output import Format, output_option, render, say, show

if TYPE_CHECKING:
    from ray_mesh.sdk.answers import Applied, Change, Object

namespace_option = click.option(
    "-n", "--namespace", default="default", show_default=True, help="Namespace of the object."
)
message_option = click.option(
    "-m", "--message", "comment", default="", metavar="TEXT", help="What the change is for, kept in history."
)


@click.command()
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    required=True,
    metavar="FILE|FOLDER|-",
    help="What to apply, as one set; may be repeated. - reads stdin.",
)
@message_option
@click.option("--dry-run", is_flag=True, help="Check and compare; store nothing.")
@click.option("--wait", "waits", is_flag=True, help="Return when every live proxy has applied it.")
@output_option
@click.pass_context
def apply(
    context: click.Context, files: tuple[str, ...], comment: str, dry_run: bool, waits: bool, form: Format
) -> None:
    """Apply documents: all of them are stored, or none."""
    with connect(context) as mesh:
        applied = mesh.apply(read_sources(files), comment=comment, dry_run=dry_run)
        tell_applied(applied, form)
        if waits and not dry_run:
            mesh.wait(applied.revision, timeout_s=context.obj["timeout_s"])
            say(f"revision {applied.revision} is applied by every live proxy")


@click.command()
@click.argument("kind", required=False, default="")
@click.argument("name", required=False, default="")
@click.option(
    "-n", "--namespace", default="", help="One namespace. [default: default for one object, else all]"
)
@output_option
@click.pass_context
def get(context: click.Context, kind: str, name: str, namespace: str, form: Format) -> None:
    """List objects, of one KIND if given, or show the one called NAME."""
    with connect(context) as mesh:
        if name:
            found = mesh.get(kind, name, namespace=namespace or "default")
            show(found.manifest, form, lambda: _objects((found,)))
            return
        objects = mesh.list(kind, namespace=namespace)
        show([one.manifest for one in objects], form, lambda: _objects(objects), documents=True)
        if not objects:
            say("nothing found")


@click.command()
@click.argument("kind")
@click.argument("name")
@namespace_option
@output_option
@click.pass_context
def delete(context: click.Context, kind: str, name: str, namespace: str, form: Format) -> None:
    """Delete the object NAME of a KIND."""
    with connect(context) as mesh:
        tell_applied(mesh.delete(kind, name, namespace=namespace), form)


def read_sources(files: tuple[str, ...]) -> list[str]:
    """What ``-f`` names, with the text of stdin for ``-``."""
    return [sys.stdin.read() + "\n" if file == "-" else file for file in files]


def tell_applied(applied: Applied, form: Format) -> None:
    """What a change did, or would do: its changes as data, findings and the revision beside it."""
    show(applied, form, lambda: changes_of(applied.changes))
    _tell_findings(applied)
    say("dry run: nothing was stored" if applied.dry_run else f"revision {applied.revision}")


def changes_of(changes: tuple[Change, ...]) -> str:
    """One line for each change."""
    return "\n".join(f"{one.kind} {one.namespace}/{one.name} {one.action}" for one in changes)


def _tell_findings(applied: Applied) -> None:
    for finding in applied.findings:
        say(f"{finding.severity}: {finding.code} {finding.key} {finding.path}: {finding.message}")
        if finding.fix:
            say(f"    fix: {finding.fix}")


def _objects(objects: tuple[Object, ...]) -> str:
    rows = [
        (one.kind, one.namespace, one.name, one.revision, when(one.admitted_at), one.author)
        for one in objects
    ]
    return render(("KIND", "NAMESPACE", "NAME", "REVISION", "SINCE", "AUTHOR"), rows)


def when(at: float) -> str:
    """A time for people, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
