"""What rules do with requests and responses on their way."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import Field
from pydantic.alias_generators import to_camel

from ray_mesh.resources.gateway_api.external_auth import ExternalAuth
from ray_mesh.resources.gateway_api.names import HeaderName, PreciseHostname
from ray_mesh.resources.gateway_api.references import BackendObjectReference
from ray_mesh.resources.header_operations import is_authority, name_flaws
from ray_mesh.resources.problems import find_flaws
from ray_mesh.resources.route_ways import path_flaws
from ray_mesh.resources.schema import Flaw, Later, Model, NonEmpty, PortNumber

_EXTENSION = Later("no filters of one's own: an AuthorizationPolicy, RateLimit or VirtualService may say it")
_EXTERNAL = Later("no authorization by another service")
_PRINTABLE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_ORIGIN = re.compile(r"\*|https?://(\*|(\*\.)?[A-Za-z0-9.-]+)(:[0-9]{1,5})?")
Method = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]


class Header(Model):
    """A header and its value."""

    name: HeaderName
    value: Annotated[str, Field(min_length=1, max_length=4096)]


class HeaderFilter(Model):
    """Headers to set, add and remove; one action for a header."""

    set: Annotated[tuple[Header, ...], Field(max_length=16)] = ()
    add: Annotated[tuple[Header, ...], Field(max_length=16)] = ()
    remove: Annotated[tuple[str, ...], Field(max_length=16)] = ()

    @property
    def authority(self) -> str:
        """What requests are to say as Host; empty when that stays."""
        return next((one.value for one in self.set if one.name.lower() == "host"), "")

    def flaws(self) -> Iterator[Flaw]:
        for field, headers in (("set", self.set), ("add", self.add)):
            for index, header in enumerate(headers):
                if field == "add" or header.name.lower() != "host":
                    yield from name_flaws((field, index, "name"), header.name)
                elif not is_authority(header.value):
                    yield Flaw((field, index, "value"), f"{header.value!r} is not a host, or a host and port")
                if not _PRINTABLE.fullmatch(header.value):
                    yield Flaw((field, index, "value"), "a value has no control characters")
        for index, name in enumerate(self.remove):
            yield from name_flaws(("remove", index), name)
        names = [one.name.lower() for one in (*self.set, *self.add)] + [one.lower() for one in self.remove]
        for name, times in Counter(names).items():
            if times > 1:
                yield Flaw((), f"only one action for a header: {name} has {times}")


class PathModifier(Model):
    """A new path, whole or instead of the prefix that matched."""

    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: Annotated[str, Field(max_length=1024)] | None = None
    replace_prefix_match: Annotated[str, Field(max_length=1024)] | None = None

    def flaws(self) -> Iterator[Flaw]:
        for kind, field in (
            ("ReplaceFullPath", "replace_full_path"),
            ("ReplacePrefixMatch", "replace_prefix_match"),
        ):
            name, value = to_camel(field), getattr(self, field)
            if self.type == kind and value is None:
                yield Flaw((name,), f"{name} must be specified when type is set to '{kind}'")
            elif self.type != kind and value is not None:
                yield Flaw((name,), f"type must be '{kind}' when {name} is set")
            for flaw in path_flaws(name, value):
                yield Flaw(flaw.path, flaw.message, later=True)


class RequestRedirect(Model):
    """An answer that points elsewhere."""

    scheme: Literal["http", "https"] | None = None
    hostname: PreciseHostname | None = None
    path: PathModifier | None = None
    port: PortNumber | None = None
    status_code: Annotated[Literal[301, 302, 303, 307, 308], Field()] = 302


class UrlRewrite(Model):
    """A new host or path of the request."""

    hostname: PreciseHostname | None = None
    path: PathModifier | None = None


class Fraction(Model):
    """A share of requests."""

    numerator: Annotated[int, Field(ge=0)]
    denominator: Annotated[int, Field(ge=1)] = 100

    def flaws(self) -> Iterator[Flaw]:
        if self.numerator > self.denominator:
            yield Flaw((), "numerator must be less than or equal to denominator")


class RequestMirror(Model):
    """Copies of requests, whose answers are thrown away."""

    backend_ref: BackendObjectReference
    percent: Annotated[int, Field(ge=0, le=100)] | None = None
    fraction: Fraction | None = None

    @property
    def share(self) -> float:
        """How many of the requests, in percent."""
        if self.fraction is not None:
            return 100.0 * self.fraction.numerator / self.fraction.denominator
        return 100.0 if self.percent is None else float(self.percent)

    def flaws(self) -> Iterator[Flaw]:
        if self.percent is not None and self.fraction is not None:
            yield Flaw(
                ("fraction",), "Only one of percent or fraction may be specified in HTTPRequestMirrorFilter"
            )


class Cors(Model):
    """Cross-origin answers. ``maxAge`` is in seconds."""

    allow_origins: Annotated[tuple[str, ...], Field(max_length=64)] = ()
    allow_credentials: bool | None = None
    allow_methods: Annotated[tuple[Literal[Method, "*"], ...], Field(max_length=9)] = ()
    allow_headers: Annotated[tuple[HeaderName, ...], Field(max_length=64)] = ()
    expose_headers: Annotated[tuple[HeaderName, ...], Field(max_length=64)] = ()
    max_age: Annotated[int, Field(ge=1, lt=2**31)] = 5

    def flaws(self) -> Iterator[Flaw]:
        lists: tuple[tuple[str, tuple[str, ...]], ...] = (
            ("allowOrigins", self.allow_origins),
            ("allowMethods", self.allow_methods),
            ("allowHeaders", self.allow_headers),
        )
        for field, values in lists:
            if "*" in values and len(values) > 1:
                others = "origins" if field == "allowOrigins" else "methods"
                shown = field[0].upper() + field[1:]
                yield Flaw((field,), f"{shown} cannot contain '*' alongside other {others}")
        for field, values in (*lists, ("exposeHeaders", self.expose_headers)):
            if len(set(values)) < len(values):
                yield Flaw((field,), "something is named twice")
        if "*" in self.expose_headers and self.allow_credentials:
            yield Flaw(("exposeHeaders",), "* with allowCredentials: name them", later=True)
        for index, origin in enumerate(self.allow_origins):
            if not _ORIGIN.fullmatch(origin):
                yield Flaw(
                    ("allowOrigins", index), f"{origin!r} is not * or an origin, as https://example.com"
                )


class ExtensionReference(Model):
    """An object of a filter of one's own."""

    group: str
    kind: str
    name: NonEmpty


HttpFilterType = Literal[
    "RequestHeaderModifier",
    "ResponseHeaderModifier",
    "RequestMirror",
    "RequestRedirect",
    "URLRewrite",
    "ExtensionRef",
    "CORS",
    "ExternalAuth",
]
_FIELDS = {
    "RequestHeaderModifier": "request_header_modifier",
    "ResponseHeaderModifier": "response_header_modifier",
    "RequestMirror": "request_mirror",
    "RequestRedirect": "request_redirect",
    "URLRewrite": "url_rewrite",
    "ExtensionRef": "extension_ref",
    "CORS": "cors",
    "ExternalAuth": "external_auth",
}


class GrpcFilter(Model):
    """One filter of a GRPCRoute: its type, and the field of this type."""

    type: Literal["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "ExtensionRef"]
    request_header_modifier: HeaderFilter | None = None
    response_header_modifier: HeaderFilter | None = None
    request_mirror: RequestMirror | None = None
    extension_ref: Annotated[ExtensionReference | None, _EXTENSION] = None

    def flaws(self) -> Iterator[Flaw]:
        yield from _type_flaws(self.type, self)
        yield from _response_flaws(self.response_header_modifier)


class HttpFilter(Model):
    """One filter of an HTTPRoute: its type, and the field of this type."""

    type: HttpFilterType
    request_header_modifier: HeaderFilter | None = None
    response_header_modifier: HeaderFilter | None = None
    request_mirror: RequestMirror | None = None
    request_redirect: RequestRedirect | None = None
    url_rewrite: UrlRewrite | None = None
    cors: Cors | None = None
    external_auth: Annotated[ExternalAuth | None, _EXTERNAL] = None
    extension_ref: Annotated[ExtensionReference | None, _EXTENSION] = None

    @property
    def new_path(self) -> PathModifier | None:
        """The new path that it says, in the request or in an answer."""
        said = self.url_rewrite or self.request_redirect
        return said.path if said is not None else None

    @property
    def replaces_prefix(self) -> bool:
        """Whether what it does depends on the prefix that matched."""
        return self.new_path is not None and self.new_path.type == "ReplacePrefixMatch"

    def flaws(self) -> Iterator[Flaw]:
        yield from _type_flaws(self.type, self)
        if self.external_auth is not None:
            yield from find_flaws(self.external_auth, ("externalAuth",))
        yield from _response_flaws(self.response_header_modifier)


def _response_flaws(changes: HeaderFilter | None) -> Iterator[Flaw]:
    if changes is not None and changes.authority:
        yield Flaw(("responseHeaderModifier", "set"), "a response has no authority")


def _type_flaws(kind: str, filter_: Model) -> Iterator[Flaw]:
    for name, field in _FIELDS.items():
        shown = "urlRewrite" if field == "url_rewrite" else to_camel(field)
        is_set = getattr(filter_, field, None) is not None
        if is_set and name != kind:
            yield Flaw((shown,), f"filter.{shown} must be nil if the filter.type is not {name}")
        elif name == kind and not is_set:
            yield Flaw((), f"filter.{shown} must be specified for {name} filter.type")


def repeated_flaws(types: Iterable[str], once: tuple[str, ...]) -> Iterator[Flaw]:
    """Filters of a rule that stand there more often than they may."""
    counted = Counter(types)
    for name in once:
        if counted[name] > 1:
            yield Flaw(("filters",), f"{name} filter cannot be repeated")
    if counted["RequestRedirect"] and counted["URLRewrite"]:
        message = "httpRouteFilterRequestRedirect or httpRouteFilterRequestRewrite, but not both"
        yield Flaw(("filters",), f"May specify either {message}")
