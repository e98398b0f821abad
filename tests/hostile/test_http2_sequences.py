"""Frames in any order: both codecs say the same of them, however they are cut, and neither is surprised."""

from __future__ import annotations

from collections import Counter

import pytest
from http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    block,
    frame,
)
from http2_wire import (
    CODECS,
    GET,
    OK,
    POST,
    Busy,
    End,
    data,
    goaway,
    headers,
    in_order,
    reset,
    setting,
    window,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_mesh.proxy.http2_codec import PREFACE

LENGTH = b"content-length"
FIELDS = (
    GET,
    POST,
    (*POST, (LENGTH, b"5")),
    (*POST, (LENGTH, b"0")),
    (*GET, (b"te", b"trailers"), (b"host", b"a")),
    (*GET, (b"Upper", b"x")),
    (*GET, (b"connection", b"close")),
    (GET[0], (b":authority", b"a")),
    ((b":method", b"CONNECT"), (b":authority", b"a:1")),
    OK,
    (*OK, (LENGTH, b"5")),
    ((b":status", b"103"),),
    ((b":status", b"204"),),
    ((b"grpc-status", b"0"),),
    (),
)
streams = st.sampled_from([1, 1, 1, 3, 3, 5, 7, 2, 0, 9])
sizes = st.sampled_from([0, 1, 5, 5, 100, 16_384])
increments = st.sampled_from([0, 1, 1000, 65_536, (1 << 31) - 1])
codes = st.sampled_from([0, 1, 7, 8, 99])
known = st.one_of(
    st.builds(headers, streams, st.sampled_from(FIELDS), st.booleans()),
    st.builds(headers, streams, st.sampled_from(FIELDS), st.booleans()),
    st.builds(data, streams, sizes.map(bytes), st.booleans()),
    st.builds(data, streams, sizes.map(bytes), st.booleans()),
    st.builds(reset, streams, codes),
    st.builds(window, streams, increments),
    st.builds(goaway, st.sampled_from([0, 1, 2, 3, 5, (1 << 31) - 1]), codes),
    st.builds(lambda key, value: frame(SETTINGS, 0, 0, setting(key, value)), st.integers(1, 7), increments),
    st.just(frame(SETTINGS, ACK)),
    st.just(frame(PING, 0, 0, bytes(8))),
    st.just(frame(PRIORITY, 0, 1, bytes(5))),
    st.builds(
        lambda stream_id, fields, at: (
            frame(HEADERS, END_STREAM, stream_id, block(fields)[:at])
            + frame(CONTINUATION, 0, stream_id, b"")
            + frame(CONTINUATION, END_HEADERS, stream_id, block(fields)[at:])
        ),
        streams,
        st.sampled_from(FIELDS),
        st.integers(0, 20),
    ),
    st.builds(
        lambda stream_id, size, padding: frame(DATA, PADDED, stream_id, bytes((padding,)) + bytes(size)),
        streams,
        sizes.filter(lambda size: size < 16_384),
        st.sampled_from([0, 1, 5, 255]),
    ),
)
odd = st.builds(
    lambda kind, flags, stream_id, payload: frame(
        kind, flags | END_HEADERS if kind == HEADERS else flags, stream_id, payload
    ),
    st.sampled_from(
        [DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION, 0x77]
    ),
    st.sampled_from([0, 1, 4, 5, 8, 13, 32, 255]),
    streams,
    st.binary(max_size=20),
)
sequences = st.lists(st.one_of(known, known, known, odd), max_size=25)


def run(kind: str, is_client: bool, pieces: list[bytes]) -> Busy:
    """Have a codec read pieces, and write after each."""
    end = Busy(kind, is_client=is_client)
    for piece in pieces:
        end.receive(piece)
        end.take()
    return end


@pytest.mark.parametrize("is_client", [False, True])
@settings(deadline=None, max_examples=400)
@given(sequence=sequences)
def test_both_codecs_say_the_same(is_client: bool, sequence: list[bytes]) -> None:
    """What is told, in the same order."""
    assert in_order(run("ngh2", is_client, sequence)) == in_order(run("python", is_client, sequence))


@pytest.mark.parametrize("is_client", [False, True])
@pytest.mark.parametrize("kind", CODECS)
@settings(deadline=None, max_examples=200)
@given(sequence=sequences, draw=st.data())
def test_however_it_is_cut(kind: str, is_client: bool, sequence: list[bytes], draw: st.DataObject) -> None:
    """The same is told and written of the same bytes in other pieces.

    GOAWAY is left out: when no requests are under way, it ends the connection with the bytes that are here,
    and what the peer says in spite of it may be among them or not.
    """
    wire = b"".join(each for each in sequence if each[3] != GOAWAY)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(wire)), max_size=10)))
    pieces = [wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True)]
    if len(wire) < 500 and draw.draw(st.booleans()):
        pieces = [wire[at : at + 1] for at in range(len(wire))]
    whole, cut = Busy(kind, is_client=is_client), Busy(kind, is_client=is_client)
    whole.receive(wire)
    cut.receive(*pieces)
    assert in_order(whole) == in_order(cut)
    assert whole.take() == cut.take()
    assert in_order(whole) == in_order(cut)


@pytest.mark.parametrize("is_client", [False, True])
@pytest.mark.parametrize("kind", CODECS)
@settings(deadline=None, max_examples=200)
@given(sequence=st.lists(st.one_of(known, odd, st.binary(max_size=50)), max_size=25))
def test_nothing_is_raised_and_streams_end_once(kind: str, is_client: bool, sequence: list[bytes]) -> None:
    """Whatever comes; and what is written is frames, few for what came."""
    end = run(kind, is_client, [*sequence, headers(11)])
    ended = Counter(told[1] for told in end.told if told[0] == "closed")
    begun = {1, 3, 5, 7} if is_client else {told[1] for told in end.told if told[0] == "headers"}
    assert all(count == 1 for count in ended.values())
    assert set(ended) <= begun
    assert sum(told[0] == "end" for told in end.told) == end.codec.is_over
    if end.codec.is_over:
        assert end.told[-1][0] == "end"
    sent = sum(map(len, sequence))
    got = sum(len(told[2]) for told in end.told if told[0] == "data")
    assert got <= sent


@pytest.mark.parametrize("kind", CODECS)
@settings(deadline=None, max_examples=200)
@given(wire=st.binary(max_size=200), has_preface=st.booleans())
def test_bytes_that_are_no_frames(kind: str, wire: bytes, has_preface: bool) -> None:
    """A server that hears noise says what it allows, and perhaps good-bye."""
    end = End(kind)
    end.receive((PREFACE if has_preface else b"") + wire)
    assert all(each[0] in (SETTINGS, WINDOW_UPDATE, GOAWAY, PING, RST_STREAM) for each in end.written())
