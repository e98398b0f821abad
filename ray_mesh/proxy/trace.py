"""Request ids and W3C trace context (https://www.w3.org/TR/trace-context/)."""

from __future__ import annotations

import itertools
import os
import random
import re

_bits = random.getrandbits
_numbers = itertools.count(1)
_PREFIX = b"%08x-%04x-4%03x-8%03x" % (
    int.from_bytes(os.urandom(4), "big"),
    int.from_bytes(os.urandom(2), "big"),
    int.from_bytes(os.urandom(2), "big") & 0xFFF,
    int.from_bytes(os.urandom(2), "big") & 0xFFF,
)
_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def new_request_id() -> bytes:
    """An id of the shape of a UUID, unique over processes; not a secret."""
    return b"%b-%012x" % (_PREFIX, next(_numbers))


def child_of(parent: bytes) -> bytes:
    """The ``traceparent`` of a new span below a valid one, or of a new trace when ``parent`` is empty."""
    if parent:
        return b"%b%016x%b" % (parent[:36], _bits(64) | 1, parent[52:])
    return b"00-%032x-%016x-01" % (_bits(128) | 1, _bits(64) | 1)


def is_valid(traceparent: bytes) -> bool:
    """Whether it is a traceparent of version 00 (or of a later one that looks the same; ``ff`` is
    forbidden by the specification)."""
    return _TRACEPARENT.fullmatch(traceparent) is not None
