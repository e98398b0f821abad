"""Memory of the proxies: with 10,000 idle connections, and while one side of large bodies does not read."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

from bench_load import head
from bench_rows import MIN_CALM, Figure, Row
from proxy_checks import HOST
from proxy_lab import ENVOY, OURS, Lab, Target

IDLE = 10_000
STREAMS = 8
STALL_S = 1.5
BODY_BYTES = 100_000_000
MB_PER_STREAM = 2.0
"""The bar of the issue: what a stream may hold while one side is slow."""
_BATCH = 200


def measure(lab: Lab) -> list[Row]:
    """All rows; nothing here depends on how calm the machine is."""
    return [
        *_idle(lab),
        _slow(lab, "100 MB response, client does not read", _download),
        _slow(lab, "100 MB POST, application does not read", _upload),
    ]


def resident_mb(target: Target) -> float:
    """Megabytes of memory that belong to the processes of a target."""
    kilobytes = 0
    for pid in target.pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        kilobytes += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kilobytes * 1024 / 1e6


def exact(value: float) -> Figure:
    """A figure that needs no rounds."""
    return Figure(value, value, 1, MIN_CALM)


def _idle(lab: Lab) -> list[Row]:
    totals, each = {}, {}
    for name in (OURS, ENVOY):
        with lab.fresh(name, "plain") as target:
            _serve_once(target, 64)
            before = resident_mb(target)
            connections = _serve_once(target, IDLE)
            totals[name] = resident_mb(target)
            each[name] = (totals[name] - before) * 1e6 / 1024 / IDLE
            for connection in connections:
                connection.close()
    return [
        Row(f"10,000 idle connections, {what}", unit, exact(of[OURS]), ENVOY, exact(of[ENVOY]), 1.0)
        for what, unit, of in (("all memory", "MB", totals), ("each", "KiB", each))
    ]


def _serve_once(target: Target, count: int) -> list[socket.socket]:
    """So many connections, each of which has had one answer."""
    request = head("/reviews/0", [*HOST, *target.fields]) + b"\r\n"
    opened: list[socket.socket] = []
    while len(opened) < count:
        batch = [socket.create_connection(("127.0.0.1", target.port)) for _ in range(min(_BATCH, count))]
        for connection in batch:
            connection.sendall(request)
        for connection in batch:
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200"), answer
        opened += batch
    return opened


def _slow(lab: Lab, case: str, begin: Callable[[Target], socket.socket]) -> Row:
    grown = {}
    for name in (OURS, ENVOY):
        with lab.fresh(name, "plain") as target:
            _serve_once(target, STREAMS)
            before = resident_mb(target)
            connections = [begin(target) for _ in range(STREAMS)]
            time.sleep(STALL_S)
            grown[name] = max(0.01, (resident_mb(target) - before) / STREAMS)
            for connection in connections:
                connection.close()
    beside = ((ENVOY, exact(grown[ENVOY])),)
    return Row(case, "MB/stream", exact(grown[OURS]), "limit", exact(MB_PER_STREAM), 1.0, beside)


def _download(target: Target) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", target.port))
    connection.sendall(head(f"/bytes/{BODY_BYTES}", [*HOST, *target.fields]) + b"\r\n")
    return connection


def _upload(target: Target) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", target.port))
    fields = [*HOST, *target.fields, ("content-length", str(BODY_BYTES))]
    connection.sendall(head("/stall", fields, "POST") + b"\r\n")
    connection.setblocking(False)
    deadline = time.monotonic() + STALL_S / STREAMS
    block = bytes(65536)
    while time.monotonic() < deadline:
        try:
            connection.send(block)
        except BlockingIOError:
            time.sleep(0.01)
    return connection
