"""HTTP/2 frames written by hand, so that nothing checks what they carry; and reading of what comes back."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hpack import Decoder

from ray_mesh.proxy.http2_codec import PREFACE

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = range(5)
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(5, 10)
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
MAX_FRAME = 16_384
Fields = Iterable[tuple[bytes, bytes]]
OPENING = PREFACE + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


def frame(kind: int, flags: int = 0, stream_id: int = 0, payload: bytes = b"") -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream_id) + payload


def block(fields: Fields) -> bytes:
    """A header block of literals, without the tables and without Huffman codes."""
    return b"".join(b"\x00" + _string(name) + _string(value) for name, value in fields)


def _string(text: bytes) -> bytes:
    length = len(text)
    if length < 127:
        return bytes((length,)) + text
    rest, digits = length - 127, bytearray(b"\x7f")
    while rest >= 128:
        digits.append(rest % 128 + 128)
        rest //= 128
    return bytes(digits) + bytes((rest,)) + text


def headers(stream_id: int, fields: Fields, ended: bool) -> bytes:
    """A HEADERS frame, and as many CONTINUATION frames as it takes."""
    whole = block(fields)
    pieces = [whole[start : start + MAX_FRAME] for start in range(0, len(whole), MAX_FRAME)] or [b""]
    out = []
    for number, piece in enumerate(pieces):
        flags = (END_HEADERS if number == len(pieces) - 1 else 0) | (
            END_STREAM if ended and not number else 0
        )
        out.append(frame(CONTINUATION if number else HEADERS, flags, stream_id, piece))
    return b"".join(out)


def body(stream_id: int, payload: bytes, ended: bool = True) -> bytes:
    """DATA frames."""
    pieces = [payload[start : start + MAX_FRAME] for start in range(0, len(payload), MAX_FRAME)] or [b""]
    last = len(pieces) - 1
    return b"".join(
        frame(DATA, END_STREAM if ended and number == last else 0, stream_id, piece)
        for number, piece in enumerate(pieces)
    )


@dataclass(frozen=True)
class Ending:
    """How a stream ended: with a response, or with an error of its own or of its connection."""

    status: int = 0
    body: bytes = b""
    reset: int | None = None
    goaway: int | None = None
    fields: tuple[tuple[bytes, bytes], ...] = ()


class Peer:
    """A client that sends bytes as they are, and understands enough to see how a stream ends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = Decoder()
        self._decoder.max_allowed_table_size = 4096
        self.goaway: int | None = None

    @classmethod
    async def connect(cls, port: int) -> Peer:
        """Connect, and say that this is HTTP/2."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(OPENING)
        return cls(reader, writer)

    def send(self, frames: bytes) -> None:
        """Send bytes."""
        self._writer.write(frames)

    async def ending(self, stream_id: int) -> Ending:
        """Wait until a stream is over."""
        status, received, seen = 0, b"", ()  # type: tuple[int, bytes, tuple[tuple[bytes, bytes], ...]]
        while True:
            try:
                kind, flags, on, payload = await self._frame()
            except (asyncio.IncompleteReadError, ConnectionError):
                return Ending(status, received, goaway=self.goaway or 0, fields=seen)
            if kind == GOAWAY:
                self.goaway = struct.unpack(">I", payload[4:8])[0]
            elif kind == SETTINGS and not flags & ACK:
                self.send(frame(SETTINGS, ACK, 0))
            elif kind == HEADERS:
                told = tuple(_pairs(self._decoder, payload))
                if on == stream_id and not status:
                    status, seen = int(dict(told)[b":status"]), told
            elif kind == DATA and on == stream_id:
                received += payload
            if on == stream_id and kind == RST_STREAM:
                return Ending(status, received, reset=struct.unpack(">I", payload)[0], fields=seen)
            if on == stream_id and kind in (HEADERS, DATA) and flags & END_STREAM:
                return Ending(status, received, fields=seen)

    async def _frame(self) -> tuple[int, int, int, bytes]:
        length, kind, flags, stream_id = struct.unpack(">IBBI", b"\x00" + await self._reader.readexactly(9))
        return kind, flags, stream_id, await self._reader.readexactly(length)

    def close(self) -> None:
        """Close at once."""
        self._writer.transport.abort()


def _pairs(decoder: Decoder, payload: bytes) -> Iterator[tuple[bytes, bytes]]:
    for name, value in decoder.decode(payload, raw=True):
        yield bytes(name), bytes(value)
