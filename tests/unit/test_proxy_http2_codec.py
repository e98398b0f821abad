"""Both HTTP/2 codecs: what a sink is told, what is written, and how bodies are held to the windows."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from http2_frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PING,
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
    CONNECTION_WINDOW,
    ENHANCE_YOUR_CALM,
    INTERNAL_ERROR,
    MAX_HEADER_BYTES,
    MAX_STREAMS,
    NO_ERROR,
    PREFACE,
    REFUSED_STREAM,
    STREAM_WINDOW,
    NoStream,
)

TRAILERS = ((b"grpc-status", b"0"),)


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
    """A client that has agreed on settings with its server, which takes 100 requests at once."""
    return End(kind, is_client=True).greet(setting(3, 100))


def talk(client: End, server: End) -> None:
    """Carry bytes both ways until neither has any."""
    while (asked := client.take()) or (answered := server.take()):
        if asked:
            server.receive(asked)
        else:
            client.receive(answered)


def test_a_server_says_what_it_allows(kind: str) -> None:
    """Settings come first, and the connection's window is raised."""
    end = End(kind)
    (kind_of, flags, stream_id, payload), update = end.written()
    assert (kind_of, flags, stream_id) == (SETTINGS, 0, 0)
    entries = {payload[at : at + 6] for at in range(0, len(payload), 6)}
    assert entries == {
        setting(3, MAX_STREAMS),
        setting(4, STREAM_WINDOW),
        setting(6, MAX_HEADER_BYTES),
        setting(9, 1),
    }
    assert update == (WINDOW_UPDATE, 0, 0, (CONNECTION_WINDOW - 65_535).to_bytes(4))


def test_a_client_begins_with_the_preface_and_forbids_pushes(kind: str) -> None:
    """A client's first words."""
    wire = End(kind, is_client=True).take()
    assert wire.startswith(PREFACE)
    assert setting(2, 0) in wire
    assert setting(3, MAX_STREAMS) not in wire


def test_a_request_and_its_answer(server: End) -> None:
    """Without bodies: each is one frame, and both ended the stream."""
    assert server.receive(headers(1)) == [("headers", 1, GET, True)]
    server.codec.respond(1, OK, True)
    ((kind_of, flags, stream_id, payload),) = server.written()
    assert (kind_of, flags, stream_id) == (HEADERS, END_HEADERS | END_STREAM, 1)
    assert server.fields(payload) == OK
    assert server.told[-1:] == [("closed", 1, NO_ERROR)]


def test_bodies_and_trailers_both_ways(kind: str) -> None:
    """A client and a server of the same codec understand each other."""
    client, server = End(kind, is_client=True), End(kind)
    talk(client, server)
    stream_id = client.codec.request(POST, False)
    client.codec.send(stream_id, b"ping", False)
    client.codec.trailers(stream_id, TRAILERS)
    talk(client, server)
    assert server.told == [
        ("headers", 1, POST, False),
        ("data", 1, b"ping", False),
        ("trailers", 1, TRAILERS),
    ]
    server.codec.interim(1, ((b":status", b"103"), (b"link", b"</a>")))
    server.codec.respond(1, OK, False)
    server.codec.send(1, b"po", False)
    server.codec.send(1, b"ng", False)
    server.codec.trailers(1, TRAILERS)
    talk(client, server)
    assert client.told[:2] == [
        ("interim", 1, ((b":status", b"103"), (b"link", b"</a>"))),
        ("headers", 1, OK, False),
    ]
    bodies = [told for told in client.told if told[0] == "data"]
    assert b"".join(told[2] for told in bodies) == b"pong"
    assert not any(told[3] for told in bodies)
    assert client.told[-2:] == [("trailers", 1, TRAILERS), ("closed", 1, NO_ERROR)]
    assert server.told[-1:] == [("closed", 1, NO_ERROR)]


@pytest.mark.parametrize("other", CODECS)
def test_one_codec_understands_the_other(kind: str, other: str) -> None:
    """Large heads, repeated (so that tables are used), with bodies larger than every window."""
    client, server = End(kind, is_client=True), End(other)
    client.consumes = server.consumes = True
    large = (*POST, *((b"x-%d" % number, b"v" * 1000) for number in range(40)))
    body = bytes(range(256)) * 4096
    talk(client, server)
    for stream_id in (1, 3, 5):
        assert client.codec.request(large, False) == stream_id
        client.codec.send(stream_id, body, True)
    talk(client, server)
    for stream_id in (1, 3, 5):
        server.codec.respond(stream_id, (*OK, *large[4:]), False)
        server.codec.send(stream_id, body, True)
    talk(client, server)
    for end in (client, server):
        for stream_id in (1, 3, 5):
            told = [each for each in end.told if each[1] == stream_id]
            assert told[0][2][-40:] == large[-40:]
            assert b"".join(each[2] for each in told if each[0] == "data") == body
            assert told[-1:] == [("closed", stream_id, NO_ERROR)]


def test_padding_and_priority_are_taken_off(server: End) -> None:
    """They say nothing to a sink."""
    head = frame(
        HEADERS, END_HEADERS | PADDED | HAS_PRIORITY, 1, b"\x03" + bytes(4) + b"\x10" + block(POST) + bytes(3)
    )
    body = frame(DATA, PADDED | END_STREAM, 1, b"\x05hello" + bytes(5))
    assert server.receive(head, body) == [("headers", 1, POST, False), ("data", 1, b"hello", True)]


def test_a_body_waits_for_the_window_of_its_stream(server: End) -> None:
    """What does not fit is queued, other streams are not held up, and a WINDOW_UPDATE lets it go."""
    server.receive(headers(1), headers(3))
    server.codec.respond(1, OK, False)
    server.codec.send(1, bytes(70_000), True)
    server.receive(window(0, 100_000))
    server.codec.respond(3, OK, False)
    assert sum(len(each[3]) for each in server.written() if each[0] == DATA) == 65_535
    assert server.codec.queued(1) == 70_000 - 65_535
    server.codec.send(3, b"small", True)
    assert [each[3] for each in server.written()] == [b"small"]
    server.receive(window(1, 4_000))
    assert [len(each[3]) for each in server.written()] == [4_000]
    server.receive(window(1, 4_000))
    ((_, flags, _, rest),) = server.written()
    assert (flags, len(rest)) == (END_STREAM, 465)
    assert server.codec.queued(1) == 0


def test_a_body_waits_for_the_window_of_the_connection(server: End) -> None:
    """Streams share it."""
    server.receive(headers(1), headers(3), window(1, 1_000_000), window(3, 1_000_000))
    for stream_id in (1, 3):
        server.codec.respond(stream_id, OK, False)
        server.codec.send(stream_id, bytes(50_000), True)
    written = [each for each in server.written() if each[0] == DATA]
    assert sum(len(each[3]) for each in written) == 65_535
    assert {each[2] for each in written} == {1, 3}, "one stream took it all"
    server.receive(window(0, 1_000_000))
    server.written()
    assert [told for told in server.told if told[0] == "closed"] == [("closed", 1, 0), ("closed", 3, 0)]


def test_settings_change_the_windows_of_streams_under_way(server: End) -> None:
    """Up, and down below nothing."""
    server.receive(headers(1), window(0, 1_000_000))
    server.codec.respond(1, OK, False)
    server.codec.send(1, bytes(100_000), False)
    server.written()
    server.receive(frame(SETTINGS, 0, 0, setting(4, 65_536)))
    assert [(each[0], len(each[3])) for each in server.written()] == [(SETTINGS, 0), (DATA, 1)]
    server.receive(frame(SETTINGS, 0, 0, setting(4, 10)), window(1, 65_000))
    assert [each[0] for each in server.written()] == [SETTINGS]
    server.receive(window(1, 527))
    assert [len(each[3]) for each in server.written()] == [1]


def test_windows_are_given_back_as_bodies_are_passed_on(server: End) -> None:
    """Not before, and not for each piece."""
    server.receive(headers(1, POST, False))
    for _ in range(STREAM_WINDOW // 16_384):
        server.receive(data(1, bytes(16_384)))
    assert server.written() == []
    server.codec.consumed(1, STREAM_WINDOW // 2 - 1)
    assert server.written() == []
    server.codec.consumed(1, 1)
    assert server.written() == [(WINDOW_UPDATE, 0, 1, (STREAM_WINDOW // 2).to_bytes(4))]


def test_nothing_is_framed_beyond_what_may_be_taken(server: End) -> None:
    """Large bodies are framed piece by piece."""
    server.receive(headers(1), window(0, 10_000_000), window(1, 10_000_000))
    server.codec.respond(1, OK, False)
    server.codec.send(1, bytes(1_000_000), True)
    pieces = iter(server.codec.take, b"")
    assert max(map(len, pieces)) <= 256 * 1024 + 16_384 + 9


@pytest.mark.parametrize(
    "abandon",
    [
        "the peer resets",
        "we reset",
        "we reset in the middle of a frame",
        "the answer is complete",
        "it breaks a rule",
    ],
)
def test_the_connections_window_survives_streams_that_end_unread(server: End, abandon: str) -> None:
    """Thousands of them, with others that end well: the peer is neither held up nor given too much."""
    free = CONNECTION_WINDOW
    for stream_id in range(1, 4 * 2400, 4):
        ended = abandon == "the answer is complete"
        body = [data(stream_id, bytes(16_384)), data(stream_id, bytes(16_384), ended)]
        fields = (*POST, (b"content-length", b"20000")) if abandon == "it breaks a rule" else POST
        free -= 2 * 16_384
        assert free >= 0, "the peer is held up"
        server.receive(headers(stream_id, fields, False), body[0])
        if abandon == "the peer resets":
            server.receive(body[1], reset(stream_id))
        elif abandon == "we reset":
            server.receive(body[1])
            server.codec.reset(stream_id, CANCEL)
        elif abandon == "we reset in the middle of a frame":
            server.receive(body[1][:9_000])
            server.codec.reset(stream_id, CANCEL)
            free += _given_back(server)
            server.receive(body[1][9_000:])
        elif abandon == "it breaks a rule":
            server.receive(body[1])
        else:
            server.receive(body[1])
            server.codec.respond(stream_id, OK, True)
        free += _given_back(server)
        assert free <= CONNECTION_WINDOW, "more was given back than came"
        assert server.told[-1][:2] == ("closed", stream_id)
        server.receive(headers(stream_id + 2))
        server.codec.respond(stream_id + 2, OK, True)
        free += _given_back(server)
        server.told.clear()
    assert free >= CONNECTION_WINDOW // 2 - 32_768


def _given_back(end: End) -> int:
    written = end.written()
    assert not [each for each in written if each[0] == GOAWAY]
    return sum(int.from_bytes(each[3]) for each in written if each[0] == WINDOW_UPDATE and each[2] == 0)


def test_late_data_is_given_back(server: End) -> None:
    """What was on its way when we reset a stream."""
    server.receive(headers(1, POST, False))
    server.codec.reset(1, CANCEL)
    server.written()
    given = 0
    for _ in range(CONNECTION_WINDOW // 16_384):
        server.receive(data(1, bytes(16_384)))
        given += _given_back(server)
    assert given >= CONNECTION_WINDOW // 2
    assert server.told[-1:] == [("closed", 1, CANCEL)]


def test_a_reset_drops_what_was_queued(server: End) -> None:
    """And the sink is told of the end once."""
    server.receive(headers(1))
    server.codec.respond(1, OK, False)
    server.codec.send(1, bytes(100_000), False)
    server.written()
    server.codec.reset(1, INTERNAL_ERROR)
    assert server.written() == [(RST_STREAM, 0, 1, INTERNAL_ERROR.to_bytes(4))]
    server.receive(window(0, 100_000), reset(1))
    assert server.written() == []
    assert server.codec.queued(1) == 0
    assert [told for told in server.told if told[0] == "closed"] == [("closed", 1, INTERNAL_ERROR)]


@pytest.mark.parametrize("code", [NO_ERROR, CANCEL, 77])
def test_a_reset_by_the_peer_is_told(server: End, code: int) -> None:
    """With its code."""
    server.receive(headers(1, POST, False))
    assert server.receive(reset(1, code)) == [("closed", 1, code)]


def test_calls_that_come_too_late_do_nothing(server: End) -> None:
    """The stream has ended, or never was."""
    server.receive(headers(1, POST, False), data(1, b"x"), reset(1))
    for stream_id in (1, 3):
        codec = server.codec
        codec.consumed(stream_id, 1)
        codec.interim(stream_id, ((b":status", b"103"),))
        codec.respond(stream_id, OK, False)
        codec.send(stream_id, b"x", False)
        codec.trailers(stream_id, TRAILERS)
        codec.reset(stream_id, CANCEL)
        assert codec.queued(stream_id) == 0
    assert server.written() == []


def test_calls_while_the_stream_is_ending_do_nothing(kind: str) -> None:
    """The sink answers a request that the same bytes have already taken back."""

    class Eager(End):
        def on_headers(self, stream_id: int, fields: object, ended: bool) -> None:
            """Answer at once."""
            self.codec.respond(stream_id, OK, False)
            self.codec.send(stream_id, b"x", True)

    end = Eager(kind).greet()
    end.receive(headers(1, POST, False) + data(1, b"x") + reset(1))
    assert [told for told in end.told if told[0] == "closed"] == [("closed", 1, CANCEL)]
    end.take()
    assert not end.codec.is_over


def test_nothing_is_told_of_a_stream_that_we_reset(server: End) -> None:
    """Also before the reset is written; only its end."""
    server.receive(headers(1, POST, False))
    server.codec.reset(1, CANCEL)
    assert server.receive(data(1, b"x"), headers(1, TRAILERS)) == []
    server.written()
    assert server.told[-1:] == [("closed", 1, CANCEL)]


def test_a_client_may_ask_as_often_as_the_server_allows(client: End) -> None:
    """Room goes down with requests and up with their ends; beyond there is NoStream, and nothing is sent."""
    assert client.codec.room() == 100
    for _ in range(100):
        client.codec.request(GET, True)
    assert client.codec.room() == 0
    client.take()
    with pytest.raises(NoStream):
        client.codec.request(GET, True)
    assert client.take() == b""
    client.receive(headers(1, OK), reset(3))
    assert client.codec.room() == 2
    client.receive(frame(SETTINGS, 0, 0, setting(3, 1)))
    assert client.codec.room() == -97
    with pytest.raises(NoStream):
        client.codec.request(GET, True)
    client.receive(frame(SETTINGS, 0, 0, setting(3, 1 << 31)))
    assert client.codec.room() == MAX_STREAMS - 98


def test_before_settings_a_peer_is_taken_to_allow_a_hundred(kind: str) -> None:
    """A request need not wait for them."""
    client = End(kind, is_client=True)
    assert client.codec.room() == 100
    assert client.codec.request(GET, True) == 1
    assert HEADERS in [each[0] for each in client.written()]


def test_an_answer_before_the_request_ended(client: End) -> None:
    """The stream goes on until the request has ended, or is reset without an error."""
    for stream_id in (1, 3):
        assert client.codec.request(POST, False) == stream_id
    client.take()
    client.receive(headers(1, OK), headers(3, OK))
    assert [told[0] for told in client.told] == ["headers", "headers"]
    client.receive(reset(1, NO_ERROR))
    client.codec.send(3, b"x", True)
    client.take()
    assert client.told[2:] == [("closed", 1, NO_ERROR), ("closed", 3, NO_ERROR)]


def test_the_head_of_an_answer_to_head_says_how_long_it_would_be(client: End) -> None:
    """That is no body that is missing."""
    client.codec.request(((b":method", b"HEAD"), *GET[1:]), True)
    client.take()
    told = client.receive(headers(1, (*OK, (b"content-length", b"10"))))
    assert told == [("headers", 1, (*OK, (b"content-length", b"10")), True), ("closed", 1, NO_ERROR)]


def test_pings(server: End) -> None:
    """The peer's are answered; answers to ours are told, others are not."""
    server.receive(frame(PING, 0, 0, b"12345678"))
    assert server.written() == [(PING, ACK, 0, b"12345678")]
    server.codec.ping()
    assert server.written() == [(PING, 0, 0, bytes(8))]
    assert server.receive(frame(PING, ACK, 0, bytes(8))) == [("pong",)]
    assert server.receive(frame(PING, ACK, 0, bytes(8))) == []


def test_goaway_in_two_steps(kind: str) -> None:
    """After the notice requests that were on their way are served, after the second they are not."""
    client, server = End(kind, is_client=True), End(kind)
    talk(client, server)
    client.codec.request(GET, True)
    talk(client, server)
    server.codec.notice()
    late = client.codec.request(GET, True)
    talk(client, server)
    assert client.told == [("goaway", (1 << 31) - 1, NO_ERROR)]
    assert client.codec.room() == 0
    with pytest.raises(NoStream):
        client.codec.request(GET, True)
    assert server.told[-1:] == [("headers", late, GET, True)]
    server.codec.goaway(NO_ERROR)
    talk(client, server)
    assert client.told[-1:] == [("goaway", late, NO_ERROR)]
    assert not server.codec.is_over
    for stream_id in (1, late):
        server.codec.respond(stream_id, OK, True)
    talk(client, server)
    assert client.told[-2:] == [("closed", late, NO_ERROR), ("end", NO_ERROR)]
    assert server.told[-1:] == [("end", NO_ERROR)]
    assert client.codec.is_over
    assert server.codec.is_over
    assert client.take() == server.take() == b""


def test_requests_that_a_goaway_did_not_see_are_refused(client: End) -> None:
    """They can be tried again elsewhere; the others go on."""
    for stream_id in (1, 3, 5):
        assert client.codec.request(GET, True) == stream_id
    client.take()
    told = client.receive(goaway(1))
    assert told[0] == ("goaway", 1, NO_ERROR)
    assert sorted(told[1:]) == [("closed", 3, REFUSED_STREAM), ("closed", 5, REFUSED_STREAM)]
    assert client.receive(headers(1, OK))[:2] == [("headers", 1, OK, True), ("closed", 1, NO_ERROR)]


def test_a_request_that_was_not_written_before_a_goaway_is_refused(client: End) -> None:
    """Nothing of it was sent."""
    client.codec.request(POST, False)
    client.receive(goaway(0))
    assert HEADERS not in [each[0] for each in client.written()] or client.told[1][0] == "closed"
    assert ("closed", 1, REFUSED_STREAM) in client.told


def test_after_its_goaway_a_server_looks_at_no_more_requests(server: End) -> None:
    """Those below still end."""
    server.receive(headers(1, POST, False))
    server.codec.goaway(NO_ERROR)
    assert server.written() == [(GOAWAY, 0, 0, (1).to_bytes(4) + bytes(4))]
    assert server.receive(headers(3), headers(5)) == []
    assert server.receive(data(1, b"x", True)) == [("data", 1, b"x", True)]
    server.codec.respond(1, OK, True)
    server.written()
    assert server.told[-2:] == [("closed", 1, NO_ERROR), ("end", NO_ERROR)]


def test_goaway_with_an_error_ends_the_connection(server: End) -> None:
    """Once it is written; streams under way are not told of one by one."""
    server.receive(headers(1, POST, False))
    server.told.clear()
    server.codec.goaway(ENHANCE_YOUR_CALM)
    assert not server.codec.is_over
    assert server.receive(headers(3)) == []
    ((kind_of, _, _, payload),) = server.written()
    assert (kind_of, payload[4:8]) == (GOAWAY, ENHANCE_YOUR_CALM.to_bytes(4))
    assert server.told == [("end", ENHANCE_YOUR_CALM)]
    assert server.codec.is_over
    server.codec.respond(1, OK, True)
    server.codec.ping()
    server.codec.notice()
    server.codec.goaway(NO_ERROR)
    assert server.receive(headers(5)) == []
    assert server.take() == b""


def test_who_is_told_of_the_end_can_take_the_last_words(kind: str) -> None:
    """A sink that writes and closes when it is told so does not lose the GOAWAY."""
    last: list[bytes] = []

    class Closing(End):
        def on_end(self, code: int) -> None:
            """Write what is left."""
            last.append(self.codec.take())

    end = Closing(kind).greet()
    end.codec.goaway(INTERNAL_ERROR)
    assert end.codec.take() == b""
    assert last[0][3] == GOAWAY


@pytest.mark.parametrize(
    ("choice", "missing", "wanted"),
    [
        ("", "", "Ngh2Codec"),
        ("ngh2", "", "Ngh2Codec"),
        ("python", "", "PureCodec"),
        ("", "ngh2", "PureCodec"),
        ("ngh2", "ngh2", "HTTP/2 needs the Python package ngh2, which is not installed"),
        ("nghttp2", "", "RAY_MESH_HTTP2_CODEC is 'nghttp2'; it can be ngh2 or python"),
    ],
)
def test_which_codec_is_chosen(choice: str, missing: str, wanted: str) -> None:
    """libnghttp2's where it is installed, unless it is said which; never another than the one said."""
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({missing.split()}))\n"
        "from ray_mesh.proxy.http2_choice import server_codec\n"
        "class Sink: pass\n"
        "try: print(type(server_codec(Sink())).__name__)\n"
        "except RuntimeError as error: print(error)\n"
    )
    environment = os.environ | {"RAY_MESH_HTTP2_CODEC": choice}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == wanted, done.stderr


@pytest.mark.slow
def test_a_connection_that_lost_too_much_asks_for_a_successor() -> None:
    """A gibibyte of frames that were cut off by our resets; what is under way is served."""
    server = End("ngh2").greet()
    server.receive(headers(1))
    lost = 0
    for stream_id in range(3, 1 << 20, 2):
        body = data(stream_id, bytes(16_384))
        server.receive(headers(stream_id, POST, False), body[:-1])
        server.codec.reset(stream_id, CANCEL)
        lost += 16_383
        if [each for each in server.written() if each[0] == GOAWAY]:
            break
        server.receive(body[-1:])
        server.told.clear()
    assert 1 << 30 <= lost <= (1 << 30) + CONNECTION_WINDOW
    assert not server.codec.is_over
    server.codec.respond(1, OK, True)
    server.written()
    assert server.told[-2:] == [("closed", 1, NO_ERROR), ("end", NO_ERROR)]
