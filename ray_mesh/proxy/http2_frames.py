"""Frames of HTTP/2 as bytes (RFC 9113 sections 4.1 and 6): their numbers, and how they are written."""

from __future__ import annotations

DATA = 0x0
HEADERS = 0x1
PRIORITY = 0x2
RST_STREAM = 0x3
SETTINGS = 0x4
PUSH_PROMISE = 0x5
PING = 0x6
GOAWAY = 0x7
WINDOW_UPDATE = 0x8
CONTINUATION = 0x9

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

HEADER_TABLE_SIZE = 0x1
ENABLE_PUSH = 0x2
MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
MAX_HEADER_LIST_SIZE = 0x6
NO_RFC7540_PRIORITIES = 0x9

HEAD_BYTES = 9
FRAME_BYTES = 16_384
"""The most that a frame carries, both ways: we never ask for more."""
DEFAULT_WINDOW = 65_535
MAX_WINDOW = (1 << 31) - 1


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    """One frame."""
    return b"%b%c%c%b%b" % (len(payload).to_bytes(3), kind, flags, stream_id.to_bytes(4), payload)


def header_frames(stream_id: int, block: bytes, ended: bool) -> bytes:
    """HEADERS, with as many CONTINUATION as the block needs."""
    kind, flags = HEADERS, END_STREAM if ended else 0
    written = b""
    while len(block) > FRAME_BYTES:
        written += frame(kind, flags, stream_id, block[:FRAME_BYTES])
        kind, flags, block = CONTINUATION, 0, block[FRAME_BYTES:]
    return written + frame(kind, flags | END_HEADERS, stream_id, block)


def settings_frame(settings: dict[int, int]) -> bytes:
    """SETTINGS."""
    entries = [key.to_bytes(2) + value.to_bytes(4) for key, value in settings.items()]
    return frame(SETTINGS, 0, 0, b"".join(entries))


def reset_frame(stream_id: int, code: int) -> bytes:
    """RST_STREAM."""
    return frame(RST_STREAM, 0, stream_id, code.to_bytes(4))


def window_frame(stream_id: int, increment: int) -> bytes:
    """WINDOW_UPDATE, for the connection when ``stream_id`` is 0."""
    return frame(WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4))


def goaway_frame(last_stream_id: int, code: int) -> bytes:
    """GOAWAY."""
    return frame(GOAWAY, 0, 0, last_stream_id.to_bytes(4) + code.to_bytes(4))
