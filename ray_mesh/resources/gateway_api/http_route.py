"""HTTPRoute: which requests go where, at a Gateway or to a Service."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import Field

from ray_mesh.patterns import compile_pattern
from ray_mesh.resources.gateway_api.filters import HttpFilter, Method, repeated_flaws
from ray_mesh.resources.gateway_api.names import (
    Duration,
    HeaderName,
    Hostname,
    SectionName,
    duration_s,
)
from ray_mesh.resources.gateway_api.references import SESSIONS, BackendRef, RouteSpec, SessionPersistence
from ray_mesh.resources.problems import find_flaws
from ray_mesh.resources.schema import Flaw, Model
from ray_mesh.resources.source import Path

MAX_MATCHES = 128
_PATH = re.compile(r"(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+")
_NOT_IN_A_PATH = ("//", "/./", "/../", "%2f", "%2F", "#")
_ONCE = ("CORS", "RequestHeaderModifier", "ResponseHeaderModifier", "RequestRedirect", "URLRewrite")
_PER_BACKEND = ("RequestHeaderModifier", "ResponseHeaderModifier", "URLRewrite")


class PathMatch(Model):
    """A path; a prefix is one of path elements: ``/foo`` is one of ``/foo/bar``, not of ``/foobar``."""

    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: Annotated[str, Field(max_length=1024)] = "/"

    @property
    def prefix(self) -> str:
        """A prefix without its trailing slash, which does not count."""
        return self.value.removesuffix("/")

    def flaws(self) -> Iterator[Flaw]:
        if self.type == "RegularExpression":
            yield from pattern_flaws(("value",), self.value)
            return
        kinds = "when type one of ['Exact', 'PathPrefix']"
        if not self.value.startswith("/"):
            yield Flaw(("value",), f"value must be an absolute path and start with '/' {kinds}")
        for part in _NOT_IN_A_PATH:
            if part in self.value:
                yield Flaw(("value",), f"must not contain '{part}' {kinds}")
        for end in ("/..", "/."):
            if self.value.endswith(end):
                yield Flaw(("value",), f"must not end with '{end}' {kinds}")
        if not _PATH.fullmatch(self.value):
            shown = f"^{_PATH.pattern}$) for types ['Exact', 'PathPrefix']"
            yield Flaw(("value",), f"must only contain valid characters (matching {shown}")


class HeaderMatch(Model):
    """A header and its value."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: HeaderName
    value: Annotated[str, Field(min_length=1, max_length=4096)]

    def flaws(self) -> Iterator[Flaw]:
        if self.type == "RegularExpression":
            yield from pattern_flaws(("value",), self.value)


class QueryMatch(Model):
    """A query parameter and its value."""

    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: HeaderName
    value: Annotated[str, Field(min_length=1, max_length=1024)]

    def flaws(self) -> Iterator[Flaw]:
        if self.type == "RegularExpression":
            yield from pattern_flaws(("value",), self.value)


def pattern_flaws(path: Path, pattern: str) -> Iterator[Flaw]:
    """What is wrong with an expression that is written at a path."""
    try:
        compile_pattern(pattern)
    except ValueError as error:
        yield Flaw(path, str(error))


class RouteMatch(Model):
    """Conditions that all have to hold."""

    path: PathMatch = PathMatch()
    headers: Annotated[tuple[HeaderMatch, ...], Field(max_length=16)] = ()
    query_params: Annotated[tuple[QueryMatch, ...], Field(max_length=16)] = ()
    method: Method | None = None

    def flaws(self) -> Iterator[Flaw]:
        yield from twice("headers", [one.name for one in self.headers], fold_case=True)
        yield from twice("queryParams", [one.name for one in self.query_params], fold_case=False)


def twice(field: str, names: list[str], *, fold_case: bool) -> Iterator[Flaw]:
    """The same name again is invalid; a header again in other case is valid, and would not count."""
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Flaw((field, index, "name"), f"{name} is named twice")
        elif fold_case and name.lower() in [one.lower() for one in names[:index]]:
            yield Flaw(
                (field, index, "name"),
                f"{name}: named above in other case, and only that counts",
                later=True,
            )


class Timeouts(Model):
    """How long a request may take in all, and each try of it; 0s means as long as it takes."""

    request: Duration | None = None
    backend_request: Duration | None = None

    def flaws(self) -> Iterator[Flaw]:
        whole, each = duration_s(self.request or "0s"), duration_s(self.backend_request or "0s")
        if whole and each > whole:
            yield Flaw(("backendRequest",), "backendRequest timeout cannot be longer than request timeout")


class Retry(Model):
    """When a request is sent again besides when no connection comes about: by status."""

    codes: tuple[Annotated[int, Field(ge=400, le=599)], ...] = ()
    attempts: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    backoff: Duration | None = None

    def flaws(self) -> Iterator[Flaw]:
        if len(set(self.codes)) < len(self.codes):
            yield Flaw(("codes",), "a code is named twice")


class HttpBackendRef(BackendRef):
    """A share of a rule with filters of its own."""

    filters: Annotated[tuple[HttpFilter, ...], Field(max_length=16)] = ()

    def flaws(self) -> Iterator[Flaw]:
        yield from super().flaws()
        yield from repeated_flaws((one.type for one in self.filters), _ONCE)
        for index, one in enumerate(self.filters):
            path = one.url_rewrite.path if one.url_rewrite else None
            if one.type not in _PER_BACKEND or path is not None:
                what = "urlRewrite.path" if path is not None else one.type
                yield Flaw(("filters", index), f"{what} of one backend: say it of the rule", later=True)


class HttpRouteRule(Model):
    """Requests that match go to the backends, or are answered by a redirect."""

    name: SectionName | None = None
    matches: Annotated[tuple[RouteMatch, ...], Field(max_length=64)] = (RouteMatch(),)
    filters: Annotated[tuple[HttpFilter, ...], Field(max_length=16)] = ()
    backend_refs: Annotated[tuple[HttpBackendRef, ...], Field(max_length=16)] = ()
    timeouts: Timeouts | None = None
    retry: Retry | None = None
    session_persistence: Annotated[SessionPersistence | None, SESSIONS] = None

    @property
    def conditions(self) -> tuple[RouteMatch, ...]:
        """Its matches; without any it takes everything."""
        return self.matches or (RouteMatch(),)

    def flaws(self) -> Iterator[Flaw]:
        yield from repeated_flaws((one.type for one in self.filters), _ONCE)
        if self.session_persistence is not None:
            yield from find_flaws(self.session_persistence, ("sessionPersistence",))
        if self.backend_refs and any(one.request_redirect for one in self.filters):
            yield Flaw(("filters",), "RequestRedirect filter must not be used together with backendRefs")
        yield from self._prefix_flaws(self.filters, "When")
        for one in self.backend_refs:
            yield from self._prefix_flaws(one.filters, "Within backendRefs, when")
        authorities = [one for one in self.filters if _authority(one)]
        if len(authorities) > 1:
            yield Flaw(("filters",), "the host is set by requestHeaderModifier and by urlRewrite")

    def _prefix_flaws(self, filters: Iterable[HttpFilter], where: str) -> Iterator[Flaw]:
        is_prefix = len(self.conditions) == 1 and self.conditions[0].path.type == "PathPrefix"
        for one in filters:
            if one.replaces_prefix and not is_prefix:
                message = (
                    f"{where} using {one.type} filter with path.replacePrefixMatch, "
                    "exactly one PathPrefix match must be specified"
                )
                yield Flaw(("matches",), message)


def _authority(one: HttpFilter) -> str:
    if one.url_rewrite is not None:
        return one.url_rewrite.hostname or ""
    return one.request_header_modifier.authority if one.request_header_modifier is not None else ""


class HttpRouteSpec(RouteSpec):
    """Rules for requests to hosts."""

    hostnames: Annotated[tuple[Hostname, ...], Field(max_length=16)] = ()
    rules: Annotated[tuple[HttpRouteRule, ...], Field(min_length=1, max_length=16)] = (HttpRouteRule(),)

    def flaws(self) -> Iterator[Flaw]:
        yield from super().flaws()
        yield from too_many_flaws(len(rule.conditions) for rule in self.rules)
        yield from unique_names(rule.name for rule in self.rules)


def too_many_flaws(matches: Iterable[int]) -> Iterator[Flaw]:
    """Rules with too many matches together."""
    if sum(matches) > MAX_MATCHES:
        message = (
            "total number of matches across all rules in a route must be less than 128: write two routes"
        )
        yield Flaw(("rules",), message)


def unique_names(names: Iterable[str | None]) -> Iterator[Flaw]:
    """Rules that are called like another one."""
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name is not None and name in seen:
            yield Flaw(("rules", index, "name"), "Rule name must be unique within the route")
        seen.add(name or "")
