"""What is said about documents, before a change is accepted and when a person asks.

Codes are Istio's (``ISTnnnn``) where the finding is the same as one of ``istioctl analyze``, and the
mesh's own (``RMnnnn``) otherwise; :mod:`ray_mesh.compile.codes` has them with what they mean.

A finding has one severity, which for Istio's codes is Istio's. What admission makes of it may differ:
it refuses what would break traffic even where Istio only warns, and lets in what the mesh has a sound
answer to even where Istio speaks of an error. :attr:`Finding.refuses` says so, and :func:`at_admission`
applies it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from ray_mesh.compile.codes import CODES
from ray_mesh.resources import Document
from ray_mesh.resources.source import Path, show

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
"""The worst first."""

Told = Literal["always", "admission", "analysis"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. ``key`` is that of the document and ``object`` its title, ``path`` the place in it,
    ``where`` its ``file:line:column`` when known, ``fix`` what to do.

    ``refuses`` says whether admission refuses the change, None: if it is an error. ``told`` says where.
    """

    code: str
    severity: Severity
    key: str
    path: str
    message: str
    fix: str = ""
    where: str = ""
    object: str = ""
    refuses: bool | None = None
    told: Told = "always"

    @property
    def name(self) -> str:
        """What the code is called."""
        return CODES[self.code].name if self.code in CODES else ""

    @property
    def why(self) -> str:
        """Why the code is worth telling."""
        return CODES[self.code].why if self.code in CODES else ""

    def __str__(self) -> str:
        place = f"{self.key} {self.path}".rstrip()
        fix = f" ({self.fix})" if self.fix else ""
        return f"{self.severity} {self.code} {place}: {self.message}{fix}"


def error(document: Document, code: str, path: Path, message: str, fix: str = "") -> Finding:
    """A finding that is an error, and refuses the change."""
    return make("error", document, code, path, message, fix)


def warning(document: Document, code: str, path: Path, message: str, fix: str = "") -> Finding:
    """A finding that is told, while the change goes on."""
    return make("warning", document, code, path, message, fix)


def info(document: Document, code: str, path: Path, message: str, fix: str = "") -> Finding:
    """A finding that is good to know."""
    return make("info", document, code, path, message, fix)


def unsupported(document: Document, code: str, path: Path, message: str, fix: str = "") -> Finding:
    """A finding about what is valid and not honoured: a warning that admission refuses."""
    return make("warning", document, code, path, message, fix, refuses=True)


def make(
    severity: Severity,
    document: Document,
    code: str,
    path: Path,
    message: str,
    fix: str = "",
    *,
    refuses: bool | None = None,
    told: Told = "always",
) -> Finding:
    """A finding of a document; see :class:`Finding`."""
    where, title = document.positions.at(path), document.title
    return Finding(code, severity, document.key, show(path), message, fix, where, title, refuses, told)


def at_admission(findings: Iterable[Finding]) -> list[Finding]:
    """The findings as admission tells them: an error is what refuses the change, and nothing else is."""
    return in_order(_as_judged(one) for one in findings if one.told != "analysis")


def in_analysis(findings: Iterable[Finding]) -> list[Finding]:
    """The findings as analysis tells them, each once."""
    return in_order(dict.fromkeys(one for one in findings if one.told != "admission"))


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then by object and place."""
    return sorted(findings, key=_order)


def _order(one: Finding) -> tuple[int, str, str, str, str, str]:
    return SEVERITIES.index(one.severity), one.key, one.where, one.path, one.code, one.message


def _as_judged(one: Finding) -> Finding:
    refuses = one.severity == "error" if one.refuses is None else one.refuses
    if refuses:
        return replace(one, severity="error")
    return replace(one, severity="warning") if one.severity == "error" else one


def plain(one: Finding) -> dict[str, Any]:
    """A finding as JSON."""
    names = ("code", "name", "severity", "object", "key", "path", "where", "message", "why", "fix")
    return {name: getattr(one, name) for name in names}


def spell(labels: dict[str, str]) -> str:
    """Labels as people write them: ``app=reviews,version=v1``."""
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items())) or "(no labels)"
