"""Memory of the proxies with HTTP/2: per idle connection, and per open stream of gRPC."""

from __future__ import annotations

import socket

from bench_rows import Row
from http2_load import chat_head
from http2_upstream import MESSAGE
from ngh2 import Configuration, Connection, DataReceived, Role, StreamClosed
from proxy_lab import ENVOY, OURS, Lab, Target
from proxy_memory import exact, resident_mb

IDLE = 5_000
CONNECTIONS = 50
STREAMS = 100
_BATCH = 100


class Chatter:
    """A client's connection with streams on each of which one message has come back."""

    def __init__(self, target: Target) -> None:
        self._socket = socket.create_connection(("127.0.0.1", target.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection = Connection(Role.CLIENT, Configuration())
        self._connection.initiate_connection()
        self._head = chat_head(target.fields)
        self._open: set[int] = set()
        self._waits = 0

    def begin(self, streams: int) -> None:
        """Open streams, and send a message on each."""
        for _ in range(streams):
            stream_id = self._connection.send_request(self._head)
            self._connection.send_data(stream_id, MESSAGE)
            self._open.add(stream_id)
            self._waits += len(MESSAGE)
        self._write()

    def wait(self) -> None:
        """Return when each message has come back."""
        while self._waits:
            self._read()

    def end(self) -> None:
        """End all streams, and return when they are over."""
        for stream_id in self._open:
            self._connection.end_stream(stream_id)
        self._write()
        while self._open:
            self._read()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _read(self) -> None:
        received = self._socket.recv(65536)
        assert received, "a connection was closed"
        self._connection.receive_data(received)
        for event in self._connection.events():
            if isinstance(event, DataReceived):
                self._waits -= len(event.data)
            elif isinstance(event, StreamClosed):
                self._open.discard(event.stream_id)
        self._write()

    def _write(self) -> None:
        if written := self._connection.data_to_send():
            self._socket.sendall(written)


def measure(lab: Lab) -> list[Row]:
    """All rows; nothing here depends on how calm the machine is."""
    idle, streams = {}, {}
    for name in (OURS, ENVOY):
        with lab.fresh(name, "plain h2") as target:
            _release(_idle(target, 64))
            before = resident_mb(target)
            held = _idle(target, IDLE)
            idle[name] = (resident_mb(target) - before) * 1e6 / 1024 / IDLE
            _release(held)
        with lab.fresh(name, "plain h2") as target:
            held = _idle(target, CONNECTIONS)
            before = resident_mb(target)
            for one in held:
                one.begin(STREAMS)
                one.wait()
            count = CONNECTIONS * STREAMS
            streams[name] = (resident_mb(target) - before) * 1e6 / 1024 / count
            _release(held)
    return [
        Row(case, "KiB", exact(of[OURS]), ENVOY, exact(of[ENVOY]), 1.0)
        for case, of in (
            (f"{IDLE:,} idle connections of HTTP/2, each", idle),
            (f"{CONNECTIONS * STREAMS:,} open streams, each", streams),
        )
    ]


def _idle(target: Target, count: int) -> list[Chatter]:
    """So many connections, each of which has had one stream."""
    opened: list[Chatter] = []
    while len(opened) < count:
        batch = [Chatter(target) for _ in range(min(_BATCH, count - len(opened)))]
        for one in batch:
            one.begin(1)
        for one in batch:
            one.wait()
            one.end()
        opened += batch
    return opened


def _release(held: list[Chatter]) -> None:
    for one in held:
        one.close()
