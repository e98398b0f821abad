"""Analysis of documents in files, of the mesh that runs, or of both: what is wrong with each, and together.

Pure: time and everything that is known come as arguments. Admission asks the same questions of a change
(:mod:`ray_mesh.compile.admission`), and refuses where this only tells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from ray_mesh.analyze.addresses import address_findings
from ray_mesh.analyze.annotations import annotation_findings
from ray_mesh.analyze.kubernetes import READ, credentials_of, workloads_of
from ray_mesh.analyze.subject import Subject, subject_of
from ray_mesh.compile import codes, entry_findings
from ray_mesh.compile.examine import examine
from ray_mesh.compile.facts import NOTHING_KNOWN, Facts
from ray_mesh.compile.finding import SEVERITIES, Finding, Severity, in_analysis, in_order, plain
from ray_mesh.compile.grounds import Grounds
from ray_mesh.compile.suppress import Suppressed, Suppression, split, written
from ray_mesh.compile.world import World
from ray_mesh.resources import Document
from ray_mesh.resources.problems import Problem
from ray_mesh.resources.reading import Reading, read_each
from ray_mesh.resources.refused import ELSEWHERE, INSTEAD
from ray_mesh.resources.source import show

_OURS = ("istio.io", "mesh.ray.io", "gateway.networking.k8s.io")
"""API groups (or their ends) of which every kind is looked at, known or not."""
_OF_REPAIRED = frozenset(
    {
        codes.NOT_FOUND,
        codes.CONFLICTING_HOSTS,
        codes.PORT_REQUIRED,
        codes.SELECTS_NOTHING,
        codes.HOST_NOT_IN_GATEWAY,
        codes.CONFLICTING_GATEWAYS,
        codes.INTERNAL_GATEWAY,
        codes.RULE_WITHOUT_SERVICE,
        codes.EMPTY_SUBSET,
        codes.PORT_NAME,
        codes.EXTERNAL_NAME_PORT,
        codes.DEPRECATED,
        codes.SCHEMA_WARNING,
        codes.NO_VERIFICATION,
        codes.NO_VERIFICATION_OF_PORT,
        codes.DUPLICATE_CERTIFICATE,
        codes.INEFFECTIVE_SELECTOR,
    }
)
"""What is still told of a document that lacks what was invalid in it: findings about what it does have."""


@dataclass(frozen=True, slots=True)
class Report:
    """What is told, the worst first, and what is not. ``documents`` counts what was looked at."""

    findings: tuple[Finding, ...]
    suppressed: tuple[Suppressed, ...]
    documents: int

    def reaches(self, threshold: Severity) -> bool:
        """Whether any finding that is told is at least as bad as this."""
        worst = SEVERITIES.index(threshold)
        return any(SEVERITIES.index(one.severity) <= worst for one in self.findings)


def to_json(report: Report) -> dict[str, Any]:
    """A report as JSON (docs/analysis.md)."""
    counts = Counter(one.severity for one in report.findings)
    silent = [
        {
            **plain(one.finding),
            "reason": one.by.reason,
            "until": one.by.until.isoformat() if one.by.until else None,
            "origin": one.by.origin,
        }
        for one in report.suppressed
    ]
    return {
        "findings": [plain(one) for one in report.findings],
        "suppressed": silent,
        "counts": {severity: counts[severity] for severity in SEVERITIES} | {"suppressed": len(silent)},
        "documents": report.documents,
    }


def analyze_files(
    sources: Iterable[tuple[str, str]],
    now: float,
    *,
    namespace: str = "",
    only: str = "",
    suppressions: Iterable[Suppression] = (),
) -> Report:
    """Texts by name, without a mesh. ``namespace`` is for documents that do not say theirs, ``only``
    leaves out findings about objects of other namespaces. Workloads are those that the files hold, and an
    ingress."""
    readings = [one for name, text in sources for one in read_each(text, name, namespace)]
    foreign = [one for one in readings if _is_foreign(one)]
    world = _applied(World({}), readings)
    pods = {one.key: one for one in workloads_of(world, foreign, namespace)}
    facts = Facts(credentials_of(foreign, namespace, now))
    examined = [*world.documents.values(), *_doubles(world, readings)]
    before = _files_findings(readings, namespace, for_istio=True)
    return _report(world.replace(pods), examined, before, readings, facts, None, now, only, suppressions)


def analyze_mesh(
    world: World,
    sources: Iterable[tuple[str, str]],
    now: float,
    grounds: Grounds,
    *,
    namespace: str = "",
    only: str = "",
    suppressions: Iterable[Suppression] = (),
) -> Report:
    """The documents of a running mesh, with those of some texts as if they were applied."""
    readings = [one for name, text in sources for one in read_each(text, name, namespace)]
    after = _applied(world, readings)
    examined = [*after.documents.values(), *_doubles(after, readings)]
    before = _files_findings(readings, namespace, for_istio=False)
    return _report(after, examined, before, readings, NOTHING_KNOWN, grounds, now, only, suppressions)


def _applied(world: World, readings: Iterable[Reading]) -> World:
    """A world with the documents of some readings; of two for one object the first."""
    found: dict[str, Document] = {}
    for reading in readings:
        if reading.document is not None:
            one = reading.document
            old = world.get(one.key)
            found.setdefault(one.key, replace(one, admitted_at=old.admitted_at) if old else one)
    return world.replace(found)


def _doubles(world: World, readings: Iterable[Reading]) -> Iterator[Document]:
    """Documents for an object that another document of the files is for already."""
    for reading in readings:
        one = reading.document
        kept = world.get(one.key) if one is not None else None
        if one is not None and kept is not None and kept.positions is not one.positions:
            yield one


def _report(
    world: World,
    documents: list[Document],
    before: list[Finding],
    readings: list[Reading],
    facts: Facts,
    grounds: Grounds | None,
    now: float,
    only: str,
    suppressions: Iterable[Suppression],
) -> Report:
    repaired = {one.document.key for one in readings if one.document is not None and one.is_repaired}
    findings = [*before]
    for document in documents:
        found = examine(world, document, facts)
        if grounds is not None:
            found += entry_findings.address_findings(world, document, grounds)
        findings += [one for one in found if document.key not in repaired or one.code in _OF_REPAIRED]
    objects: list[Document | Subject] = [*documents]
    objects += [subject_of(one) for one in readings if one.document is None]
    chosen, complaints = written(world, objects, now)
    told, silent = split(in_analysis([*findings, *complaints]), [*suppressions, *chosen])
    told = [one for one in told if _is_asked(one, only)]
    silent = [one for one in silent if _is_asked(one.finding, only)]
    return Report(tuple(told), tuple(silent), len({*(one.key for one in documents)}))


def _is_asked(finding: Finding, namespace: str) -> bool:
    """Whether a finding is of the namespace; one without object always is."""
    return not namespace or "." not in finding.key or finding.key.split(".")[1] == namespace


def _files_findings(readings: list[Reading], namespace: str, *, for_istio: bool) -> list[Finding]:
    """What is to be said about documents one by one; ``for_istio`` also what only Istio needs."""
    found: list[Finding] = []
    skipped: dict[str, list[Subject]] = {}
    seen: set[str] = set()
    for reading in readings:
        subject = subject_of(reading, namespace)
        found += annotation_findings(subject)
        if for_istio:
            found += address_findings(subject, reading.document)
        if _is_foreign(reading):
            if subject.kind not in READ:
                skipped.setdefault(subject.kind, []).append(subject)
            continue
        found += [_problem_finding(one, subject) for one in reading.problems if not _is_told(one, subject)]
        if reading.document is not None and reading.document.key in seen:
            message = f"{subject.title} is more than once in these files"
            found.append(subject.find("warning", codes.TWICE_IN_SET, (), message, "keep one"))
        if reading.document is not None:
            seen.add(reading.document.key)
    return in_order([*found, *_skipped_findings(skipped)])


def _is_foreign(reading: Reading) -> bool:
    """Whether it is of a kind that is none of the mesh's business."""
    if reading.document is not None:
        return False
    kind, version = reading.value.get("kind"), reading.value.get("apiVersion")
    if not isinstance(kind, str) or not isinstance(version, str) or kind in INSTEAD:
        return False
    group = version.rpartition("/")[0]
    if group.endswith(_OURS):
        return False
    return any(one.later and one.path == ("kind",) for one in reading.problems)


def _is_told(problem: Problem, subject: Subject) -> bool:
    """Whether a finding about annotations says it already."""
    return problem.later and problem.path[:2] == ("metadata", "annotations") and subject.kind == "Service"


def _problem_finding(problem: Problem, subject: Subject) -> Finding:
    if problem.never:
        return _of_problem("error", codes.REFUSED_KIND, problem, subject, problem.message)
    if problem.later:
        return _of_problem("warning", codes.NOT_HONOURED, problem, subject, problem.message)
    place = f"{show(problem.path)}: " if problem.path else ""
    return _of_problem(
        "error", codes.SCHEMA_ERROR, problem, subject, f"Schema validation error: {place}{problem.message}"
    )


def _of_problem(severity: Severity, code: str, problem: Problem, subject: Subject, message: str) -> Finding:
    """``subject`` may know the namespace; the place is the problem's own."""
    key = subject.key if subject.name else ""
    title = subject.title if subject.name else ""
    return Finding(code, severity, key, show(problem.path), message, _FIXES[code], problem.where, title)


_FIXES = {
    codes.SCHEMA_ERROR: "correct the field",
    codes.NOT_HONOURED: "remove it where it goes to this mesh",
    codes.REFUSED_KIND: "remove it where it goes to this mesh",
}


def _skipped_findings(skipped: dict[str, list[Subject]]) -> Iterator[Finding]:
    for kind, found in sorted(skipped.items()):
        subjects = sorted(found, key=lambda one: one.key)
        count = f"{len(subjects)} times, " if len(subjects) > 1 else ""
        message = (
            f"kind {kind} of {subjects[0].api_version} is skipped ({count}it is no configuration of a mesh)"
        )
        yield subjects[0].find("info", codes.SKIPPED_KIND, ("kind",), message, ELSEWHERE.get(kind, ""))
