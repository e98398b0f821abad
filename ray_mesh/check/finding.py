"""What a check found out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["ok", "warning", "failed", "skipped"]

DOCUMENT = "docs/cluster.md"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of ``ray-mesh check``. What is not ok has a ``cause``, a ``fix`` and a place to read on."""

    check: str
    outcome: Outcome
    detail: str
    cause: str = ""
    fix: str = ""
    link: str = ""


def ok(check: str, detail: str) -> Finding:
    """Nothing to do."""
    return Finding(check, "ok", detail)


def skipped(check: str, detail: str) -> Finding:
    """It cannot be told from here; ``detail`` says why."""
    return Finding(check, "skipped", detail)


def warning(check: str, detail: str, cause: str, fix: str) -> Finding:
    """It works, and will hurt some day."""
    return Finding(check, "warning", detail, cause, fix, f"{DOCUMENT}#{check}")


def failed(check: str, detail: str, cause: str, fix: str) -> Finding:
    """It does not work, or is not safe."""
    return Finding(check, "failed", detail, cause, fix, f"{DOCUMENT}#{check}")
