"""Istio's AuthorizationPolicy (security.istio.io).

Anything that would make a policy weaker than it reads is refused: a ``*`` that would be compared as
a letter, an empty list that would match everyone, a DENY that denies nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import Field
from pydantic.alias_generators import to_camel

from ray_mesh.resources.host_names import network_flaws
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
from ray_mesh.resources.source import Path
from ray_mesh.resources.target_ref import TargetedSpec

Values = Annotated[tuple[NonEmpty, ...], Field(min_length=1)]
_KEYS = (
    *("source.ip", "remote.ip", "source.namespace", "source.principal", "source.serviceAccount"),
    *("source.trustDomain", "request.auth.principal", "request.auth.audiences", "request.auth.presenter"),
    *("destination.ip", "destination.port", "connection.sni"),
)
_MAP_KEYS = (
    *("request.headers", "request.experimental.inline.headers", "request.auth.claims"),
    "experimental.envoy.filters.",
)
_MAP_KEY = re.compile(r"[^\[]+\[.+\]")
_ADDRESS_KEYS = ("source.ip", "remote.ip", "destination.ip")
_LITERAL = re.compile(r"[a-zA-Z0-9\-._~%!$&'()+,;:@=]+")
"""What a segment of a path with templates may be besides a template."""
_NOT_CUSTOM = {"namespaces", "not_namespaces", "principals", "not_principals"}
_NOT_CUSTOM |= {"request_principals", "not_request_principals"}
_NOT_CUSTOM |= {"service_accounts", "not_service_accounts"}
_NOT_CUSTOM_KEYS = ("source.namespace", "source.serviceAccount", "source.principal")
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
        for name in ("ip_blocks", "not_ip_blocks", "remote_ip_blocks", "not_remote_ip_blocks"):
            yield from network_flaws((to_camel(name),), getattr(self, name))
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
                if problem := _template_problem(path):
                    yield Flaw((name, index), f"{path!r} is no path template: {problem}")
                elif is_template(path):
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

    key: Annotated[NonEmpty, LATER]
    values: tuple[NonEmpty, ...] = ()
    not_values: tuple[NonEmpty, ...] = ()

    def flaws(self) -> Iterator[Flaw]:
        if not self.values and not self.not_values:
            yield Flaw((), f"at least one of values or notValues must be set for key {self.key}")
        if message := _key_problem(self.key):
            yield Flaw(("key",), message)
        for name, values in (("values", self.values), ("notValues", self.not_values)):
            if self.key in _ADDRESS_KEYS:
                yield from network_flaws((name,), values)
            elif self.key == "destination.port":
                yield from _port_flaws(name, values)
            elif self.key == "source.serviceAccount":
                yield from _account_flaws(name, values)


class Rule(Model):
    """Matches when one of ``from``, one of ``to`` and all of ``when`` do."""

    from_: Annotated[tuple[From, ...] | None, Field(alias="from", min_length=1, max_length=512)] = None
    to: Annotated[tuple[To, ...], Field(min_length=1)] | None = None
    when: tuple[Condition, ...] | None = None


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
        if self.action == "CUSTOM":
            yield from self._custom_flaws()
        elif self.provider is not None:
            yield Flaw(("provider",), f"provider must not be with non CUSTOM action, found {self.action}")

    def _custom_flaws(self) -> Iterator[Flaw]:
        if not self.rules:
            yield Flaw((), "a CUSTOM policy without rules asks nobody; to ask for all write rules: [{}]")
        if self.provider is None or not self.provider.name:
            yield Flaw(("provider", "name"), "provider.name must not be empty")
        for index, rule in enumerate(self.rules):
            for number, one in enumerate(rule.from_ or ()):
                for name in sorted(_NOT_CUSTOM & one.source.model_fields_set):
                    source: Path = ("rules", index, "from", number, "source", to_camel(name))
                    yield Flaw(source, "is not supported with CUSTOM action")
            for number, condition in enumerate(rule.when or ()):
                if condition.key in _NOT_CUSTOM_KEYS or condition.key.startswith("request.auth."):
                    key: Path = ("rules", index, "when", number, "key")
                    yield Flaw(key, f"{condition.key} is not supported with CUSTOM action")


def is_template(path: str) -> bool:
    """Whether a path has ``{*}`` or ``{**}`` in it."""
    return "{*}" in path or "{**}" in path


def _template_problem(path: str) -> str:
    """What is wrong with a path's templates, as in Istio; empty for one without braces."""
    is_over = False
    for segment in path.strip("/").split("/"):
        if segment in ("{*}", "{**}"):
            if is_over:
                return "{**} is not the last operator"
            is_over = segment == "{**}"
        elif "{" in segment or "}" in segment:
            return f"a segment is {{*}}, {{**}} or has no braces, and {segment!r} is none of these"
        elif is_template(path) and not _LITERAL.fullmatch(segment):
            return f"{segment!r} has a character that no segment beside a template may have"
    return ""


def _key_problem(key: str) -> str:
    if key in _KEYS:
        return ""
    if key.startswith(_MAP_KEYS):
        return "" if _MAP_KEY.fullmatch(key) else f"bad key {key!r}: should have format a[b]"
    close = get_close_matches(key, [*_KEYS, *_MAP_KEYS], 1, 0.6)
    return f"unknown attribute {key!r}" + (f"; did you mean {close[0]}?" if close else "")


def _field(alias: str) -> str:
    return "not_" + alias[3].lower() + alias[4:] if alias.startswith("not") else alias


def _port_flaws(name: str, ports: tuple[str, ...] | None) -> Iterator[Flaw]:
    for index, port in enumerate(ports or ()):
        if port == "0":
            yield Flaw((name, index), "0, which is the port of nothing", later=True)
        elif not is_port(port):
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
            yield Flaw((name, index), f"spiffe://, which no identity begins with here: {fixed}", later=True)


def _wildcard_flaws(model: Model) -> Iterator[Flaw]:
    for field in model.model_fields_set & _FIELDS_WITH_WILDCARDS:
        alias = type(model).model_fields[field].alias or field
        for index, value in enumerate(getattr(model, field)):
            if "{" not in value and "*" in value.removeprefix("*") and "*" in value.removesuffix("*"):
                yield Flaw((alias, index), f"{value!r}: * works at one end of a value only", later=True)
