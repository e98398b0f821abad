"""What is soaked: two nodes with mutual TLS between them, a steady service and one with every trouble."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from proxy_mesh import App, Mesh, free_port, host_of
from soak_bodies import body_of, reset
from soak_tcp import CheckedPort, build_tcp

STEADY, SHAKY = "steady", "shaky"
PIECE_S = 0.01


class CheckedApp(App):
    """Compares each body that comes, answers with the one that was asked for, fails as it is told to."""

    def __init__(self, name: str, tally: Counter[str]) -> None:
        super().__init__(name, self._answer)
        self._tally = tally

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            fields = {
                name.lower(): value.strip()
                for name, _, value in (
                    line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:]
                )
            }
            seed, size, want = (int(fields[name]) for name in ("x-seed", "x-size", "x-want"))
            fault = fields.get("x-fault", "")
            if fault == "early":
                writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                await writer.drain()
                return
            body = await _read_body(reader, fields)
            if body != body_of(seed, size):
                self._tally["corrupted requests"] += 1
            self._tally["answered"] += 1
            if fault == "reset":
                reset(writer)
                return
            if not await _respond(writer, body_of(seed + 1, want), fault, bool(seed % 2)):
                return


async def _read_body(reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
    if fields.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(fields.get("content-length", 0)))
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    await reader.readexactly(2)
    return b"".join(parts)


async def _respond(writer: asyncio.StreamWriter, body: bytes, fault: str, is_chunked: bool) -> bool:
    """Send a response; whether the connection can carry another."""
    framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % len(body)
    writer.write(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing)
    is_cut = fault in ("cut", "stall")
    end = len(body) // 2 if is_cut else len(body)
    step = max(end // 5, 1) if fault == "slow" else 64 * 1024
    for at in range(0, end, step):
        piece = body[at : min(at + step, end)]
        if writer.transport.is_closing():
            return False
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
        await writer.drain()
        if fault == "slow":
            await asyncio.sleep(PIECE_S)
    if is_cut:
        await asyncio.sleep(0.5 if fault == "stall" else 0.0)
        reset(writer)
        return False
    if writer.transport.is_closing():
        return False
    if is_chunked:
        writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


@dataclass
class World:
    """The mesh, its applications, and where its client calls."""

    mesh: Mesh
    tally: Counter[str] = field(default_factory=Counter)
    apps: dict[str, CheckedApp] = field(default_factory=dict)
    ports: dict[str, CheckedPort] = field(default_factory=dict)
    port: int = 0

    async def build(self) -> None:
        """``client`` on node one; two workloads of each service on node two; TCP beside it."""
        self.port = await self.mesh.workload("client", free_port(), node="one")
        for service in (STEADY, SHAKY):
            for number in range(2):
                name = f"{service}-{number}"
                app = self.apps[name] = CheckedApp(name, self.tally)
                await app.start()
                self.mesh.apps.append(app)
                await self.mesh.workload(name, app.port, services=(host_of(service),))
            self.mesh.service(service, [self.mesh.endpoint(f"{service}-{number}") for number in range(2)])
        await build_tcp(self)

    def members(self) -> list[Any]:
        """Every endpoint's state on both planes."""
        return [
            member
            for plane in self.mesh.planes.values()
            for destination in plane.destinations()
            for member in (destination.members or {}).values()
        ]
