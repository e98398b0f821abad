"""The application behind the proxies: answers each request with the same 64 bytes, as cheaply as it can.

``GET /head`` is answered with the head of the request as it arrived. Run as a program it takes a port
and prints a line once it listens on four loopback addresses.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
BODY = b"0123456789abcdef" * 3 + b"0123456789abcd\r\n"
_HEAD_END = b"\r\n\r\n"


def response(body: bytes) -> bytes:
    """A 200 with ``body``."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


_ANSWER = response(BODY)


class Application(asyncio.Protocol):
    """Serves requests without a body."""

    def __init__(self) -> None:
        self._kept = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._kept:
            data = self._kept + data
            self._kept = b""
        while data:
            head, end, rest = data.partition(_HEAD_END)
            if not end:
                self._kept = data
                return
            self._transport.write(response(head) if head.startswith(b"GET /head ") else _ANSWER)
            data = rest


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
