"""HTTP/1.0 clients, trailers, chunk extensions, interim responses, and messages that overlap."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from proxy_mesh import DEADLINE_S, Client, Mesh, credential, mesh, request_bytes  # noqa: F401

# ruff: noqa: F811

AUTH = f"Proxy-Authorization: {credential()}\r\n".encode()
CHUNKED = b"POST / HTTP/1.1\r\nHost: reviews\r\n" + AUTH + b"Transfer-Encoding: chunked\r\n\r\n"


async def exchange(port: int, raw: bytes) -> bytes:
    """Everything that comes back on a connection until it is closed."""
    client = await Client.connect(port)
    await client.send(raw)
    async with asyncio.timeout(DEADLINE_S):
        answer = await client.reader.read()
    await client.close()
    return answer


def scripted(response: bytes, *, then_closes: bool = False) -> Any:
    """An application that reads a head, says this, and reads on."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        await writer.drain()
        if not then_closes:
            await reader.read()

    return serve


class TestVersionOneZero:
    async def test_a_request_is_sent_on_as_one_of_1_1(self, mesh: Mesh) -> None:
        port, app = await mesh.pair()
        head = b"GET /old HTTP/1.0\r\nHost: reviews\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n"
        answer = await exchange(port, head + AUTH + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nconnection: close\r\n" in answer
        assert app.heads[0].startswith(b"GET /old HTTP/1.1\r\n")
        assert b"expect" not in app.heads[0].lower()

    async def test_a_body_of_unknown_length_ends_with_the_connection(self, mesh: Mesh) -> None:
        chunks = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n"
        )
        port, _ = await mesh.pair(scripted(b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + chunks))
        answer = await exchange(port, b"GET / HTTP/1.0\r\nHost: reviews\r\n" + AUTH + b"\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert b"transfer-encoding" not in head.lower()
        assert body == b"abcde"

    async def test_a_body_that_breaks_off_is_a_reset(self, mesh: Mesh) -> None:
        broken = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
        port, _ = await mesh.pair(scripted(broken, then_closes=True))
        with pytest.raises(ConnectionResetError):
            await exchange(port, b"GET / HTTP/1.0\r\nHost: reviews\r\n" + AUTH + b"\r\n")

    async def test_an_absolute_target_stands_for_the_host(self, mesh: Mesh) -> None:
        port, app = await mesh.pair()
        answer = await exchange(port, b"GET http://reviews/x HTTP/1.0\r\n" + AUTH + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert app.heads[0].startswith(b"GET /x HTTP/1.1\r\nHost: reviews\r\n")

    @pytest.mark.parametrize(
        ("head", "said"),
        [
            (b"GET / HTTP/1.0\r\n", b"routes by host"),
            (b"POST / HTTP/1.0\r\nHost: reviews\r\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding in"),
            (b"GET /\r\n", b"request line"),
            (b"GET / HTTP/0.9\r\nHost: reviews\r\n", b""),
        ],
    )
    async def test_what_is_refused(self, mesh: Mesh, head: bytes, said: bytes) -> None:
        port, app = await mesh.pair()
        answer = await exchange(port, head + AUTH + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert said in answer
        assert app.heads == []

    async def test_version_0_9_is_refused_at_once(self, mesh: Mesh) -> None:
        port, _ = await mesh.pair()
        assert (await exchange(port, b"GET /\r\n")).startswith(b"HTTP/1.1 400 ")


class TestTrailers:
    async def test_those_of_a_request_reach_the_application(self, mesh: Mesh) -> None:
        seen = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            seen.set_result(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await reader.read()

        port, _ = await mesh.pair(serve)
        client = await Client.connect(port)
        forbidden = (
            b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: other\r\nAuthorization: x\r\n"
            b"X-Mesh-Source: a;b;c\r\nX-Forwarded-For: 1.2.3.4\r\nTraceparent: x\r\nContent-Type: a\r\n"
        )
        trailer = b"X-Sum: 1\r\n" + forbidden + b"x-two:2\r\n"
        await client.send(CHUNKED + b'3;a=b;c="d;\\"e"\r\nabc\r\n0\r\n' + trailer + b"\r\n")
        assert (await client.answer()).status == 200
        assert await seen == b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nx-two:2\r\n\r\n"
        await client.close()

    async def test_those_of_a_response_reach_the_client(self, mesh: Mesh) -> None:
        answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        trailer = b"X-Sum: 1\r\nSet-Cookie: a=b\r\n"
        port, _ = await mesh.pair(scripted(answer + b"3;q\r\nabc\r\n0\r\n" + trailer + b"\r\n"))
        client = await Client.connect(port)
        await client.send(request_bytes("GET", "/", "reviews"))
        async with asyncio.timeout(DEADLINE_S):
            head = await client.reader.readuntil(b"\r\n\r\n")
            assert b"transfer-encoding: chunked" in head
            rest = await client.reader.readuntil(b"\r\n\r\n")
        assert rest == b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"
        await client.close()


class TestInterim:
    async def test_early_hints_come_before_the_answer(self, mesh: Mesh) -> None:
        hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nX-Mesh-Source: no\r\nKeep-Alive: 5\r\n\r\n"
        port, _ = await mesh.pair(scripted(hints * 2 + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
        client = await Client.connect(port)
        await client.send(request_bytes("GET", "/", "reviews"))
        async with asyncio.timeout(DEADLINE_S):
            for _ in range(2):
                head = await client.reader.readuntil(b"\r\n\r\n")
                assert head == b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
        assert (await client.answer()).body == b"ok"
        await client.close()

    async def test_a_flood_of_them_is_refused(self, mesh: Mesh) -> None:
        port, _ = await mesh.pair(scripted(b"HTTP/1.1 102 Processing\r\n\r\n" * 10_000))
        client = await Client.connect(port)
        await client.send(request_bytes("GET", "/", "reviews"))
        answer = await client.answer()
        assert (answer.status, answer.json()["flag"]) == (502, "UPE")
        await client.close()

    async def test_many_requests_may_each_have_some(self, mesh: Mesh) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 3)
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

        port, _ = await mesh.pair(serve)
        client = await Client.connect(port)
        for _ in range(20):
            await client.send(request_bytes("GET", "/", "reviews"))
            assert (await client.answer()).status == 204
        await client.close()


async def test_both_bodies_stream_at_the_same_time(mesh: Mesh) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while size := int(await reader.readuntil(b"\r\n"), 16):
            piece = (await reader.readexactly(size + 2))[:-2]
            writer.write(b"%x\r\n%b\r\n" % (size, piece.upper()))
        await reader.readexactly(2)
        writer.write(b"0\r\n\r\n")
        await reader.read()

    port, _ = await mesh.pair(serve)
    client = await Client.connect(port)
    await client.send(CHUNKED)
    async with asyncio.timeout(DEADLINE_S):
        await client.reader.readuntil(b"\r\n\r\n")
        for word in (b"one", b"two", b"three"):
            await client.send(b"%x\r\n%b\r\n" % (len(word), word))
            assert await client.reader.readuntil(b"\r\n") == b"%x\r\n" % len(word)
            assert await client.reader.readexactly(len(word) + 2) == word.upper() + b"\r\n"
        await client.send(b"0\r\n\r\n")
        assert await client.reader.readexactly(5) == b"0\r\n\r\n"
    await client.send(b"GET /again HTTP/1.1\r\nHost: reviews\r\n" + AUTH + b"\r\n")
    await client.close()


async def test_an_answer_before_the_body_ends_it(mesh: Mesh) -> None:
    """The client is told to go; what it still sends is not taken for a request."""
    port, _ = await mesh.pair(scripted(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"))
    client = await Client.connect(port)
    head = b"POST / HTTP/1.1\r\nHost: reviews\r\n" + AUTH + b"Content-Length: 1000\r\n\r\n"
    await client.send(head + b"x" * 10)
    answer = await client.answer()
    assert (answer.status, answer.body, answer.field("connection")) == (403, b"no", "close")
    await client.send(request_bytes("GET", "/smuggled", "reviews") * 3)
    assert await client.is_closed()
    await client.close()
