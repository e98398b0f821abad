"""The compiled authorizer against an evaluator that is slow and obviously right."""

from __future__ import annotations

from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from ray_mesh.security.authorization import AuthorizationInput, compile_policies
from ray_mesh.snapshot import Operation, Policy, Rule, Source, ValueMatch

WORDS = ["", "a", "ab", "b", "ba", "A", "aBa"]
PORTS = [80, 81]


def value_matches(match: ValueMatch, value: str) -> bool:
    if match.kind == "exact":
        return value == match.value
    if match.kind == "prefix":
        return value.startswith(match.value)
    if match.kind == "suffix":
        return value.endswith(match.value)
    return value != ""


def texts(wanted: tuple[ValueMatch, ...], unwanted: tuple[ValueMatch, ...], value: str) -> bool:
    if wanted and not any(value_matches(each, value) for each in wanted):
        return False
    return not any(value_matches(each, value) for each in unwanted)


def identities(wanted: tuple[ValueMatch, ...], unwanted: tuple[ValueMatch, ...], value: str) -> bool:
    if value == "":
        return not wanted
    return texts(wanted, unwanted, value)


def lowered(matches: tuple[ValueMatch, ...]) -> tuple[ValueMatch, ...]:
    return tuple(ValueMatch(each.kind, each.value.lower()) for each in matches)


def source_matches(source: Source, request: AuthorizationInput) -> bool:
    return identities(source.principals, source.not_principals, request.principal) and identities(
        source.namespaces, source.not_namespaces, request.namespace
    )


def operation_matches(operation: Operation, request: AuthorizationInput) -> bool:
    return (
        texts(lowered(operation.hosts), lowered(operation.not_hosts), request.host.lower())
        and texts(operation.methods, operation.not_methods, request.method)
        and texts(operation.paths, operation.not_paths, request.path)
        and (not operation.ports or request.port in operation.ports)
        and request.port not in operation.not_ports
    )


def rule_matches(rule: Rule, request: AuthorizationInput) -> bool:
    from_matches = not rule.sources or any(source_matches(each, request) for each in rule.sources)
    to_matches = not rule.operations or any(operation_matches(each, request) for each in rule.operations)
    return from_matches and to_matches


def first_match(
    policies: tuple[Policy, ...], action: str, request: AuthorizationInput
) -> tuple[str, int] | None:
    for policy in policies:
        for number, rule in enumerate(policy.rules):
            if policy.action == action and rule_matches(rule, request):
                return policy.name, number
    return None


def expected(policies: tuple[Policy, ...], request: AuthorizationInput) -> tuple[bool, str, int]:
    if denied := first_match(policies, "DENY", request):
        return False, *denied
    if not any(policy.action == "ALLOW" for policy in policies):
        return True, "", -1
    if allowed := first_match(policies, "ALLOW", request):
        return True, *allowed
    return False, "", -1


words = st.sampled_from(WORDS)
matches = st.lists(
    st.builds(ValueMatch, st.sampled_from(["exact", "exact", "prefix", "suffix", "present"]), words),
    max_size=2,
).map(tuple)
exacts = st.lists(st.builds(ValueMatch, st.just("exact"), words), min_size=1, max_size=3).map(tuple)
ports = st.lists(st.sampled_from(PORTS), max_size=2).map(tuple)
sources = st.one_of(
    st.builds(Source, matches, matches, matches, matches),
    st.builds(Source, exacts),
    st.builds(Source, exacts, matches, matches, matches),
)
operations = st.builds(Operation, matches, matches, ports, ports, matches, matches, matches, matches)
rules = st.builds(Rule, st.lists(sources, max_size=3).map(tuple), st.lists(operations, max_size=2).map(tuple))
actions: list[Literal["ALLOW", "DENY"]] = ["ALLOW", "ALLOW", "DENY"]
policy_sets = st.lists(
    st.tuples(st.sampled_from(actions), st.lists(rules, max_size=3).map(tuple)), max_size=4
).map(lambda each: tuple(Policy(f"p/{number}", action, made) for number, (action, made) in enumerate(each)))
requests = st.builds(AuthorizationInput, words, words, words, st.sampled_from(PORTS), words, words)


@given(policy_sets, st.lists(requests, min_size=1, max_size=12))
@settings(max_examples=200, deadline=None)
def test_the_compiled_form_decides_and_names_as_the_naive_one(
    policies: tuple[Policy, ...], asked: list[AuthorizationInput]
) -> None:
    compiled = compile_policies(policies)
    for request in asked:
        decision = compiled.check(request)
        assert (decision.allowed, decision.policy, decision.rule) == expected(policies, request)
        assert decision.reason
