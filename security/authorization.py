"""AuthorizationPolicy, compiled to closures, with Istio's order and matching.

Order: a DENY rule that matches denies; without ALLOW policies everything else is allowed; an ALLOW
rule that matches allows; the rest is denied. A policy without rules never matches, so that one
ALLOW policy without rules denies everything.

Rules that can only match a few exact principals are indexed by principal, so that the cost of a
decision does not grow with the number of callers that have a rule of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, TypeVar

from ray_mesh.snapshot import Operation, Policy, Rule, Source, ValueMatch


class AuthorizationInput(NamedTuple):
    """What a decision looks at.

    ``principal`` is the verified SPIFFE ID without ``spiffe://`` and ``namespace`` the one it names;
    both are empty for a peer without identity. ``host`` is the authority as received, ``path`` the
    normalized path without query.
    """

    principal: str
    namespace: str
    host: str
    port: int
    method: str
    path: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome and what decided it. ``policy`` is empty and ``rule`` -1 when no rule did."""

    allowed: bool
    policy: str
    rule: int
    reason: str


V = TypeVar("V", ValueMatch, int)
Text = Callable[[Any], bool]
"""A test of one field of a request."""
Conjunction = tuple[tuple[int, Text], ...]
"""Tests that must all hold, each with the position of its field in :class:`AuthorizationInput`."""
Alternatives = tuple[Conjunction, ...]
Step = tuple[Conjunction, tuple[Alternatives, ...], Decision]
"""A rule: what must hold, then groups of which one alternative each must hold, then the outcome."""

_PRINCIPAL, _NAMESPACE, _HOST, _PORT, _METHOD, _PATH = range(6)
_INDEX_LIMIT = 100_000


class Authorizer:
    """Decides requests to one workload. ``is_open`` says that it allows everything unseen."""

    __slots__ = ("_allow", "_default", "_deny", "is_open")

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._deny = _Table([policy for policy in policies if policy.action == "DENY"])
        allow = [policy for policy in policies if policy.action == "ALLOW"]
        self._allow = _Table(allow)
        self._default = _default(allow)
        self.is_open = not policies

    def check(self, request: AuthorizationInput) -> Decision:
        """Decide one request. Pure, and made for the request path."""
        return self._deny.find(request) or self._allow.find(request) or self._default


def compile_policies(policies: tuple[Policy, ...]) -> Authorizer:
    """Compile the policies that apply to one workload; order decides only which one is named."""
    return Authorizer(policies)


_CONNECTION_SOURCE = frozenset({"principals", "not_principals", "namespaces", "not_namespaces"})
_CONNECTION_OPERATION = frozenset({"ports", "not_ports"})
"""What can be asked about a connection that is not HTTP. Whatever else there is belongs to requests."""


def for_connections(policies: Sequence[Policy]) -> tuple[Policy, ...]:
    """The policies as they hold for a connection that is not HTTP.

    As Istio has it, and never wider than what was written: an ALLOW rule that asks about requests is left
    out (its policy stays, and allows less); of a DENY rule only what it asks about requests is.
    """
    return tuple(replace(policy, rules=tuple(_connection_rules(policy))) for policy in policies)


def _connection_rules(policy: Policy) -> Iterator[Rule]:
    for rule in policy.rules:
        sources = tuple(_only(each, _CONNECTION_SOURCE) for each in rule.sources)
        operations = tuple(_only(each, _CONNECTION_OPERATION) for each in rule.operations)
        narrowed = Rule(sources, operations)
        if policy.action != "ALLOW" or narrowed == rule:
            yield narrowed


P = TypeVar("P", Source, Operation)


def _only(part: P, names: frozenset[str]) -> P:
    dropped: dict[str, Any] = {each.name: each.default for each in fields(part) if each.name not in names}
    return replace(part, **dropped)


def _default(allow: Sequence[Policy]) -> Decision:
    if not allow:
        return Decision(True, "", -1, "no ALLOW policy applies to this workload")
    names = ", ".join(policy.name for policy in allow)
    return Decision(False, "", -1, f"no ALLOW policy matches; policies: {names}")


class _Table:
    """The rules of one action in order, and for each indexed principal those that could match it."""

    __slots__ = ("_by_principal", "_others")

    def __init__(self, policies: Sequence[Policy]) -> None:
        rules = [
            (rule, _decision(policy, number))
            for policy in policies
            for number, rule in enumerate(policy.rules)
        ]
        names = {name for rule, _ in rules for name in _callers(rule)}
        if len(names) * len(rules) > _INDEX_LIMIT:
            names = set()
        steps: dict[str, list[Step]] = {name: [] for name in names}
        others: list[Step] = []
        for rule, decision in rules:
            callers = _callers(rule) if names else frozenset()
            if callers:
                for name in callers:
                    steps[name].append(_step(_narrowed(rule, name), decision))
            else:
                step = _step(rule, decision)
                others.append(step)
                for each in steps.values():
                    each.append(step)
        self._others = tuple(others)
        self._by_principal = {name: tuple(each) for name, each in steps.items()}

    def find(self, request: AuthorizationInput) -> Decision | None:
        """The decision of the first rule that matches."""
        for tests, groups, decision in self._by_principal.get(request.principal, self._others):
            for field, test in tests:
                if not test(request[field]):
                    break
            else:
                if not groups or all(_matches_any(group, request) for group in groups):
                    return decision
        return None


def _matches_any(alternatives: Alternatives, request: AuthorizationInput) -> bool:
    return any(all(test(request[field]) for field, test in each) for each in alternatives)


def _decision(policy: Policy, number: int) -> Decision:
    allowed = policy.action == "ALLOW"
    verb = "allows" if allowed else "denies"
    reason = f"AuthorizationPolicy {policy.name} ({policy.action}) rule {number} {verb} this request"
    return Decision(allowed, policy.name, number, reason)


def _callers(rule: Rule) -> frozenset[str]:
    """The only principals that a rule can match, or none if it cannot be told."""
    sources = rule.sources
    if not all(each.principals and all(m.kind == "exact" for m in each.principals) for each in sources):
        return frozenset()
    return frozenset(match.value for each in sources for match in each.principals if match.value)


def _narrowed(rule: Rule, principal: str) -> Rule:
    """The rule for a caller that is known to be ``principal``, which is one of its exact principals."""
    possible = (each for each in rule.sources if any(m.value == principal for m in each.principals))
    return replace(rule, sources=tuple(replace(each, principals=()) for each in possible))


def _step(rule: Rule, decision: Decision) -> Step:
    tests: list[tuple[int, Text]] = []
    groups: list[Alternatives] = []
    for alternatives in (tuple(map(_source, rule.sources)), tuple(map(_operation, rule.operations))):
        if len(alternatives) == 1:
            tests += alternatives[0]
        elif alternatives:
            groups.append(alternatives)
    return tuple(tests), tuple(groups), decision


def _source(source: Source) -> Conjunction:
    return (
        *_test(_PRINCIPAL, source.principals, source.not_principals, _identity),
        *_test(_NAMESPACE, source.namespaces, source.not_namespaces, _identity),
    )


def _operation(operation: Operation) -> Conjunction:
    return (
        *_test(_METHOD, operation.methods, operation.not_methods, _text),
        *_test(_PORT, operation.ports, operation.not_ports, _port),
        *_test(_PATH, operation.paths, operation.not_paths, _text),
        *_test(_HOST, operation.hosts, operation.not_hosts, _host),
    )


def _test(
    field: int, wanted: tuple[V, ...], unwanted: tuple[V, ...], compiled: Callable[[tuple[V, ...]], Text]
) -> Iterator[tuple[int, Text]]:
    if wanted:
        yield field, compiled(wanted)
    if unwanted:
        matches = compiled(unwanted)
        yield field, lambda value: not matches(value)


def _text(matches: tuple[ValueMatch, ...]) -> Text:
    exact = frozenset(match.value for match in matches if match.kind == "exact").__contains__
    prefixes = tuple(match.value for match in matches if match.kind == "prefix")
    suffixes = tuple(match.value for match in matches if match.kind == "suffix")
    if any(match.kind == "present" for match in matches):
        return lambda value: value != "" or exact(value) or "" in prefixes or "" in suffixes
    if not prefixes and not suffixes:
        return exact
    return lambda value: exact(value) or value.startswith(prefixes) or value.endswith(suffixes)


def _identity(matches: tuple[ValueMatch, ...]) -> Text:
    """As :func:`_text`, but nothing matches a peer without identity."""
    matches = tuple(match for match in matches if match.value or match.kind != "exact")
    if all(match.kind == "exact" for match in matches):
        return _text(matches)
    text = _text(matches)
    return lambda value: value != "" and text(value)


def _host(matches: tuple[ValueMatch, ...]) -> Text:
    text = _text(tuple(replace(match, value=match.value.lower()) for match in matches))
    return lambda value: text(value.lower())


def _port(ports: tuple[int, ...]) -> Text:
    return frozenset(ports).__contains__
