"""Load for ``make bench-http2``: ``h2load`` for requests, a client of our own for messages of streams.

h2load (Debian: ``nghttp2-client``) is quick enough to leave the processor of the load generator to the
application, too. Run as a program this is the client of our own: it takes :class:`Chats` as JSON and prints
a :class:`bench_load.Outcome` as JSON.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import uvloop
from bench_cpu import Sample
from bench_load import STARVED_S, Outcome
from http2_upstream import CHAT, CONNECTION_WINDOW, MESSAGE
from ngh2 import Configuration, Connection, DataReceived, Header, Role, StreamClosed, StreamReset

_DONE = re.compile(r"^requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored", re.MULTILINE)
_GOOD = re.compile(r"^status codes: (\d+) 2xx", re.MULTILINE)
_FINISHED = re.compile(r"^finished in ([0-9.]+)(us|ms|s),", re.MULTILINE)
_TRAFFIC = re.compile(r"^traffic: .* \((\d+)\) data$", re.MULTILINE)
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class Requests:
    """What h2load sends: so many requests, ``streams`` at a time on each connection. With a ``body`` they
    are POSTs."""

    path: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    connections: int = 32
    streams: int = 1
    body: bytes = b""


def find() -> str:
    """The path of h2load.

    Raises:
        SystemExit: it is not installed.
    """
    path = shutil.which("h2load")
    if path is None:
        raise SystemExit("the bench of HTTP/2 needs h2load (Debian: apt install nghttp2-client)")
    return path


def send(
    requests: Requests,
    count: int,
    port: int,
    fields: list[tuple[str, str]],
    pids: tuple[list[int], list[int]],
    core: int,
    folder: Path,
) -> Outcome:
    """Send ``count`` requests, all of which are measured. ``pids`` are proxies, and others of the bench.

    Raises:
        RuntimeError: not every request was answered 2xx.
    """
    command = [find(), "-n", str(count), "-c", str(requests.connections), "-m", str(requests.streams)]
    if requests.body:
        path = folder / f"body-{len(requests.body)}"
        path.write_bytes(requests.body)
        command += ["-d", str(path)]
    for name, value in [*requests.fields, *fields]:
        command += ["-H", f"{name}: {value}"]
    proxies, others = pids
    before = Sample.take([*proxies, *others])
    told, own_s = _run([*command, f"http://127.0.0.1:{port}{requests.path}"], core)
    after = Sample.take([*proxies, *others])
    done, good, finished = _DONE.search(told), _GOOD.search(told), _FINISHED.search(told)
    if done is None or good is None or finished is None or int(good[1]) != count or int(done[1]) != count:
        raise RuntimeError(f"port {port}: {_why(told)}")
    seconds = float(finished[1]) * _SECONDS[finished[2]]
    traffic = _TRAFFIC.search(told)
    took_s = after.at - before.at
    return Outcome(
        sent=count,
        requests=count,
        body_bytes=(int(traffic[1]) if traffic else 0) + count * len(requests.body),
        seconds=seconds,
        cpu_ns=sum(after.cpu_ns[pid] - before.cpu_ns[pid] for pid in proxies),
        unrelated_cores=max(0.0, before.unrelated_cores(after) - own_s / took_s),
    )


def _why(told: str) -> str:
    """The lines that say what failed."""
    return " ".join(line for line in told.splitlines() if line.startswith(("requests", "status")))


def _run(command: list[str], core: int) -> tuple[str, float]:
    """What a program prints, and the CPU seconds that it took."""

    def prepare() -> None:
        os.sched_setaffinity(0, {core})
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=prepare
    ) as child:
        assert child.stdout is not None
        told = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    return told, usage.ru_utime + usage.ru_stime


@dataclass(frozen=True, slots=True)
class Chats:
    """Streams of gRPC, on each of which a message is sent once the one before has come back."""

    port: int
    fields: list[tuple[str, str]]
    proxies: list[int]
    others: list[int] = field(default_factory=list)
    connections: int = 4
    streams: int = 8
    warmup_s: float = 0.3
    seconds: float = 1.5


class Load:
    """What all connections share."""

    def __init__(self, plan: Chats) -> None:
        self.plan = plan
        self.answered = 0
        self.open = 0
        self.is_stopping = False
        self.failure = ""
        self.ended = asyncio.Event()

    def fail(self, why: str) -> None:
        """Remember the first failure and stop."""
        self.failure = self.failure or why
        self.ended.set()


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._connection = Connection(Role.CLIENT, Configuration())
        self._partial: dict[int, int] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        connection = self._connection
        connection.initiate_connection()
        connection.set_local_window_size(CONNECTION_WINDOW)
        for _ in range(self._load.plan.streams):
            stream_id = connection.send_request(chat_head(self._load.plan.fields))
            connection.send_data(stream_id, MESSAGE)
            self._partial[stream_id] = 0
            self._load.open += 1
        self._write()

    def data_received(self, data: bytes) -> None:
        self._connection.receive_data(data)
        for event in self._connection.events():
            if isinstance(event, DataReceived):
                self._take(event)
            elif isinstance(event, StreamClosed):
                self._close(event)
            elif isinstance(event, StreamReset):
                self._load.fail(f"a stream was reset with {event.error_code}")
        self._write()

    def connection_lost(self, error: Exception | None) -> None:
        if self._partial:
            self._load.fail(f"connection lost: {error}")

    def _take(self, event: DataReceived) -> None:
        load, stream_id = self._load, event.stream_id
        received = self._partial[stream_id] + len(event.data)
        if received < len(MESSAGE):
            self._partial[stream_id] = received
            return
        self._partial[stream_id] = 0
        load.answered += 1
        if load.is_stopping:
            self._connection.end_stream(stream_id)
        else:
            self._connection.send_data(stream_id, MESSAGE)

    def _close(self, event: StreamClosed) -> None:
        del self._partial[event.stream_id]
        self._load.open -= 1
        if not self._load.is_stopping or event.error_code:
            self._load.fail(f"a stream ended early, with {event.error_code}")
        if not self._load.open:
            self._load.ended.set()

    def _write(self) -> None:
        if written := self._connection.data_to_send():
            self._transport.write(written)


def chat_head(fields: list[tuple[str, str]]) -> list[Header]:
    """The head of a stream; ``fields`` may replace ``:authority``."""
    given = {name.encode(): value.encode() for name, value in fields}
    pseudo = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": CHAT,
        b":authority": b"reviews",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
    }
    return list((pseudo | given).items())


async def run(plan: Chats) -> Outcome:
    """Warm up, measure, end all streams."""
    load = Load(plan)
    loop = asyncio.get_running_loop()
    for _ in range(plan.connections):
        await loop.create_connection(lambda: Client(load), "127.0.0.1", plan.port)
    await _sleep(load, plan.warmup_s)
    pids = [*plan.proxies, *plan.others, os.getpid()]
    before, answered_before = Sample.take(pids), load.answered
    await _sleep(load, plan.seconds)
    while load.answered == answered_before and not load.failure and time.monotonic() < before.at + STARVED_S:
        await _sleep(load, plan.seconds)
    answered, after = load.answered, Sample.take(pids)
    load.is_stopping = True
    try:
        await asyncio.wait_for(load.ended.wait(), 10)
    except TimeoutError:
        load.fail(f"{load.open} streams did not end")
    return Outcome(
        sent=plan.connections * plan.streams,
        requests=answered - answered_before,
        body_bytes=0,
        seconds=after.at - before.at,
        cpu_ns=sum(after.cpu_ns[pid] - before.cpu_ns[pid] for pid in plan.proxies),
        unrelated_cores=before.unrelated_cores(after),
        failure=load.failure,
    )


async def _sleep(load: Load, seconds: float) -> None:
    try:
        await asyncio.wait_for(load.ended.wait(), seconds)
    except TimeoutError:
        return


if __name__ == "__main__":
    raw: dict[str, Any] = json.loads(sys.argv[1])
    raw["fields"] = [(name, value) for name, value in raw["fields"]]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(asdict(runner.run(run(Chats(**raw))))))
