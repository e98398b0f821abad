"""What an HTTP route of a VirtualService does with requests besides sending them somewhere."""

from __future__ import annotations

import base64
import builtins
import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from ray_mesh.patterns import compile_pattern, compile_template
from ray_mesh.resources.header_operations import is_authority, is_plain_header_name
from ray_mesh.resources.schema import Duration, Flaw, Model, UInt32, seconds

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE")
MAX_BODY_BYTES = 100 * 1024
_PATH_TEXT = re.compile(r"[!-\"$->@-~]*")


class StringMatch(Model):
    """One of exact, prefix and regex; none of them means presence where that makes sense."""

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None

    def flaws(self) -> Iterator[Flaw]:
        if len(self.model_fields_set) > 1:
            yield Flaw((), "set one of exact, prefix and regex")
        if self.regex is not None:
            yield from _pattern_flaws("regex", self.regex)


class AbsentMatch(StringMatch):
    """A match of a header that has to be missing."""

    def flaws(self) -> Iterator[Flaw]:
        if self.regex == "*" and len(self.model_fields_set) == 1:
            yield Flaw(("regex",), "* (presence): leave the value empty, {}", later=True)
        else:
            yield from super().flaws()


def _pattern_flaws(field: str, pattern: str) -> Iterator[Flaw]:
    try:
        compile_pattern(pattern)
    except ValueError as error:
        yield Flaw((field,), str(error))


class Redirect(Model):
    """An answer that points elsewhere."""

    uri: str | None = None
    authority: str | None = None
    port: UInt32 | None = None
    derive_port: Literal["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"] | None = None
    scheme: str | None = None
    redirect_code: UInt32 | None = None
    prefix_rewrite: str | None = None

    def flaws(self) -> Iterator[Flaw]:
        if not self.model_fields_set - {"redirect_code"}:
            yield Flaw((), "a redirect says a uri, authority, port, scheme or prefixRewrite")
        if self.uri and self.prefix_rewrite:
            yield Flaw(("prefixRewrite",), "set one of uri and prefixRewrite")
        if self.port is not None and self.derive_port is not None:
            yield Flaw(("derivePort",), "set one of port and derivePort")
        if self.port is not None and not 0 < self.port < 65536:
            yield Flaw(("port",), "a port is 1 to 65535")
        if self.scheme not in (None, "", "http", "https"):
            yield Flaw(("scheme",), f"{self.scheme!r} is not http or https")
        if self.redirect_code and not 300 <= self.redirect_code <= 399:
            yield Flaw(("redirectCode",), f"{self.redirect_code} is not a valid redirect code, must be 3xx")
        elif self.redirect_code not in (None, 0, 301, 302, 303, 307, 308):
            reason = f"{self.redirect_code}: write one of 301, 302, 303, 307 and 308"
            yield Flaw(("redirectCode",), reason, later=True)
        yield from _authority_flaws(self.authority)
        yield from path_flaws("uri", self.uri, has_query=True)
        yield from path_flaws("prefixRewrite", self.prefix_rewrite)


class Body(Model):
    """The body of a direct response; ``bytes`` are in base64."""

    string: str | None = None
    bytes: str | None = None

    @property
    def content(self) -> builtins.bytes:
        """The bytes of the body; raises ValueError when they are not base64."""
        if self.bytes is not None:
            return base64.b64decode(self.bytes, validate=True)
        return (self.string or "").encode()

    def flaws(self) -> Iterator[Flaw]:
        if len(self.model_fields_set) != 1:
            yield Flaw((), "set one of string and bytes")
            return
        try:
            size = len(self.content)
        except ValueError:
            yield Flaw(("bytes",), "not base64")
            return
        if size > 1 << 20:
            yield Flaw((), f"a body has at most a megabyte, this one has {size} bytes")
        elif size > MAX_BODY_BYTES:
            yield Flaw((), f"of {size} bytes: at most {MAX_BODY_BYTES}", later=True)


class DirectResponse(Model):
    """A fixed answer."""

    status: Annotated[int, Field(ge=200, le=600)]
    body: Body | None = None

    def flaws(self) -> Iterator[Flaw]:
        if self.status == 600:
            yield Flaw(("status",), "600: up to 599", later=True)
        if self.status in (204, 304) and self.body is not None:
            yield Flaw(("body",), f"of a response with status {self.status}, which has none", later=True)


class RegexRewrite(Model):
    """A rewrite by regular expression."""

    match: str = ""
    rewrite: str = ""

    def flaws(self) -> Iterator[Flaw]:
        try:
            pattern = compile_pattern(self.match)
        except ValueError as error:
            yield Flaw(("match",), str(error))
            return
        try:
            compile_template(self.rewrite, pattern.groups)
        except ValueError as error:
            yield Flaw(("rewrite",), str(error))
        if not self.rewrite:
            yield Flaw(("rewrite",), "required beside match")
        elif not _PATH_TEXT.fullmatch(self.rewrite):
            yield Flaw(
                ("rewrite",), "not text that may stand in a path: no spaces, ?, # or control characters"
            )


class Rewrite(Model):
    """Changes of the request on its way."""

    uri: str | None = None
    authority: str | None = None
    uri_regex_rewrite: RegexRewrite | None = None

    def flaws(self) -> Iterator[Flaw]:
        if not (self.uri or self.authority or self.uri_regex_rewrite):
            yield Flaw((), "a rewrite has a uri, an authority or a uriRegexRewrite")
        if self.uri and self.uri_regex_rewrite:
            yield Flaw(("uriRegexRewrite",), "set one of uri and uriRegexRewrite")
        yield from _authority_flaws(self.authority)
        yield from path_flaws("uri", self.uri)


def path_flaws(field: str, path: str | None, *, has_query: bool = False) -> Iterator[Flaw]:
    """What is wrong with a path that is to be sent."""
    if not path:
        return
    plain, mark, query = path.partition("?")
    if not plain.startswith("/"):
        yield Flaw((field,), f"{path!r}, which does not begin with /", later=True)
    if mark and not has_query:
        yield Flaw((field,), "a query in it", later=True)
    if not _PATH_TEXT.fullmatch(plain) or not _PATH_TEXT.fullmatch(query.replace("?", "")):
        reason = f"{path!r}: a path has no spaces, no # and no control characters, and is ASCII"
        yield Flaw((field,), reason, later=True)
    elif {".", ".."} & set(plain.split("/")):
        yield Flaw((field,), f"{path!r}: a path has no . and .. segments", later=True)


def _authority_flaws(authority: str | None) -> Iterator[Flaw]:
    if authority and not is_authority(authority):
        yield Flaw(("authority",), f"{authority!r} is not a host, or a host and port")


class CorsPolicy(Model):
    """Cross-origin answers; ``allowOrigin`` is the older form of ``allowOrigins``."""

    allow_origin: tuple[str, ...] = ()
    allow_origins: tuple[StringMatch, ...] = ()
    allow_methods: tuple[str, ...] = ()
    allow_headers: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: Duration | None = None
    allow_credentials: bool | None = None
    unmatched_preflights: Literal["UNSPECIFIED", "FORWARD", "IGNORE"] | None = None

    def flaws(self) -> Iterator[Flaw]:
        for index, origin in enumerate(self.allow_origins):
            if not origin.model_fields_set:
                yield Flaw(("allowOrigins", index), "set one of exact, prefix and regex")
            elif origin.exact == "" or origin.prefix == "":
                yield Flaw(("allowOrigins", index), "an origin is not empty")
        for index, method in enumerate(self.allow_methods):
            if method not in _METHODS:
                yield Flaw(("allowMethods", index), f"{method!r} is not one of {', '.join(_METHODS)}")
        for field, names in (("allowHeaders", self.allow_headers), ("exposeHeaders", self.expose_headers)):
            for index, name in enumerate(names):
                if name != "*" and not is_plain_header_name(name):
                    yield Flaw((field, index), f"{name!r} is not the name of a header")
        if self.max_age is not None and seconds(self.max_age) % 1:
            yield Flaw(("maxAge",), "maxAge is in whole seconds")
