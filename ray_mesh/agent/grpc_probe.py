"""Asks a workload's gRPC health service (grpc.health.v1.Health) by one call of Check.

The two messages are small enough to be written and read here: a request has the name of a service as field
1, a response a number as field 1, of which 1 means that it serves.
"""

from __future__ import annotations

import asyncio

from ray_mesh.grpc_status import GrpcStatus
from ray_mesh.proxy.grpc import status_of
from ray_mesh.proxy.http2_choice import client_codec
from ray_mesh.proxy.http2_codec import Headers
from ray_mesh.proxy.http2_connection import Http2Connection

METHOD = "/grpc.health.v1.Health/Check"
MOST_BYTES = 1024
"""Of an answer; one has about 7."""
_SERVING = b"\x08\x01"
_PREFIX = b"\x00"  # not compressed


async def ask_health(host: str, port: int, service: str) -> str:
    """Call a server; empty when it serves, else why not. Raises OSError when it cannot be reached."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()
    _, call = await loop.create_connection(lambda: _Call(f"{host}:{port}", service, answer), host, port)
    try:
        return await answer
    finally:
        call.transport.abort()


def _request(service: str) -> bytes:
    name = service.encode()
    message = b"\x0a%b%b" % (_varint(len(name)), name) if name else b""
    return _PREFIX + len(message).to_bytes(4, "big") + message


def _varint(number: int) -> bytes:
    more = []
    while number > 0x7F:
        more.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*more, number])


class _Call(Http2Connection):
    def __init__(self, authority: str, service: str, answer: asyncio.Future[str]) -> None:
        super().__init__(client_codec)
        self._answer = answer
        self._lines = b""
        self._body = b""
        fields = (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":authority", authority.encode()),
            (b":path", METHOD.encode()),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            (b"user-agent", b"ray-mesh-probe"),
        )
        self._stream = self.codec.request(fields, False)
        self.codec.send(self._stream, _request(service), True)

    def connection_lost(self, error: Exception | None) -> None:
        self._end("no answer in gRPC")

    def on_headers(self, stream_id: int, headers: Headers, ended: bool) -> None:
        self._note(headers)
        if ended:
            self._judge()

    def on_data(self, stream_id: int, payload: bytes, ended: bool) -> None:
        self._body += payload
        self.codec.consumed(stream_id, len(payload))
        if ended or len(self._body) > MOST_BYTES:
            self._judge()

    def on_trailers(self, stream_id: int, headers: Headers) -> None:
        self._note(headers)
        self._judge()

    def on_closed(self, stream_id: int, code: int) -> None:
        self._end("no answer in gRPC")

    def on_goaway(self, last_stream_id: int, code: int) -> None:
        if last_stream_id < self._stream:
            self._end("it takes no calls")

    def on_end(self, code: int) -> None:
        self._end("no answer in gRPC")

    def _note(self, headers: Headers) -> None:
        self._lines += b"".join(b"%b: %b\r\n" % pair for pair in headers if not pair[0].startswith(b":"))

    def _judge(self) -> None:
        status = status_of(self._lines)
        if status is None:
            self._end("no answer in gRPC")
        elif status != GrpcStatus.OK:
            self._end(GrpcStatus(status).name)
        else:
            self._end("" if self._body[5:7] == _SERVING else "it does not serve")

    def _end(self, trouble: str) -> None:
        if not self._answer.done():
            self._answer.set_result(trouble and f"gRPC health: {trouble}")
