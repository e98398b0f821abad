"""Rules and matches of one VirtualService that a rule above takes everything from.

What is told is what Istio tells: equal matches, and a prefix of the path of which a match above has a
shorter prefix under the same conditions or fewer. Beyond Istio, ``prefix: /`` alone takes everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from ray_mesh.compile import codes
from ray_mesh.compile.finding import Finding, info, warning
from ray_mesh.compile.prefix_index import PrefixIndex, PrefixMatch, conditions_of
from ray_mesh.resources import Document, VirtualServiceSpec
from ray_mesh.resources.connection_routes import TcpRoute, TlsRoute
from ray_mesh.resources.source import Path
from ray_mesh.resources.virtual_service import HttpMatch, HttpRoute

Rule: TypeAlias = HttpRoute | TlsRoute | TcpRoute
_MOVE = "move it above that rule, or remove it"


def match_findings(document: Document) -> Iterator[Finding]:
    """What of a VirtualService is never used."""
    spec = document.read(VirtualServiceSpec)
    for kind, rules in (("http", spec.http), ("tls", spec.tls), ("tcp", spec.tcp)):
        yield from _rule_findings(document, ("spec", kind), rules)
    yield from _prefix_findings(document, spec.http)


def _rule_findings(document: Document, path: Path, rules: Sequence[Rule]) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    taken_by: int | None = None
    for number, rule in enumerate(rules):
        if taken_by is not None:
            reason = f"rule {_name(rules, taken_by)} above takes everything"
            yield _unreachable(document, path, rules, number, reason)
            continue
        repeated = 0
        for index, match in enumerate(rule.match):
            text = match.model_dump_json(exclude={"name"}, exclude_defaults=True)
            if text not in seen:
                seen[text] = number
                continue
            repeated += 1
            yield _ineffective(document, path, rules, (number, index), f"rule {_name(rules, seen[text])}")
        if rule.match and repeated == len(rule.match):
            yield _unreachable(document, path, rules, number, "all matches used by prior rules")
        if _takes_all(rule):
            taken_by = number


def _prefix_findings(document: Document, rules: Sequence[HttpRoute]) -> Iterator[Finding]:
    """Matches of a path's prefix that another match has already, rule by rule."""
    matches = [
        PrefixMatch(number, index, match.uri.prefix, conditions_of(match))
        for number, rule in enumerate(rules)
        for index, match in enumerate(rule.match)
        if match.uri is not None and match.uri.prefix is not None
    ]
    above = PrefixIndex(matches)
    for one in matches:
        if (taker := above.taker(one)) is not None:
            cause = f"rule {_name(rules, taker.number)}, which takes prefix {taker.prefix}"
            yield _ineffective(document, ("spec", "http"), rules, one.position, cause)
        above.add(one)


def _takes_all(rule: Rule) -> bool:
    if isinstance(rule, HttpRoute) and rule.delegate is not None:
        return False
    return not rule.match or any(_is_empty(match) for match in rule.match if isinstance(match, HttpMatch))


def _is_empty(match: HttpMatch) -> bool:
    names = match.model_fields_set - {"name", "ignore_uri_case"}
    conditions = {name for name in names if getattr(match, name)}
    return not conditions or (conditions == {"uri"} and match.uri is not None and match.uri.prefix == "/")


def _unreachable(document: Document, path: Path, rules: Sequence[Rule], number: int, reason: str) -> Finding:
    message = f"VirtualService rule {_name(rules, number)} not used ({reason})."
    return warning(document, codes.UNREACHABLE_RULE, (*path, number), message, _MOVE)


def _ineffective(
    document: Document, path: Path, rules: Sequence[Rule], at: tuple[int, int], cause: str
) -> Finding:
    number, index = at
    name = getattr(rules[number].match[index], "name", "")
    message = (
        f"VirtualService rule {_name(rules, number)} match {_called(name, index)} is not used "
        f"(duplicate/overlapping match in {cause})."
    )
    place = (*path, number, "match", index)
    return info(document, codes.INEFFECTIVE_MATCH, place, message, "remove it, or move it above that rule")


def _name(rules: Sequence[Rule], number: int) -> str:
    return _called(getattr(rules[number], "name", ""), number)


def _called(name: str, number: int) -> str:
    return f'"{name}"' if name else f"#{number}"
