"""The HTTP/2 codec in Python, on the package ``hpack``: for where libnghttp2 cannot be had.

It does what :mod:`.http2_ngh2` does, answers errors as libnghttp2 does (RFC 9113 leaves it open which of them
are of the connection), and is held to that by tests that give both the same bytes. It frames bodies only when
asked to write, a frame of each stream in turn; header blocks are encoded when they are handed over, since the
peer's table must see them in the order in which they are written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from hpack import Decoder, Encoder, HPACKError, OversizedHeaderListError

from . import http2_frames as frames
from .http2_codec import (
    COMPRESSION_ERROR,
    CONNECTION_WINDOW,
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
    Headers,
    NoStream,
    Sink,
)
from .http2_limits import (
    IDLE_FRAMES,
    MAX_CONTINUATIONS,
    MAX_SETTINGS,
    PENDING_ACKS,
    RESETS,
    SETTINGS_COST,
    UNKNOWN_MAX_STREAMS,
    Bucket,
)
from .http2_rules import Malformed, check_trailers, request_length, response_length, response_status

_SETTINGS = {
    frames.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
    frames.MAX_HEADER_LIST_SIZE: MAX_HEADER_BYTES,
    frames.NO_RFC7540_PRIORITIES: 1,
}
_MAX_BLOCK_BYTES = 2 * MAX_HEADER_BYTES
_MAX_TABLE_BYTES = 4096


class _Broken(Exception):
    """The peer broke a rule of the connection."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Stream:
    """What is known of a stream under way."""

    __slots__ = (
        "chunks",
        "has_head",
        "has_interim",
        "is_ending",
        "is_head",
        "is_over_here",
        "is_over_there",
        "is_sending",
        "left",
        "passed_on",
        "queued",
        "receive_window",
        "send_window",
        "stream_id",
        "trailers",
        "unread",
    )

    def __init__(self, stream_id: int, send_window: int) -> None:
        self.stream_id = stream_id
        self.send_window = send_window
        self.receive_window = STREAM_WINDOW
        self.passed_on = 0
        """Bytes passed on that were not announced yet."""
        self.unread = 0
        self.chunks: deque[bytes] = deque()
        self.queued = 0
        self.trailers: Headers | None = None
        self.is_sending = False
        """Our head is sent and our body has not ended."""
        self.is_ending = False
        self.is_over_here = False
        self.is_over_there = False
        self.is_head = False
        self.has_head = False
        self.has_interim = False
        self.left: int | None = None
        """What Content-Length says is to come."""

    def next_chunk(self, size: int) -> bytes:
        """Take up to ``size`` bytes off the queue."""
        taken: list[bytes] = []
        left = min(size, self.queued)
        self.queued -= left
        while left:
            chunk = self.chunks.popleft()
            if len(chunk) > left:
                self.chunks.appendleft(chunk[left:])
                chunk = chunk[:left]
            taken.append(chunk)
            left -= len(chunk)
        return b"".join(taken)


class PureCodec:
    """One side of a connection; see :class:`.http2_codec.Codec`."""

    def __init__(
        self, sink: Sink, *, is_client: bool, window: int = CONNECTION_WINDOW, streams: int = MAX_STREAMS
    ) -> None:
        self._sink = sink
        self._is_client = is_client
        self._streams: dict[int, _Stream] = {}
        self._resetting: dict[int, int] = {}
        """Streams that were reset by us, whose end the sink is told when that is written."""
        self._sending: dict[int, _Stream] = {}
        self._ended_here: list[_Stream] = []
        self._input = bytearray()
        self._preface = b"" if is_client else PREFACE
        self._has_settings = False
        self._is_acknowledged = False
        self._block: list[bytes] | None = None
        self._block_flags = 0
        self._block_id = 0
        self._block_is_new = False
        self._encoder = Encoder()
        self._decoder = Decoder(max_header_list_size=_MAX_BLOCK_BYTES)
        self._last_id = 0
        """The last stream that the peer began."""
        self._next_id = 1
        self._most = streams
        self._limit = UNKNOWN_MAX_STREAMS
        self._send_window = frames.DEFAULT_WINDOW
        self._stream_send_window = frames.DEFAULT_WINDOW
        self._window = self._receive_window = window
        self._passed_on = 0
        self._goaway_id = frames.MAX_WINDOW
        self._peer_goaway_id = frames.MAX_WINDOW
        self._is_leaving = False
        self._is_refusing = False
        """No more requests are sent."""
        self._end_code = NO_ERROR
        self._is_doomed = False
        self._acks = 0
        self._pings = 0
        self._resets = Bucket(RESETS)
        self._idle = Bucket(IDLE_FRAMES)
        self._ready = b""
        self.is_over = False
        own = frames.ENABLE_PUSH if is_client else frames.MAX_CONCURRENT_STREAMS
        settings = {own: 0 if is_client else streams, **_SETTINGS}
        self._out = [PREFACE] if is_client else []
        self._out.append(frames.settings_frame(settings))
        self._out.append(frames.window_frame(0, window - frames.DEFAULT_WINDOW))

    # What the connection calls.

    def receive(self, data: bytes) -> None:
        if self.is_over or self._is_doomed:
            return
        self._input += data
        try:
            self._read()
        except _Broken as broken:
            self._break_off(broken.code)

    def take(self) -> bytes:
        if self._ready:
            data, self._ready = self._ready, b""
            return data
        if self.is_over:
            return b""
        out, self._out = self._out, []
        self._acks = 0
        self._fill(out, TAKE_BYTES - sum(map(len, out)))
        self._ready = b"".join(out)
        self._settle()
        data, self._ready = self._ready, b""
        return data

    def request(self, headers: Headers, ended: bool) -> int:
        if self.room() <= 0:
            raise NoStream
        stream_id = self._next_id
        self._next_id += 2
        stream = self._streams[stream_id] = _Stream(stream_id, self._stream_send_window)
        stream.is_head = (b":method", b"HEAD") in headers
        self._send_head(stream, headers, ended)
        return stream_id

    def respond(self, stream_id: int, headers: Headers, ended: bool) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.is_sending and not stream.is_ending:
            self._send_head(stream, headers, ended)

    def interim(self, stream_id: int, headers: Headers) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.is_sending and not stream.is_ending:
            self._out.append(frames.header_frames(stream_id, self._encoder.encode(headers), False))

    def send(self, stream_id: int, payload: bytes, ended: bool) -> None:
        stream = self._streams.get(stream_id)
        if stream is None or not stream.is_sending:
            return
        if payload:
            stream.chunks.append(payload)
            stream.queued += len(payload)
        if ended:
            stream.is_sending = False
            stream.is_ending = True
        self._sending[stream_id] = stream

    def trailers(self, stream_id: int, headers: Headers) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None and stream.is_sending:
            stream.trailers = headers
            self.send(stream_id, b"", True)

    def reset(self, stream_id: int, code: int) -> None:
        if stream_id in self._streams:
            self._drop(self._streams[stream_id])
            self._resetting[stream_id] = code
            self._out.append(frames.reset_frame(stream_id, code))

    def consumed(self, stream_id: int, size: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.unread -= size
        self._give_back(size)
        self._give_back_stream(stream, size)

    def queued(self, stream_id: int) -> int:
        stream = self._streams.get(stream_id)
        return 0 if stream is None else stream.queued

    def room(self) -> int:
        if self.is_over or self._is_doomed or self._is_refusing or self._next_id > frames.MAX_WINDOW:
            return 0
        return self._limit - len(self._streams) - len(self._resetting)

    def ping(self) -> None:
        if not self.is_over:
            self._pings += 1
            self._out.append(frames.frame(frames.PING, 0, 0, bytes(8)))

    def notice(self) -> None:
        if not self.is_over and not self._is_client and not self._is_leaving:
            self._out.append(frames.goaway_frame(frames.MAX_WINDOW, NO_ERROR))

    def goaway(self, code: int) -> None:
        if self.is_over or self._is_doomed:
            return
        if code != NO_ERROR:
            self._break_off(code)
            return
        self._is_refusing = self._is_leaving = True
        self._goaway_id = self._last_id
        self._out.append(frames.goaway_frame(self._last_id, NO_ERROR))

    # Reading.

    def _read(self) -> None:
        """Understand the frames that are here as a whole."""
        arrived = self._input
        at = 0
        if self._preface:
            at = min(len(self._preface), len(arrived))
            if arrived[:at] != self._preface[:at]:
                raise _Broken(PROTOCOL_ERROR)
            self._preface = self._preface[at:]
        while len(arrived) - at >= frames.HEAD_BYTES and not self._is_doomed:
            size = int.from_bytes(arrived[at : at + 3])
            if size > frames.FRAME_BYTES:
                raise _Broken(FRAME_SIZE_ERROR)
            start = at + frames.HEAD_BYTES
            if len(arrived) < start + size:
                break
            stream_id = int.from_bytes(arrived[at + 5 : start]) & frames.MAX_WINDOW
            self._read_frame(
                arrived[at + 3], arrived[at + 4], stream_id, bytes(arrived[start : start + size])
            )
            at = start + size
        del arrived[:at]

    def _read_frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is not None:
            if kind != frames.CONTINUATION or stream_id != self._block_id:
                raise _Broken(PROTOCOL_ERROR)
            self._add_block(flags, payload)
            return
        if not self._has_settings:
            if kind != frames.SETTINGS or flags & frames.ACK:
                raise _Broken(PROTOCOL_ERROR)
            self._has_settings = True
        read = _READERS.get(kind)
        if read is None:
            self._count_idle()
        else:
            read(self, flags, stream_id, payload)

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        ended = bool(flags & frames.END_STREAM)
        stream = self._known(stream_id)
        if stream is not None:
            if stream.is_over_there:
                raise _Broken(STREAM_CLOSED)
            if self._is_client and not stream.has_head and not stream.has_interim:
                raise _Broken(PROTOCOL_ERROR)
        self._receive_window -= size
        if self._receive_window < 0:
            raise _Broken(FLOW_CONTROL_ERROR)
        if stream is None:
            self._give_back(size)
            self._count_idle()
            return
        body = _unpadded(flags, payload)
        stream.receive_window -= size
        if stream.receive_window < 0:
            raise _Broken(FLOW_CONTROL_ERROR)
        padding = size - len(body)
        self._give_back(padding)
        self._give_back_stream(stream, padding)
        if not body and not ended:
            self._count_idle()
            return
        if not stream.has_head or not _is_expected(stream, len(body), ended):
            self._give_back(len(body))
            self._spoil(stream_id, PROTOCOL_ERROR)
            return
        stream.unread += len(body)
        self._sink.on_data(stream_id, body, ended)
        if ended:
            self._end_there(stream)

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = _unpadded(flags, payload)
        if flags & frames.HAS_PRIORITY:
            if len(block) < 5:
                raise _Broken(FRAME_SIZE_ERROR)
            if int.from_bytes(block[:4]) & frames.MAX_WINDOW == stream_id:
                raise _Broken(PROTOCOL_ERROR)
            block = block[5:]
        is_new = not self._is_client and stream_id > self._last_id
        if is_new:
            if not stream_id % 2 or (self._is_acknowledged and self._is_full()):
                raise _Broken(PROTOCOL_ERROR)
            if stream_id <= self._goaway_id:
                self._last_id = stream_id
        else:
            stream = self._known(stream_id)
            if stream is not None and stream.is_over_there:
                raise _Broken(STREAM_CLOSED)
        self._block = []
        self._block_id = stream_id
        self._block_flags = flags
        self._block_is_new = is_new
        self._add_block(flags, block)

    def _add_block(self, flags: int, piece: bytes) -> None:
        assert self._block is not None
        self._block.append(piece)
        if len(self._block) > MAX_CONTINUATIONS or sum(map(len, self._block)) > _MAX_BLOCK_BYTES:
            raise _Broken(ENHANCE_YOUR_CALM)
        if flags & frames.END_HEADERS:
            block, self._block = b"".join(self._block), None
            self._on_block(self._block_id, self._decoded(block), bool(self._block_flags & frames.END_STREAM))

    def _decoded(self, block: bytes) -> Headers:
        try:
            headers = tuple(self._decoder.decode(block, raw=True))
        except OversizedHeaderListError as error:
            raise _Broken(ENHANCE_YOUR_CALM) from error
        except HPACKError as error:
            raise _Broken(COMPRESSION_ERROR) from error
        if len(headers) > 2 * MAX_HEADER_FIELDS:
            raise _Broken(ENHANCE_YOUR_CALM)
        return headers

    def _on_block(self, stream_id: int, headers: Headers, ended: bool) -> None:
        stream = self._streams.get(stream_id)
        try:
            if stream is None:
                if self._block_is_new and stream_id <= self._goaway_id:
                    self._begin(stream_id, headers, ended)
                else:
                    self._count_idle()
            elif self._is_client and not stream.has_head:
                self._read_response(stream, headers, ended)
            else:
                if not ended or not _is_expected(stream, 0, True):
                    raise Malformed
                check_trailers(headers)
                self._sink.on_trailers(stream_id, headers)
                self._end_there(stream)
        except Malformed:
            self._spoil(stream_id, PROTOCOL_ERROR)

    def _begin(self, stream_id: int, headers: Headers, ended: bool) -> None:
        if self._is_full():
            self._spoil(stream_id, REFUSED_STREAM)
            return
        stream = _Stream(stream_id, self._stream_send_window)
        stream.left = request_length(headers)
        if ended and stream.left:
            raise Malformed
        stream.has_head = True
        self._streams[stream_id] = stream
        self._sink.on_headers(stream_id, headers, ended)
        if ended:
            self._end_there(stream)

    def _read_response(self, stream: _Stream, headers: Headers, ended: bool) -> None:
        status = response_status(headers)
        if status < 200:
            if ended:
                raise Malformed
            response_length(headers, status, False)
            stream.has_interim = True
            self._count_idle()
            self._sink.on_interim(stream.stream_id, headers)
            return
        stream.left = response_length(headers, status, stream.is_head)
        if ended and stream.left:
            raise Malformed
        stream.has_head = True
        self._sink.on_headers(stream.stream_id, headers, ended)
        if ended:
            self._end_there(stream)

    def _on_priority(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 5:
            raise _Broken(FRAME_SIZE_ERROR)
        if stream_id == 0:
            raise _Broken(PROTOCOL_ERROR)
        self._count_idle()

    def _on_reset(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise _Broken(FRAME_SIZE_ERROR)
        stream = self._known(stream_id)
        self._count_reset()
        if stream is not None:
            self._drop(stream)
        elif self._resetting.pop(stream_id, None) is None:
            return
        self._sink.on_closed(stream_id, int.from_bytes(payload))

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) % 6 or (payload and flags & frames.ACK):
            raise _Broken(FRAME_SIZE_ERROR)
        if stream_id:
            raise _Broken(PROTOCOL_ERROR)
        if flags & frames.ACK:
            if self._is_acknowledged:
                raise _Broken(PROTOCOL_ERROR)
            self._is_acknowledged = True
            return
        if len(payload) > 6 * MAX_SETTINGS:
            raise _Broken(ENHANCE_YOUR_CALM)
        for at in range(0, len(payload), 6):
            self._apply(int.from_bytes(payload[at : at + 2]), int.from_bytes(payload[at + 2 : at + 6]))
        self._acknowledge(frames.frame(frames.SETTINGS, frames.ACK, 0, b""))
        self._count_idle(SETTINGS_COST)

    def _apply(self, setting: int, value: int) -> None:
        if setting == frames.HEADER_TABLE_SIZE:
            self._encoder.header_table_size = min(value, _MAX_TABLE_BYTES)
        elif setting == frames.ENABLE_PUSH:
            if value > (0 if self._is_client else 1):
                raise _Broken(PROTOCOL_ERROR)
        elif setting == frames.MAX_CONCURRENT_STREAMS:
            self._limit = min(value, MAX_STREAMS)
        elif setting == frames.INITIAL_WINDOW_SIZE:
            if value > frames.MAX_WINDOW:
                raise _Broken(FLOW_CONTROL_ERROR)
            change = value - self._stream_send_window
            self._stream_send_window = value
            for stream in self._streams.values():
                stream.send_window += change
                if stream.send_window > frames.MAX_WINDOW:
                    raise _Broken(FLOW_CONTROL_ERROR)
        elif setting == frames.MAX_FRAME_SIZE and not frames.FRAME_BYTES <= value < 1 << 24:
            raise _Broken(PROTOCOL_ERROR)

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise _Broken(FRAME_SIZE_ERROR)
        if stream_id:
            raise _Broken(PROTOCOL_ERROR)
        if not flags & frames.ACK:
            self._acknowledge(frames.frame(frames.PING, frames.ACK, 0, payload))
            self._count_idle()
        elif self._pings:
            self._pings -= 1
            self._sink.on_pong()
        else:
            self._count_idle()

    def _on_goaway(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) < 8:
            raise _Broken(FRAME_SIZE_ERROR)
        if stream_id:
            raise _Broken(PROTOCOL_ERROR)
        last_id = int.from_bytes(payload[:4]) & frames.MAX_WINDOW
        is_ours = last_id == 0 or bool(last_id % 2) == self._is_client
        if last_id > self._peer_goaway_id or not is_ours:
            raise _Broken(PROTOCOL_ERROR)
        self._peer_goaway_id = last_id
        self._is_refusing = self._is_leaving = True
        self._end_code = int.from_bytes(payload[4:8])
        self._count_idle()
        self._sink.on_goaway(last_id, self._end_code)
        if self._is_client:
            for stream in [each for each in self._streams.values() if each.stream_id > last_id]:
                self._drop(stream)
                self._sink.on_closed(stream.stream_id, REFUSED_STREAM)

    def _on_window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise _Broken(FRAME_SIZE_ERROR)
        increment = int.from_bytes(payload) & frames.MAX_WINDOW
        self._count_idle()
        if stream_id == 0:
            self._send_window += increment
            if not increment:
                raise _Broken(PROTOCOL_ERROR)
            if self._send_window > frames.MAX_WINDOW:
                raise _Broken(FLOW_CONTROL_ERROR)
            return
        stream = self._known(stream_id)
        if stream is None:
            return
        if not increment:
            raise _Broken(PROTOCOL_ERROR)
        stream.send_window += increment
        if stream.send_window > frames.MAX_WINDOW:
            raise _Broken(FLOW_CONTROL_ERROR)

    def _on_push(self, flags: int, stream_id: int, payload: bytes) -> None:
        """We do not allow it."""
        raise _Broken(PROTOCOL_ERROR if len(payload) >= 4 else FRAME_SIZE_ERROR)

    def _on_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        """Without HEADERS before it."""
        raise _Broken(PROTOCOL_ERROR)

    # Writing.

    def _send_head(self, stream: _Stream, headers: Headers, ended: bool) -> None:
        block = self._encoder.encode(headers)
        self._out.append(frames.header_frames(stream.stream_id, block, ended))
        if ended:
            stream.is_ending = True
            self._ended_here.append(stream)
        else:
            stream.is_sending = True

    def _fill(self, out: list[bytes], budget: int) -> None:
        """Frame what the windows allow of bodies, a frame of each stream in turn."""
        has_moved = True
        while has_moved and budget > 0:
            has_moved = False
            for stream in list(self._sending.values()):
                size = self._frame_body(out, stream)
                if size:
                    budget -= size
                    has_moved = True
                if budget <= 0:
                    return

    def _frame_body(self, out: list[bytes], stream: _Stream) -> int:
        """Write the next frame of a stream's body; how many bytes that were."""
        room = min(stream.send_window, self._send_window, frames.FRAME_BYTES)
        if stream.queued and room <= 0:
            return 0
        piece = stream.next_chunk(room)
        stream.send_window -= len(piece)
        self._send_window -= len(piece)
        is_last = not stream.queued
        ended = is_last and stream.is_ending
        trailers = stream.trailers
        written = b""
        if piece or (ended and trailers is None):
            flags = frames.END_STREAM if ended and trailers is None else 0
            written = frames.frame(frames.DATA, flags, stream.stream_id, piece)
        if ended and trailers is not None:
            written += frames.header_frames(stream.stream_id, self._encoder.encode(trailers), True)
        if ended:
            self._ended_here.append(stream)
        if is_last:
            del self._sending[stream.stream_id]
        out.append(written)
        return len(written)

    def _acknowledge(self, answer: bytes) -> None:
        self._acks += 1
        if self._acks > PENDING_ACKS:
            raise _Broken(ENHANCE_YOUR_CALM)
        self._out.append(answer)

    def _give_back(self, size: int) -> None:
        """Bytes of bodies are gone: when they are many, let the peer send as much again."""
        self._passed_on += size
        if self._passed_on >= self._window // 2:
            self._out.append(frames.window_frame(0, self._passed_on))
            self._receive_window += self._passed_on
            self._passed_on = 0

    def _give_back_stream(self, stream: _Stream, size: int) -> None:
        stream.passed_on += size
        if stream.passed_on >= STREAM_WINDOW // 2 and not stream.is_over_there:
            self._out.append(frames.window_frame(stream.stream_id, stream.passed_on))
            stream.receive_window += stream.passed_on
            stream.passed_on = 0

    # Ends.

    def _known(self, stream_id: int) -> _Stream | None:
        """The stream, or None when it is over. Raises _Broken for one that never began."""
        stream = self._streams.get(stream_id)
        if stream is not None:
            return stream
        is_ours = bool(stream_id % 2) == self._is_client
        if stream_id == 0 or (stream_id >= self._next_id if is_ours else stream_id > self._last_id):
            raise _Broken(PROTOCOL_ERROR)
        if is_ours and not self._is_client:
            raise _Broken(PROTOCOL_ERROR)
        return None

    def _is_full(self) -> bool:
        return len(self._streams) + len(self._resetting) >= self._most

    def _end_there(self, stream: _Stream) -> None:
        stream.is_over_there = True
        if stream.is_over_here and stream.stream_id in self._streams:
            self._finish(stream)

    def _finish(self, stream: _Stream) -> None:
        """Both sides have ended the stream."""
        self._drop(stream)
        self._resets.give()
        self._sink.on_closed(stream.stream_id, NO_ERROR)

    def _drop(self, stream: _Stream) -> None:
        del self._streams[stream.stream_id]
        self._sending.pop(stream.stream_id, None)
        self._give_back(stream.unread)

    def _spoil(self, stream_id: int, code: int) -> None:
        """The peer broke a rule of a stream."""
        if stream_id in self._streams:
            self.reset(stream_id, code)
        elif not self._is_doomed:
            self._out.append(frames.reset_frame(stream_id, code))
        self._count_reset()

    def _settle(self) -> None:
        """Tell of what ended with what was written."""
        ended, self._ended_here = self._ended_here, []
        for stream in ended:
            stream.is_over_here = True
            if stream.is_over_there and stream.stream_id in self._streams:
                self._finish(stream)
        resetting, self._resetting = self._resetting, {}
        for stream_id, code in resetting.items():
            self._sink.on_closed(stream_id, code)
        if self._is_doomed or (self._is_leaving and not self._streams and not self._resetting):
            self._end()

    def _count_idle(self, tokens: int = 1) -> None:
        if not self._idle.take(tokens):
            raise _Broken(ENHANCE_YOUR_CALM)

    def _count_reset(self) -> None:
        if not self._is_client and not self._resets.take():
            raise _Broken(ENHANCE_YOUR_CALM)

    def _break_off(self, code: int) -> None:
        self._is_doomed = True
        self._end_code = code
        self._out.append(frames.goaway_frame(self._last_id, code))
        self._input.clear()
        self._streams.clear()
        self._resetting.clear()
        self._sending.clear()
        self._ended_here.clear()

    def _end(self) -> None:
        self.is_over = True
        self._streams.clear()
        self._sink.on_end(self._end_code)


_READERS: dict[int, Callable[[PureCodec, int, int, bytes], None]] = {
    frames.DATA: PureCodec._on_data,
    frames.HEADERS: PureCodec._on_headers,
    frames.PRIORITY: PureCodec._on_priority,
    frames.RST_STREAM: PureCodec._on_reset,
    frames.SETTINGS: PureCodec._on_settings,
    frames.PUSH_PROMISE: PureCodec._on_push,
    frames.PING: PureCodec._on_ping,
    frames.GOAWAY: PureCodec._on_goaway,
    frames.WINDOW_UPDATE: PureCodec._on_window_update,
    frames.CONTINUATION: PureCodec._on_continuation,
}


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & frames.PADDED:
        return payload
    end = len(payload) - payload[0] if payload else 0
    if end < 1:
        raise _Broken(PROTOCOL_ERROR)
    return payload[1:end]


def _is_expected(stream: _Stream, size: int, ended: bool) -> bool:
    """Whether so much more of a body agrees with what Content-Length said."""
    if stream.left is None:
        return True
    stream.left -= size
    return stream.left == 0 if ended else stream.left >= 0
