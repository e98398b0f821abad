"""The application of ``make bench-http2``: HTTP/2 with prior knowledge, on libnghttp2, as cheaply as it can.

Calls of gRPC are answered with one message of 69 bytes and a status; those of ``/bench.Echo/Chat`` with each
of their messages as it comes. ``/head`` is answered with the head of the request as text, ``/bytes/N`` with N
bytes, everything else with what :mod:`bench_upstream` answers. Run as a program it takes a port and prints a
line once it listens on the same addresses.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop
from bench_upstream import ADDRESSES, BODY
from ngh2 import (
    Configuration,
    Connection,
    DataReceived,
    Header,
    RequestReceived,
    Role,
    Setting,
    StreamClosed,
)

MESSAGE = b"\x00\x00\x00\x00\x40" + BODY
"""A message of gRPC: 5 bytes of prefix, then 64."""
CHAT = b"/bench.Echo/Chat"
STREAM_WINDOW = 1 << 20
CONNECTION_WINDOW = 1 << 24
_SETTINGS = {Setting.MAX_CONCURRENT_STREAMS: 1 << 20, Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW}
_GRPC_HEAD: tuple[Header, ...] = ((b":status", b"200"), (b"content-type", b"application/grpc"))
_GRPC_END: tuple[Header, ...] = ((b"grpc-status", b"0"),)


def plain_head(length: int) -> tuple[Header, ...]:
    """The head of an answer that is not gRPC."""
    return (
        (b":status", b"200"),
        (b"content-type", b"text/plain"),
        (b"content-length", b"%d" % length),
    )


_PLAIN_HEAD = plain_head(len(BODY))


class Application(asyncio.Protocol):
    """One connection. ``_calls`` are of gRPC (True: chats), ``_plain`` answers that wait for a body."""

    def __init__(self) -> None:
        self._connection = Connection(Role.SERVER, Configuration())
        self._calls: dict[int, bool] = {}
        self._plain: dict[int, bytes] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._connection.initiate_connection(_SETTINGS)
        self._connection.set_local_window_size(CONNECTION_WINDOW)
        self._write()

    def data_received(self, data: bytes) -> None:
        connection = self._connection
        connection.receive_data(data)
        for event in connection.events():
            kind = type(event)
            if kind is DataReceived:
                self._take(cast(DataReceived, event))
            elif kind is RequestReceived:
                self._begin(cast(RequestReceived, event))
            elif kind is StreamClosed:
                stream_id = cast(StreamClosed, event).stream_id
                self._calls.pop(stream_id, None)
                self._plain.pop(stream_id, None)
        self._write()

    def _begin(self, event: RequestReceived) -> None:
        stream_id, fields = event.stream_id, cast(dict[bytes, bytes], dict(event.headers))
        path = fields[b":path"]
        if fields.get(b"content-type", b"").startswith(b"application/grpc"):
            self._calls[stream_id] = path == CHAT
            self._connection.send_response(stream_id, _GRPC_HEAD)
            return
        answer = BODY
        if path.startswith(b"/bytes/"):
            answer = bytes(int(path[7:]))
        elif path == b"/head":
            answer = b"".join(b"%b: %b\r\n" % pair for pair in fields.items())
        if event.end_stream:
            self._answer(stream_id, answer)
        else:
            self._plain[stream_id] = answer

    def _take(self, event: DataReceived) -> None:
        stream_id = event.stream_id
        is_chat = self._calls.get(stream_id)
        if is_chat is None:
            if event.end_stream and stream_id in self._plain:
                self._answer(stream_id, self._plain.pop(stream_id))
            return
        if is_chat and event.data:
            self._connection.send_data(stream_id, event.data)
        if event.end_stream:
            if not is_chat:
                self._connection.send_data(stream_id, MESSAGE)
            self._connection.send_trailers(stream_id, _GRPC_END)
            del self._calls[stream_id]

    def _answer(self, stream_id: int, answer: bytes) -> None:
        self._connection.send_response(stream_id, _PLAIN_HEAD if answer is BODY else plain_head(len(answer)))
        self._connection.send_data(stream_id, answer, end_stream=True)

    def _write(self) -> None:
        while (written := self._connection.data_to_send()) and not self._transport.is_closing():
            self._transport.write(written)


async def serve(port: int) -> None:
    """Listen until killed."""
    loop = asyncio.get_running_loop()
    for address in ADDRESSES:
        await loop.create_server(Application, address, port, backlog=1024)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
