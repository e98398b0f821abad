"""Every hostile HTTP/2 response over real sockets: from a server that checks nothing, through a proxy, to an
HTTP/1.1 client."""

from __future__ import annotations

import asyncio
import struct

from both_codecs import codec  # noqa: F401
from http2_frames import ACK, END_STREAM, HEADERS, OPENING, SETTINGS, frame
from proxy_mesh import DEADLINE_S, Client, Mesh, free_port, host_of, mesh, request_bytes  # noqa: F401
from translated_responses import CASES, Case

from ray_mesh import snapshot
from ray_mesh.proxy.http2_codec import PREFACE

# ruff: noqa: F811

AT_ONCE = 16
SERVER_OPENING = OPENING[len(PREFACE) :]


class Server:
    """Answers the one request of each connection with frames as they are."""

    def __init__(self) -> None:
        self.frames = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """See :class:`proxy_mesh.App`."""
        assert await reader.readexactly(len(PREFACE)) == PREFACE
        writer.write(SERVER_OPENING)
        while True:
            head = await reader.readexactly(9)
            length, kind, flags, stream_id = struct.unpack(">IBBI", b"\x00" + head)
            await reader.readexactly(length)
            if kind == SETTINGS and not flags & ACK:
                writer.write(frame(SETTINGS, ACK, 0))
            elif kind == HEADERS:
                assert (stream_id, flags & END_STREAM) == (1, END_STREAM)
                writer.write(self.frames)


async def play(case: Case, port: int, host: str) -> str:
    """Ask for a case; what was wrong with the answer, or nothing."""
    method = case.method.decode()
    client = await Client.connect(port)
    try:
        await client.send(request_bytes(method, "/", host))
        answer = await client.answer(method)
        client.writer.write_eof()
        rest = await asyncio.wait_for(client.reader.read(), DEADLINE_S)
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return "" if case.outcome is None or case.is_optional else "the answer is not complete"
    except TimeoutError:
        return "no answer at all"
    finally:
        await client.close()
    if rest:
        return f"more than an answer: {rest!r}"
    if b"smuggled" in answer.raw:
        return f"a response in the response: {answer.raw!r}"
    if answer.status in (502, 503) and answer.json()["flag"]:
        return "" if case.outcome is None or case.is_optional else f"refused: {answer.body!r}"
    if case.outcome is None:
        return f"let through: {answer.raw!r} {answer.body!r}"
    kept = tuple(pair for pair in answer.fields if pair in case.outcome.fields)
    if (answer.status, answer.body, kept) != (case.outcome.status, case.outcome.body, case.outcome.fields):
        return f"changed: {answer.raw!r} {answer.body!r}"
    return ""


async def test_hostile_responses_are_refused_or_disarmed(mesh: Mesh, codec: None) -> None:
    assert len(CASES) >= 80
    port = await mesh.workload("client", free_port(), node="one")
    places = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, case: Case) -> str:
        async with places:
            server = Server()
            server.frames = case.frames
            app = await mesh.app(f"app{number}", server.serve)
            name = f"shop{number}"
            endpoint = snapshot.Endpoint(
                f"default/{name}", "127.0.0.1", app.port, "", "", (), "", "plaintext"
            )
            ports = (snapshot.Port(80, "http2", "http2"),)
            mesh.service(name, [endpoint], ports=ports, plaintext=True)
            return await play(case, port, name)

    async with asyncio.timeout(DEADLINE_S * 6):
        results = await asyncio.gather(*(one(number, case) for number, case in enumerate(CASES)))
    wrong = [f"{case.name}\n  {result}" for case, result in zip(CASES, results, strict=True) if result]
    assert not wrong, "\n".join(wrong)
