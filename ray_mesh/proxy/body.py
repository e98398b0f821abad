"""HTTP/1.1 bodies: where they end. Strict, incremental, and bounded in memory.

Trailer fields are checked and travel on, but for those that RFC 9110 section 6.5.1 wants in the head only
(framing, routing, authentication, what describes the content) and those that are the mesh's own to say.
Chunk extensions are of one hop: checked and dropped.
"""

from __future__ import annotations

import re
from typing import Protocol

from ray_mesh.errors import PeerError
from ray_mesh.proxy.head import CHUNKED, MAX_FIELDS

MAX_TRAILER_BYTES = 16 * 1024
_MAX_LINE_BYTES = 512
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
_SIZE = re.compile(
    rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*" % (_TOKEN, _TOKEN, _QUOTED)
)
_FIELD = re.compile(rb"(%b):[\t\x20-\x7e\x80-\xff]*" % _TOKEN)
_NO_TRAILER = re.compile(
    rb"(?:content-|proxy-|x-mesh-|x-forwarded-|x-envoy-|x-b3-|if-|accept|access-control-|sec-|strict-).*|"
    rb"connection|keep-alive|te|trailer|transfer-encoding|upgrade|host|"
    rb"authorization|www-authenticate|cookie|set-cookie|"
    rb"cache-control|expect|max-forwards|pragma|range|age|date|expires|location|retry-after|vary|"
    rb"traceparent|tracestate|b3|x-request-id",
    re.IGNORECASE,
)
LAST_CHUNK = b"0\r\n\r\n"


class BadBody(PeerError):
    """A body whose framing is broken."""

    reason = "bad_body"


class BodyReader(Protocol):
    """Takes bytes of a connection and says which belong to the body."""

    @property
    def trailer(self) -> bytes:
        """Trailer fields that may travel on, each with its CRLF; complete when the body is."""

    def feed(self, received: bytes) -> tuple[bytes, bytes | None]:
        """The payload found, and what follows the body (None while the body goes on).

        Raises:
            BadBody: the framing is broken; nothing more may be forwarded.
        """


def reader(length: int | None) -> BodyReader:
    """The reader of a body of that length (None: until the connection ends)."""
    if length == CHUNKED:
        return ChunkedReader()
    return EndlessReader() if length is None else LengthReader(length)


def may_trail(name: bytes) -> bool:
    """Whether a trailer field of that name travels on."""
    return _NO_TRAILER.fullmatch(name) is None


def frame(payload: bytes) -> bytes:
    """A chunk. Empty payload gives nothing, since an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""


def last_chunk(trailer: bytes) -> bytes:
    """What ends a chunked body."""
    return b"0\r\n%b\r\n" % trailer if trailer else LAST_CHUNK


class LengthReader:
    """A body of a known number of bytes."""

    __slots__ = ("left",)

    trailer = b""

    def __init__(self, length: int) -> None:
        self.left = length

    def feed(self, received: bytes) -> tuple[bytes, bytes | None]:
        """See :class:`BodyReader`."""
        size = len(received)
        if size < self.left:
            self.left -= size
            return received, None
        left, self.left = self.left, 0
        return (received, b"") if size == left else (received[:left], received[left:])


class EndlessReader:
    """A body that ends with its connection."""

    __slots__ = ()

    trailer = b""

    def feed(self, received: bytes) -> tuple[bytes, bytes | None]:
        """See :class:`BodyReader`."""
        return received, None


class ChunkedReader:
    """RFC 9112 section 7.1."""

    __slots__ = ("_kept", "_left", "_trailer", "_trailer_fields", "trailer")

    def __init__(self) -> None:
        self.trailer = b""
        self._trailer_fields = 0
        self._kept = b""  # an unfinished line
        self._left = 0  # of the current chunk, with its CRLF
        self._trailer: int | None = None  # bytes of trailer seen, once the last chunk came

    def feed(self, received: bytes) -> tuple[bytes, bytes | None]:
        """See :class:`BodyReader`."""
        data = self._kept + received if self._kept else received
        self._kept = b""
        payload: list[bytes] = []
        position = 0
        while position < len(data):
            if self._left:
                position = self._take_chunk(data, position, payload)
                continue
            end = data.find(b"\r\n", position)
            if end < 0:
                self._keep(data[position:])
                break
            line = data[position:end]
            position = end + 2
            if self._trailer is not None:
                if not line:
                    return b"".join(payload), data[position:]
                self._take_trailer(line)
            else:
                self._take_size(line)
        return b"".join(payload), None

    def _take_chunk(self, data: bytes, position: int, payload: list[bytes]) -> int:
        end = min(position + self._left, len(data))
        payload_end = min(end, position + max(self._left - 2, 0))
        if payload_end > position:
            payload.append(data[position:payload_end])
        consumed_before = 2 - min(self._left, 2)
        tail = data[payload_end:end]
        if tail and tail != b"\r\n"[consumed_before : consumed_before + len(tail)]:
            raise BadBody("a chunk is longer than its size says")
        self._left -= end - position
        return end

    def _take_size(self, line: bytes) -> None:
        found = _SIZE.fullmatch(line) if len(line) <= _MAX_LINE_BYTES else None
        if found is None:
            raise BadBody("a chunk size is not a hexadecimal number, or its extension is malformed")
        size = int(found[1], 16)
        if size:
            self._left = size + 2
        else:
            self._trailer = 0

    def _take_trailer(self, line: bytes) -> None:
        assert self._trailer is not None
        self._trailer += len(line) + 2
        self._trailer_fields += 1
        found = _FIELD.fullmatch(line)
        if found is None or self._trailer > MAX_TRAILER_BYTES or self._trailer_fields > MAX_FIELDS:
            raise BadBody("a trailer field is malformed, or the trailer is too large")
        if may_trail(found[1]):
            self.trailer += line + b"\r\n"

    def _keep(self, line: bytes) -> None:
        limit = _MAX_LINE_BYTES if self._trailer is None else MAX_TRAILER_BYTES
        if len(line) > limit or b"\n" in line:
            raise BadBody("a chunk size or trailer line is too long or not ended by CRLF")
        self._kept = line
