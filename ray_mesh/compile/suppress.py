"""What people decided not to be told any more.

A suppression is written on the object, in MeshConfig (``analysis.suppress``) or on the command line. Those
in the mesh's own form have a reason, and may expire (``until``, the last day); without a reason or expired
they suppress nothing and are told themselves. Istio's annotation has neither, and holds as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from typing import Any, Protocol

from ray_mesh.compile import codes
from ray_mesh.compile.finding import Finding
from ray_mesh.compile.world import MESH_CONFIG_KEY, World
from ray_mesh.errors import ConfigError
from ray_mesh.resources.document import ANALYZE_SUPPRESS
from ray_mesh.resources.source import Path, Positions, read_inner, show

ANNOTATION = "mesh.ray.io/suppress"
_FORM = "write a list such as [{code: IST0130, reason: the old route stays until June, until: 2027-06-30}]"


@dataclass(frozen=True, slots=True)
class Suppression:
    """``code`` and ``object`` are patterns with ``*``. ``origin`` says who wrote it, and where."""

    code: str
    object: str
    reason: str
    until: date | None = None
    origin: str = ""

    def holds_for(self, finding: Finding) -> bool:
        """Whether a finding is one that it means; one about suppressions never is."""
        if finding.code == codes.BAD_SUPPRESSION or not fnmatchcase(finding.code, self.code):
            return False
        return any(fnmatchcase(name, self.object) for name in _names(finding))


@dataclass(frozen=True, slots=True)
class Suppressed:
    """A finding that is not told, and why."""

    finding: Finding
    by: Suppression


def split(
    findings: Iterable[Finding], suppressions: Iterable[Suppression]
) -> tuple[list[Finding], list[Suppressed]]:
    """The findings that are told, and those that are not, both in order."""
    told: list[Finding] = []
    silent: list[Suppressed] = []
    chosen = list(suppressions)
    for one in findings:
        by = next((suppression for suppression in chosen if suppression.holds_for(one)), None)
        if by is None:
            told.append(one)
        else:
            silent.append(Suppressed(one, by))
    return told, silent


def from_option(text: str) -> Suppression:
    """One of the command line: ``CODE=KIND/NAMESPACE/NAME``, each with ``*`` for any, or ``CODE=*``.

    Istio's way of writing the object, ``KIND NAME.NAMESPACE``, is understood as well.

    Raises:
        ValueError: it is written otherwise.
    """
    code, equals, written = text.partition("=")
    if not equals or not code.strip() or not written.strip():
        raise ValueError(
            f"{text!r}: write CODE=KIND/NAMESPACE/NAME, such as 'IST0173=DestinationRule/default/*'"
        )
    return Suppression(code.strip(), _pattern(written.strip()), "command line", origin="command line")


def _pattern(written: str) -> str:
    if written == "*" or written.count("/") == 2:
        return written
    kind, _, rest = written.partition(" ")
    if "/" in rest:
        return f"{kind}/{rest}"
    name, dot, namespace = rest.rpartition(".")
    return f"{kind}/{namespace}/{name}" if dot else f"{kind}/*/{rest or '*'}"


def _names(finding: Finding) -> Iterator[str]:
    kind, _, rest = finding.object.partition(" ")
    yield f"{kind}/{rest}" if "/" in rest else f"{kind}//{rest}"


class Annotated(Protocol):
    """An object that may hold suppressions."""

    @property
    def title(self) -> str:
        """How messages name it."""

    @property
    def key(self) -> str:
        """The key of desired state."""

    @property
    def annotations(self) -> Mapping[str, str]:
        """Those of its metadata."""

    @property
    def positions(self) -> Positions:
        """Where its values stand."""


def written(
    world: World, objects: Iterable[Annotated], now: float
) -> tuple[list[Suppression], list[Finding]]:
    """The suppressions of MeshConfig and of some objects, and what is wrong with those that do not hold."""
    good: list[Suppression] = []
    bad: list[Finding] = []
    config = world.get(MESH_CONFIG_KEY)
    if config is not None:
        entries = [one.model_dump(exclude_none=True) for one in world.config.analysis.suppress]
        good, bad = of_mesh(config.title, config.key, entries, config.positions, now)
    for one in objects:
        if one.annotations:
            more, complaints = of_object(one.title, one.key, one.annotations, one.positions, now)
            good += more
            bad += complaints
    return good, bad


def of_object(
    title: str, key: str, annotations: Mapping[str, str], positions: Positions, now: float
) -> tuple[list[Suppression], list[Finding]]:
    """The suppressions that an object's annotations hold, and what is wrong with those that do not hold."""
    kind, _, rest = title.partition(" ")
    name = f"{kind}/{rest}" if "/" in rest else f"{kind}//{rest}"
    good = [
        Suppression(code, name, "annotation", origin=ANALYZE_SUPPRESS)
        for code in filter(None, (one.strip() for one in annotations.get(ANALYZE_SUPPRESS, "").split(",")))
    ]
    if ANNOTATION not in annotations:
        return good, []
    path: Path = ("metadata", "annotations", ANNOTATION)
    bad: list[Finding] = []
    for written in _entries(annotations[ANNOTATION]):
        suppression, message = _read(written, name, now)
        if suppression is not None:
            good.append(suppression)
        else:
            bad.append(_complaint(title, key, path, positions, message))
    return good, bad


def of_mesh(
    title: str, key: str, written: Iterable[Mapping[str, str]], positions: Positions, now: float
) -> tuple[list[Suppression], list[Finding]]:
    """The suppressions of MeshConfig, each with an ``object``, and what is wrong with the others."""
    good: list[Suppression] = []
    bad: list[Finding] = []
    for index, entry in enumerate(written):
        suppression, message = _read(entry, _pattern(entry.get("object") or "*"), now)
        path: Path = ("spec", "analysis", "suppress", index)
        if suppression is not None:
            good.append(suppression)
        else:
            bad.append(_complaint(title, key, path, positions, message))
    return good, bad


def _entries(text: str) -> list[Any]:
    try:
        value = read_inner(text, ANNOTATION)
    except ConfigError:
        return [None]
    return value if isinstance(value, list) else [value]


def _read(written: Any, name: str, now: float) -> tuple[Suppression | None, str]:
    """The suppression, if it holds, else why it does not."""
    if not isinstance(written, Mapping) or not isinstance(written.get("code"), str):
        return None, f"is not readable: {_FORM}"
    unknown = sorted(str(field) for field in written if field not in ("code", "object", "reason", "until"))
    if unknown:
        return None, f"has an unknown field {unknown[0]}: {_FORM}"
    code, reason, until = written["code"], written.get("reason"), written.get("until")
    if not isinstance(reason, str) or not reason.strip():
        return None, f"of {code} has no reason, so it does not hold"
    try:
        last = date.fromisoformat(str(until)) if until else None
    except ValueError:
        return None, f"of {code} expires {until!r}, which is not a day such as 2027-06-30"
    if last is not None and datetime.fromtimestamp(now, UTC).date() > last:
        return None, f"of {code} expired on {last}, so it does not hold any more"
    return Suppression(code, name, reason.strip(), last, ANNOTATION), ""


def _complaint(title: str, key: str, path: Path, positions: Positions, message: str) -> Finding:
    fix = "give it a reason and a day in the future, or remove it"
    where = positions.at(path)
    return Finding(
        codes.BAD_SUPPRESSION, "warning", key, show(path), f"the suppression {message}", fix, where, title
    )
