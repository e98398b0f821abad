"""What the policies and rate limits of a workload say of a request or a connection."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ray_mesh.compile.policies import compile_policy
from ray_mesh.compile.workloads import in_scope, picks, policies_for, rate_limits_for
from ray_mesh.explain.answer import NOWHERE, Ground, Note, Step, Verdict
from ray_mesh.explain.case import Case
from ray_mesh.proxy import replies
from ray_mesh.resources import AuthorizationPolicySpec, Document, PeerAuthenticationSpec, RateLimitSpec
from ray_mesh.resources.mesh import ROOT_NAMESPACE
from ray_mesh.security.authorization import (
    AuthorizationInput,
    Decision,
    compile_policies,
    for_connections,
)
from ray_mesh.snapshot import Operation, Policy, Rule, Source, ValueMatch

_FIELDS = {"principals": "principal", "namespaces": "namespace", "hosts": "host", "ports": "port"}
_FIELDS |= {"methods": "method", "paths": "path"}
_NEVER = Rule((Source(principals=(ValueMatch("exact", ""),)),))
"""Nobody's principal is this."""


@dataclass(frozen=True, slots=True)
class Passage:
    """What a workload's guards say: the steps, and the verdict when they refuse."""

    steps: tuple[Step, ...]
    verdict: Verdict | None = None


def pass_guards(
    case: Case, workload: Document, asked: AuthorizationInput, *, is_connection: bool = False
) -> Passage:
    """Ask the AuthorizationPolicies of a workload, then its rate limits."""
    name = f"{workload.namespace}/{workload.name}"
    step, decision = _authorize(case, workload, asked, is_connection)
    if not decision.allowed:
        return Passage((step,), refusal(replies.denied(decision, asked.principal, name), step.ground))
    return Passage((step, *_limits(case, workload)))


def refusal(reply: replies.Reply, ground: Ground = NOWHERE) -> Verdict:
    """The verdict of an answer with which the mesh refuses."""
    return Verdict("refused", reply.message, reply.status, reply.flag, reply.reason, ground)


def peer_authentication(case: Case, workload: Document) -> Step:
    """Which PeerAuthentication holds: the workload's own, its namespace's, the root namespace's."""
    ranked = []
    for document in case.world.find("kind", "PeerAuthentication"):
        spec = document.read(PeerAuthenticationSpec)
        is_selective = bool(spec.selector and spec.selector.match_labels)
        if in_scope(document, workload) and picks(spec.selector, workload):
            rank = (is_selective, document.namespace != ROOT_NAMESPACE, -document.admitted_at)
            ranked.append((rank, document))
    if not ranked:
        return Step("peer authentication", "none: every connection between proxies is mutual TLS (STRICT)")
    _, document = max(ranked, key=lambda one: one[0])
    mtls = document.read(PeerAuthenticationSpec).mtls
    mode = (mtls.mode if mtls else None) or "UNSET"
    says = f"{document.title}: {mode}"
    if mode not in ("STRICT", "UNSET"):
        says += ", which this mesh does not honour: connections are mutual TLS all the same"
    return Step("peer authentication", says, case.places.at(document, "spec", "mtls", "mode"))


@dataclass(frozen=True, slots=True)
class _Held:
    """A policy as it holds for a workload; ``numbers`` are the places of its rules in the document."""

    document: Document
    policy: Policy
    numbers: tuple[int, ...]

    @property
    def action(self) -> str:
        """As it is written."""
        return self.document.read(AuthorizationPolicySpec).action


def _authorize(
    case: Case, workload: Document, asked: AuthorizationInput, is_connection: bool
) -> tuple[Step, Decision]:
    held = [_hold(case, one, is_connection) for one in policies_for(case.world, workload)]
    decision = compile_policies(tuple(one.policy for one in held)).check(asked)
    notes = (*_not_enforced(case, held), *_not_matched(case, held, decision, asked))
    says, ground = _outcome(case, held, decision)
    return Step("authorization", says, ground, notes, not decision.allowed), decision


def _outcome(case: Case, held: Sequence[_Held], decision: Decision) -> tuple[str, Ground]:
    """What was decided, and where it is written."""
    word = "allowed" if decision.allowed else "denied"
    if not held:
        return "no AuthorizationPolicy holds for it: allowed", NOWHERE
    decided = next((one for one in held if one.policy.name == decision.policy), None)
    if decided is not None:
        number = decided.numbers[decision.rule]
        says = f"{word} by {decided.document.title} rules[{number}] ({decided.action})"
        return says, case.places.at(decided.document, "spec", "rules", number)
    allow = next((one for one in held if one.policy.action == "ALLOW"), None)
    ground = case.places.at(allow.document, "spec") if allow is not None else NOWHERE
    return f"{word}: {decision.reason}", ground


def _hold(case: Case, document: Document, is_connection: bool) -> _Held:
    policy = _policy(case, document)
    numbers = tuple(range(len(policy.rules)))
    if not is_connection:
        return _Held(document, policy, numbers)
    kept = [number for number in numbers if _of_connection(policy, number).rules]
    narrowed = (rule for number in kept for rule in _of_connection(policy, number).rules)
    return _Held(document, replace(policy, rules=tuple(narrowed)), tuple(kept))


def _of_connection(policy: Policy, number: int) -> Policy:
    """One rule of a policy as it holds for a connection that is not HTTP, if it does."""
    return for_connections((replace(policy, rules=(policy.rules[number],)),))[0]


def _policy(case: Case, document: Document) -> Policy:
    """As it is compiled. What this build does not enforce of it must not let anything through: then no rule
    of an ALLOW policy matches, while those of a DENY policy hold without what is not understood. Nobody can
    say what a CUSTOM policy's authorizer answers, so it counts as a DENY."""
    policy = compile_policy(document, case.mesh.trust_domain)
    if document.read(AuthorizationPolicySpec).action == "CUSTOM":
        return replace(policy, action="DENY")
    if policy.action == "DENY":
        return policy
    doubted = _doubted(case, document)
    rules = (_NEVER if index in doubted else rule for index, rule in enumerate(policy.rules))
    return replace(policy, rules=tuple(rules))


def _doubted(case: Case, document: Document) -> set[int]:
    """The rules of which this build does not enforce something; all when it is something of the policy."""
    found: set[int] = set()
    for problem in case.doubts.get(document.title, ()):
        match problem.path:
            case ("spec", "rules", int(index), *_):
                found.add(index)
            case _:
                found.update(range(len(document.read(AuthorizationPolicySpec).rules)))
    return found


def _not_enforced(case: Case, held: Sequence[_Held]) -> Iterator[Note]:
    for one in held:
        for problem in case.doubts.get(one.document.title, ()):
            ground = case.places.at(one.document, *problem.path)
            yield Note(f"{one.document.title}: {problem.message}", ground)


def _not_matched(
    case: Case, held: Sequence[_Held], decision: Decision, asked: AuthorizationInput
) -> Iterator[Note]:
    """The rules that were asked and do not hold, each with its first condition that fails."""
    for one in held:
        decided_before = one.policy.action == "ALLOW" and decision.policy and not decision.allowed
        if one.policy.name == decision.policy or decided_before:
            continue
        named = f"not {one.document.title}"
        written = one.document.read(AuthorizationPolicySpec).rules
        if not written:
            yield Note(f"{named} ({one.action}): it has no rules", case.places.at(one.document, "spec"))
        for number in range(len(written)):
            if reason := _why_not_rule(one, number, asked):
                ground = case.places.at(one.document, "spec", "rules", number)
                yield Note(f"{named} rules[{number}] ({one.action}): {reason}", ground)


def _why_not_rule(held: _Held, number: int, asked: AuthorizationInput) -> str:
    if number not in held.numbers:
        return "it asks about requests, and this is a connection"
    rule = held.policy.rules[held.numbers.index(number)]
    return "" if rule == _NEVER else why_not(rule, asked)


def why_not(rule: Rule, asked: AuthorizationInput) -> str:
    """Which condition of a rule does not hold; empty when it matches. Each is asked of the authorizer."""
    if _matches(rule, asked):
        return ""
    for parts in (
        [Rule(sources=(one,)) for one in rule.sources],
        [Rule(operations=(one,)) for one in rule.operations],
    ):
        if parts and not any(_matches(one, asked) for one in parts):
            return "; ".join(dict.fromkeys(_failure(one, asked) for one in parts))
    return "no combination of its conditions holds"


def _failure(rule: Rule, asked: AuthorizationInput) -> str:
    part: Source | Operation = rule.sources[0] if rule.sources else rule.operations[0]
    for name in type(part).__dataclass_fields__:
        values = getattr(part, name)
        if not values:
            continue
        if not _matches(_alone(part, name), asked):
            return _spell(name, values, asked)
    return "its conditions do not hold"


def _alone(part: Source | Operation, name: str) -> Rule:
    """A rule with one field of a source or an operation."""
    only: dict[str, Any] = {name: getattr(part, name)}
    if isinstance(part, Source):
        return Rule(sources=(Source(**only),))
    return Rule(operations=(Operation(**only),))


def _spell(name: str, values: Sequence[ValueMatch] | Sequence[int], asked: AuthorizationInput) -> str:
    is_negative = name.startswith("not_")
    field = _FIELDS[name.removeprefix("not_")]
    is_of_source = field in ("principal", "namespace")
    found = getattr(asked, field)
    shown = repr(found) if found != "" else "not known" if is_of_source else "empty"
    listed = ", ".join(map(_value, values))
    who = "caller's " if is_of_source else ""
    return f"{who}{field} is {shown}, {'which is excluded by' if is_negative else 'not'} {listed}"


def _value(value: ValueMatch | int) -> str:
    if isinstance(value, int):
        return str(value)
    return {
        "exact": value.value,
        "prefix": f"{value.value}*",
        "suffix": f"*{value.value}",
        "present": "* (any)",
    }[value.kind]


def _matches(rule: Rule, asked: AuthorizationInput) -> bool:
    return compile_policies((Policy("", "ALLOW", (rule,)),)).check(asked).allowed


def _limits(case: Case, workload: Document) -> Iterator[Step]:
    for document in rate_limits_for(case.world, workload):
        spec = document.read(RateLimitSpec)
        says = f"{document.title}: {spec.requests} per {spec.unit.lower()} over the mesh, beyond that 429 RL"
        says += f"; fails {spec.fail_mode.lower()} when nobody can be asked"
        yield Step("rate limit", says, case.places.at(document, "spec"))
