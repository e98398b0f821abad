"""Whatever servers of HTTP/2 do to requests on shared connections: afterwards everything is counted out."""

from __future__ import annotations

import asyncio
import random

import pytest
from http2_frames import DATA, GOAWAY, RST_STREAM, frame, headers
from http2_server_peer import OK, Connection, Http2Server, outside
from proxy_mesh import Client, Mesh, fetch, mesh, request_bytes, until  # noqa: F401
from routing_mesh import client
from test_proxy_http2_upstreams import answer, limits, source_of

# ruff: noqa: F811

SEED = 20261128
REQUESTS = 400
AT_ONCE = 40
CODES = (0, 1, 2, 7, 8, 11)


def goaway(last_id: int, code: int = 0) -> bytes:
    return frame(GOAWAY, 0, 0, last_id.to_bytes(4) + code.to_bytes(4))


class Whims:
    """What the server does to a request: mostly what it should."""

    def __init__(self) -> None:
        self.draw = random.Random(SEED)
        self.is_calm = False

    def __call__(self, connection: Connection, stream_id: int) -> None:
        """A request came whole."""
        if self.is_calm or self.draw.random() < 0.7:
            answer(connection, stream_id)
            return
        whims = (
            self.reset,
            self.reset_later,
            self.leave,
            self.leave_after,
            self.cut,
            self.close,
            self.forget,
        )
        self.draw.choice(whims)(connection, stream_id)

    def reset(self, connection: Connection, stream_id: int) -> None:
        """End the stream with some error."""
        connection.send(frame(RST_STREAM, 0, stream_id, self.draw.choice(CODES).to_bytes(4)))

    def reset_later(self, connection: Connection, stream_id: int) -> None:
        """End it in the midst of its response."""
        connection.send(headers(stream_id, OK, False), frame(DATA, 0, stream_id, b"half"))
        self.reset(connection, stream_id)

    def leave(self, connection: Connection, stream_id: int) -> None:
        """Go away without having looked at it."""
        connection.send(goaway(max(stream_id - 2, 0)))

    def leave_after(self, connection: Connection, stream_id: int) -> None:
        """Go away after it."""
        connection.send(goaway(stream_id))
        answer(connection, stream_id)

    def cut(self, connection: Connection, stream_id: int) -> None:
        """Reset the connection."""
        connection.writer.transport.abort()

    def close(self, connection: Connection, stream_id: int) -> None:
        """Close the connection in the midst of the response."""
        connection.send(headers(stream_id, OK, False), frame(DATA, 0, stream_id, b"half"))
        connection.writer.close()

    def forget(self, connection: Connection, stream_id: int) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    "changes",
    [
        {"max_connections": 2, "max_streams": 5},
        {"max_connections": 1, "max_requests_per_connection": 7},
        {"max_streams": 1, "max_requests": 30, "max_pending": 10},
        {"max_requests_per_connection": 1},
    ],
    ids=str,
)
async def test_after_turmoil_everything_is_counted_out(mesh: Mesh, changes: dict[str, int]) -> None:
    port, whims = await client(mesh), Whims()
    server = Http2Server(on_ended=whims)
    await outside(mesh, server, traffic=limits(**changes))
    draw = random.Random(SEED)
    places = asyncio.Semaphore(AT_ONCE)
    statuses: list[int] = []

    async def one() -> None:
        async with places:
            asking = await Client.connect(port)
            body = b"" if draw.random() < 0.5 else b"body"
            patience_s = draw.choice((0.0, 0.4, 0.4, 0.4))
            try:
                await asking.send(request_bytes(draw.choice(("GET", "POST", "PUT")), "/", "shop", body))
                async with asyncio.timeout(patience_s):
                    found = await asking.answer()
                    statuses.append(found.status)
                    assert found.status != 200 or found.body == (body or b"ok")
            except (TimeoutError, OSError, asyncio.IncompleteReadError):
                statuses.append(0)
            finally:
                asking.writer.transport.abort()

    async with asyncio.timeout(60):
        await asyncio.gather(*(one() for _ in range(REQUESTS)))
    assert 200 in statuses
    (pool,) = source_of(mesh)._limited.values()
    breaker = pool.breaker
    await until(lambda: (breaker.requests, breaker.pending, breaker.retries) == (0, 0, 0), "all are over")
    assert pool.member.active == 0
    assert not breaker.waiting
    assert not pool.waiting
    whims.is_calm = True
    assert (await fetch(port, "/", "shop")).status == 200
    pool.retire()
    await until(lambda: (pool.count, breaker.connections) == (0, 0), "no connection is left")
