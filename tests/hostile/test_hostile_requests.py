"""Every hostile request over real sockets: through a gateway, two proxies, and to a strict application."""

from __future__ import annotations

import asyncio
from collections import Counter

from hostile_requests import REQUESTS, Case
from proxy_mesh import DEADLINE_S, Client, Mesh, free_port, host_of, mesh  # noqa: F401

from ray_mesh.snapshot import Destination, Gateway, GatewayServer, Route, VirtualHost

# ruff: noqa: F811

ADDED = (b"x-request-id:", b"traceparent:", b"x-forwarded-for:", b"x-forwarded-proto:")
AT_ONCE = 32


class Application:
    """Remembers each complete request, without what proxies add and with its body decoded."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """See :class:`proxy_mesh.App`."""
        while True:
            line, *fields = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
            kept = [field for field in fields if not field.lower().startswith(ADDED)]
            assert len(fields) == len(kept) + len(ADDED), fields
            body = b""
            for field in kept:
                name, _, value = field.lower().partition(b":")
                if name == b"content-length":
                    body = await reader.readexactly(int(value))
                elif name == b"transfer-encoding":
                    assert value == b" chunked"
                    body = await self._chunks(reader)
            self.seen.append(canonical(b"\r\n".join([line, *kept]) + b"\r\n\r\n" + body))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def _chunks(self, reader: asyncio.StreamReader) -> bytes:
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        assert await reader.readexactly(2) == b"\r\n", "no trailer of the corpus may travel on"
        return body


def canonical(request: bytes) -> bytes:
    """The same bytes whatever the case of ``transfer-encoding``, which proxies write anew, at the end."""
    head, _, body = request.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"transfer-encoding")]
    framing = [b"transfer-encoding: chunked"] if len(lines) < head.count(b"\r\n") + 1 else []
    return b"\r\n".join([*lines, *framing]) + b"\r\n\r\n" + body


async def play(case: Case, port: int) -> str:
    """Send a case and read its answers; what was wrong, or nothing."""
    client = await Client.connect(port)
    try:
        await client.send(case.sent)
        for expected in case.outcome:
            answer = await client.answer()
            codes = (
                (200,) if isinstance(expected, bytes) else (expected, 400 if expected == 501 else expected)
            )
            if answer.status not in codes:
                return f"{answer.status} instead of {codes[0]}: {answer.body!r}"
        if isinstance(case.outcome[-1], int):
            if answer.field("connection") != "close" or answer.json()["flag"] != "DPE":
                return f"the connection is not refused: {answer.raw!r}"
            client.writer.write_eof()
            if not await client.is_closed():
                return "more came after the refusal"
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionResetError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        await client.close()
    return ""


async def test_hostile_requests_are_refused_or_disarmed(mesh: Mesh) -> None:
    assert len(REQUESTS) >= 200
    application = Application()
    app = await mesh.app("reviews", application.serve)
    bound = free_port()
    await mesh.workload("edge", free_port(), node="one", gateway_ports=((80, bound),))
    await mesh.workload("reviews", app.port, services=(host_of("reviews"),))
    mesh.service("reviews", [mesh.endpoint("reviews")])
    routes = (Route("all", "", (), (Destination(host_of("reviews")),)),)
    servers = (GatewayServer(80, (VirtualHost(("*",), routes),)),)
    mesh.planes["one"].apply("gateway.default.edge", Gateway("default", "edge", servers))
    places = asyncio.Semaphore(AT_ONCE)

    async def one(case: Case) -> str:
        async with places:
            return await play(case, bound)

    async with asyncio.timeout(DEADLINE_S * 6):
        results = await asyncio.gather(*map(one, REQUESTS))
    wrong = [f"{case.name}\n  {result}" for case, result in zip(REQUESTS, results, strict=True) if result]
    expected = Counter(
        canonical(each) for case in REQUESTS for each in case.outcome if isinstance(each, bytes)
    )
    seen = Counter(application.seen)
    wrong += [f"reached the application: {each[:200]!r}" for each in seen - expected]
    wrong += [f"did not reach the application: {each[:200]!r}" for each in expected - seen]
    assert not wrong, "\n".join(wrong)
