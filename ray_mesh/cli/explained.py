"""An explanation as a page for people: one line a step, what decided it, and where that stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray_mesh.explain.answer import Explanation, Ground, Share, Step, Verdict

STAGE = 21
"""Columns for the word of a step."""
_WORDS = {
    "forwarded": "FORWARDED",
    "answered": "ANSWERED",
    "refused": "REFUSED",
    "partly_refused": "PARTLY REFUSED",
}


def page(told: Explanation) -> str:
    """The whole page."""
    return "\n".join(_printable(line).rstrip() for line in _lines(told))


def _lines(told: Explanation) -> Iterator[str]:
    yield told.request
    yield f"from {told.source}" + (f" ({told.principal})" if told.principal else "")
    yield ""
    yield _verdict(told.verdict)
    yield ""
    yield from _steps(told.steps, "")
    for share in told.shares:
        yield ""
        yield _share(share)
        yield from _steps(share.steps, "  ")
    if told.warnings:
        yield ""
    for warning in told.warnings:
        yield f"warning: {warning}"


def _verdict(verdict: Verdict) -> str:
    status = f" {verdict.status}" if verdict.status else ""
    flag = f" {verdict.flag}" if verdict.flag else ""
    return f"{_WORDS[verdict.outcome]}{status}{flag}  {verdict.message}{_where(verdict.ground)}"


def _share(share: Share) -> str:
    name = f"{share.host} subset {share.subset}" if share.subset else share.host
    verdict = share.verdict
    ends = {"forwarded": "forwarded", "partly_refused": "partly refused"}.get(verdict.outcome, "refused")
    status = f" {verdict.status}" if verdict.status else ""
    return f"{share.percent:g}% to {name} port {share.port}: {ends}{status} {verdict.flag}"


def _steps(steps: Sequence[Step], indent: str) -> Iterator[str]:
    for step in steps:
        mark = "! " if step.refuses else "  "
        yield f"{indent}{mark}{step.stage:<{STAGE}}{step.says}{_where(step.ground)}"
        for note in step.notes:
            yield f"{indent}  {'':<{STAGE}}- {note.says}{_where(note.ground)}"


def _where(ground: Ground) -> str:
    if not ground.where:
        return ""
    return f"  @ {ground.where} {ground.path}"


def _printable(line: str) -> str:
    """What came from documents cannot move the cursor."""
    return "".join(one if one.isprintable() else " " for one in line)
