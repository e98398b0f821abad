"""The answer to a question in a world."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ray_mesh.compile import LiveWorkload, World
from ray_mesh.explain import connections, http
from ray_mesh.explain.answer import Explanation, Step
from ray_mesh.explain.asked import asked_of
from ray_mesh.explain.assuming import is_assumed
from ray_mesh.explain.callers import Source, find_caller
from ray_mesh.explain.case import Case
from ray_mesh.explain.gateways import from_outside
from ray_mesh.explain.guarding import refusal
from ray_mesh.explain.places import Locate, Places, as_read
from ray_mesh.explain.question import Question
from ray_mesh.explain.way import Way
from ray_mesh.proxy import replies
from ray_mesh.resources.problems import Problem


def explain(
    world: World,
    question: Question,
    *,
    live: Sequence[LiveWorkload] | None = None,
    doubts: Mapping[str, Sequence[Problem]] | None = None,
    locate: Locate = as_read,
    warnings: Sequence[str] = (),
) -> Explanation:
    """What becomes of a request, and which documents decide it. Pure: no sockets, no clock, no chance.

    ``live`` are the workloads that proxies serve (None: all that are registered), ``doubts`` what this build
    does not enforce of documents, by their titles, and ``locate`` says where a document's values stand.

    Raises:
        NotFound: nothing is known of the caller.
        ConfigError: who calls is not said.
    """
    source = find_caller(world, question.caller)
    case = Case(source.world, Places(source.world, locate), live, doubts or {})
    way = _way(case, source, question)
    assert way.verdict is not None
    return Explanation(
        request=str(question),
        source=_title(source),
        principal="" if source.is_gateway else source.principal,
        verdict=way.verdict,
        steps=tuple(way.steps),
        shares=way.shares,
        warnings=(*warnings, *source.warnings, *_warnings(case, way)),
    )


def _way(case: Case, source: Source, question: Question) -> Way:
    if question.is_connection and not source.is_gateway:
        authority = question.authority
        if question.scheme == "https" and ":" not in authority:
            authority = f"{authority}:443"
        sni = question.sni or (authority.rpartition(":")[0] if question.scheme == "https" else "")
        return connections.from_workload(case, source, authority, sni)
    try:
        asked = asked_of(question, case.mesh)
    except ValueError as error:
        reply = replies.bad_request(400, str(error))
        way = Way([Step("path", reply.message, refuses=True)])
        return way.end(refusal(reply))
    if source.is_gateway:
        return from_outside(case, source, asked, _port(source, question), question.sni, question.scheme)
    return http.from_workload(case, source, asked)


def _port(source: Source, question: Question) -> int:
    """The gateway port that is called: without one in the URL the scheme's, or the only one that there is."""
    usual = 443 if question.scheme == "https" else 80
    exposed = [port for port, _ in source.workload.gateway_ports]
    return question.port or (exposed[0] if len(exposed) == 1 else usual)


def _title(source: Source) -> str:
    if source.is_gateway:
        return f"outside, through gateway {source.name}"
    said = f"workload {source.name}"
    if is_assumed(source.document):
        labels = ",".join(f"{name}={value}" for name, value in source.workload.labels)
        said = f"a workload of namespace {source.workload.namespace} with {labels or 'no labels'}"
    return said


def _warnings(case: Case, way: Way) -> Iterator[str]:
    """What this build does not enforce of the documents that had a say."""
    named = {step.ground.document for step in way.steps}
    for share in way.shares:
        named |= {step.ground.document for step in share.steps}
    for title, problems in case.doubts.items():
        document = case.places.document(title)
        if document is not None and document.key in named:
            yield from (str(problem) for problem in problems)
