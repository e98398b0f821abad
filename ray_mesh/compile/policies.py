"""AuthorizationPolicies in the form that proxies evaluate."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, cast

from ray_mesh import snapshot
from ray_mesh.resources import AuthorizationPolicySpec, Document
from ray_mesh.resources.authorization import Operation, Rule, Source

ISTIO_TRUST_DOMAIN = "cluster.local"
"""In a principal, Istio's word for "the mesh's own trust domain", whatever that is."""

Values = tuple[str, ...] | None


def compile_policy(document: Document, trust_domain: str) -> snapshot.Policy:
    """One policy; principals of ``cluster.local`` mean ``trust_domain``."""
    spec = document.read(AuthorizationPolicySpec)
    return snapshot.Policy(
        name=f"{document.namespace}/{document.name}",
        action=cast(Literal["ALLOW", "DENY"], spec.action),
        rules=tuple(_rule(rule, document.namespace, trust_domain) for rule in spec.rules),
    )


def value_match(text: str) -> snapshot.ValueMatch:
    """Istio's string forms: exact, ``p*``, ``*s`` and ``*``."""
    if text == "*":
        return snapshot.ValueMatch("present")
    if text.startswith("*"):
        return snapshot.ValueMatch("suffix", text[1:])
    if text.endswith("*"):
        return snapshot.ValueMatch("prefix", text[:-1])
    return snapshot.ValueMatch("exact", text)


def _rule(rule: Rule, namespace: str, trust_domain: str) -> snapshot.Rule:
    return snapshot.Rule(
        tuple(_source(one.source, namespace, trust_domain) for one in rule.from_ or ()),
        tuple(_operation(one.operation) for one in rule.to or ()),
    )


def _source(source: Source, namespace: str, trust_domain: str) -> snapshot.Source:
    """Service accounts become principals: the schema lets them stand beside no other peer field."""

    def local(principal: str) -> str:
        domain, slash, path = principal.partition("/")
        return f"{trust_domain}{slash}{path}" if slash and domain == ISTIO_TRUST_DOMAIN else principal

    return snapshot.Source(
        principals=_matches(source.principals, local) + _accounts(source.service_accounts, namespace),
        not_principals=_matches(source.not_principals, local)
        + _accounts(source.not_service_accounts, namespace),
        namespaces=_matches(source.namespaces),
        not_namespaces=_matches(source.not_namespaces),
    )


def _operation(operation: Operation) -> snapshot.Operation:
    return snapshot.Operation(
        hosts=_matches(operation.hosts, str.lower),
        not_hosts=_matches(operation.not_hosts, str.lower),
        ports=_ports(operation.ports),
        not_ports=_ports(operation.not_ports),
        methods=_matches(operation.methods),
        not_methods=_matches(operation.not_methods),
        paths=_matches(operation.paths),
        not_paths=_matches(operation.not_paths),
    )


def _matches(values: Values, change: Callable[[str], str] = str) -> tuple[snapshot.ValueMatch, ...]:
    return tuple(value_match(change(value)) for value in values or ())


def _accounts(accounts: Values, namespace: str) -> tuple[snapshot.ValueMatch, ...]:
    """``name`` or ``namespace/name``, of any trust domain that the mesh accepts."""
    return tuple(_account(account, namespace) for account in accounts or ())


def _account(account: str, namespace: str) -> snapshot.ValueMatch:
    owner, _, name = account.rpartition("/")
    return snapshot.ValueMatch("suffix", f"/ns/{owner or namespace}/sa/{name}")


def _ports(ports: Iterable[str] | None) -> tuple[int, ...]:
    return tuple(int(port) for port in ports or ())
