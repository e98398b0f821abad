"""Commands on objects: apply, get, delete, history."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from ray_mesh.cli.connection import connect
from ray_mesh.cli.output import Format, output_option, render, say, show

if TYPE_CHECKING:
    from ray_mesh.sdk.answers import Applied, Object

_namespace = click.option(
    "-n", "--namespace", default="default", show_default=True, help="Namespace of the object."
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
@click.option("--dry-run", is_flag=True, help="Check and compare; store nothing.")
@click.option("--wait", "waits", is_flag=True, help="Return when every live proxy has applied it.")
@output_option
@click.pass_context
def apply(context: click.Context, files: tuple[str, ...], dry_run: bool, waits: bool, form: Format) -> None:
    """Apply documents: all of them are stored, or none."""
    sources = [sys.stdin.read() + "\n" if file == "-" else file for file in files]
    with connect(context) as mesh:
        applied = mesh.apply(sources, dry_run=dry_run)
        show(applied, form, lambda: _changes(applied))
        _tell_findings(applied)
        say("dry run: nothing was stored" if dry_run else f"revision {applied.revision}")
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
@_namespace
@output_option
@click.pass_context
def delete(context: click.Context, kind: str, name: str, namespace: str, form: Format) -> None:
    """Delete the object NAME of a KIND."""
    with connect(context) as mesh:
        applied = mesh.delete(kind, name, namespace=namespace)
        show(applied, form, lambda: _changes(applied))
        _tell_findings(applied)
        say(f"revision {applied.revision}")


@click.command()
@click.argument("kind")
@click.argument("name")
@_namespace
@output_option
@click.pass_context
def history(context: click.Context, kind: str, name: str, namespace: str, form: Format) -> None:
    """Show the versions of the object NAME of a KIND, oldest first."""
    with connect(context) as mesh:
        versions = mesh.history(kind, name, namespace=namespace)
    rows = [
        (one.revision, _when(one.at), one.author, "deleted" if one.manifest is None else "written")
        for one in versions
    ]
    show(versions, form, lambda: render(("REVISION", "AT", "AUTHOR", "CHANGE"), rows))


def _changes(applied: Applied) -> str:
    return "\n".join(f"{one.kind} {one.namespace}/{one.name} {one.action}" for one in applied.changes)


def _tell_findings(applied: Applied) -> None:
    for finding in applied.findings:
        say(f"{finding.severity}: {finding.code} {finding.key} {finding.path}: {finding.message}")
        if finding.fix:
            say(f"    fix: {finding.fix}")


def _objects(objects: tuple[Object, ...]) -> str:
    rows = [
        (one.kind, one.namespace, one.name, one.revision, _when(one.admitted_at), one.author)
        for one in objects
    ]
    return render(("KIND", "NAMESPACE", "NAME", "REVISION", "SINCE", "AUTHOR"), rows)


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
