"""The HTTP/2 codec of libnghttp2, by the package ``ngh2``.

Framing, HPACK, the states of streams and the rules of RFC 9113 for messages are the library's. What is
added here: who is told what; limits that are rates (:mod:`.http2_limits`); and the connection's receive
window.

**The window.** Bytes of a body that came and were not passed on are owed to the peer, and given back when the
stream ends. Of some the library never tells: what came of a frame before we reset its stream, and a frame
that breaks a rule, have taken their share of the connection's window, and cannot be acknowledged. Enough
cancelled downloads, and the connection would stand still for everybody on it. So after such ends the free
window is compared with what it must be at least (half, less what streams still owe), and what is missing is
announced: the window is set that much higher, which sends it, and then lower again, which is not told to the
peer. The library adds up what was lowered, in 31 bits: after a gibibyte the connection asks its peer for a
successor by GOAWAY.

A call for a stream that the library has closed, while we have not yet read so, raises: it comes too late,
and has nothing left to do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ngh2 import (
    Configuration,
    Connection,
    ConnectionClosed,
    ConnectionClosingError,
    DataReceived,
    DenialOfServiceError,
    Event,
    GoAwayReceived,
    InformationalResponseReceived,
    NGH2Error,
    PingAcknowledged,
    PingReceived,
    PriorityUpdateReceived,
    RequestReceived,
    ResponseReceived,
    Role,
    SettingsReceived,
    StreamClosed,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)

from .http2_codec import (
    CONNECTION_WINDOW,
    ENHANCE_YOUR_CALM,
    MAX_HEADER_BYTES,
    MAX_HEADER_FIELDS,
    MAX_STREAMS,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_WINDOW,
    TAKE_BYTES,
    Headers,
    NoStream,
    Sink,
)
from .http2_frames import (
    ENABLE_PUSH,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE,
    NO_RFC7540_PRIORITIES,
    goaway_frame,
)
from .http2_limits import (
    IDLE_FRAMES,
    MAX_CONTINUATIONS,
    MAX_SETTINGS,
    PENDING_ACKS,
    RESETS,
    RETIRE_BYTES,
    SETTINGS_COST,
    UNKNOWN_MAX_STREAMS,
    Bucket,
)

_NEVER = (1 << 60, 1 << 60)
_CONFIGURATION = Configuration(
    auto_window_update=False,
    peer_max_concurrent_streams=UNKNOWN_MAX_STREAMS,
    max_reserved_remote_streams=0,
    max_send_header_block_length=4 * MAX_HEADER_BYTES,
    max_outbound_ack=PENDING_ACKS,
    stream_reset_rate_limit=_NEVER,
    max_settings=MAX_SETTINGS,
    max_continuations=MAX_CONTINUATIONS,
    max_inbound_header_list_size=2 * MAX_HEADER_BYTES,
    max_inbound_header_count=2 * MAX_HEADER_FIELDS,
)
_SETTINGS = {INITIAL_WINDOW_SIZE: STREAM_WINDOW, MAX_HEADER_LIST_SIZE: MAX_HEADER_BYTES}
_SERVER_SETTINGS = {**_SETTINGS, NO_RFC7540_PRIORITIES: 1}
_CLIENT_SETTINGS = {ENABLE_PUSH: 0, **_SETTINGS, NO_RFC7540_PRIORITIES: 1}


class Ngh2Codec:
    """One side of a connection; see :class:`.http2_codec.Codec`."""

    __slots__ = (
        "_connection",
        "_ending",
        "_give_back",
        "_idle",
        "_is_client",
        "_is_cut",
        "_is_doomed",
        "_is_retired",
        "_last_id",
        "_limit",
        "_owed",
        "_pings",
        "_ready",
        "_regained",
        "_reset_id",
        "_resets",
        "_send_data",
        "_sink",
        "_tell",
        "_unread",
        "_window",
        "is_over",
    )

    def __init__(
        self, sink: Sink, *, is_client: bool, window: int = CONNECTION_WINDOW, streams: int = MAX_STREAMS
    ) -> None:
        self._sink = sink
        self._is_client = is_client
        self._connection = Connection(Role.CLIENT if is_client else Role.SERVER, _CONFIGURATION)
        own = _CLIENT_SETTINGS if is_client else {MAX_CONCURRENT_STREAMS: streams, **_SERVER_SETTINGS}
        self._connection.initiate_connection(own)
        self._connection.set_local_window_size(window)
        self._send_data = self._connection.send_data
        self._give_back = self._connection.acknowledge_received_data
        self._window = window
        self._unread: dict[int, int] = {}
        """What each stream under way owes of bodies that came."""
        self._owed = 0
        """The sum of it."""
        self._regained = 0
        self._ending: set[int] = set()
        """Streams we reset that the library has not yet closed."""
        self._limit = UNKNOWN_MAX_STREAMS
        self._last_id = 0
        self._reset_id = 0
        self._resets = Bucket(RESETS)
        self._idle = Bucket(IDLE_FRAMES)
        self._pings = 0
        self._ready = self._connection.data_to_send()
        self._is_cut = False
        self._is_doomed = False
        self._is_retired = False
        self.is_over = False
        self._tell = _TELL

    # What the connection calls.

    def receive(self, data: bytes) -> None:
        if self.is_over or self._is_doomed:
            return
        connection = self._connection
        error: NGH2Error | None = None
        try:
            connection.receive_data(data)
        except NGH2Error as raised:
            error = raised
        self._dispatch(connection.events())
        if error is not None:
            self._break_off(error)

    def take(self) -> bytes:
        if self._ready:
            data, self._ready = self._ready, b""
            return data
        if self.is_over:
            return b""
        connection = self._connection
        if not connection.want_write:
            return b""
        try:
            data = connection.data_to_send(TAKE_BYTES)
        except NGH2Error as error:
            self._is_cut = True
            self._dispatch(connection.events())
            self._break_off(error)
            return b""
        self._is_cut = len(data) >= TAKE_BYTES
        events = connection.events()
        if events:
            self._ready = data
            self._dispatch(events)
            data, self._ready = self._ready, b""
        return data

    def request(self, headers: Headers, ended: bool) -> int:
        if self.room() <= 0:
            raise NoStream
        try:
            stream_id = self._connection.send_request(headers, end_stream=ended)
        except NGH2Error as error:
            raise NoStream from error
        self._unread[stream_id] = 0
        return stream_id

    def respond(self, stream_id: int, headers: Headers, ended: bool) -> None:
        if stream_id in self._unread:
            try:
                self._connection.send_response(stream_id, headers, end_stream=ended)
            except NGH2Error:
                return

    def interim(self, stream_id: int, headers: Headers) -> None:
        if stream_id in self._unread:
            try:
                self._connection.send_informational_response(stream_id, headers)
            except NGH2Error:
                return

    def send(self, stream_id: int, payload: bytes, ended: bool) -> None:
        if stream_id in self._unread:
            try:
                self._send_data(stream_id, payload, end_stream=ended)
            except NGH2Error:
                return

    def trailers(self, stream_id: int, headers: Headers) -> None:
        if stream_id in self._unread:
            try:
                self._connection.send_trailers(stream_id, headers)
            except NGH2Error:
                return

    def reset(self, stream_id: int, code: int) -> None:
        unread = self._unread.pop(stream_id, None)
        if unread is None:
            return
        self._ending.add(stream_id)
        self._owed -= unread
        self._acknowledge(stream_id, unread)
        try:
            self._connection.reset_stream(stream_id, code)
        except NGH2Error:
            return

    def consumed(self, stream_id: int, size: int) -> None:
        unread = self._unread.get(stream_id)
        if unread is None:
            return
        self._unread[stream_id] = unread - size
        self._owed -= size
        try:
            self._give_back(size, stream_id)
        except NGH2Error:
            return

    def queued(self, stream_id: int) -> int:
        return self._connection.queued_body_size(stream_id)

    def room(self) -> int:
        if self.is_over or self._is_retired or not self._connection.can_send_request:
            return 0
        return self._limit - len(self._unread) - len(self._ending)

    def ping(self) -> None:
        if not self.is_over:
            try:
                self._connection.ping()
            except NGH2Error:
                return
            self._pings += 1

    def notice(self) -> None:
        if not self.is_over and not self._is_client:
            try:
                self._connection.send_shutdown_notice()
            except NGH2Error:
                return

    def goaway(self, code: int) -> None:
        if self.is_over or self._is_doomed:
            return
        self._is_retired = True
        try:
            if code == NO_ERROR:
                self._connection.send_goaway(NO_ERROR)
                return
            self._connection.terminate_connection(code)
        except NGH2Error:
            return
        self._is_doomed = True
        self._tell = _TELL_THE_END

    # What the library says.

    def _dispatch(self, events: list[Event]) -> None:
        for event in events:
            told = self._tell.get(type(event))
            if told is not None:
                told(self, event)

    def _on_request(self, event: RequestReceived) -> None:
        stream_id = self._last_id = event.stream_id
        self._unread[stream_id] = 0
        self._sink.on_headers(stream_id, event.headers, event.end_stream)

    def _on_response(self, event: ResponseReceived) -> None:
        stream_id = event.stream_id
        if stream_id in self._unread:
            self._sink.on_headers(stream_id, event.headers, event.end_stream)

    def _on_interim(self, event: InformationalResponseReceived) -> None:
        stream_id = event.stream_id
        self._count_idle()
        if stream_id in self._unread:
            self._sink.on_interim(stream_id, event.headers)

    def _on_data(self, event: DataReceived) -> None:
        stream_id = event.stream_id
        payload = event.data
        size = len(payload)
        unread = self._unread.get(stream_id)
        if unread is None:
            self._acknowledge(stream_id, size)
        elif size:
            self._unread[stream_id] = unread + size
            self._owed += size
            self._sink.on_data(stream_id, payload, event.end_stream)
        elif event.end_stream:
            self._sink.on_data(stream_id, b"", True)
        else:
            self._count_idle()

    def _on_trailers(self, event: TrailersReceived) -> None:
        stream_id = event.stream_id
        if stream_id in self._unread:
            self._sink.on_trailers(stream_id, event.headers)

    def _on_reset(self, event: StreamReset) -> None:
        self._reset_id = event.stream_id
        self._count_reset()

    def _on_closed(self, event: StreamClosed) -> None:
        stream_id = event.stream_id
        unread = self._unread.pop(stream_id, None)
        if unread is None or event.error_code or stream_id == self._reset_id:
            self._on_broken(event, unread)
            return
        if unread:
            self._owed -= unread
            self._acknowledge(stream_id, unread)
        self._resets.give()
        self._sink.on_closed(stream_id, NO_ERROR)

    def _on_broken(self, event: StreamClosed, unread: int | None) -> None:
        """A stream that a side reset, or that broke a rule: perhaps one that nobody was told of."""
        stream_id = event.stream_id
        is_told = unread is not None or stream_id in self._ending
        if unread:
            self._owed -= unread
            self._acknowledge(stream_id, unread)
        if stream_id in self._ending:
            self._ending.discard(stream_id)
        elif stream_id != self._reset_id:
            self._count_reset()
        self._regain()
        if is_told:
            is_unsent = isinstance(event.local_error, ConnectionClosingError)
            self._sink.on_closed(stream_id, REFUSED_STREAM if is_unsent else event.error_code)

    def _on_idle_frame(self, event: Event) -> None:
        self._count_idle()

    def _on_settings(self, event: SettingsReceived) -> None:
        limit = event.settings.get(MAX_CONCURRENT_STREAMS)
        if limit is not None:
            self._limit = min(limit, MAX_STREAMS)
        self._count_idle(SETTINGS_COST)

    def _on_pong(self, event: PingAcknowledged) -> None:
        if self._pings:
            self._pings -= 1
            self._sink.on_pong()
        else:
            self._count_idle()

    def _on_goaway(self, event: GoAwayReceived) -> None:
        self._count_idle()
        self._sink.on_goaway(event.last_stream_id, event.error_code)

    def _on_connection_closed(self, event: ConnectionClosed) -> None:
        self._end(event.error_code)

    # What follows from it.

    def _acknowledge(self, stream_id: int, size: int) -> None:
        try:
            self._give_back(size, stream_id)
        except NGH2Error:
            return

    def _regain(self) -> None:
        """Give the peer back what ended streams took without a word, see the top of this file."""
        connection = self._connection
        try:
            short = self._window // 2 - self._owed - connection.local_window_size
        except NGH2Error:
            return
        if short <= 0:
            return
        self._regained += short
        connection.set_local_window_size(self._window + self._regained)
        connection.set_local_window_size(self._window)
        if self._regained > RETIRE_BYTES and not self._is_retired:
            self.goaway(NO_ERROR)

    def _count_idle(self, tokens: int = 1) -> None:
        if not self._idle.take(tokens):
            self.goaway(ENHANCE_YOUR_CALM)

    def _count_reset(self) -> None:
        if not self._is_client and not self._resets.take():
            self.goaway(ENHANCE_YOUR_CALM)

    def _break_off(self, error: NGH2Error) -> None:
        """The library gave up without a last word, so it is ours, if what was written ends with a frame."""
        code = ENHANCE_YOUR_CALM if isinstance(error, DenialOfServiceError) else PROTOCOL_ERROR
        if not self._is_cut:
            self._ready += goaway_frame(self._last_id, code)
        self._end(code)

    def _end(self, code: int) -> None:
        if self.is_over:
            return
        self.is_over = True
        self._unread.clear()
        self._ending.clear()
        self._sink.on_end(code)


_Tell = dict[type[Event], Callable[[Ngh2Codec, Any], None]]
_TELL: _Tell = {
    RequestReceived: Ngh2Codec._on_request,
    ResponseReceived: Ngh2Codec._on_response,
    InformationalResponseReceived: Ngh2Codec._on_interim,
    DataReceived: Ngh2Codec._on_data,
    TrailersReceived: Ngh2Codec._on_trailers,
    StreamReset: Ngh2Codec._on_reset,
    StreamClosed: Ngh2Codec._on_closed,
    WindowUpdated: Ngh2Codec._on_idle_frame,
    PingReceived: Ngh2Codec._on_idle_frame,
    PriorityUpdateReceived: Ngh2Codec._on_idle_frame,
    SettingsReceived: Ngh2Codec._on_settings,
    PingAcknowledged: Ngh2Codec._on_pong,
    GoAwayReceived: Ngh2Codec._on_goaway,
    ConnectionClosed: Ngh2Codec._on_connection_closed,
}
_TELL_THE_END: _Tell = {ConnectionClosed: Ngh2Codec._on_connection_closed}
