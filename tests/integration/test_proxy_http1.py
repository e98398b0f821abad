"""HTTP/1.1 through two proxies: framing, bodies, order, and what is refused."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from proxy_mesh import DEADLINE_S, App, Client, Mesh, credential, fetch, mesh, request_bytes, until  # noqa: F401

# ruff: noqa: F811

AUTH = f"Proxy-Authorization: {credential()}\r\n".encode()


async def test_bodies_of_known_and_unknown_length(mesh: Mesh) -> None:
    port, app = await mesh.pair()
    answer = await fetch(port, "/", "reviews", "POST", b"hello")
    assert answer.json()["body"] == "hello"
    client = await Client.connect(port)
    head = b"POST / HTTP/1.1\r\nHost: reviews\r\n" + AUTH + b"Transfer-Encoding: chunked\r\n\r\n"
    for piece in (head, b"3\r\nab", b"c\r\n", b"2;ext\r\nde\r\n0\r\nX-Sum: x\r\n", b"\r\n"):
        await client.send(piece)
    assert (await client.answer()).json()["body"] == "abcde"
    await client.send(request_bytes("GET", "/next", "reviews"))
    assert (await client.answer()).json()["line"] == "GET /next HTTP/1.1"
    assert app.connections == 1
    await client.close()


async def test_pipelined_requests_are_answered_in_order(mesh: Mesh) -> None:
    port, _ = await mesh.pair()
    client = await Client.connect(port)
    await client.send(b"".join(request_bytes("POST", f"/{n}", "reviews", b"x" * n) for n in range(50)))
    for number in range(50):
        seen = (await client.answer()).json()
        assert seen["line"] == f"POST /{number} HTTP/1.1"
        assert len(seen["body"]) == number
    await client.close()


async def test_a_request_may_come_byte_by_byte(mesh: Mesh) -> None:
    port, _ = await mesh.pair()
    client = await Client.connect(port)
    for byte in request_bytes("POST", "/slow", "reviews", b"body"):
        await client.send(bytes((byte,)))
    assert (await client.answer()).json()["body"] == "body"
    await client.close()


async def test_head_204_304_and_responses_until_close(mesh: Mesh) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, _ = await app.read(reader)
            target = head.split(b" ")[1]
            if target == b"/close":
                writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end")
                return
            answers = {
                b"/204": b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
                b"/304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n",
                b"/chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nKeep-Alive: 5\r\n\r\n"
                b"3\r\nabc\r\n0\r\n\r\n",
            }
            writer.write(answers.get(target, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"))

    port, app = await mesh.pair(serve)
    client = await Client.connect(port)
    for method, path, status, body in (
        ("HEAD", "/head", 200, b""),
        ("GET", "/204", 204, b""),
        ("GET", "/304", 304, b""),
        ("GET", "/chunked", 200, b"abc"),
        ("GET", "/close", 200, b"until the end"),
        ("GET", "/204", 204, b""),
    ):
        await client.send(request_bytes(method, path, "reviews"))
        answer = await client.answer(method)
        assert (answer.status, answer.body) == (status, body), path
        assert answer.raw.startswith(b"HTTP/1.1 ")
        assert answer.field("keep-alive") is None
    await client.close()


async def test_expect_100_continue_is_the_applications_to_answer(mesh: Mesh) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"expect: 100-continue" in head.lower()
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await reader.readexactly(4)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + body)
        await writer.drain()

    port, _ = await mesh.pair(serve)
    client = await Client.connect(port)
    head = b"PUT / HTTP/1.1\r\nHost: reviews\r\nExpect: 100-continue\r\nContent-Length: 4\r\n"
    await client.send(head + AUTH + b"\r\n")
    async with asyncio.timeout(DEADLINE_S):
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"body")
    assert (await client.answer()).body == b"body"
    await client.close()


REFUSED = {
    b"Host: reviews\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n": 400,
    b"Host: reviews\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n": 400,
    b"Host: reviews\r\nContent-Length: 5\r\nContent-Length: 5\r\n": 400,
    b"Host: reviews\r\nContent-Length: +5\r\n": 400,
    b"Host: reviews\r\nTransfer-Encoding: chunked, identity\r\n": 400,
    b"Host: reviews\r\nTransfer-Encoding : chunked\r\n": 400,
    b"Host: reviews\r\nX: a\r\n b\r\n": 400,
    b"Host: reviews\r\nX: a\rb\r\n": 400,
    b"Host: reviews\r\nX: a\nY: b\r\n": 400,
    b"Host: reviews\r\nX: a\x00b\r\n": 400,
    b"Host: reviews\r\nX\x00: a\r\n": 400,
    b"Host: reviews\r\n: a\r\n": 400,
    b"": 400,
    b"Host: reviews\r\nHost: ratings\r\n": 400,
    b"Host: reviews\r\nConnection: content-length\r\nContent-Length: 5\r\n": 400,
    b"Host: reviews\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(101)): 431,
    b"Host: reviews\r\nX: " + b"y" * 70_000 + b"\r\n": 431,
}


@pytest.mark.parametrize("fields", REFUSED, ids=range(len(REFUSED)))
async def test_doubtful_heads_are_refused_and_never_forwarded(mesh: Mesh, fields: bytes) -> None:
    port, app = await mesh.pair()
    client = await Client.connect(port)
    await client.send(b"POST / HTTP/1.1\r\n" + AUTH + fields + b"\r\nhello")
    answer = await client.answer()
    accepted = {REFUSED[fields]} | ({501} if b"chunked, identity" in fields else set())
    assert answer.status in accepted
    assert answer.field("connection") == "close"
    assert answer.json()["flag"] == "DPE"
    assert await client.is_closed()
    assert app.heads == []
    await client.close()


LINES = {
    b"GET  / HTTP/1.1": 400,
    b"GET /a b HTTP/1.1": 400,
    b"GET /%zz HTTP/1.1": 400,
    b"GET /a#b HTTP/1.1": 400,
    b"GET / HTTP/1.2": 400,
    b"GET / HTTP/2.0": 400,
    b"GET /": 400,
    b"get / HTTP/1.1": 400,
    b"CONNECT reviews:80 HTTP/1.1": 405,
    b"GET http://user@reviews/ HTTP/1.1": 400,
}


@pytest.mark.parametrize("line", LINES)
async def test_doubtful_request_lines_are_refused(mesh: Mesh, line: bytes) -> None:
    port, app = await mesh.pair()
    client = await Client.connect(port)
    await client.send(line + b"\r\nHost: reviews\r\n" + AUTH + b"\r\n")
    assert (await client.answer()).status == LINES[line]
    assert await client.is_closed()
    assert app.heads == []
    await client.close()


async def test_each_request_of_a_connection_is_understood_on_its_own(mesh: Mesh) -> None:
    port, _ = await mesh.pair()
    client = await Client.connect(port)
    trace = "0af7651916cd43dd8448eb211c80319{}"
    seen = []
    for number in range(6):
        parent = f"00-{trace.format(number)}-b7ad6b7169203331-01"
        form = "http://reviews" if number % 2 else ""
        body = b"x" * (number % 3)
        fields = {"x_number": str(number // 3), "traceparent": parent, "x_request_id": f"id-{number}"}
        await client.send(request_bytes("POST", f"{form}/{number}?q", "reviews", body, **fields))
        seen.append((await client.answer()).json())
    for number, each in enumerate(seen):
        fields = {name.lower(): value for name, value in each["fields"]}
        assert each["line"] == f"POST /{number}?q HTTP/1.1"
        assert each["body"] == "x" * (number % 3)
        assert fields["x-number"] == str(number // 3)
        assert fields["x-request-id"] == f"id-{number}"
        assert fields["traceparent"][3:35] == trace.format(number)
        assert fields["traceparent"][36:52] != "b7ad6b7169203331"
        assert [name.lower() for name, _ in each["fields"]].count("traceparent") == 1
    await client.close()


async def test_an_absolute_target_does_not_change_the_next_request(mesh: Mesh) -> None:
    port, _ = await mesh.pair()
    mesh.service("ratings", [])
    client = await Client.connect(port)
    await client.send(request_bytes("GET", "/", "reviews"))
    assert (await client.answer()).status == 200
    await client.send(request_bytes("GET", "http://ratings/", "reviews"))
    assert (await client.answer()).json()["error"] == "no_healthy_upstream"
    await client.send(request_bytes("GET", "/", "reviews"))
    assert (await client.answer()).status == 200
    await client.close()


async def test_a_connection_knows_the_head_that_another_one_of_its_workload_sent(mesh: Mesh) -> None:
    port, _ = await mesh.pair()
    outbound = next(iter(mesh.planes["one"]._hosting.locals.values())).outbound
    seen: list[object] = []
    for number in range(3):
        answer = await fetch(port, f"/{number}", "reviews", X_Kind="other" if number == 2 else "same")
        assert answer.json()["line"] == f"GET /{number} HTTP/1.1"
        seen.append(outbound.recent.head)
    assert seen[0] is seen[1] is not None
    assert seen[2] is not seen[1]
    one = await Client.connect(port)
    await one.send(request_bytes("GET", "/", "reviews", token="another"))
    assert (await one.answer()).status == 407
    await one.close()


async def test_what_a_head_means_in_http_1_0_is_not_what_it_means_in_1_1(mesh: Mesh) -> None:
    port, _ = await mesh.pair()
    old = await Client.connect(port)
    secret = f"Proxy-Authorization: {credential()}\r\n\r\n"
    await old.send(f"GET http://reviews/ HTTP/1.0\r\n{secret}".encode())
    assert b" 200 " in await old.reader.readuntil(b"\r\n")
    await old.close()
    client = await Client.connect(port)
    await client.send(f"GET / HTTP/1.1\r\n{secret}".encode())
    assert (await client.answer()).status == 400
    await client.close()


async def test_a_body_that_looks_like_a_field_stays_a_body(mesh: Mesh) -> None:
    port, _ = await mesh.pair()
    client = await Client.connect(port)
    body = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
    for _ in range(3):
        await client.send(request_bytes("POST", "/", "reviews", body))
        assert (await client.answer()).json()["body"] == body.decode()
    await client.close()


async def test_a_known_head_with_a_bad_line_is_still_refused(mesh: Mesh) -> None:
    port, app = await mesh.pair()
    client = await Client.connect(port)
    await client.send(request_bytes("GET", "/", "reviews"))
    assert (await client.answer()).status == 200
    await client.send(request_bytes("GET", "/\x01", "reviews"))
    assert (await client.answer()).status == 400
    assert len(app.heads) == 1
    await client.close()


async def test_a_bad_chunk_ends_the_request(mesh: Mesh) -> None:
    port, app = await mesh.pair()
    client = await Client.connect(port)
    head = b"POST / HTTP/1.1\r\nHost: reviews\r\n" + AUTH + b"Transfer-Encoding: chunked\r\n\r\n"
    await client.send(head + b"5\r\nhello\r\n")
    await until(lambda: app.connections == 1 or app.heads, "the request reached the application")
    await client.send(b"zz\r\n")
    answer = await client.answer()
    assert answer.status == 400
    assert await client.is_closed()
    await client.close()


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef",
        b"HTTP/1.1 200 OK\r\nX: a\n b\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
    ],
)
async def test_bad_responses_become_502(mesh: Mesh, response: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await app.read(reader)
        writer.write(response)
        await writer.drain()
        await reader.read()

    port, app = await mesh.pair(serve)
    answer = await fetch(port, "/", "reviews")
    assert answer.status == 502
    assert answer.json()["flag"] == "UPE"
    assert (502, "UPE", "default/client", "default/reviews", 1) in mesh.series("two")


async def test_a_large_body_streams_both_ways_in_bounded_memory(mesh: Mesh) -> None:
    size, piece = 32 * 1024 * 1024, b"x" * 65536
    progress = {"read": 0}
    go_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await go_on.wait()
        while progress["read"] < size:
            progress["read"] += len(await reader.read(65536))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // len(piece)):
            writer.write(piece)
            await writer.drain()

    port, _ = await mesh.pair(serve)
    client = await Client.connect(port)
    head = b"POST / HTTP/1.1\r\nHost: reviews\r\n" + AUTH + b"Content-Length: %d\r\n\r\n" % size
    client.writer.write(head)
    sent = 0

    async def upload() -> None:
        nonlocal sent
        while sent < size:
            await client.send(piece)
            sent += len(piece)

    task = asyncio.create_task(upload())
    last, quiet_since = -1, time.monotonic()
    while time.monotonic() - quiet_since < 0.3:
        if sent != last:
            last, quiet_since = sent, time.monotonic()
        await asyncio.sleep(0.01)
    assert sent < size, "nothing held the upload back although the application read nothing"
    go_on.set()
    async with asyncio.timeout(DEADLINE_S):
        await task
    answer = await client.answer()
    assert len(answer.body) == size
    (record,) = mesh.planes["one"].access_records()
    assert (record.request_bytes, record.response_bytes) == (size, size)
    await client.close()


async def test_a_slow_reader_holds_the_application_back(mesh: Mesh) -> None:
    """What it does not read is held in few places: ends that hold little themselves show how little."""
    written = 0
    size, piece = 64 * 1024 * 1024, b"x" * 65536

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await app.read(reader)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while written < size:
            writer.write(piece)
            await writer.drain()
            written += len(piece)

    port, app = await mesh.pair(serve)
    client = await Client.connect(port)
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    await client.send(request_bytes("GET", "/", "reviews"))
    last, quiet_since = -1, time.monotonic()
    while time.monotonic() - quiet_since < 0.3:
        if written != last:
            last, quiet_since = written, time.monotonic()
        await asyncio.sleep(0.01)
    assert 0 < written < 8 * 1024 * 1024
    assert len((await client.answer()).body) == size
    await client.close()


async def test_an_early_answer_reaches_a_client_that_still_sends(mesh: Mesh) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await writer.drain()
        await reader.read()

    port, _ = await mesh.pair(serve)
    client = await Client.connect(port)
    head = b"POST / HTTP/1.1\r\nHost: reviews\r\n" + AUTH + b"Content-Length: 1000000\r\n\r\n"
    await client.send(head + b"x" * 1000)
    answer = await client.answer()
    assert (answer.status, answer.body) == (413, b"big")
    assert answer.field("connection") == "close"
    await client.send(b"x" * 100_000)
    await client.close()


async def test_a_client_that_leaves_cancels_the_call(mesh: Mesh) -> None:
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await app.read(reader)
        assert await reader.read() == b""
        gone.set()

    port, app = await mesh.pair(serve)
    client = await Client.connect(port)
    await client.send(request_bytes("GET", "/", "reviews"))
    await until(lambda: app.heads, "the request reached the application")
    await client.close()
    async with asyncio.timeout(DEADLINE_S):
        await gone.wait()
    await until(lambda: mesh.series("two") and mesh.series("one"), "both recorded it")
    assert mesh.series("one") == [(0, "DC", "default/client", "default/reviews", 1)]
    assert mesh.series("two") == [(0, "DC", "default/client", "default/reviews", 1)]


async def test_a_response_that_breaks_off_breaks_off_for_the_client(mesh: Mesh) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await app.read(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
        await writer.drain()

    port, app = await mesh.pair(serve)
    client = await Client.connect(port)
    await client.send(request_bytes("GET", "/", "reviews"))
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        await client.answer()
    assert (200, "UC", "default/client", "default/reviews", 1) in mesh.series("two")
    await client.close()


async def test_http_proxy_clients_work(mesh: Mesh) -> None:
    port, _ = await mesh.pair()
    script = (
        "import os,urllib.request as u;"
        "print(u.urlopen(u.Request('http://reviews/x', data=b'hi'), timeout=5).read().decode())"
    )
    process = await asyncio.create_subprocess_exec(
        "python3",
        "-c",
        script,
        env={"http_proxy": f"http://workload:secret-token@127.0.0.1:{port}", "PATH": "/usr/bin"},
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert b'"POST /x HTTP/1.1"' in output
    assert b'"hi"' in output


async def test_an_idle_upstream_that_sends_bytes_is_dropped(mesh: Mesh) -> None:
    connections: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await app.read(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    app = App("unused")
    port, app = await mesh.pair(serve)
    assert (await fetch(port, "/", "reviews")).status == 200
    connections[0].write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
    await until(connections[0].is_closing, "the proxy closed the connection")
    assert (await fetch(port, "/", "reviews")).body == b""
