"""What peers of ill will send over HTTP/2: it is answered by the right error, and costs us little."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from itertools import count
from time import monotonic

import pytest
from http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PING,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    block,
    frame,
)
from http2_wire import (
    CODECS,
    GET,
    OK,
    POST,
    End,
    data,
    goaway,
    headers,
    reset,
    setting,
    window,
)

from ray_mesh.proxy.http2_codec import (
    CANCEL,
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    MAX_HEADER_BYTES,
    MAX_HEADER_FIELDS,
    MAX_STREAMS,
    NO_ERROR,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    STREAM_WINDOW,
    TAKE_BYTES,
)
from ray_mesh.proxy.http2_limits import IDLE_FRAMES, PENDING_ACKS, RESETS, SETTINGS_COST, Bucket

LENGTH = b"content-length"
TRAILERS = ((b"a", b"b"),)
METHOD, SCHEME, AUTHORITY, PATH = GET


def with_field(name: bytes, value: bytes) -> bytes:
    """A request with one more field."""
    return headers(1, (*GET, (name, value)))


def sized(length: bytes, *bodies: bytes, trailers: bool = False) -> bytes:
    """A request that says how long its body is, and another body."""
    ends = [not trailers and body is bodies[-1] for body in bodies]
    return (
        headers(1, (*POST, (LENGTH, length)), False)
        + b"".join(data(1, body, ended) for body, ended in zip(bodies, ends, strict=True))
        + (headers(1, TRAILERS) if trailers else b"")
    )


MALFORMED = {
    "a name in upper case": with_field(b"Name", b"x"),
    "an empty name": with_field(b"", b"x"),
    "a space in a name": with_field(b"a b", b"x"),
    "a colon in a name": with_field(b"a:b", b"x"),
    "a line feed in a value": with_field(b"a", b"x\ny"),
    "a carriage return in a value": with_field(b"a", b"x\ry"),
    "NUL in a value": with_field(b"a", b"x\0y"),
    "a value that begins with a space": with_field(b"a", b" x"),
    "a value that ends with a tab": with_field(b"a", b"x\t"),
    "Connection": with_field(b"connection", b"close"),
    "Keep-Alive": with_field(b"keep-alive", b"1"),
    "Proxy-Connection": with_field(b"proxy-connection", b"close"),
    "Transfer-Encoding": with_field(b"transfer-encoding", b"chunked"),
    "Upgrade": with_field(b"upgrade", b"websocket"),
    "TE other than trailers": with_field(b"te", b"gzip, trailers"),
    "an unknown pseudo-header": with_field(b":unknown", b"x"),
    "a pseudo-header of responses": with_field(b":status", b"200"),
    "a pseudo-header twice": headers(1, (*GET, PATH)),
    "a pseudo-header after others": headers(1, (TRAILERS[0], *GET)),
    "no method": headers(1, GET[1:]),
    "a method that is no token": headers(1, ((b":method", b"G T"), *GET[1:])),
    "no scheme": headers(1, (METHOD, AUTHORITY, PATH)),
    "no path": headers(1, (METHOD, SCHEME, AUTHORITY)),
    "an empty path": headers(1, (METHOD, SCHEME, AUTHORITY, (b":path", b""))),
    "a path with a space": headers(1, (METHOD, SCHEME, AUTHORITY, (b":path", b"/ x"))),
    "a relative path": headers(1, (METHOD, SCHEME, AUTHORITY, (b":path", b"x"))),
    "* for GET": headers(1, (METHOD, SCHEME, AUTHORITY, (b":path", b"*"))),
    "neither authority nor Host": headers(1, (METHOD, SCHEME, PATH)),
    "an authority that is none": headers(1, (METHOD, SCHEME, (b":authority", b"a/b"), PATH)),
    "two Hosts": headers(1, (*GET, (b"host", b"a"), (b"host", b"a"))),
    "CONNECT without authority": headers(1, ((b":method", b"CONNECT"),)),
    "CONNECT with a path": headers(1, ((b":method", b"CONNECT"), *GET[1:])),
    "extended CONNECT, which was not offered": headers(
        1, ((b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]), False
    ),
    "Content-Length that is no number": headers(1, (*POST, (LENGTH, b"+1")), False),
    "two Content-Lengths": headers(1, (*POST, (LENGTH, b"1"), (LENGTH, b"1")), False),
    "Content-Length without body": headers(1, (*POST, (LENGTH, b"1"))),
    "a body shorter than Content-Length": sized(b"3", b"x", b"y"),
    "a body longer than Content-Length": sized(b"3", b"xyz", b"!"),
    "trailers before Content-Length is reached": sized(b"3", b"x", trailers=True),
    "trailers that end nothing": headers(1, POST, False) + headers(1, TRAILERS, False),
    "pseudo-headers in trailers": headers(1, POST, False) + headers(1, (PATH,)),
    "Content-Length in trailers": headers(1, POST, False) + headers(1, ((LENGTH, b"3"),)),
    "an authority with a user": headers(1, (METHOD, SCHEME, (b":authority", b"user@a"), PATH)),
    "Content-Length beyond 63 bits": headers(1, (*POST, (LENGTH, b"9223372036854775808")), False),
    "a field of the connection in trailers": headers(1, POST, False) + headers(1, ((b"upgrade", b"x"),)),
}

BROKEN = {
    "DATA of stream 0": (data(0, b"x"), PROTOCOL_ERROR),
    "DATA of an idle stream": (data(1, b"x"), PROTOCOL_ERROR),
    "RST_STREAM of an idle stream": (reset(1), PROTOCOL_ERROR),
    "WINDOW_UPDATE of an idle stream": (window(1, 1), PROTOCOL_ERROR),
    "HEADERS of stream 0": (headers(0), PROTOCOL_ERROR),
    "HEADERS of a stream of servers": (headers(2), PROTOCOL_ERROR),
    "CONTINUATION of nothing": (frame(CONTINUATION, END_HEADERS, 1), PROTOCOL_ERROR),
    "CONTINUATION of another stream": (
        frame(HEADERS, END_STREAM, 1, block(GET)) + frame(CONTINUATION, END_HEADERS, 3),
        PROTOCOL_ERROR,
    ),
    "a frame within a block": (
        frame(HEADERS, END_STREAM, 1, block(GET)) + frame(PING, 0, 0, bytes(8)),
        PROTOCOL_ERROR,
    ),
    "DATA after the end": (headers(1) + data(1, b"x"), STREAM_CLOSED),
    "HEADERS after the end": (headers(1) + headers(1), STREAM_CLOSED),
    "more padding than payload": (headers(1, POST, False) + frame(DATA, PADDED, 1, b"\x02x"), PROTOCOL_ERROR),
    "more padding than a block": (frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff"), PROTOCOL_ERROR),
    "a stream that depends on itself": (
        frame(HEADERS, END_HEADERS | HAS_PRIORITY, 1, (1).to_bytes(4) + b"\0" + block(GET)),
        PROTOCOL_ERROR,
    ),
    "a frame too large": (headers(1, POST, False) + data(1, bytes(16_385)), FRAME_SIZE_ERROR),
    "RST_STREAM of three bytes": (headers(1) + frame(RST_STREAM, 0, 1, bytes(3)), FRAME_SIZE_ERROR),
    "WINDOW_UPDATE of three bytes": (frame(8, 0, 0, bytes(3)), FRAME_SIZE_ERROR),
    "PING of seven bytes": (frame(PING, 0, 0, bytes(7)), FRAME_SIZE_ERROR),
    "PING of a stream": (frame(PING, 0, 1, bytes(8)), PROTOCOL_ERROR),
    "GOAWAY of a stream": (frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL_ERROR),
    "SETTINGS of a stream": (frame(SETTINGS, 0, 1), PROTOCOL_ERROR),
    "SETTINGS of four bytes": (frame(SETTINGS, 0, 0, bytes(4)), FRAME_SIZE_ERROR),
    "SETTINGS with an ACK and more": (frame(SETTINGS, ACK, 0, bytes(6)), FRAME_SIZE_ERROR),
    "SETTINGS acknowledged twice": (frame(SETTINGS, ACK), PROTOCOL_ERROR),
    "ENABLE_PUSH of 2": (frame(SETTINGS, 0, 0, setting(2, 2)), PROTOCOL_ERROR),
    "an initial window too large": (frame(SETTINGS, 0, 0, setting(4, 1 << 31)), FLOW_CONTROL_ERROR),
    "frames smaller than all take": (frame(SETTINGS, 0, 0, setting(5, 16_383)), PROTOCOL_ERROR),
    "frames larger than can be": (frame(SETTINGS, 0, 0, setting(5, 1 << 24)), PROTOCOL_ERROR),
    "more settings than there are": (frame(SETTINGS, 0, 0, setting(99, 1) * 33), ENHANCE_YOUR_CALM),
    "a connection's window raised by nothing": (window(0, 0), PROTOCOL_ERROR),
    "a stream's window raised by nothing": (headers(1) + window(1, 0), PROTOCOL_ERROR),
    "a connection's window too large": (window(0, (1 << 31) - 1), FLOW_CONTROL_ERROR),
    "a stream's window too large": (headers(1) + window(1, (1 << 31) - 1), FLOW_CONTROL_ERROR),
    "windows too large by settings": (
        headers(1) + window(1, (1 << 31) - 65_536) + frame(SETTINGS, 0, 0, setting(4, 65_536)),
        FLOW_CONTROL_ERROR,
    ),
    "more than the window of a stream": (
        headers(1, POST, False) + data(1, bytes(16_384)) * (STREAM_WINDOW // 16_384) + data(1, b"x"),
        FLOW_CONTROL_ERROR,
    ),
    "PUSH_PROMISE of a client": (
        headers(1, POST, False) + frame(PUSH_PROMISE, END_HEADERS, 1, (2).to_bytes(4) + block(GET)),
        PROTOCOL_ERROR,
    ),
    "an index of no table": (frame(HEADERS, END_HEADERS, 1, b"\xbf"), COMPRESSION_ERROR),
    "an integer without end": (frame(HEADERS, END_HEADERS, 1, b"\xff" * 40), COMPRESSION_ERROR),
    "a table larger than allowed": (
        frame(HEADERS, END_HEADERS, 1, b"\x3f\xff\xff\x03" + block(GET)),
        COMPRESSION_ERROR,
    ),
    "a block that breaks off": (frame(HEADERS, END_HEADERS, 1, block(GET)[:-2]), COMPRESSION_ERROR),
    "HTTP/1.1": (b"GET / HTTP/1.1\r\n\r\n", FRAME_SIZE_ERROR),
}

BAD_ANSWERS = {
    "no status": headers(1, TRAILERS),
    "a status of four digits": headers(1, ((b":status", b"2000"),)),
    "101": headers(1, ((b":status", b"101"),), False),
    "an interim response that ends": headers(1, ((b":status", b"103"),)),
    "DATA after an interim response": headers(1, ((b":status", b"103"),), False) + data(1, b"x"),
    "an interim response with a length": headers(1, ((b":status", b"103"), (LENGTH, b"1")), False),
    "an interim response after the final one": headers(1, OK, False)
    + headers(1, ((b":status", b"103"),), False),
    "a pseudo-header of requests": headers(1, (*OK, METHOD)),
    "Transfer-Encoding": headers(1, (*OK, (b"transfer-encoding", b"chunked"))),
    "204 with a length": headers(1, ((b":status", b"204"), (LENGTH, b"1"))),
    "204 with a body": headers(1, ((b":status", b"204"),), False) + data(1, b"x", True),
    "a body longer than Content-Length": headers(1, (*OK, (LENGTH, b"1")), False) + data(1, b"xy", True),
    "trailers that end nothing": headers(1, OK, False) + headers(1, TRAILERS, False),
}

BROKEN_BY_SERVERS = {
    "DATA before the head": (data(1, b"x"), PROTOCOL_ERROR),
    "a response to nothing": (headers(3, OK), PROTOCOL_ERROR),
    "a request": (headers(2, GET), PROTOCOL_ERROR),
    "a push": (frame(PUSH_PROMISE, END_HEADERS, 1, (2).to_bytes(4) + block(GET)), PROTOCOL_ERROR),
    "pushes enabled": (frame(SETTINGS, 0, 0, setting(2, 1)), PROTOCOL_ERROR),
    "a body after the end": (headers(1, OK) + data(1, b"x"), STREAM_CLOSED),
    "GOAWAY of a stream of servers": (goaway(2), PROTOCOL_ERROR),
    "GOAWAY that takes back what it said": (goaway(1) + goaway(3), PROTOCOL_ERROR),
}


@pytest.fixture(params=CODECS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which codec."""
    return str(request.param)


@pytest.fixture
def server(kind: str) -> End:
    """A server that has agreed on settings with its client."""
    return End(kind).greet()


@pytest.fixture
def client(kind: str) -> End:
    """A client with one request under way, whose body has not ended."""
    end = End(kind, is_client=True).greet(setting(3, 100))
    end.codec.request(POST, False)
    end.take()
    return end


def assert_goes_on(server: End, stream_id: int) -> None:
    """A request is served as if nothing had been."""
    assert server.receive(headers(stream_id)) == [("headers", stream_id, GET, True)]
    server.codec.respond(stream_id, OK, True)
    assert [each[:3] for each in server.written()] == [(HEADERS, END_HEADERS | END_STREAM, stream_id)]


def said_last(end: End) -> tuple[int, int]:
    """The last frame that was written, and its code, of a connection that is over."""
    last = end.written()[-1]
    assert end.codec.is_over
    assert end.told[-1] == ("end", int.from_bytes(last[3][4:8]))
    return last[0], int.from_bytes(last[3][4:8])


@pytest.mark.parametrize("wire", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_ends_its_stream_only(server: End, wire: bytes) -> None:
    """It is not told, or told to have ended; other requests go on."""
    told = server.receive(wire)
    assert (RST_STREAM, 0, 1, PROTOCOL_ERROR.to_bytes(4)) in server.written()
    if told:
        assert told[0][0] == "headers"
        assert not any(each[-1] is True for each in told), "the request looks complete"
        assert server.told[-1] == ("closed", 1, PROTOCOL_ERROR)
    server.told.clear()
    assert_goes_on(server, 3)


@pytest.mark.parametrize(("wire", "code"), BROKEN.values(), ids=BROKEN)
def test_what_a_client_breaks_ends_the_connection(server: End, wire: bytes, code: int) -> None:
    """By GOAWAY that says why; nothing after it is looked at."""
    server.receive(wire)
    assert said_last(server) == (GOAWAY, code)
    assert server.receive(headers(9)) == []


@pytest.mark.parametrize("wire", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_a_malformed_response_ends_its_stream_only(client: End, wire: bytes) -> None:
    """The request has failed; the next is answered."""
    client.receive(wire)
    assert (RST_STREAM, 0, 1, PROTOCOL_ERROR.to_bytes(4)) in client.written()
    assert client.told[-1] == ("closed", 1, PROTOCOL_ERROR)
    assert not any(each[0] in ("headers", "data") and each[3] for each in client.told), "it looks complete"
    assert client.codec.request(GET, True) == 3
    client.take()
    assert client.receive(headers(3, OK)) == [("headers", 3, OK, True), ("closed", 3, NO_ERROR)]


@pytest.mark.parametrize(("wire", "code"), BROKEN_BY_SERVERS.values(), ids=BROKEN_BY_SERVERS)
def test_what_a_server_breaks_ends_the_connection(client: End, wire: bytes, code: int) -> None:
    """By GOAWAY that says why."""
    client.receive(wire)
    assert said_last(client) == (GOAWAY, code)


@pytest.mark.parametrize(
    "wire", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX", PREFACE + headers(1)]
)
def test_a_connection_must_begin_as_it_has_to(kind: str, wire: bytes) -> None:
    """With the preface and settings."""
    end = End(kind)
    end.receive(wire)
    assert said_last(end) == (GOAWAY, PROTOCOL_ERROR)


def test_te_trailers_and_options_for_the_server_are_fine(server: End) -> None:
    """The exceptions to the rules."""
    fields = ((b":method", b"OPTIONS"), SCHEME, AUTHORITY, (b":path", b"*"), (b"te", b"trailers"))
    assert server.receive(headers(1, fields)) == [("headers", 1, fields, True)]


def test_connect_is_told(server: End) -> None:
    """Whether it is served is for others to say."""
    fields = ((b":method", b"CONNECT"), (b":authority", b"a:1"))
    assert server.receive(headers(1, fields, False)) == [("headers", 1, fields, False)]


def flood(end: End, frames: Iterator[bytes], most: int) -> int:
    """Send frames, and read what is written, until the connection is over; how many it took."""
    for number in range(most):
        if end.codec.is_over:
            return number
        end.receive(next(frames))
        end.take()
    raise AssertionError("the flood goes on")


FLOODS = {
    "pings": (frame(PING, 0, 0, bytes(8)) for _ in count()),
    "answers to no ping": (frame(PING, ACK, 0, bytes(8)) for _ in count()),
    "settings": (frame(SETTINGS, 0, 0, setting(4, 1000 + number % 2)) for number in count()),
    "empty DATA": (data(1, b"") for _ in count()),
    "padding only": (frame(DATA, PADDED, 1, b"\x08" + bytes(8)) for _ in count()),
    "small windows": (window(0, 1) for _ in count()),
}


@pytest.mark.parametrize("name", FLOODS)
def test_frames_without_effect_are_bounded(kind: str, name: str) -> None:
    """However fast we answer them."""
    server = End(kind).greet()
    server.receive(headers(1, POST, False))
    cost = SETTINGS_COST if name == "settings" else 1
    expected = IDLE_FRAMES[0] // cost
    took = flood(server, FLOODS[name], 2 * expected)
    assert expected - 10 <= took
    assert server.told[-1] == ("end", ENHANCE_YOUR_CALM)


@pytest.mark.parametrize("wire", [frame(PING, 0, 0, bytes(8)), frame(SETTINGS)], ids=["pings", "settings"])
def test_answers_to_who_does_not_read_are_bounded(server: End, wire: bytes) -> None:
    """They are all that a peer could have us pile up."""
    server.receive(wire * (PENDING_ACKS + 10))
    written = server.written()
    assert len(written) <= PENDING_ACKS + 1
    assert written[-1][0] == GOAWAY
    assert server.told[-1] == ("end", ENHANCE_YOUR_CALM)


def test_rapid_resets_are_bounded(server: End) -> None:
    """A client that asks and takes it back, over and over."""
    wire = (headers(number, POST, False) + reset(number) for number in range(1, 1 << 20, 2))
    begun_at = monotonic()
    took = flood(server, wire, 2 * RESETS[0])
    assert RESETS[0] <= took <= RESETS[0] + 100 + RESETS[1] * (monotonic() - begun_at)
    assert server.told[-1] == ("end", ENHANCE_YOUR_CALM)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda number: headers(number, GET[1:]),
        lambda number: headers(number, POST, False) + headers(number, (PATH,)),
    ],
    ids=["malformed", "malformed trailers"],
)
def test_streams_that_we_are_made_to_reset_are_bounded(server: End, spoil: object) -> None:
    """It costs as much when the peer breaks rules so that the reset is ours."""
    assert callable(spoil)
    begun_at = monotonic()
    took = flood(server, map(spoil, range(1, 1 << 20, 2)), 2 * RESETS[0])
    assert RESETS[0] <= took <= RESETS[0] + 100 + RESETS[1] * (monotonic() - begun_at)
    assert server.told[-1] == ("end", ENHANCE_YOUR_CALM)


def test_a_client_that_cancels_half_of_what_it_asks_is_served(server: End) -> None:
    """Thousands of times: what ends well makes up for it."""
    for number in range(1, 4 * 3 * RESETS[0], 4):
        server.receive(headers(number), headers(number + 2, POST, False), reset(number + 2))
        server.codec.respond(number, OK, True)
        server.take()
    assert not server.codec.is_over


def test_what_we_reset_ourselves_is_not_counted(server: End) -> None:
    """Deadlines and failures are not the client's."""
    for number in range(1, 2 * 2 * RESETS[0], 2):
        server.receive(headers(number))
        server.codec.reset(number, CANCEL)
        server.take()
    assert not server.codec.is_over


def test_more_requests_than_allowed(kind: str) -> None:
    """They are refused until the client knows, and then they break a rule."""
    server = End(kind)
    server.receive(PREFACE + frame(SETTINGS))
    for number in range(MAX_STREAMS):
        server.receive(headers(2 * number + 1))
    server.written()
    assert server.receive(headers(2 * MAX_STREAMS + 1)) == []
    assert server.written() == [(RST_STREAM, 0, 2 * MAX_STREAMS + 1, REFUSED_STREAM.to_bytes(4))]
    server.receive(frame(SETTINGS, ACK), headers(2 * MAX_STREAMS + 3))
    assert said_last(server) == (GOAWAY, PROTOCOL_ERROR)


def test_a_block_in_many_pieces(server: End) -> None:
    """Some are fine, also byte by byte; without end they are not."""
    whole = block((*GET, (b"a", b"b" * 30_000)))
    pieces = [whole[at : at + 5_000] for at in range(0, len(whole), 5_000)]
    wire = frame(HEADERS, END_STREAM, 1, pieces[0])
    wire += b"".join(frame(CONTINUATION, 0, 1, piece) for piece in pieces[1:])
    wire += frame(CONTINUATION, END_HEADERS, 1)
    told = server.receive(*(wire[at : at + 1] for at in range(len(wire))))
    assert [each[:2] for each in told] == [("headers", 1)]
    server.receive(frame(HEADERS, END_STREAM, 3, block(GET)))
    took = flood(server, (frame(CONTINUATION, 0, 3) for _ in count()), 200)
    assert took < 200
    assert server.told[-1] == ("end", ENHANCE_YOUR_CALM)


def test_blocks_that_are_large_are_told_and_larger_ones_are_not(kind: str) -> None:
    """Up to twice the limit the sink may answer with a status; beyond, the connection ends."""
    too_many = (*GET, *((b"a", b"b"),) * (MAX_HEADER_FIELDS + 1))
    too_large = (*GET, (b"a", b"b" * 16_000)) + ((b"a", b"b" * 16_000),) * 3
    for fields in (too_many, too_large):
        server = End(kind).greet()
        wire = block(fields)
        pieces = [wire[at : at + 16_384] for at in range(0, len(wire), 16_384)]
        sent = frame(HEADERS, END_STREAM, 1, pieces[0])
        sent += b"".join(frame(CONTINUATION, 0, 1, piece) for piece in pieces[1:])
        assert server.receive(sent + frame(CONTINUATION, END_HEADERS, 1)) == [("headers", 1, fields, True)]
    server = End(kind).greet()
    server.receive(headers(1, (*GET, *((b"a", b"b"),) * 2 * MAX_HEADER_FIELDS)))
    assert said_last(server) == (GOAWAY, ENHANCE_YOUR_CALM)


def test_a_bomb_of_fields_is_not_unpacked(server: End) -> None:
    """A few bytes that stand for megabytes: an entry of the table, thousands of times."""
    name = b"\x01a"
    value = b"\x7f\x81\x1e" + b"b" * 3_968
    server.receive(frame(HEADERS, END_HEADERS | END_STREAM, 1, block(GET) + b"\x40" + name + value))
    server.written()
    tracemalloc.start()
    try:
        server.receive(frame(HEADERS, END_HEADERS | END_STREAM, 3, block(GET) + b"\xbe" * 16_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert said_last(server) == (GOAWAY, ENHANCE_YOUR_CALM)
    assert peak < 16 * MAX_HEADER_BYTES


def test_a_peer_that_takes_nothing_has_us_frame_nothing(server: End) -> None:
    """Windows of nothing: bodies wait where they can be counted."""
    server.receive(frame(SETTINGS, 0, 0, setting(4, 0)), headers(1))
    server.take()
    server.codec.respond(1, OK, False)
    server.codec.send(1, bytes(TAKE_BYTES), True)
    assert [each[0] for each in server.written()] == [HEADERS]
    assert server.codec.queued(1) == TAKE_BYTES


def test_tokens_come_back_with_time() -> None:
    """As many a second as the limit says, and never more than the burst."""
    now = [100.0]
    bucket = Bucket((10, 5), lambda: now[0])
    assert all(bucket.take() for _ in range(10))
    assert not bucket.take()
    now[0] += 2
    assert sum(bucket.take() for _ in range(20)) == 10
    now[0] += 1000
    assert bucket.take(10)
    assert not bucket.take()
    bucket.give()
    bucket.give()
    assert bucket.take()
