"""Commands that look back: history, diff, rollback."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from ray_mesh.cli import exits
from ray_mesh.cli.connection import connect
from ray_mesh.cli.objects import message_option, namespace_option, read_sources, tell_applied, when
from ray_mesh.cli.output import Format, output_option, render, say, show
from ray_mesh.errors import MeshError

if TYPE_CHECKING:
    from ray_mesh.sdk.answers import Change, Difference, Revision, Version
    from ray_mesh.sdk.facade import Mesh

SHOWN_CHANGES = 3
TROUBLE = 2
"""What ``diff`` ends with for an error that would else end with 1, which means a difference."""


@click.command()
@click.argument("kind", required=False, default="")
@click.argument("name", required=False, default="")
@namespace_option
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Newest revisions to show."
)
@click.option(
    "--registrations", is_flag=True, help="Show also the revisions in which workloads attached or left."
)
@output_option
@click.pass_context
def history(
    context: click.Context,
    kind: str,
    name: str,
    namespace: str,
    limit: int,
    registrations: bool,
    form: Format,
) -> None:
    """Show the revisions of the mesh, oldest first, or the versions of the object NAME of a KIND."""
    _check_named(kind, name)
    with connect(context) as mesh:
        if name:
            versions = mesh.history(kind, name, namespace=namespace)
            show(versions, form, lambda: _versions(versions))
            return
        revisions = mesh.revisions(limit, registrations=registrations)
        show(revisions, form, lambda: _revisions(revisions))


@click.command()
@click.argument("kind", required=False, default="")
@click.argument("name", required=False, default="")
@namespace_option
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    metavar="FILE|FOLDER|-",
    help="Compare what the mesh has with these documents; may be repeated. - reads stdin.",
)
@click.option("--from", "before", type=click.IntRange(1), metavar="REVISION", help="The mesh as it was then.")
@click.option(
    "--to",
    "after",
    type=click.IntRange(1),
    metavar="REVISION",
    help="And as it was then. [default: now]",
)
@output_option
@click.pass_context
def diff(
    context: click.Context,
    kind: str,
    name: str,
    namespace: str,
    files: tuple[str, ...],
    before: int | None,
    after: int | None,
    form: Format,
) -> int:
    """Show what is different: the mesh and files (-f), or the mesh at two revisions (--from, --to), all of it
    or the object NAME of a KIND.

    Exit code 0: no difference. 1: there are differences. More: an error.
    """
    _check_named(kind, name)
    if bool(files) == (before is not None) or (files and (name or after is not None)):
        raise click.UsageError("compare with files (-f), or two revisions (--from, --to unless it is now)")
    try:
        with connect(context) as mesh:
            found = _compare(mesh, files, before, after, (kind, name, namespace))
    except MeshError as error:
        if exits.exit_code(error) != exits.ERROR:
            raise
        say(f"error: {error}")
        return TROUBLE
    sides = ("mesh", "files") if files else (f"revision {before}", f"revision {after}" if after else "now")
    show(found, form, lambda: "\n".join(line for one in found for line in unified(one, *sides)))
    return 1 if found else 0


@click.command()
@click.argument("kind", required=False, default="")
@click.argument("name", required=False, default="")
@namespace_option
@click.option(
    "--to",
    type=click.IntRange(1),
    metavar="REVISION",
    help="Go back to what was then. [default for one object: before its last change]",
)
@message_option
@click.option("--dry-run", is_flag=True, help="Say what would change; store nothing.")
@click.option("--wait", "waits", is_flag=True, help="Return when every live proxy has applied it.")
@output_option
@click.pass_context
def rollback(
    context: click.Context,
    kind: str,
    name: str,
    namespace: str,
    to: int | None,
    comment: str,
    dry_run: bool,
    waits: bool,
    form: Format,
) -> None:
    """Make the whole mesh what it was at a revision, as one set, or only the object NAME of a KIND.

    Attached workloads stay attached. A rollback is a revision like any other, and can be rolled back.
    """
    _check_named(kind, name)
    if not name and to is None:
        raise click.UsageError("to roll back the whole mesh say to which revision (--to)")
    with connect(context) as mesh:
        if name:
            applied = mesh.rollback_object(
                kind, name, namespace=namespace, to=to, comment=comment, dry_run=dry_run
            )
        else:
            applied = mesh.rollback(to or 0, comment=comment, dry_run=dry_run)
        tell_applied(applied, form)
        if not applied.changes:
            say("nothing is different")
        if waits and not dry_run:
            mesh.wait(applied.revision, timeout_s=context.obj["timeout_s"])
            say(f"revision {applied.revision} is applied by every live proxy")


def unified(difference: Difference, before: str, after: str) -> Iterator[str]:
    """A difference as lines of a unified diff of YAML."""
    title = f"{difference.kind} {difference.namespace}/{difference.name}"
    lines = _yaml(difference.before), _yaml(difference.after)
    return difflib.unified_diff(lines[0], lines[1], f"{title} ({before})", f"{title} ({after})", lineterm="")


def _yaml(manifest: dict[str, Any] | None) -> list[str]:
    import yaml

    if manifest is None:
        return []
    text: str = yaml.safe_dump(manifest, sort_keys=True, allow_unicode=True, width=100)
    return text.splitlines()


def _compare(
    mesh: Mesh, files: tuple[str, ...], before: int | None, after: int | None, named: tuple[str, str, str]
) -> tuple[Difference, ...]:
    if before is None:
        return mesh.diff(read_sources(files))
    kind, name, namespace = named
    return mesh.diff_revisions(before, after, kind=kind, name=name, namespace=namespace)


def _check_named(kind: str, name: str) -> None:
    if kind and not name:
        raise click.UsageError("an object has a KIND and a NAME")


def _versions(versions: Sequence[Version]) -> str:
    rows = [
        (
            one.revision,
            when(one.at),
            one.author,
            "deleted" if one.manifest is None else "written",
            one.comment,
        )
        for one in versions
    ]
    return render(("REVISION", "AT", "AUTHOR", "CHANGE", "MESSAGE"), rows)


def _revisions(revisions: Sequence[Revision]) -> str:
    rows = [(one.revision, when(one.at), one.author, _summary(one.changes), one.comment) for one in revisions]
    return render(("REVISION", "AT", "AUTHOR", "CHANGES", "MESSAGE"), rows)


def _summary(changes: tuple[Change, ...]) -> str:
    named = [
        f"{'-' if one.action == 'deleted' else ''}{one.kind} {one.namespace}/{one.name}"
        for one in changes[:SHOWN_CHANGES]
    ]
    more = len(changes) - SHOWN_CHANGES
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")
