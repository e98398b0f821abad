"""A load generator: connections with one request in flight on each, nothing installed for it.

It measures as well, since only it knows how many requests fell into the time it looked at. Run as a
program it takes a :class:`Plan` as JSON and prints an :class:`Outcome` as JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import ssl
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any, cast

import uvloop
from bench_cpu import Sample

STARVED_S = 10.0
"""How long to wait for a first answer on a machine that is busy with other things."""
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"ength: "


@dataclass(frozen=True, slots=True)
class Tls:
    """How to connect to a port of the mesh: files with key and chain, and with the roots."""

    certificate: str
    roots: str
    sni: str

    def context(self) -> ssl.SSLContext:
        """A client's context; whose certificate it is shown does not matter to a load generator."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_cert_chain(self.certificate)
        context.load_verify_locations(self.roots)
        context.set_alpn_protocols(["http/1.1"])
        return context


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send where, and whose CPU to measure meanwhile (``proxies``; ``others`` are ours, too).

    ``hosts`` replace the host of ``fields``, one for each connection in turn. ``body_bytes`` makes it a
    POST. Without ``reuses`` each request has a connection of its own. ``tunnel`` is a host and port to ask
    for with CONNECT first, and ``fields`` are then those of that request.
    """

    port: int
    fields: list[tuple[str, str]]
    proxies: list[int]
    others: list[int] = field(default_factory=list)
    varies: bool = False
    path: str = "/reviews/0"
    hosts: list[str] = field(default_factory=list)
    body_bytes: int = 0
    reuses: bool = True
    tls: Tls | None = None
    tunnel: str = ""
    connections: int = 32
    warmup_s: float = 0.3
    seconds: float = 1.5

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan that ``json.dumps(asdict(plan))`` wrote."""
        raw: dict[str, Any] = json.loads(text)
        raw["fields"] = [(name, value) for name, value in raw["fields"]]
        raw["tls"] = Tls(**raw["tls"]) if raw["tls"] else None
        return cls(**raw)


@dataclass(frozen=True, slots=True)
class Outcome:
    """``sent`` are all requests, answered to the last; ``requests`` and ``body_bytes`` (both ways) those
    of the measured time."""

    sent: int
    requests: int
    body_bytes: int
    seconds: float
    cpu_ns: int
    unrelated_cores: float
    failure: str = ""


def head(path: str, fields: list[tuple[str, str]], method: str = "GET") -> bytes:
    """A request's head, up to but without the empty line."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), ""]
    return "\r\n".join(lines).encode("ascii")


class Load:
    """The state that all connections share."""

    def __init__(self, plan: Plan) -> None:
        self.answered = 0
        self.sent = 0
        self.body_bytes = 0
        self.failure = ""
        self.is_stopping = False
        self.drained = asyncio.Event()
        self._plan = plan
        self._context = plan.tls.context() if plan.tls else None
        self._server_name = plan.tls.sni if plan.tls else None
        self._body = bytes(plan.body_bytes)
        self._numbers = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()

    def head(self, number: int) -> bytes:
        """The head that the connection with this number sends."""
        plan = self._plan
        fields = [("host", plan.tunnel)] if plan.tunnel else plan.fields
        if plan.hosts:
            host = plan.hosts[number * len(plan.hosts) // plan.connections % len(plan.hosts)]
            fields = [(name, host if name == "host" else value) for name, value in fields]
        if not plan.body_bytes:
            return head(plan.path, fields)
        return head(plan.path, [*fields, ("content-length", str(plan.body_bytes))], "POST")

    @property
    def opening(self) -> bytes:
        """What a connection sends before its first request, and has answered."""
        plan = self._plan
        return head(plan.tunnel, plan.fields, "CONNECT") + b"\r\n" if plan.tunnel else b""

    def next_request(self, head: bytes) -> bytes:
        """The bytes of one more request."""
        self.sent += 1
        if self._plan.varies:
            number = next(self._numbers)
            return b"%btraceparent: 00-%032x-%016x-01\r\n\r\n%b" % (head, number, number, self._body)
        return b"%b\r\n%b" % (head, self._body)

    def finish(self, client: Client) -> None:
        """A connection got its answer."""
        self.answered += 1
        self.body_bytes += len(self._body)
        if self.is_stopping:
            if self.answered == self.sent:
                self.drained.set()
        elif self._plan.reuses:
            client.send()
        else:
            client.close()
            task = asyncio.get_running_loop().create_task(self.connect(client.number))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def connect(self, number: int) -> None:
        """Open the connection with this number, which then sends."""
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: Client(self, number),
                "127.0.0.1",
                self._plan.port,
                ssl=self._context,
                server_hostname=self._server_name,
            )
        except OSError as error:
            self.fail(f"no connection: {error}")

    def fail(self, why: str) -> None:
        """Remember the first failure and stop."""
        self.failure = self.failure or why
        self.is_stopping = True
        self.drained.set()


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, load: Load, number: int) -> None:
        self.number = number
        self._load = load
        self._head = load.head(number)
        self._opening = load.opening
        self._kept = b""
        self._left = 0
        self._is_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._load.is_stopping:
            self.close()
        elif self._opening:
            self._transport.write(self._opening)
        else:
            self.send()

    def send(self) -> None:
        """Send the next request."""
        self._transport.write(self._load.next_request(self._head))

    def close(self) -> None:
        """Close; nothing is lost with it."""
        self._is_closed = True
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        size = len(data)
        if self._opening:
            self._opened(data)
            return
        if not self._left:
            if self._kept:
                data, self._kept = self._kept + data, b""
            end = data.find(_HEAD_END)
            if end < 0 or not data.startswith(b"HTTP/1.1 200 "):
                self._keep(data)
                return
            size = len(data) - end - 4
            start = data.find(_LENGTH, 0, end) + len(_LENGTH)
            self._left = int(data[start : data.find(b"\r\n", start)])
        self._left -= size
        self._load.body_bytes += size
        if not self._left:
            self._load.finish(self)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._load.is_stopping and not self._is_closed:
            self._load.fail(f"connection lost: {error}")

    def _opened(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 200") and data.endswith(_HEAD_END):
            self._opening = b""
            self.send()
        else:
            self._load.fail(f"no tunnel: {data[:100]!r}")

    def _keep(self, data: bytes) -> None:
        self._kept = data
        if len(data) >= 12 and not data.startswith(b"HTTP/1.1 200"):
            self._load.fail(data.split(b"\r\n", 1)[0].decode("latin-1"))


async def run(plan: Plan) -> Outcome:
    """Warm up, measure, let what is in flight finish."""
    load = Load(plan)
    for number in range(plan.connections):
        await load.connect(number)
    await _sleep(load, plan.warmup_s)
    pids = [*plan.proxies, *plan.others, os.getpid()]
    before, answered_before, bytes_before = Sample.take(pids), load.answered, load.body_bytes
    await _sleep(load, plan.seconds)
    while load.answered == answered_before and not load.failure and time.monotonic() < before.at + STARVED_S:
        await _sleep(load, plan.seconds)
    answered, body_bytes, after = load.answered, load.body_bytes, Sample.take(pids)
    load.is_stopping = True
    try:
        if load.answered < load.sent:
            await asyncio.wait_for(load.drained.wait(), 10)
    except TimeoutError:
        load.fail(f"{load.sent - load.answered} requests were never answered")
    return Outcome(
        sent=load.sent,
        requests=answered - answered_before,
        body_bytes=body_bytes - bytes_before,
        seconds=after.at - before.at,
        cpu_ns=sum(after.cpu_ns[pid] - before.cpu_ns[pid] for pid in plan.proxies),
        unrelated_cores=before.unrelated_cores(after),
        failure=load.failure,
    )


async def _sleep(load: Load, seconds: float) -> None:
    """Sleep, but no longer than until something fails."""
    try:
        await asyncio.wait_for(load.drained.wait(), seconds)
    except TimeoutError:
        return


if __name__ == "__main__":
    given = Plan.from_json(sys.argv[1])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(asdict(runner.run(run(given)))))
