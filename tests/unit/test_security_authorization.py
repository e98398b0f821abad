"""AuthorizationPolicy: order, matching and what a decision names."""

from __future__ import annotations

from typing import Any

import pytest

from ray_mesh.security.authorization import AuthorizationInput, Authorizer, compile_policies
from ray_mesh.snapshot import Operation, Policy, Rule, Source, ValueMatch

SLEEP = "mesh.local/ns/default/sa/sleep"
REQUEST = AuthorizationInput(SLEEP, "default", "reviews.default.svc.cluster.local", 80, "GET", "/v1/list")
ANONYMOUS = REQUEST._replace(principal="", namespace="")
ANYTHING = Rule()


def exact(*values: str) -> tuple[ValueMatch, ...]:
    return tuple(ValueMatch("exact", value) for value in values)


def allow(*rules: Rule, name: str = "default/allow") -> Policy:
    return Policy(name, "ALLOW", rules)


def deny(*rules: Rule, name: str = "default/deny") -> Policy:
    return Policy(name, "DENY", rules)


def authorizer(*policies: Policy) -> Authorizer:
    return compile_policies(policies)


def operation(**fields: Any) -> Rule:
    return Rule(operations=(Operation(**fields),))


def source(**fields: Any) -> Rule:
    return Rule(sources=(Source(**fields),))


def matches(rule: Rule, request: AuthorizationInput = REQUEST) -> bool:
    """Whether the rule matches, seen through ALLOW and through DENY, which must agree."""
    allowed = authorizer(allow(rule)).check(request).allowed
    assert authorizer(deny(rule)).check(request).allowed is not allowed
    return allowed


def test_without_policies_all_is_allowed() -> None:
    empty = authorizer()
    assert empty.is_open
    decision = empty.check(REQUEST)
    assert (decision.allowed, decision.policy, decision.rule) == (True, "", -1)
    assert not authorizer(allow()).is_open


def test_deny_comes_first() -> None:
    decision = authorizer(allow(ANYTHING), deny(ANYTHING)).check(REQUEST)
    assert (decision.allowed, decision.policy, decision.rule) == (False, "default/deny", 0)
    assert decision.reason == "AuthorizationPolicy default/deny (DENY) rule 0 denies this request"


def test_only_deny_policies_allow_the_rest() -> None:
    assert authorizer(deny(operation(methods=exact("DELETE")))).check(REQUEST).allowed


def test_an_allow_policy_without_rules_denies_all() -> None:
    decision = authorizer(allow(name="a/nothing"), allow(operation(ports=(81,)), name="b/other")).check(
        REQUEST
    )
    assert (decision.allowed, decision.policy, decision.rule) == (False, "", -1)
    assert decision.reason == "no ALLOW policy matches; policies: a/nothing, b/other"


def test_a_deny_policy_without_rules_never_matches() -> None:
    assert authorizer(deny()).check(REQUEST).allowed


@pytest.mark.parametrize(
    "rule",
    [Rule(), Rule((Source(),), ()), Rule((), (Operation(),)), Rule((Source(),), (Operation(),))],
)
def test_an_empty_rule_matches_everything(rule: Rule) -> None:
    assert matches(rule)
    assert matches(rule, ANONYMOUS)


def test_the_rule_that_decided_is_named() -> None:
    policies = (
        allow(operation(ports=(81,)), name="a/a"),
        allow(operation(ports=(82,)), operation(methods=exact("GET")), ANYTHING, name="b/b"),
    )
    decision = authorizer(*policies).check(REQUEST)
    assert (decision.allowed, decision.policy, decision.rule) == (True, "b/b", 1)
    assert decision.reason == "AuthorizationPolicy b/b (ALLOW) rule 1 allows this request"


@pytest.mark.parametrize(
    ("match", "value", "expected"),
    [
        (ValueMatch("exact", "/a"), "/a", True),
        (ValueMatch("exact", "/a"), "/a/", False),
        (ValueMatch("exact", "/a"), "/A", False),
        (ValueMatch("exact", "/*"), "/a", False),
        (ValueMatch("prefix", "/a"), "/abc", True),
        (ValueMatch("prefix", "/a"), "/a", True),
        (ValueMatch("prefix", "/a"), "/ba", False),
        (ValueMatch("suffix", "/info"), "/x/info", True),
        (ValueMatch("suffix", "/info"), "/info", True),
        (ValueMatch("suffix", "/info"), "/info2", False),
        (ValueMatch("present"), "/", True),
        (ValueMatch("present"), "", False),
        (ValueMatch("prefix", ""), "", True),
        (ValueMatch("suffix", ""), "", True),
    ],
)
def test_string_forms(match: ValueMatch, value: str, expected: bool) -> None:
    for others in (
        (),
        (ValueMatch("exact", "other"),),
        (ValueMatch("prefix", "no"), ValueMatch("suffix", "no")),
    ):
        request = REQUEST._replace(path=value)
        assert matches(operation(paths=(*others, match)), request) is expected
        assert matches(operation(not_paths=(match, *others)), request) is not expected


def test_hosts_have_no_case_and_everything_else_has() -> None:
    shouted = REQUEST._replace(host="REVIEWS.default.svc.cluster.local")
    assert matches(operation(hosts=exact("reviews.Default.svc.cluster.local")), shouted)
    assert matches(operation(hosts=(ValueMatch("suffix", ".Cluster.LOCAL"),)), shouted)
    assert matches(operation(hosts=(ValueMatch("prefix", "Reviews."),)), REQUEST)
    assert not matches(operation(not_hosts=exact("Reviews.default.svc.cluster.local")), REQUEST)
    assert not matches(operation(methods=exact("get")))
    assert not matches(operation(paths=exact("/V1/list")))
    assert not matches(source(principals=exact(SLEEP.upper())))
    assert not matches(source(namespaces=exact("Default")))


def test_fields_are_anded_and_values_ored() -> None:
    assert matches(
        operation(methods=exact("PUT", "GET"), ports=(80, 443), paths=(ValueMatch("prefix", "/v1"),))
    )
    assert not matches(operation(methods=exact("PUT", "GET"), ports=(443,)))
    assert matches(operation(not_methods=exact("PUT", "POST"), not_ports=(443,)))
    assert not matches(operation(not_methods=exact("PUT", "GET")))
    assert not matches(operation(methods=exact("GET"), not_paths=exact("/v1/list")))


def test_sources_and_operations_are_each_ored_then_anded() -> None:
    sources = (Source(namespaces=exact("other")), Source(principals=exact(SLEEP)))
    operations = (Operation(methods=exact("PUT")), Operation(ports=(80,)))
    assert matches(Rule(sources, operations))
    assert not matches(Rule(sources[:1], operations))
    assert not matches(Rule(sources, operations[:1]))


@pytest.mark.parametrize("kind", ["exact", "prefix", "suffix", "present"])
@pytest.mark.parametrize("value", ["", SLEEP])
def test_a_peer_without_identity_matches_no_positive_source(kind: Any, value: str) -> None:
    match = (ValueMatch(kind, value),)
    for field in ("principals", "namespaces"):
        assert not matches(source(**{field: match}), ANONYMOUS)
        assert not matches(Rule((Source(**{field: match}), Source(**{field: exact("x")}))), ANONYMOUS)
        assert matches(source(**{f"not_{field}": match}), ANONYMOUS)


def test_positive_and_negative_together() -> None:
    rule = source(principals=(ValueMatch("prefix", "mesh.local/"),), not_principals=exact(SLEEP))
    assert not matches(rule)
    assert not matches(rule, ANONYMOUS)
    assert matches(rule, REQUEST._replace(principal="mesh.local/ns/default/sa/other"))
    assert matches(source(not_namespaces=exact("other")))
    assert not matches(source(not_namespaces=exact("other", "default")))


def test_indexed_rules_keep_their_order_among_the_others() -> None:
    policies = (
        allow(source(principals=exact(SLEEP)), name="a/a"),
        allow(operation(ports=(80,)), name="b/b"),
        allow(source(principals=exact("x", SLEEP)), name="c/c"),
    )
    assert authorizer(*policies).check(REQUEST).policy == "a/a"
    assert authorizer(*policies[::-1]).check(REQUEST).policy == "c/c"
    assert authorizer(policies[1], policies[0]).check(REQUEST).policy == "b/b"
    assert authorizer(*policies).check(ANONYMOUS).policy == "b/b"


def test_an_indexed_rule_keeps_its_other_conditions() -> None:
    rule = Rule(
        (
            Source(principals=exact(SLEEP), namespaces=exact("other")),
            Source(principals=exact("x"), namespaces=exact("default")),
        )
    )
    assert not matches(rule)
    assert matches(rule, REQUEST._replace(principal="x"))
    assert not matches(source(principals=exact(SLEEP), not_principals=exact(SLEEP)))


def test_very_many_principals_are_decided_without_an_index() -> None:
    rules = [source(principals=exact(f"p{number}")) for number in range(400)]
    assert authorizer(allow(*rules)).check(REQUEST._replace(principal="p399")).rule == 399
    assert not authorizer(allow(*rules)).check(REQUEST).allowed
