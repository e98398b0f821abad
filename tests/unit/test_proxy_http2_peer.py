"""Both HTTP/2 codecs against another implementation of the protocol (the package ``h2``)."""

from __future__ import annotations

import h2.config
import h2.connection
import h2.events
import pytest
from http2_wire import CODECS, GET, OK, POST, End

from ray_mesh.proxy.http2_codec import CANCEL

BODY = bytes(range(256)) * 2048
TRAILERS = ((b"grpc-status", b"0"),)


class Peer:
    """The other implementation: it consumes what comes, and answers by hand."""

    def __init__(self, *, is_client: bool) -> None:
        self.connection = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=is_client, header_encoding=None)
        )
        self.connection.initiate_connection()
        self.events: list[h2.events.Event] = []
        self.body = b""

    def receive(self, wire: bytes) -> None:
        """Understand bytes."""
        for event in self.connection.receive_data(wire):
            self.events.append(event)
            if isinstance(event, h2.events.DataReceived):
                assert event.data is not None
                self.body += event.data
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)

    def send(self, stream_id: int, body: bytes) -> bytes:
        """Send as much of a body as the windows allow; the rest."""
        size = min(
            len(body),
            self.connection.local_flow_control_window(stream_id),
            self.connection.max_outbound_frame_size,
        )
        if size:
            self.connection.send_data(stream_id, body[:size])
        return body[size:]

    def has(self, kind: type[h2.events.Event]) -> bool:
        """Whether there was such an event."""
        return any(isinstance(event, kind) for event in self.events)


def talk(end: End, peer: Peer) -> None:
    """Carry bytes both ways until neither has any."""
    while (ours := end.take()) or (theirs := peer.connection.data_to_send()):
        if ours:
            peer.receive(ours)
        else:
            end.receive(theirs)


def upload(end: End, peer: Peer, stream_id: int) -> None:
    """Have the peer send a body larger than all windows, and trailers."""
    rest = BODY
    while rest:
        rest = peer.send(stream_id, rest)
        talk(end, peer)
    peer.connection.send_headers(stream_id, TRAILERS, end_stream=True)
    talk(end, peer)


def told_body(end: End) -> bytes:
    """What a codec told of bodies."""
    return b"".join(told[2] for told in end.told if told[0] == "data")


@pytest.mark.parametrize("kind", CODECS)
def test_a_client_of_another_make(kind: str) -> None:
    """Bodies and trailers both ways, a reset, a ping and a GOAWAY."""
    end, peer = End(kind), Peer(is_client=True)
    end.consumes = True
    peer.connection.send_headers(1, POST)
    talk(end, peer)
    upload(end, peer, 1)
    assert end.told[0] == ("headers", 1, POST, False)
    assert told_body(end) == BODY
    assert end.told[-1:] == [("trailers", 1, TRAILERS)]
    end.codec.respond(1, OK, False)
    end.codec.send(1, BODY, False)
    end.codec.trailers(1, TRAILERS)
    end.codec.ping()
    talk(end, peer)
    assert peer.body == BODY
    assert peer.has(h2.events.TrailersReceived)
    assert ("pong",) in end.told
    peer.connection.send_headers(3, POST)
    talk(end, peer)
    peer.connection.reset_stream(3, CANCEL)
    talk(end, peer)
    assert end.told[-1:] == [("closed", 3, CANCEL)]
    end.codec.goaway(0)
    talk(end, peer)
    assert peer.has(h2.events.ConnectionTerminated)


@pytest.mark.parametrize("kind", CODECS)
def test_a_server_of_another_make(kind: str) -> None:
    """Bodies and trailers both ways, and a reset."""
    end, peer = End(kind, is_client=True), Peer(is_client=False)
    end.consumes = True
    assert end.codec.request(POST, False) == 1
    end.codec.send(1, BODY, False)
    end.codec.trailers(1, TRAILERS)
    talk(end, peer)
    assert peer.body == BODY
    assert peer.has(h2.events.TrailersReceived)
    peer.connection.send_headers(1, OK)
    talk(end, peer)
    upload(end, peer, 1)
    assert told_body(end) == BODY
    assert end.told[-2:] == [("trailers", 1, TRAILERS), ("closed", 1, 0)]
    assert end.codec.request(GET, True) == 3
    talk(end, peer)
    peer.connection.reset_stream(3, CANCEL)
    talk(end, peer)
    assert end.told[-1:] == [("closed", 3, CANCEL)]
