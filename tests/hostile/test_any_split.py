"""However the same bytes are cut into pieces, they mean the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hostile_requests import CHUNKED_BODIES, FORWARDED, REQUESTS, Case
from hostile_responses import ALLOWED, RESPONSES
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from wire_ends import understand_chunks, understand_requests, understand_response

GOOD_CHUNKS = (
    b"5\r\nhello\r\n0\r\n\r\n",
    b'1;a="\\""\r\nx\r\n00a;b=c\r\n0123456789\r\n0\r\nX: y\r\nHost: evil\r\nZ:\r\n\r\nGET /',
)
SMALL = 2000

request_bytes = st.sampled_from([case.sent for case in REQUESTS if len(case.sent) < SMALL])
response_bytes = st.sampled_from([each for each in (*RESPONSES, *ALLOWED) if len(each) < SMALL])
chunk_bytes = st.sampled_from([*GOOD_CHUNKS, *CHUNKED_BODIES])


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """One loop for all examples of a module."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@st.composite
def cut(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> tuple[bytes, list[bytes]]:
    """Bytes, perhaps damaged at one place, and the same in pieces."""
    wire = draw(whole)
    if draw(st.booleans()):
        at = draw(st.integers(0, len(wire)))
        wire = (
            wire[:at]
            + draw(st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b"\0", b"0", b":"]))
            + wire[at + 1 :]
        )
    if draw(st.integers(0, 9)) == 0:
        return wire, [wire[at : at + 1] for at in range(len(wire))]
    cuts = sorted(draw(st.lists(st.integers(0, len(wire)), max_size=6)))
    pieces = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    return wire, [piece for piece in pieces if piece]


@settings(max_examples=300, deadline=None)
@given(cut(request_bytes))
def test_requests(loop: asyncio.AbstractEventLoop, made: tuple[bytes, list[bytes]]) -> None:
    wire, pieces = made
    whole = loop.run_until_complete(understand_requests([wire]))
    assert loop.run_until_complete(understand_requests(pieces)) == whole


@settings(max_examples=300, deadline=None)
@given(cut(response_bytes), st.sampled_from([b"GET", b"HEAD"]))
def test_responses(loop: asyncio.AbstractEventLoop, made: tuple[bytes, list[bytes]], method: bytes) -> None:
    wire, pieces = made
    assume(not wire.startswith(b"HTTP/1.0"))  # its connection is closed anyway
    whole = loop.run_until_complete(understand_response([wire], method))
    assert loop.run_until_complete(understand_response(pieces, method)) == whole


@settings(max_examples=300, deadline=None)
@given(cut(chunk_bytes))
def test_chunks_and_trailers(made: tuple[bytes, list[bytes]]) -> None:
    wire, pieces = made
    assert understand_chunks(pieces) == understand_chunks([wire])


@pytest.mark.parametrize("case", FORWARDED, ids=lambda case: case.name)
def test_byte_by_byte(loop: asyncio.AbstractEventLoop, case: Case) -> None:
    sent = case.sent
    whole = loop.run_until_complete(understand_requests([sent]))
    assert loop.run_until_complete(understand_requests([bytes((byte,)) for byte in sent])) == whole
