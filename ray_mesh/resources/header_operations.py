"""Istio's header operations: which fields a route may change, and how their values are written."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ray_mesh.resources.schema import Flaw, Model

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PLAIN_NAME = re.compile(r"[-_A-Za-z0-9]+")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_VARIABLES = re.compile(r"(?:[^%]*%[^%(]+(?:\([^)]*\))?[^%]*%)+[^%]*")
_AUTHORITY = ("host", ":authority")
_HOST_AND_PORT = re.compile(r"[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?")
_OF_ONE_HOP = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_OF_THE_PROXY = frozenset({"traceparent", "x-request-id", "x-forwarded-client-cert"})


def is_header_name(text: str) -> bool:
    """Whether this is a token, as the names of header fields are (RFC 9110 section 5.1)."""
    return bool(_NAME.fullmatch(text))


def is_plain_header_name(text: str) -> bool:
    """Whether this is a name that Istio takes where headers are matched and listed: ``-_A-Za-z0-9``."""
    return bool(_PLAIN_NAME.fullmatch(text))


def is_authority(text: str) -> bool:
    """Whether this is a host, or a host and a port."""
    return bool(_HOST_AND_PORT.fullmatch(text))


class HeaderOperations(Model):
    """Headers to set, add and remove."""

    set: dict[str, str] = {}
    add: dict[str, str] = {}
    remove: tuple[str, ...] = ()

    def flaws(self) -> Iterator[Flaw]:
        for field, pairs in (("set", self.set), ("add", self.add)):
            for name, value in pairs.items():
                if name.lower() not in _AUTHORITY:
                    yield from name_flaws((field, name), name)
                elif field == "add":
                    yield Flaw((field, name), ": a request has one authority, set it", later=True)
                elif not is_authority(value):
                    yield Flaw((field, name), f"{value!r} is not a host, or a host and port")
                yield from _value_flaws((field, name), value)
        for index, name in enumerate(self.remove):
            yield from name_flaws(("remove", index), name)
        for field, names in (("set", self.set), ("add", self.add)):
            if len({name.lower() for name in names}) < len(names):
                yield Flaw((field,), "a header is named twice, in different case")


class Headers(Model):
    """Header changes of requests and responses."""

    request: HeaderOperations | None = None
    response: HeaderOperations | None = None

    @property
    def authority(self) -> str:
        """What requests are to say as Host; empty when that stays."""
        return next(iter(self.authorities), "")

    @property
    def authorities(self) -> tuple[str, ...]:
        """Everything that requests are to say as Host; more than one contradict each other."""
        pairs = self.request.set.items() if self.request else ()
        return tuple(plain(value) for name, value in pairs if name.lower() in _AUTHORITY)

    def flaws(self) -> Iterator[Flaw]:
        for field in ("set", "add"):
            names = getattr(self.response, field) if self.response else ()
            if any(name.lower() in _AUTHORITY for name in names):
                yield Flaw(("response", field), "a response has no authority")


def changes_of(operations: HeaderOperations) -> tuple[tuple[str, ...], dict[str, str], dict[str, str]]:
    """Names to remove, values to set and values to add; names in lower case, without the authority."""
    put = {name.lower(): plain(value) for name, value in operations.set.items()}
    added = {name.lower(): plain(value) for name, value in operations.add.items()}
    removed = tuple(sorted({name.lower() for name in operations.remove}))
    return removed, {name: value for name, value in put.items() if name not in _AUTHORITY}, added


def plain(value: str) -> str:
    """The text of a value: ``%%`` is a percent sign."""
    return value.replace("%%", "%")


def name_flaws(path: tuple[str | int, ...], name: str) -> Iterator[Flaw]:
    """Why a header may not be changed by a route."""
    lower = name.lower()
    if lower in _AUTHORITY:
        yield Flaw(path, "the authority can only be set in a request")
    elif not is_header_name(name):
        yield Flaw(path, f"{name!r} is not the name of a header (pseudo-headers cannot be changed)")
    elif lower in _OF_ONE_HOP:
        yield Flaw(path, f"{name}: of one hop or of the framing, the proxy writes it", later=True)
    elif lower in _OF_THE_PROXY or lower.startswith("x-mesh-"):
        yield Flaw(path, f"{name}: written by the proxy, cannot be changed", later=True)


def _value_flaws(path: tuple[str | int, ...], value: str) -> Iterator[Flaw]:
    if not _VALUE.fullmatch(value):
        yield Flaw(path, "a value has no control characters")
    rest = value.replace("%%", "")
    if _VARIABLES.fullmatch(rest):
        yield Flaw(path, f"the variable {rest[rest.index('%') : rest.rindex('%') + 1]}", later=True)
    elif "%" in rest:
        yield Flaw(path, "write %% for a percent sign")
