"""Trace context in the ways that callers write it, and clients behind trusted proxies."""

from __future__ import annotations

import re

import pytest

from ray_mesh.proxy.forwarded import client_behind
from ray_mesh.proxy.trace import child_of, from_b3

TRACE, SPAN = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"


@pytest.mark.parametrize(
    ("fields", "parent"),
    [
        ({b"b3": TRACE + b"-" + SPAN}, b"00-" + TRACE + b"-" + SPAN + b"-01"),
        ({b"b3": TRACE.upper() + b"-" + SPAN + b"-0"}, b"00-" + TRACE + b"-" + SPAN + b"-00"),
        ({b"b3": TRACE + b"-" + SPAN + b"-d-" + SPAN}, b"00-" + TRACE + b"-" + SPAN + b"-01"),
        ({b"b3": SPAN + b"-" + SPAN + b"-1"}, b"00-" + b"0" * 16 + SPAN + b"-" + SPAN + b"-01"),
        ({b"x-b3-traceid": TRACE, b"x-b3-spanid": SPAN}, b"00-" + TRACE + b"-" + SPAN + b"-01"),
        (
            {b"x-b3-traceid": TRACE, b"x-b3-spanid": SPAN, b"x-b3-sampled": b"false"},
            b"00-" + TRACE + b"-" + SPAN + b"-00",
        ),
        (
            {b"x-b3-traceid": TRACE, b"x-b3-spanid": SPAN, b"x-b3-sampled": b"0", b"x-b3-flags": b"1"},
            b"00-" + TRACE + b"-" + SPAN + b"-01",
        ),
        ({b"b3": b"0" * 32 + b"-" + SPAN}, b""),
        ({b"b3": TRACE}, b""),
        ({b"b3": TRACE + b"-" + SPAN + b"-x"}, b""),
        ({b"b3": b"1"}, b""),
        ({b"x-b3-traceid": TRACE}, b""),
        ({}, b""),
    ],
)
def test_b3(fields: dict[bytes, bytes], parent: bytes) -> None:
    assert from_b3(fields.get) == parent


def test_what_is_not_sampled_stays_so_without_a_trace() -> None:
    for fields in ({b"b3": b"0"}, {b"x-b3-sampled": b"0"}):
        parent = from_b3(fields.get)
        assert re.fullmatch(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-00", parent)
        assert child_of(parent).endswith(b"-00")


@pytest.mark.parametrize(
    ("said", "trusted", "client"),
    [
        (b"1.1.1.1, 2.2.2.2", 1, b"2.2.2.2"),
        (b"6.6.6.6,1.1.1.1 , 2.2.2.2", 2, b"1.1.1.1"),
        (b"2001:db8::1", 1, b"2001:db8::1"),
        (b"1.1.1.1", 2, b"9.9.9.9"),
        (b"", 1, b"9.9.9.9"),
        (b"unknown", 1, b"9.9.9.9"),
        (b"1.1.1.1\xff", 1, b"9.9.9.9"),
    ],
)
def test_the_client_behind_trusted_proxies(said: bytes, trusted: int, client: bytes) -> None:
    assert client_behind(said, b"9.9.9.9", trusted) == client
