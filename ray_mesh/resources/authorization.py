"""Istio's AuthorizationPolicy (security.istio.io).

Anything that would make a policy weaker than it reads is refused: a ``*`` that would be compared as
a letter, an empty list that would match everyone, a DENY that denies nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from ray_mesh.resources.schema import (
    LATER,
    Flaw,
    Model,
    NonEmpty,
    Only,
    is_label,
    is_port,
    is_subdomain,
)
from ray_mesh.resources.target_ref import TargetedSpec

Values = Annotated[tuple[NonEmpty, ...], Field(min_length=1)]
_PEER_FIELDS = ("principals", "notPrincipals", "namespaces", "notNamespaces")
_FIELDS_WITH_WILDCARDS = {
    "principals",
    "not_principals",
    "namespaces",
    "not_namespaces",
    "hosts",
    "not_hosts",
    "methods",
    "not_methods",
    "paths",
    "not_paths",
}


class Source(Model):
    """Who calls: all fields that are set must match, each by one of its values."""

    principals: Values | None = None
    not_principals: Values | None = None
    request_principals: Annotated[Values | None, LATER] = None
    not_request_principals: Annotated[Values | None, LATER] = None
    namespaces: Values | None = None
    not_namespaces: Values | None = None
    service_accounts: Annotated[Values, Field(max_length=16)] | None = None
    not_service_accounts: Annotated[Values, Field(max_length=16)] | None = None
    ip_blocks: Annotated[Values | None, LATER] = None
    not_ip_blocks: Annotated[Values | None, LATER] = None
    remote_ip_blocks: Annotated[Values | None, LATER] = None
    not_remote_ip_blocks: Annotated[Values | None, LATER] = None
    trust_domains: Annotated[Values | None, LATER] = None
    not_trust_domains: Annotated[Values | None, LATER] = None

    def flaws(self) -> Iterator[Flaw]:
        if not self.model_fields_set:
            yield Flaw((), "an empty source would match every caller: remove from, or say who")
        by_account = self.service_accounts is not None or self.not_service_accounts is not None
        if by_account and any(getattr(self, _field(name)) is not None for name in _PEER_FIELDS):
            yield Flaw((), "Cannot set serviceAccounts with namespaces or principals")
        yield from _account_flaws("serviceAccounts", self.service_accounts)
        yield from _account_flaws("notServiceAccounts", self.not_service_accounts)
        yield from _principal_flaws("principals", self.principals)
        yield from _principal_flaws("notPrincipals", self.not_principals)
        yield from _wildcard_flaws(self)


class Operation(Model):
    """What is called: all fields that are set must match, each by one of its values."""

    hosts: Values | None = None
    not_hosts: Values | None = None
    ports: Values | None = None
    not_ports: Values | None = None
    methods: Values | None = None
    not_methods: Values | None = None
    paths: Values | None = None
    not_paths: Values | None = None

    def flaws(self) -> Iterator[Flaw]:
        if not self.model_fields_set:
            yield Flaw((), "an empty operation would match every request: remove to, or say which")
        yield from _port_flaws("ports", self.ports)
        yield from _port_flaws("notPorts", self.not_ports)
        for name, paths in (("paths", self.paths), ("notPaths", self.not_paths)):
            for index, path in enumerate(paths or ()):
                if "{" in path or "}" in path:
                    yield Flaw((name, index), f"path template {path!r}", later=True)
        yield from _wildcard_flaws(self)


class From(Model):
    """One source."""

    source: Source


class To(Model):
    """One operation."""

    operation: Operation


class Condition(Model):
    """A further condition on attributes of the request."""

    key: NonEmpty
    values: Values | None = None
    not_values: Values | None = None


class Rule(Model):
    """Matches when one of ``from``, one of ``to`` and all of ``when`` do."""

    from_: Annotated[tuple[From, ...] | None, Field(alias="from", min_length=1, max_length=512)] = None
    to: Annotated[tuple[To, ...], Field(min_length=1)] | None = None
    when: Annotated[tuple[Condition, ...] | None, LATER] = None


class Provider(Model):
    """Who decides a CUSTOM policy."""

    name: str | None = None


class AuthorizationPolicySpec(TargetedSpec):
    """Who may call what, for the workloads that it selects."""

    rules: Annotated[tuple[Rule, ...], Field(max_length=512)] = ()
    action: Annotated[Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"], Only(("ALLOW", "DENY"))] = "ALLOW"
    provider: Annotated[Provider | None, LATER] = None

    def flaws(self) -> Iterator[Flaw]:
        yield from super().flaws()
        if self.action == "DENY" and not self.rules:
            yield Flaw((), "a DENY policy without rules denies nothing; to deny all write rules: [{}]")


def _field(alias: str) -> str:
    return "not_" + alias[3].lower() + alias[4:] if alias.startswith("not") else alias


def _port_flaws(name: str, ports: tuple[str, ...] | None) -> Iterator[Flaw]:
    for index, port in enumerate(ports or ()):
        if not is_port(port):
            yield Flaw((name, index), f"{port!r} is not a port: write 1 to 65535 as text")


def _account_flaws(name: str, accounts: tuple[str, ...] | None) -> Iterator[Flaw]:
    for index, account in enumerate(accounts or ()):
        namespace, slash, plain = account.rpartition("/")
        if not is_subdomain(plain) or (slash and not is_label(namespace)):
            yield Flaw((name, index), f"{account!r} is not name or namespace/name (no wildcards here)")


def _principal_flaws(name: str, principals: tuple[str, ...] | None) -> Iterator[Flaw]:
    for index, principal in enumerate(principals or ()):
        if principal.startswith("spiffe://"):
            fixed = principal.removeprefix("spiffe://")
            yield Flaw((name, index), f"a principal is written without spiffe://: {fixed}")


def _wildcard_flaws(model: Model) -> Iterator[Flaw]:
    for field in model.model_fields_set & _FIELDS_WITH_WILDCARDS:
        alias = type(model).model_fields[field].alias or field
        for index, value in enumerate(getattr(model, field)):
            if "{" not in value and "*" in value.removeprefix("*") and "*" in value.removesuffix("*"):
                yield Flaw((alias, index), f"{value!r}: * works at one end of a value only", later=True)
