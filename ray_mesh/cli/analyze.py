"""``ray-mesh analyze``: what is wrong with documents, in files or in the mesh that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ray_mesh.cli import exits
from ray_mesh.cli.connection import connect
from ray_mesh.cli.output import Format, output_option, say, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ray_mesh.sdk.documents import Named

_LEVELS = ("error", "warning", "info")
_level = click.Choice(_LEVELS, case_sensitive=False)


@click.command()
@click.argument("paths", nargs=-1, metavar="[FILE]...")
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    metavar="FILE|FOLDER|-",
    help="What to analyze; may be repeated, and be given as arguments. - reads stdin.",
)
@click.option("--offline", is_flag=True, help="Look at the files only; needs no mesh.")
@click.option("-R", "--recursive", is_flag=True, help="Look into folders in folders too.")
@click.option(
    "-n", "--namespace", default="", help="Tell of this namespace only; documents without one are in it."
)
@click.option(
    "--failure-threshold",
    "failure",
    type=_level,
    default="error",
    show_default=True,
    help="Exit with 79 if there is a finding of this severity or a worse one.",
)
@click.option(
    "--output-threshold",
    "threshold",
    type=_level,
    default="info",
    show_default=True,
    help="Print findings of this severity and worse ones.",
)
@click.option(
    "-S",
    "--suppress",
    "suppressed",
    multiple=True,
    metavar="CODE=OBJECT",
    help="Do not tell CODE of KIND/NAMESPACE/NAME; * stands for any. May be repeated.",
)
@click.option("--show-suppressed", is_flag=True, help="Print what is suppressed, by whom and why.")
@output_option
@click.pass_context
def analyze(
    context: click.Context,
    paths: tuple[str, ...],
    files: tuple[str, ...],
    offline: bool,
    recursive: bool,
    namespace: str,
    failure: str,
    threshold: str,
    suppressed: tuple[str, ...],
    show_suppressed: bool,
    form: Format,
) -> int:
    """Tell what is wrong with the documents of the mesh, or of files.

    Without --offline the mesh that runs is analyzed, with the files, if any, as if they were applied.

    Exits with 79 when a finding reaches the failure threshold, whatever is printed.
    """
    chosen = [*files, *paths]
    if offline and not chosen:
        raise click.UsageError("--offline needs files: -f FILE|FOLDER|-")
    sources = _gather(chosen, recursive) if chosen else []
    if offline:
        report = _offline(sources, namespace, suppressed)
    else:
        with connect(context) as mesh:
            report = mesh.analyze(sources, namespace=namespace, suppress=suppressed)
    findings = [one for one in report["findings"] if _reaches(one, threshold)]
    shown = {**report, "findings": findings}
    show(shown, form, lambda: _text(findings, report["suppressed"] if show_suppressed else ()))
    _say_counts(report, len(findings))
    return exits.FINDINGS if any(_reaches(one, failure) for one in report["findings"]) else 0


def _gather(paths: Sequence[str], recursive: bool) -> list[Named]:
    from ray_mesh.sdk.documents import gather_named

    return gather_named(paths, recursive=recursive)


def _offline(sources: list[Named], namespace: str, suppressed: tuple[str, ...]) -> dict[str, Any]:
    import time

    from ray_mesh.analyze import analyze_files, to_json
    from ray_mesh.compile.suppress import from_option

    try:
        suppressions = [from_option(text) for text in suppressed]
    except ValueError as error:
        raise click.UsageError(f"--suppress {error}") from error
    named = [(source.name, source.text) for source in sources]
    report = analyze_files(named, time.time(), namespace=namespace, only=namespace, suppressions=suppressions)
    return to_json(report)


def _reaches(finding: dict[str, Any], level: str) -> bool:
    return _LEVELS.index(finding["severity"]) <= _LEVELS.index(level.lower())


def _text(findings: Sequence[dict[str, Any]], suppressed: Sequence[dict[str, Any]]) -> str:
    lines = [line for one in findings for line in _lines(one)]
    for one in suppressed:
        until = f" until {one['until']}" if one["until"] else ""
        lines.append(f"suppressed {_head(one)}: {one['reason']} ({one['origin']}{until})")
    return "\n".join(lines)


def _lines(one: dict[str, Any]) -> list[str]:
    below = [one["message"], *(f"{word}: {one[word]}" for word in ("why", "fix") if one[word])]
    return [_head(one), *(f"    {_printable(line)}" for line in below)]


def _head(one: dict[str, Any]) -> str:
    place = " ".join(part for part in (one["where"], one["path"]) if part)
    title = one["object"] or one["key"]
    words = [one["severity"], f"[{one['code']}]", title, f"({place})" if place else ""]
    return _printable(" ".join(word for word in words if word))


def _printable(text: str) -> str:
    """What came from documents cannot move the cursor."""
    return "".join(one if one.isprintable() else " " for one in text)


def _say_counts(report: dict[str, Any], shown: int) -> None:
    counts = report["counts"]
    found = ", ".join(f"{counts[level]} {level}" for level in _LEVELS if counts[level]) or "no findings"
    silent = f", {counts['suppressed']} suppressed" if counts["suppressed"] else ""
    hidden = len(report["findings"]) - shown
    rest = f", {hidden} not shown" if hidden else ""
    number = report["documents"]
    say(f"{number} document{'s' if number != 1 else ''}: {found}{silent}{rest}")
