"""What a connection speaks, by its first bytes, where nobody has declared it."""

from __future__ import annotations

import re
from typing import Literal

SNIFF_BYTES = 24
"""The preface of HTTP/2; a method and the beginning of a target are shorter."""
DETECTION_TIMEOUT_S = 5.0
"""Who has said nothing after this waits for the server to speak first, so it is no HTTP."""
_HTTP = re.compile(rb"[A-Z]{1,16} (?:/|http)|OPTIONS \* HTTP/1|PRI \* HTTP/2")
_BEGINNING = re.compile(rb"[A-Z]{1,16}(?: (?:h|ht|htt)?)?|(?:OPTIONS|PRI) \*(?: (?:H|HT|HTT|HTTP|HTTP/)?)?")


def spoken(data: bytes) -> Literal["http", "other"] | None:
    """HTTP of either version, or something else; None when more bytes may tell."""
    if _HTTP.match(data):
        return "http"
    if len(data) < SNIFF_BYTES and (not data or _BEGINNING.fullmatch(data)):
        return None
    return "other"
