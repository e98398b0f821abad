"""GRPCRoute: which gRPC calls go where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from ray_mesh.resources.gateway_api.filters import GrpcFilter, repeated_flaws
from ray_mesh.resources.gateway_api.http_route import (
    HeaderMatch,
    pattern_flaws,
    too_many_flaws,
    twice,
    unique_names,
)
from ray_mesh.resources.gateway_api.names import Hostname, SectionName
from ray_mesh.resources.gateway_api.references import SESSIONS, BackendRef, RouteSpec, SessionPersistence
from ray_mesh.resources.problems import find_flaws
from ray_mesh.resources.schema import Flaw, Model

_SERVICE = re.compile(r"\.?[A-Za-z_][A-Za-z_0-9]*(\.[A-Za-z_][A-Za-z_0-9]*)*")
_METHOD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_ONCE = ("RequestHeaderModifier", "ResponseHeaderModifier")


class MethodMatch(Model):
    """A method of a service, any method of a service, or a method of any service."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    service: Annotated[str, Field(max_length=1024)] | None = None
    method: Annotated[str, Field(max_length=1024)] | None = None

    def flaws(self) -> Iterator[Flaw]:
        if not (self.service or self.method):
            yield Flaw((), "One or both of 'service' or 'method' must be specified")
        if self.type == "RegularExpression":
            yield from self._pattern_flaws()
            return
        for field, text, pattern in (("service", self.service, _SERVICE), ("method", self.method, _METHOD)):
            if text and not pattern.fullmatch(text):
                shown = f"^{pattern.pattern}$"
                yield Flaw((field,), f"{field} must only contain valid characters (matching {shown})")

    @property
    def pattern(self) -> str:
        """The expression for whole paths; what is not said is any one element of the path."""
        service, method = (f"(?:{one})" if one else "[^/]+" for one in (self.service, self.method))
        return f"/{service}/{method}"

    def _pattern_flaws(self) -> Iterator[Flaw]:
        said = (("service", self.service), ("method", self.method))
        wrong = [flaw for field, text in said if text for flaw in pattern_flaws((field,), text)]
        yield from wrong or pattern_flaws((), self.pattern)


class GrpcMatch(Model):
    """Conditions that all have to hold."""

    method: MethodMatch | None = None
    headers: Annotated[tuple[HeaderMatch, ...], Field(max_length=16)] = ()

    def flaws(self) -> Iterator[Flaw]:
        yield from twice("headers", [one.name for one in self.headers], fold_case=True)


class GrpcBackendRef(BackendRef):
    """A share of a rule with filters of its own."""

    filters: Annotated[tuple[GrpcFilter, ...], Field(max_length=16)] = ()

    def flaws(self) -> Iterator[Flaw]:
        yield from super().flaws()
        yield from repeated_flaws((one.type for one in self.filters), _ONCE)
        for index, one in enumerate(self.filters):
            if one.type not in _ONCE:
                yield Flaw(("filters", index), f"{one.type} of one backend: say it of the rule", later=True)


class GrpcRouteRule(Model):
    """Calls that match go to the backends."""

    name: SectionName | None = None
    matches: Annotated[tuple[GrpcMatch, ...], Field(max_length=64)] = ()
    filters: Annotated[tuple[GrpcFilter, ...], Field(max_length=16)] = ()
    backend_refs: Annotated[tuple[GrpcBackendRef, ...], Field(max_length=16)] = ()
    session_persistence: Annotated[SessionPersistence | None, SESSIONS] = None

    @property
    def conditions(self) -> tuple[GrpcMatch, ...]:
        """Its matches; without any it takes everything."""
        return self.matches or (GrpcMatch(),)

    def flaws(self) -> Iterator[Flaw]:
        yield from repeated_flaws((one.type for one in self.filters), _ONCE)
        if self.session_persistence is not None:
            yield from find_flaws(self.session_persistence, ("sessionPersistence",))


class GrpcRouteSpec(RouteSpec):
    """Rules for gRPC calls."""

    hostnames: Annotated[tuple[Hostname, ...], Field(max_length=16)] = ()
    rules: Annotated[tuple[GrpcRouteRule, ...], Field(max_length=16)] = (GrpcRouteRule(),)

    def flaws(self) -> Iterator[Flaw]:
        yield from super().flaws()
        yield from too_many_flaws(len(rule.conditions) for rule in self.rules)
        yield from unique_names(rule.name for rule in self.rules)
