"""Request ids and W3C trace context (https://www.w3.org/TR/trace-context/).

B3 (https://github.com/openzipkin/b3-propagation) is understood where there is no valid ``traceparent``; its
fields travel on as they came.
"""

from __future__ import annotations

import itertools
import os
import random
import re
from collections.abc import Callable, Iterator

_bits = random.getrandbits
_DRAWN = 128
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
    digits = _fresh()
    return b"00-%b-%b-01" % (digits[:32], digits[32:])


def _digits() -> Iterator[bytes]:
    """Random hexadecimal digits for a trace and a span, drawn for many at once: that costs half."""
    while True:
        drawn = random.randbytes(24 * _DRAWN).hex().encode()
        yield from (drawn[start : start + 48] for start in range(0, len(drawn), 48))


_fresh = _digits().__next__


def is_valid(traceparent: bytes) -> bool:
    """Whether it is a traceparent of version 00 (or of a later one that looks the same; ``ff`` is
    forbidden by the specification)."""
    return _TRACEPARENT.fullmatch(traceparent) is not None


_REQUEST_ID = re.compile(rb"[0-9A-Za-z._-]{1,128}")


def is_request_id(value: bytes) -> bool:
    """Whether it is an id that travels on as it came."""
    return _REQUEST_ID.fullmatch(value) is not None


_B3 = re.compile(
    rb"((?:[0-9a-f]{16}){1,2})-([0-9a-f]{16})(?:-([01d])(?:-[0-9a-f]{16})?)?|([01d])", re.IGNORECASE
)


def from_b3(field: Callable[[bytes], bytes | None]) -> bytes:
    """The ``traceparent`` that a request's B3 fields mean: ``b3``, or else ``x-b3-*``; empty without any.

    ``field`` gives the value of a field by its name. What is not sampled stays so; a malformed value is as
    none.
    """
    single = field(b"b3")
    if single is None:
        single = _as_single(field)
    found = _B3.fullmatch(single)
    if found is None:
        return b""
    trace, span, sampled, alone = found.groups()
    if alone is not None:
        return b"" if alone != b"0" else b"00-%032x-%016x-00" % (_bits(128) | 1, _bits(64) | 1)
    parent = b"00-%b-%b-%b" % (
        trace.lower().rjust(32, b"0"),
        span.lower(),
        b"00" if sampled == b"0" else b"01",
    )
    return parent if is_valid(parent) else b""


def _as_single(field: Callable[[bytes], bytes | None]) -> bytes:
    trace, span = field(b"x-b3-traceid"), field(b"x-b3-spanid")
    sampled = field(b"x-b3-sampled") or b""
    if field(b"x-b3-flags") == b"1":
        sampled = b"d"
    sampled = {b"true": b"1", b"false": b"0"}.get(sampled.lower(), sampled)
    if trace is None or span is None:
        return sampled
    return b"%b-%b-%b" % (trace, span, sampled) if sampled else b"%b-%b" % (trace, span)
