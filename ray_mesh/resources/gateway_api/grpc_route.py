"""GRPCRoute: which gRPC calls go where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from ray_mesh.resources.gateway_api.filters import GrpcFilter, repeated_flaws
from ray_mesh.resources.gateway_api.http_route import HeaderMatch, too_many_flaws, unique_names
from ray_mesh.resources.gateway_api.names import Hostname, SectionName
from ray_mesh.resources.gateway_api.references import SESSIONS, BackendRef, RouteSpec, SessionPersistence
from ray_mesh.resources.problems import find_flaws
from ray_mesh.resources.schema import Flaw, Model

_SERVICE = re.compile(r"\.?[A-Za-z_][A-Za-z_0-9]*(\.[A-Za-z_][A-Za-z_0-9]*)*")
_METHOD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")
_ONCE = ("RequestHeaderModifier", "ResponseHeaderModifier")


class MethodMatch(Model):
    """A method of a service."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    service: Annotated[str, Field(max_length=1024)] | None = None
    method: Annotated[str, Field(max_length=1024)] | None = None

    def flaws(self) -> Iterator[Flaw]:
        if not (self.service or self.method):
            yield Flaw((), "One or both of 'service' or 'method' must be specified")
        if self.type == "RegularExpression":
            return
        for field, text, pattern in (("service", self.service, _SERVICE), ("method", self.method, _METHOD)):
            if text and not pattern.fullmatch(text):
                shown = f"^{pattern.pattern}$"
                yield Flaw((field,), f"{field} must only contain valid characters (matching {shown})")


class GrpcMatch(Model):
    """Conditions that all have to hold."""

    method: MethodMatch | None = None
    headers: Annotated[tuple[HeaderMatch, ...], Field(max_length=16)] = ()


class GrpcBackendRef(BackendRef):
    """A share of a rule with filters of its own."""

    filters: Annotated[tuple[GrpcFilter, ...], Field(max_length=16)] = ()


class GrpcRouteRule(Model):
    """Calls that match go to the backends."""

    name: SectionName | None = None
    matches: Annotated[tuple[GrpcMatch, ...], Field(max_length=64)] = ()
    filters: Annotated[tuple[GrpcFilter, ...], Field(max_length=16)] = ()
    backend_refs: Annotated[tuple[GrpcBackendRef, ...], Field(max_length=16)] = ()
    session_persistence: Annotated[SessionPersistence | None, SESSIONS] = None

    def flaws(self) -> Iterator[Flaw]:
        yield from repeated_flaws((one.type for one in self.filters), _ONCE)
        if self.session_persistence is not None:
            yield from find_flaws(self.session_persistence, ("sessionPersistence",))


class GrpcRouteSpec(RouteSpec):
    """Rules for gRPC calls."""

    hostnames: Annotated[tuple[Hostname, ...], Field(max_length=16)] = ()
    rules: Annotated[tuple[GrpcRouteRule, ...], Field(max_length=16)] = ()

    def flaws(self) -> Iterator[Flaw]:
        yield from super().flaws()
        yield from too_many_flaws(len(rule.matches) for rule in self.rules)
        yield from unique_names(rule.name for rule in self.rules)
