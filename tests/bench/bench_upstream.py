"""The application behind the proxies: answers each request with the same 64 bytes, as cheaply as it can.

``GET /head`` is answered with the head of the request as it arrived, ``/bytes/N`` with N bytes; the body
of a request is read and forgotten, but for ``/stall``, whose body is never read and that is never
answered. Run as a program it takes a port and prints a line once it listens on four loopback addresses.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

import uvloop

ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
TCP_ADDRESS = "127.0.0.9"
"""The same application as a host without proxy, which is at no address of one with a proxy."""
BODY = b"0123456789abcdef" * 3 + b"0123456789abcd\r\n"
BLOCK = bytes(256 * 1024)
_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def response(body: bytes, length: int | None = None) -> bytes:
    """A 200 with ``body``, or with the head for ``length`` bytes that come by themselves."""
    size = len(body) if length is None else length
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%b" % (size, body)


_ANSWER = response(BODY)


class Application(asyncio.Protocol):
    """Serves one request after the other."""

    def __init__(self) -> None:
        self._kept = b""
        self._head = b""  # of a request whose body is not complete
        self._to_read = 0
        self._to_write = 0
        self._is_blocked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._to_read:
            taken = min(self._to_read, len(data))
            self._to_read -= taken
            if self._to_read:
                return
            self._answer(self._head)
            data = data[taken:]
        if self._kept:
            data = self._kept + data
            self._kept = b""
        while data:
            head, end, rest = data.partition(_HEAD_END)
            if not end:
                self._kept = data
                return
            data = self._begin(head, rest)

    def pause_writing(self) -> None:
        self._is_blocked = True

    def resume_writing(self) -> None:
        self._is_blocked = False
        self._write_on()

    def _begin(self, head: bytes, data: bytes) -> bytes:
        """A request that may have a body; what follows it."""
        found = None if head.startswith(b"GET ") else _LENGTH.search(head)
        length = int(found[1]) if found else 0
        if head.startswith(b"POST /stall "):
            self._transport.pause_reading()
            return b""
        if length > len(data):
            self._head, self._to_read = head, length - len(data)
            return b""
        self._answer(head)
        return data[length:]

    def _answer(self, head: bytes) -> None:
        path = head.split(b" ", 2)[1]
        if path.startswith(b"/bytes/"):
            self._to_write = int(path[7:])
            self._transport.write(response(b"", self._to_write))
            self._write_on()
        else:
            self._transport.write(response(head) if path == b"/head" else _ANSWER)

    def _write_on(self) -> None:
        while self._to_write and not self._is_blocked and not self._transport.is_closing():
            block = BLOCK if self._to_write >= len(BLOCK) else BLOCK[: self._to_write]
            self._to_write -= len(block)
            self._transport.write(block)


async def serve(port: int) -> None:
    """Listen until killed."""
    loop = asyncio.get_running_loop()
    for address in (*ADDRESSES, TCP_ADDRESS):
        await loop.create_server(Application, address, port, backlog=1024)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
