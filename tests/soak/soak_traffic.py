"""Clients of the soak. Those of the steady service must get every answer; those of the shaky one misbehave
and are told to expect trouble, but never a wrong body, and never nothing at all."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress

from proxy_mesh import Client, credential
from soak_bodies import body_of, reset
from soak_tcp import PLAIN_TCP, SHAKY_TCP, STEADY_TCP, TcpCaller
from soak_world import SHAKY, STEADY, World

DEADLINE_S = 60.0
"""For a machine that is busy with other things, too; the slowest answer is reported."""
SIZES = (0, 1, 100, 100, 4000, 4000, 20_000, 70_000, 300_000)
APP_FAULTS = ("", "", "reset", "cut", "stall", "slow", "early")
CLIENT_FAULTS = ("", "", "", "reset", "slow reader", "slow writer", "half open", "half closed")
EXPECTED = frozenset({413, 502, 503, 504})


class Caller:
    """One client, which sends one request after the other until it is told to end."""

    def __init__(self, world: World, service: str, seed: int, pause_s: float) -> None:
        self._world = world
        self._service = service
        self._random = random.Random(seed)
        self._pause_s = pause_s
        self._client: Client | None = None
        self.is_ending = False
        self.slowest_s = 0.0

    async def run(self) -> None:
        """Call until :attr:`is_ending`; a call that was begun is finished."""
        tally = self._world.tally
        while not self.is_ending:
            fault = self._random.choice(CLIENT_FAULTS) if self._service == SHAKY else ""
            began_at = time.monotonic()
            try:
                async with asyncio.timeout(DEADLINE_S):
                    outcome = await self._call(fault)
            except TimeoutError:
                outcome = "hung"
            except (OSError, asyncio.IncompleteReadError, RuntimeError) as error:  # uvloop: handle closed
                outcome = f"cut off ({type(error).__name__})"
            tally[f"{self._service}: {outcome}"] += 1
            if self._service == STEADY:
                self.slowest_s = max(self.slowest_s, time.monotonic() - began_at)
            if outcome != "ok":
                await self._close()
            await asyncio.sleep(self._pause_s * self._random.random() * 2)
        await self._close()

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.writer.close()
            with suppress(OSError):
                await client.writer.wait_closed()

    async def _call(self, fault: str) -> str:
        if self._client is not None and self._client.writer.transport.is_closing():
            await self._close()
        if self._client is None:
            self._client = await Client.connect(self._world.port)
            self._client.patience_s = DEADLINE_S
        client, choose = self._client, self._random.choice
        seed, size, want = self._random.randrange(1 << 30), choose(SIZES), choose(SIZES)
        app_fault = choose(APP_FAULTS) if self._service == SHAKY else ""
        is_chunked = bool(size and self._random.random() < 0.3)
        raw = self._request(seed, size, want, app_fault, is_chunked)
        if fault == "half open":
            await client.send(raw[: len(raw) // 2])
            await asyncio.sleep(self._random.random())
            reset(client.writer)
            return "broken off by the client"
        if fault == "slow writer":
            step = len(raw) // 5 + 1
            for at in range(0, len(raw), step):
                await client.send(raw[at : at + step])
                await asyncio.sleep(0.02)
        else:
            await client.send(raw)
        if fault == "half closed":
            client.writer.write_eof()
        if fault == "reset":
            await asyncio.sleep(self._random.random() * 0.05)
            reset(client.writer)
            return "broken off by the client"
        if fault == "slow reader":
            await asyncio.sleep(0.3)
        answer = await client.answer("POST")
        if answer.field("connection") == "close" or fault == "half closed":
            await self._close()
        if answer.status == 200:
            return "ok" if answer.body == body_of(seed + 1, want) else "corrupted"
        if self._service == SHAKY and answer.status in EXPECTED:
            return f"refused {answer.status}"
        return f"unexpected {answer.status} {answer.body[:200].decode('latin-1')}"

    def _request(self, seed: int, size: int, want: int, fault: str, is_chunked: bool) -> bytes:
        body = body_of(seed, size)
        lines = [
            "POST /soak HTTP/1.1",
            f"Host: {self._service}",
            f"Proxy-Authorization: {credential()}",
            f"X-Seed: {seed}",
            f"X-Size: {size}",
            f"X-Want: {want}",
        ]
        if fault:
            lines.append(f"X-Fault: {fault}")
        lines.append("Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {size}")
        if is_chunked:
            step = size // 3 + 1
            pieces = [body[at : at + step] for at in range(0, size, step)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def callers(world: World, seed: int) -> list[Caller | TcpCaller]:
    """All clients: together about 250 requests a second, which leaves a core mostly free."""
    steady = [Caller(world, STEADY, seed + number, 0.05) for number in range(8)]
    shaky = [Caller(world, SHAKY, seed + 100 + number, 0.1) for number in range(12)]
    services = (STEADY_TCP, STEADY_TCP, PLAIN_TCP, PLAIN_TCP, SHAKY_TCP, SHAKY_TCP, SHAKY_TCP)
    tcp = [TcpCaller(world, service, seed + 200 + number) for number, service in enumerate(services)]
    return [*steady, *shaky, *tcp]


def lost(tally: Counter[str]) -> dict[str, int]:
    """What must not have happened, with how often it did."""
    return {
        what: count
        for what, count in tally.items()
        if "corrupted" in what
        or "hung" in what
        or "unexpected" in what
        or (what.startswith(STEADY) and not what.endswith(": ok"))
    }
