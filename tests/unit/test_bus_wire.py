"""What a connection reads, taken as nats-py takes it, however the bytes are divided."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

from ray_mesh.bus.wire import Reader, read_headers, take_messages

HEADS = [
    b"NATS/1.0\r\n\r\n",
    b"NATS/1.0\r\nNats-Sequence: 7\r\nNats-Last-Sequence: 3\r\nMesh-Signature: ab+/=\r\n\r\n",
    b"NATS/1.0\r\na:b\r\nc:\td \r\nno colon\r\nwith space inside: x\r\n\r\n",
    b"NATS/1.0\r\nn\xc3\xa4me: x\r\nvalue: \xc3\xa4\r\nbad: \xff\xfe\r\ntime: 12:30:01\r\n\r\n",
    b"NATS/1.0 404\r\n\r\n",
    b"NATS/1.0 404 Message Not Found\r\n\r\n",
    b"NATS/1.0 204 EOB\r\nNats-Num-Pending: 3\r\nNats-Last-Sequence: 9\r\n\r\n",
]


@pytest.mark.parametrize("raw", HEADS)
async def test_headers_are_what_nats_py_makes_of_them(raw: bytes) -> None:
    theirs = await Client()._process_headers(raw) or {}
    assert read_headers(raw) == {name: value for name, value in theirs.items() if name}


class Notes:
    """Both as nats-py's client and as ours: what was heard, in order."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def deliver(self, *message: object) -> None:
        self.heard.append(message)

    async def _process_msg(self, *message: Any) -> None:
        self.deliver(*message)

    async def _process_err(self, error: str) -> None:
        self.heard.append(error)

    async def _process_ping(self) -> None:
        self.heard.append("ping")

    async def _process_pong(self) -> None:
        self.heard.append("pong")


def message(subject: bytes, reply: bytes, head: bytes, payload: bytes) -> bytes:
    words = [subject, b"7", *([reply] if reply else [])]
    sizes = [b"%d" % len(head)] if head else []
    line = b" ".join([b"HMSG" if head else b"MSG", *words, *sizes, b"%d" % len(head + payload)])
    return line + b"\r\n" + head + payload + b"\r\n"


PAYLOADS = st.binary(max_size=20) | st.sampled_from([b"\r\n", b"MSG a 1 1\r\n", b"PING\r\n"])
SUBJECTS, REPLIES = st.sampled_from([b"a", b"a.b"]), st.sampled_from([b"", b"r"])
COMMANDS = st.one_of(
    st.builds(message, SUBJECTS, REPLIES, st.sampled_from([b"", *HEADS]), PAYLOADS),
    st.sampled_from([b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b"-ERR 'Slow Consumer'\r\n"]),
)


async def heard_by(parser: Parser, notes: Notes, pieces: list[bytes]) -> list[object]:
    for piece in pieces:
        await parser.parse(piece)
    return notes.heard


@settings(max_examples=300, deadline=None)
@given(st.lists(COMMANDS, max_size=6), st.lists(st.integers(0, 400), max_size=6))
def test_however_it_is_divided_the_same_is_heard(commands: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(commands)
    at = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    pieces = [whole[start:end] for start, end in pairwise(at)]
    theirs, ours = Notes(), Notes()
    expected = asyncio.run(heard_by(Parser(theirs), theirs, [whole]))
    assert len(expected) == len([one for one in commands if one != b"+OK\r\n"])
    assert asyncio.run(heard_by(Reader(ours), ours, pieces)) == expected


@pytest.mark.parametrize(
    "raw",
    [b"MSG a 1\r\n", b"MSG a x 1\r\nb\r\n", b"HMSG a 1 5 -1\r\n", b"MSG a 1 1 1 1 1\r\n", b"MSGS a 1 1\r\n"],
)
async def test_what_is_no_message_is_left_to_nats_py_which_ends_the_connection(raw: bytes) -> None:
    notes = Notes()
    assert take_messages(raw, notes) == 0
    with pytest.raises(ProtocolError):
        await Reader(notes).parse(raw)
    assert notes.heard == []


async def test_headers_that_are_longer_than_their_message_are_not_taken_for_one() -> None:
    notes = Notes()
    assert take_messages(b"HMSG a 1 5 3\r\nabcde\r\n", notes) == 0
    assert notes.heard == []
