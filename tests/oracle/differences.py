"""What differs from Envoy on purpose. Each entry says why; one that no case needs any more is an error."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from oracle_sides import Outcome

Kind = Literal["stricter", "laxer", "other", "status"]
"""We refuse what Envoy forwards; the other way round; both forward, but not the same; both refuse with
numbers of another class, or both answer themselves and not alike."""


@dataclass(frozen=True)
class Difference:
    """Cases whose names match, and why they differ."""

    kind: Kind
    names: str
    why: str

    def covers(self, kind: Kind | None, name: str) -> bool:
        """Whether this is the reason of a case."""
        return kind == self.kind and re.match(rf"(?:{self.names})(?: \d+:|$)", name) is not None


def kind_of(ours: Outcome, theirs: Outcome) -> Kind | None:
    """How two outcomes differ; None when they do not."""
    if ours.is_refused and theirs.is_refused:
        return None if _classes(ours) == _classes(theirs) else "status"
    if ours.is_refused:
        return "stricter"
    if theirs.is_refused:
        return "laxer"
    return None if ours.seen == theirs.seen and _classes(ours) == _classes(theirs) else "other"


def _classes(outcome: Outcome) -> tuple[int, ...]:
    return tuple(status // 100 for status in outcome.statuses)


def unexplained(
    results: Iterable[tuple[str, Outcome, Outcome]], intended: tuple[Difference, ...]
) -> list[str]:
    """Differences without a reason, and reasons without a difference."""
    left = set(intended)
    wrong = []
    for name, ours, theirs in results:
        kind = kind_of(ours, theirs)
        if kind is None:
            continue
        reasons = [one for one in intended if one.covers(kind, name)]
        left.difference_update(reasons)
        if not reasons:
            wrong.append(f"{kind}: {name[:160]}\n  ours  {_shown(ours)}\n  envoy {_shown(theirs)}")
    return wrong + [f"no case differs any more: {one.kind} {one.names!r}" for one in sorted(left, key=str)]


def _shown(outcome: Outcome) -> str:
    return f"{outcome.statuses} {' | '.join(map(str, outcome.seen))}"


REQUESTS = (
    Difference(
        "stricter",
        "coding|length|value",
        "Envoy takes folds, CR and LF out of a field and forwards the rest; whoever reads bytes otherwise "
        "sees another message, so they are refused (RFC 9112 sections 2.2 and 5.2 allow that)",
    ),
    Difference("stricter", "line end", "a line ends with CR LF, not with one of them"),
    Difference(
        "stricter", "request line", "one space between the parts of a request line, no tab (RFC 9112 3)"
    ),
    Difference(
        "stricter", "target", "a malformed escape, or an authority with a user or port 0, has no one meaning"
    ),
    Difference(
        "stricter",
        "host",
        "routes and policies decide by the host: none, several, or one that is no host is refused",
    ),
    Difference(
        "stricter",
        "chunks",
        "sizes, extensions, ends of chunks and trailers are held to their grammar (RFC 9112 section 7.1)",
    ),
    Difference(
        "stricter",
        "options",
        "Connection may not name fields that frame or authenticate: dropping them changes the message",
    ),
    Difference("stricter", "expect", "an expectation nobody knows is answered 417 (RFC 9110 section 10.1.1)"),
    Difference(
        "laxer", "options that name what proxies add", "these are dropped and written anew, which is harmless"
    ),
    Difference("laxer", "any server", "OPTIONS * goes to the application (RFC 9112 section 3.2.4)"),
    Difference(
        "laxer",
        "absolute, the host in the query",
        "an empty path is / (RFC 9110 section 4.2.3); Envoy finds no route for it",
    ),
    Difference("laxer", "1.0.*", "HTTP/1.0 clients are served; Envoy has a switch for them, which is off"),
    Difference(
        "other", "what the mesh says itself", "fields that only proxies of the mesh write are dropped"
    ),
    Difference("other", "who forwarded", "nobody in front of the gateway is believed unless configured"),
    Difference("other", "hop by hop", "TE is for one hop; Envoy forwards te: trailers"),
    Difference("other", "an escaped slash", "escapes are written in upper case (RFC 3986 section 6.2.2.1)"),
    Difference("status", "coding", "framing that nobody understands is 400 here, and 501 from Envoy"),
    Difference("status", "length|chunks", "a size beyond 63 bits is refused at once; Envoy waits"),
)

RULES = (
    Difference(
        "laxer",
        "authority in capitals|authority with a port",
        "a host has no case, and its port is no part of the name (Istio's gateways strip it)",
    ),
)

_CASE = "escapes are written in upper case (RFC 3986 section 6.2.2.1)"
PATHS = (
    Difference("other", "BASE /(a%2fb|a/..%2fb|%c3%b6)", _CASE),
    Difference("other", "MERGE_SLASHES /(a%2fb|a/..%2fb|%c3%b6)", _CASE),
    Difference("other", "DECODE_AND_MERGE_SLASHES /%c3%b6", _CASE),
)

RESPONSES = (
    Difference(
        "other",
        "a fold|a bare CR in a value",
        "refused as in requests; Envoy takes them out and passes the rest on",
    ),
    Difference("other", "LF alone", "a head ends with CR LF CR LF; until then it is not complete"),
    Difference(
        "other", "a status of four digits|HTTP/2.0", "not a response of HTTP/1.1 (RFC 9112 section 4)"
    ),
    Difference(
        "other",
        "more than its length|a second response",
        "what says more than it announced is not believed at all; Envoy passes the first part on",
    ),
    Difference(
        "other",
        "a bad chunk size|a switch that nobody asked for",
        "answered 502; Envoy cuts the connection, with the head sent or without",
    ),
)
