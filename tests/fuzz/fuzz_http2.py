"""HTTP/2: both codecs say the same of any bytes, however these are cut, and raise nothing."""

from __future__ import annotations

from fuzzing import fuzz
from http2_frames import (
    END_HEADERS,
    HEADERS,
    PING,
    SETTINGS,
    frame,
)
from http2_wire import (
    CODECS,
    OK,
    POST,
    Busy,
    Told,
    data,
    goaway,
    headers,
    in_order,
    reset,
    setting,
    window,
)

LEFT_OUT = b"\x02\x04\x05\x07\x0a\x0c\x10"
"""PRIORITY, SETTINGS, PUSH_PROMISE, GOAWAY, and what only libnghttp2 knows: they may differ in an error."""


def comparable(wire: bytes) -> list[bytes]:
    """The frames of which both have to say the same: whole ones, for which libnghttp2 does not wait."""
    kept: list[bytes] = []
    while len(wire) >= 9:
        size = 9 + int.from_bytes(wire[:3])
        is_piece = wire[3] == HEADERS and not wire[4] & END_HEADERS
        if wire[3] not in LEFT_OUT and not is_piece and size <= len(wire):
            kept.append(wire[:size])
        wire = wire[size:]
    return kept


def understand(kind: str, is_client: bool, pieces: list[bytes]) -> list[Told]:
    """What is told of pieces, with writing at the end."""
    end = Busy(kind, is_client=is_client)
    end.receive(*pieces)
    end.take()
    assert not end.codec.is_over or end.told[-1][0] == "end"
    return in_order(end)


def in_turn(kind: str, is_client: bool, frames: list[bytes]) -> list[Told]:
    """What is told of frames, with writing after each."""
    end = Busy(kind, is_client=is_client)
    for each in frames:
        end.receive(each)
        end.take()
    return in_order(end)


def check(given: bytes) -> None:
    """The first byte says which side reads, and where the rest is cut."""
    first, wire = (given[0] if given else 0), given[1:]
    is_client, cut = bool(first & 1), first >> 1
    frames = comparable(wire)
    same = b"".join(frames)
    for kind in CODECS:
        understand(kind, is_client, [wire[:cut], wire[cut:]])
        whole = understand(kind, is_client, [same])
        assert whole == understand(kind, is_client, [same[:cut], same[cut:]])
        assert whole == understand(kind, is_client, [same[at : at + 1] for at in range(len(same))])
    assert in_turn("ngh2", is_client, frames) == in_turn("python", is_client, frames)


if __name__ == "__main__":
    asked = headers(1, POST, False) + data(1, b"hello") + headers(1, ((b"grpc-status", b"0"),))
    answered = headers(1, OK, False) + data(1, b"hello", True) + headers(3, OK)
    control = window(0, 9) + frame(PING, 0, 0, bytes(8)) + reset(3) + headers(5)
    fuzz(
        check,
        [
            b"\x08" + asked + control,
            b"\x09" + answered + control,
            b"\x80" + asked + frame(SETTINGS, 0, 0, setting(4, 10)) + goaway(0),
            b"\x01" + answered + goaway(1),
            b"\x20"
            + frame(HEADERS, 5, 1, b"\x82\x86\x84\x41\x01a")
            + frame(HEADERS, 5, 3, b"\x82\xbe\x40\x01a\x01b"),
        ],
    )
