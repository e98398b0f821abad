"""What is said about a change before it is accepted.

Codes are Istio's (``ISTnnnn``) where the finding is the same as one of ``istioctl analyze``, and the
mesh's own (``RMnnnn``) otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ray_mesh.resources import Document
from ray_mesh.resources.source import Path, show

Severity = Literal["error", "warning"]

NOT_FOUND = "IST0101"
PORT_REQUIRED = "IST0112"
SELECTS_NOTHING = "IST0127"
UNREACHABLE_RULE = "IST0130"
HOST_NOT_IN_GATEWAY = "IST0132"
EMPTY_SUBSET = "IST0173"
RULE_WITHOUT_SERVICE = "IST0174"

TWICE_IN_SET = "RM0001"
STILL_USED = "RM0002"
NOTHING_TO_DELETE = "RM0003"
UNBOUND_WORKLOAD = "RM0101"
ROUTES_MERGED = "RM0102"
RULES_MERGED = "RM0103"
UNEVEN_WEIGHTS = "RM0104"
FAULT_NEVER_INJECTED = "RM0105"
ROUTES_WITHOUT_SERVICE = "RM0106"
PORT_NOT_EXPOSED = "RM0107"
FOREIGN_PRINCIPAL = "RM0109"
MESH_CONFIG = "RM0110"
HOST_TAKEN = "RM0111"
ENDPOINT_UNFIT = "RM0112"
NO_PROXY = "RM0113"
TLS_NOT_HONOURED = "RM0114"
UNSELECTED_ENTRY = "RM0115"
DELEGATE_CONFLICT = "RM0116"
DELEGATE_UNUSED = "RM0117"
PORT_CONFLICT = "RM0118"
HEADER_BEFORE_HTTP = "RM0119"
RETRIES_NOTHING = "RM0130"
NOT_GRANTED = "RM0141"
ROUTE_DETACHED = "RM0142"
ROUTES_OVERRIDDEN = "RM0143"
NO_BACKEND = "RM0144"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. ``error`` refuses the change. ``key`` is that of the document, ``path`` the place in
    it, ``where`` its ``file:line:column`` when known, ``fix`` what to do."""

    code: str
    severity: Severity
    key: str
    path: str
    message: str
    fix: str = ""
    where: str = ""

    def __str__(self) -> str:
        place = f"{self.key} {self.path}".rstrip()
        fix = f" ({self.fix})" if self.fix else ""
        return f"{self.severity} {self.code} {place}: {self.message}{fix}"


def error(document: Document, code: str, path: Path, message: str, fix: str = "") -> Finding:
    """A finding that refuses the change."""
    return _finding("error", document, code, path, message, fix)


def warning(document: Document, code: str, path: Path, message: str, fix: str = "") -> Finding:
    """A finding that is told, while the change goes on."""
    return _finding("warning", document, code, path, message, fix)


def _finding(
    severity: Severity, document: Document, code: str, path: Path, message: str, fix: str
) -> Finding:
    return Finding(code, severity, document.key, show(path), message, fix, document.positions.at(path))


def spell(labels: dict[str, str]) -> str:
    """Labels as people write them: ``app=reviews,version=v1``."""
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items())) or "(no labels)"
