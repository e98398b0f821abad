"""HTTP/2 by hand: frames as bytes, and both codecs with a sink that remembers what it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from hpack import Decoder
from http2_frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    block,
    frame,
)

from ray_mesh.proxy.http2_codec import (
    CONNECTION_WINDOW,
    PREFACE,
    REFUSED_STREAM,
    STREAM_WINDOW,
    Codec,
    Headers,
)
from ray_mesh.proxy.http2_ngh2 import Ngh2Codec
from ray_mesh.proxy.http2_pure import PureCodec

CODECS: dict[str, Callable[..., Codec]] = {"ngh2": Ngh2Codec, "python": PureCodec}
Told = tuple[Any, ...]
Frame = tuple[int, int, int, bytes]

GET = ((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/"))
POST = ((b":method", b"POST"), *GET[1:])
OK = ((b":status", b"200"),)


def headers(stream_id: int, fields: Iterable[tuple[bytes, bytes]] = GET, ended: bool = True) -> bytes:
    """HEADERS in one frame."""
    return frame(HEADERS, END_HEADERS | (END_STREAM if ended else 0), stream_id, block(fields))


def data(stream_id: int, payload: bytes, ended: bool = False) -> bytes:
    """DATA."""
    return frame(DATA, END_STREAM if ended else 0, stream_id, payload)


def reset(stream_id: int, code: int = 8) -> bytes:
    """RST_STREAM."""
    return frame(RST_STREAM, 0, stream_id, code.to_bytes(4))


def setting(key: int, value: int) -> bytes:
    """An entry of SETTINGS."""
    return key.to_bytes(2) + value.to_bytes(4)


def window(stream_id: int, increment: int) -> bytes:
    """WINDOW_UPDATE."""
    return frame(WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4))


def goaway(last_stream_id: int, code: int = 0) -> bytes:
    """GOAWAY."""
    return frame(GOAWAY, 0, 0, last_stream_id.to_bytes(4) + code.to_bytes(4))


def frames(written: bytes) -> list[Frame]:
    """What was written, frame by frame; a client's preface is left out."""
    written = written.removeprefix(PREFACE)
    found: list[Frame] = []
    while written:
        size = int.from_bytes(written[:3])
        assert len(written) >= 9 + size, "half a frame was written"
        found.append((written[3], written[4], int.from_bytes(written[5:9]), written[9 : 9 + size]))
        written = written[9 + size :]
    return found


class End:
    """A codec, what its sink was told, and what it wrote."""

    def __init__(self, kind: str, *, is_client: bool = False) -> None:
        self.told: list[Told] = []
        self.codec = CODECS[kind](self, is_client=is_client)
        self.consumes = False
        self.decoder = Decoder()

    def greet(self, *settings: bytes) -> End:
        """Have both sides agree on their settings, and forget it."""
        hello = frame(SETTINGS, 0, 0, b"".join(settings)) + frame(SETTINGS, ACK)
        self.receive(hello if self.is_client else PREFACE + hello)
        self.written()
        self.told.clear()
        return self

    @property
    def is_client(self) -> bool:
        """Which side this is."""
        return bool(self.codec._is_client)  # type: ignore[attr-defined]

    def receive(self, *pieces: bytes) -> list[Told]:
        """Bytes come; what the sink is told then, also by writing."""
        before = len(self.told)
        for piece in pieces:
            self.codec.receive(piece)
        return self.told[before:]

    def written(self) -> list[Frame]:
        """All that is to be written now."""
        return frames(self.take())

    def take(self) -> bytes:
        """All that is to be written now, as bytes."""
        pieces: list[bytes] = []
        while piece := self.codec.take():
            pieces.append(piece)
        return b"".join(pieces)

    def fields(self, payload: bytes) -> Headers:
        """A block that was written, in the order of writing."""
        return tuple((bytes(name), bytes(value)) for name, value in self.decoder.decode(payload, raw=True))

    # Of a sink.

    def on_headers(self, stream_id: int, fields: Headers, ended: bool) -> None:
        """See :class:`ray_mesh.proxy.http2_codec.Sink`."""
        self.told.append(("headers", stream_id, tuple(map(tuple, fields)), ended))

    def on_interim(self, stream_id: int, fields: Headers) -> None:
        """See :class:`ray_mesh.proxy.http2_codec.Sink`."""
        self.told.append(("interim", stream_id, tuple(map(tuple, fields))))

    def on_data(self, stream_id: int, payload: bytes, ended: bool) -> None:
        """See :class:`ray_mesh.proxy.http2_codec.Sink`."""
        self.told.append(("data", stream_id, payload, ended))
        if self.consumes:
            self.codec.consumed(stream_id, len(payload))

    def on_trailers(self, stream_id: int, fields: Headers) -> None:
        """See :class:`ray_mesh.proxy.http2_codec.Sink`."""
        self.told.append(("trailers", stream_id, tuple(map(tuple, fields))))

    def on_closed(self, stream_id: int, code: int) -> None:
        """See :class:`ray_mesh.proxy.http2_codec.Sink`."""
        self.told.append(("closed", stream_id, code))

    def on_goaway(self, last_stream_id: int, code: int) -> None:
        """See :class:`ray_mesh.proxy.http2_codec.Sink`."""
        self.told.append(("goaway", last_stream_id, code))

    def on_pong(self) -> None:
        """See :class:`ray_mesh.proxy.http2_codec.Sink`."""
        self.told.append(("pong",))

    def on_end(self, code: int) -> None:
        """See :class:`ray_mesh.proxy.http2_codec.Sink`."""
        self.told.append(("end", code))


class Busy(End):
    """It answers what it is told, in a way that the stream decides, and counts what it was not rid of.

    The window of a stream is used up first: libnghttp2 ends a body only while the connection has one.
    """

    def __init__(self, kind: str, *, is_client: bool) -> None:
        super().__init__(kind, is_client=is_client)
        self.unread: Counter[int] = Counter()
        self.greet(setting(4, 50_000))
        if is_client:
            for fields in (GET, POST, POST, GET):
                self.codec.request(fields, fields is GET)
            self.codec.send(3, b"x" * 70_000, False)
            self.codec.trailers(5, ((b"a", b"b"),))
            self.take()

    def on_headers(self, stream_id: int, fields: Headers, ended: bool) -> None:
        """Answer some at once, some with a body, some with trailers, and some not at all."""
        super().on_headers(stream_id, fields, ended)
        if self.is_client or stream_id == 7:
            return
        self.codec.respond(stream_id, OK, stream_id == 1)
        if stream_id == 3:
            self.codec.send(3, b"x" * 70_000, True)
        elif stream_id == 5:
            self.codec.send(5, b"x", False)
            self.codec.trailers(5, ((b"a", b"b"),))

    def on_data(self, stream_id: int, payload: bytes, ended: bool) -> None:
        """Pass on what came for some; reset one."""
        super().on_data(stream_id, payload, ended)
        self.unread[stream_id] += len(payload)
        assert self.unread[stream_id] <= STREAM_WINDOW
        assert self.unread.total() <= CONNECTION_WINDOW
        if stream_id == 3:
            self.codec.consumed(stream_id, self.unread.pop(stream_id))
        elif stream_id == 9:
            self.codec.reset(stream_id, 8)

    def on_closed(self, stream_id: int, code: int) -> None:
        """A stream ends once, and only one that began."""
        super().on_closed(stream_id, code)
        self.unread.pop(stream_id, None)


def in_order(end: End) -> list[Told]:
    """What was told, without what is left to chance or to taste.

    libnghttp2 refuses the streams that a GOAWAY did not see in any order; and of a frame that breaks two
    rules, each codec names the one that it looked at first.
    """
    told: list[Told] = []
    refused: list[Told] = []
    for each in end.told:
        if each[0] == "closed" and each[2] == REFUSED_STREAM:
            refused.append(each)
        else:
            told += [*sorted(refused), ("end", bool(each[1])) if each[0] == "end" else each]
            refused = []
    return told + sorted(refused)
