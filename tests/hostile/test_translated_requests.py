"""Every hostile HTTP/2 request over real sockets: through a gateway, two proxies, and to a strict HTTP/1.1
application."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from both_codecs import codec  # noqa: F401
from http2_frames import Ending, Peer, body, headers
from proxy_mesh import DEADLINE_S, Mesh, free_port, host_of, mesh  # noqa: F401
from translated_requests import CASES, GET, Case, Seen

from ray_mesh.snapshot import Destination, Gateway, GatewayServer, Route, VirtualHost

# ruff: noqa: F811

ADDED = (b"x-request-id", b"traceparent", b"x-forwarded-for", b"x-forwarded-proto")
AT_ONCE = 16
GOOD = Seen(b"GET /good HTTP/1.1")


class Application:
    """Reads HTTP/1.1 as strictly as it can, and remembers each request without what proxies add."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """See :class:`proxy_mesh.App`."""
        while True:
            line, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
            fields = []
            for each in lines:
                name, _, value = each.partition(b":")
                fields.append((name.lower(), value.strip()))
            kept = [pair for pair in fields if pair[0] not in ADDED]
            assert len(fields) == len(kept) + len(ADDED), fields
            payload = b""
            for name, value in kept:
                if name == b"content-length":
                    payload = await reader.readexactly(int(value))
                elif name == b"transfer-encoding":
                    assert value == b"chunked", value
                    payload = await self._chunks(reader)
            self.seen.append(Seen(line, tuple(sorted(kept)), payload))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def _chunks(self, reader: asyncio.StreamReader) -> bytes:
        payload = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            payload += await reader.readexactly(size)
            assert await reader.readexactly(2) == b"\r\n"
        assert await reader.readexactly(2) == b"\r\n", "no trailer of the corpus may travel on"
        return payload


def canonical(seen: Seen) -> Seen:
    """The same, whatever the order of its fields."""
    return Seen(seen.line, tuple(sorted(seen.fields)), seen.body)


async def play(case: Case, port: int) -> tuple[bool, str]:
    """Send a case, then a good request on the same connection: whether the case was let through, and what
    was wrong, or nothing."""
    peer = await Peer.connect(port)
    try:
        peer.send(headers(1, case.fields, case.body is None))
        if case.body is not None:
            peer.send(body(1, case.body, not case.trailers))
        if case.trailers:
            peer.send(headers(1, case.trailers, True))
        async with asyncio.timeout(DEADLINE_S):
            ending = await peer.ending(1)
            wrong = _why_wrong(case, ending)
            if ending.goaway is None and peer.goaway is None:
                wrong = wrong or await _why_not_well(peer)
        return ending.status == 200, wrong
    except TimeoutError:
        return False, "no answer at all"
    finally:
        peer.close()


def _why_wrong(case: Case, ending: Ending) -> str:
    is_refused = ending.status >= 400 or (
        not ending.status and (bool(ending.reset) or ending.goaway is not None)
    )
    if ending.status == 200 and case.outcome is None:
        return f"it was let through: {ending}"
    if is_refused and case.outcome is not None and not case.is_optional:
        return f"it was refused: {ending}"
    return "" if is_refused or ending.status == 200 else f"neither an answer nor a refusal: {ending}"


async def _why_not_well(peer: Peer) -> str:
    """A stream that is refused leaves its connection as it was."""
    fields = [(name, b"/good" if name == b":path" else value) for name, value in GET]
    peer.send(headers(3, fields, True))
    ending = await peer.ending(3)
    return "" if ending.status == 200 else f"the next request on the connection: {ending}"


async def _gateway(mesh: Mesh, application: Application) -> int:
    app = await mesh.app("reviews", application.serve)
    bound = free_port()
    await mesh.workload("edge", free_port(), node="one", gateway_ports=((80, bound),))
    await mesh.workload("reviews", app.port, services=(host_of("reviews"),), app_protocol="http1")
    mesh.service("reviews", [mesh.endpoint("reviews")])
    routes = (Route("all", "", (), (Destination(host_of("reviews")),)),)
    servers = (GatewayServer(80, (VirtualHost(("*",), routes),)),)
    mesh.planes["one"].apply("gateway.default.edge", Gateway("default", "edge", servers))
    return bound


async def test_hostile_requests_are_refused_or_disarmed(mesh: Mesh, codec: None) -> None:
    assert len(CASES) >= 150
    application = Application()
    port = await _gateway(mesh, application)
    places = asyncio.Semaphore(AT_ONCE)

    async def one(case: Case) -> tuple[bool, str]:
        async with places:
            return await play(case, port)

    async with asyncio.timeout(DEADLINE_S * 6):
        results = await asyncio.gather(*map(one, CASES))
    wrong = [f"{case.name}\n  {why}" for case, (_, why) in zip(CASES, results, strict=True) if why]
    expected = Counter(
        canonical(case.outcome)
        for case, (arrived, _) in zip(CASES, results, strict=True)
        if arrived and case.outcome is not None
    )
    seen = Counter(each for each in application.seen if each != GOOD)
    possible = Counter(canonical(case.outcome) for case in CASES if case.outcome is not None)
    wrong += [f"reached the application: {str(each)[:300]}" for each in seen - possible]
    wrong += [f"did not reach the application: {str(each)[:300]}" for each in expected - seen]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("size", [1, 7])
async def test_however_the_bytes_come(mesh: Mesh, size: int) -> None:
    """A request in pieces is the same request."""
    application = Application()
    port = await _gateway(mesh, application)
    peer = await Peer.connect(port)
    raw = headers(1, (*GET, (b"x-a", b"1")), False) + body(1, b"12345")
    for start in range(0, len(raw), size):
        peer.send(raw[start : start + size])
        await asyncio.sleep(0)
    async with asyncio.timeout(DEADLINE_S):
        assert (await peer.ending(1)).status == 200
    peer.close()
    expected = Seen(
        b"GET / HTTP/1.1", ((b"host", b"shop"), (b"transfer-encoding", b"chunked"), (b"x-a", b"1")), b"12345"
    )
    assert application.seen == [canonical(expected)]
