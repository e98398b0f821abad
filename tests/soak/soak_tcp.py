"""TCP of the soak: relays with mutual TLS between the proxies and without any, every byte compared.

A connection carries exchanges one after the other: a line that says what follows, a body, and the body that
was asked for. As with HTTP the steady services must lose nothing; the shaky one is told to expect trouble,
and its bytes are still those of its own connection.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from proxy_mesh import App, Client, credential, free_port, host_of
from soak_bodies import body_of, reset

from ray_mesh import snapshot

if TYPE_CHECKING:
    from soak_world import World

STEADY_TCP, SHAKY_TCP, PLAIN_TCP = "steady-tcp", "shaky-tcp", "steady-plain"
PORT = 5432
DEADLINE_S = 60.0
SIZES = (0, 1, 5, 4000, 4000, 70_000, 300_000)
LARGE = 2_000_000
"""What the kernel moves, where no side has TLS."""
PIECES = 5
APP_FAULTS = ("", "", "reset", "cut", "slow")
CLIENT_FAULTS = ("", "", "", "reset", "slow reader", "slow writer")


class CheckedPort(App):
    """Compares each body that comes, answers with the one that was asked for, fails as it is told to."""

    def __init__(self, name: str, tally: Counter[str]) -> None:
        super().__init__(name, self._answer)
        self._tally = tally

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            seed, size, want, fault = line.decode().rstrip("\n").split(" ")
            body = await reader.readexactly(int(size))
            if body != body_of(int(seed), int(size)):
                self._tally["corrupted TCP to the application"] += 1
            self._tally["answered TCP"] += 1
            answer = body_of(int(seed) + 1, int(want))
            if fault in ("reset", "cut"):
                writer.write(answer[: len(answer) // 2])
                if fault == "reset":
                    reset(writer)
                return
            step = len(answer) // PIECES + 1 if fault == "slow" else max(len(answer), 1)
            for at in range(0, len(answer), step):
                if writer.is_closing():
                    return  # the client is gone, and uvloop refuses what is written to it
                writer.write(answer[at : at + step])
                await writer.drain()
                if fault == "slow":
                    await asyncio.sleep(0.01)
        writer.write_eof()


class TcpCaller:
    """One client of a TCP service, with one connection after the other."""

    def __init__(self, world: World, service: str, seed: int) -> None:
        self._world = world
        self._service = service
        self._target = f"{PLAIN_TCP}.example.com:{PORT}" if service == PLAIN_TCP else f"{service}:{PORT}"
        self._random = random.Random(seed)
        self.is_ending = False
        self.slowest_s = 0.0

    async def run(self) -> None:
        """Call until :attr:`is_ending`; a connection that was begun is finished."""
        while not self.is_ending:
            fault = self._random.choice(CLIENT_FAULTS) if self._service == SHAKY_TCP else ""
            began_at = time.monotonic()
            try:
                async with asyncio.timeout(DEADLINE_S):
                    outcome = await self._connection(fault)
            except TimeoutError:
                outcome = "hung"
            except (OSError, asyncio.IncompleteReadError, RuntimeError) as error:  # uvloop: handle closed
                outcome = f"cut off ({type(error).__name__})"
            self._world.tally[f"{self._service}: {outcome}"] += 1
            if self._service != SHAKY_TCP:
                self.slowest_s = max(self.slowest_s, time.monotonic() - began_at)
            await asyncio.sleep(0.1 * self._random.random())

    async def _connection(self, fault: str) -> str:
        client = await Client.connect(self._world.port)
        try:
            head = f"CONNECT {self._target} HTTP/1.1\r\nHost: {self._target}\r\n"
            await client.send(f"{head}Proxy-Authorization: {credential()}\r\n\r\n".encode())
            answer = await client.reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200 "):
                return f"refused {answer[9:12].decode()}"
            for _ in range(self._random.randint(1, 4)):
                outcome = await self._exchange(client, fault)
                if outcome != "ok":
                    return outcome
            client.writer.write_eof()
            return "ok" if await client.reader.read() == b"" else "corrupted: bytes after the end"
        finally:
            client.writer.close()
            with suppress(OSError):
                await client.writer.wait_closed()

    async def _exchange(self, client: Client, fault: str) -> str:
        choose = self._random.choice
        sizes = (*SIZES, LARGE) if self._service == PLAIN_TCP else SIZES
        seed, size, want = self._random.randrange(1 << 30), choose(sizes), choose(sizes)
        app_fault = choose(APP_FAULTS) if self._service == SHAKY_TCP else ""
        raw = f"{seed} {size} {want} {app_fault}\n".encode() + body_of(seed, size)
        step = len(raw) // PIECES + 1 if fault == "slow writer" else len(raw)
        for at in range(0, len(raw), step):
            await client.send(raw[at : at + step])
            if fault == "slow writer":
                await asyncio.sleep(0.02)
        if fault == "reset":
            await asyncio.sleep(self._random.random() * 0.05)
            reset(client.writer)
            return "broken off by the client"
        if fault == "slow reader":
            await asyncio.sleep(0.3)
        expected = body_of(seed + 1, want)
        is_cut = app_fault in ("reset", "cut")
        answer = await client.reader.read(-1) if is_cut else await client.reader.readexactly(want)
        if is_cut:
            return "cut off as told" if expected.startswith(answer) else "corrupted"
        return "ok" if answer == expected else "corrupted"


async def build_tcp(world: World) -> None:
    """Two workloads of each service with a proxy, and one endpoint without."""
    mesh = world.mesh
    for service in (STEADY_TCP, SHAKY_TCP):
        for number in range(2):
            name = f"{service}-{number}"
            app = world.ports[name] = CheckedPort(name, world.tally)
            await app.start()
            mesh.apps.append(app)
            tcp_ports = ((host_of(service), PORT),)
            await mesh.workload(
                name, app.port, services=(host_of(service),), tcp_ports=tcp_ports, is_tcp_only=True
            )
        apply_tcp(world, service, (0, 1))
    app = world.ports[PLAIN_TCP] = CheckedPort(PLAIN_TCP, world.tally)
    await app.start(free_port())
    mesh.apps.append(app)
    host = f"{PLAIN_TCP}.example.com"
    ports = (snapshot.Port(PORT, "tcp", "tcp"),)
    entry = "serviceentry.default.plain"
    endpoint = snapshot.Endpoint(entry, "127.0.0.1", app.port, "", "", (), "", "plaintext", PORT)
    plane = mesh.planes["one"]
    known = snapshot.Service(host, "default", "plain", ports, (), (), plaintext=True)
    plane.apply(snapshot.key_for("service", host), known)
    plane.apply(snapshot.key_for("endpoints", host), snapshot.Endpoints(host, (endpoint,)))


def apply_tcp(world: World, service: str, numbers: tuple[int, ...]) -> None:
    """The service with these of its workloads; connections to the others go on."""
    endpoints = [world.mesh.endpoint(f"{service}-{number}") for number in numbers]
    world.mesh.service(service, endpoints, ports=(snapshot.Port(PORT, "tcp", "tcp"),))
