"""What makes the figures comparable: that each side did all it is said to do while it was measured."""

from __future__ import annotations

import json
import socket
import ssl
import time

from bench_load import head
from bench_process import ask
from proxy_lab import Target

HOST = [("host", "reviews"), ("user-agent", "bench"), ("accept", "*/*")]
LOG_S = 15.0
"""Envoy writes its log every 10 s, or when 64 KiB are full."""


def request(target: Target, path: str, fields: list[tuple[str, str]]) -> tuple[int, str]:
    """One request on a connection of its own: status, and head with body of the answer."""
    with socket.create_connection(("127.0.0.1", target.port), 10) as plain:
        connection: socket.socket | ssl.SSLSocket = plain
        if target.tls is not None:
            connection = target.tls.context().wrap_socket(plain, server_hostname=target.tls.sni)
        with connection:
            connection.sendall(head(path, [*fields, ("connection", "close")]) + b"\r\n")
            received = b"".join(iter(lambda: connection.recv(65536), b""))
    return int(received[9:12]), received.decode("latin-1")


def served(target: Target) -> int:
    """How many requests a target of ours says it served; each of its planes must say the same."""
    counts = {json.loads(ask(plane, "totals"))["served"] for plane in target.planes}
    assert len(counts) == 1, f"the planes of one target counted {counts}"
    return int(counts.pop())


def tunnelled(target: Target) -> int:
    """How many tunnels went through all planes of a target."""
    return min(int(json.loads(ask(plane, "totals"))["tunnels"]) for plane in target.planes)


def check_counted(target: Target, before: int, sent: int) -> None:
    """Telemetry of ours has counted each request once."""
    target.answered += sent
    if target.planes and not target.tunnel:
        now = served(target)
        assert now == before + sent, f"{now - before} requests counted, {sent} sent"


def check_features(target: Target) -> None:
    """Trace and request id reach the application, a denial denies, what should be logged is logged."""
    is_ours = bool(target.planes)
    if target.tunnel:
        assert tunnelled(target) > 0, "telemetry counted no tunnel"
        return
    status, answer = request(target, "/head", [*HOST, *target.fields])
    seen = answer.lower()
    assert status == 200, answer
    assert "x-request-id: " in seen, f"no request id reached the application: {answer}"
    assert "proxy-authorization" not in seen, "the token reached the application"
    if is_ours:
        assert "traceparent: 00-" in seen, f"no trace context reached the application: {answer}"
        _check_denial(target)
    elif len(target.pids) == 2 or target.tls is not None:
        status, answer = request(target, "/admin/users", HOST)
        assert status == 403, f"a request that policy denies was answered {status}: {answer}"
    for log in target.logs:
        _wait_for_log(target, log.stat().st_size if log.exists() else 0)


def _check_denial(target: Target) -> None:
    if target.tls is None and len(target.planes) == 1:
        status, answer = request(target, "/reviews/0", HOST)
        assert status == 407, f"a call without the caller's token was answered {status}: {answer}"
        return
    status, answer = request(target, "/admin/users", [*HOST, *target.fields])
    assert status == 403, f"a request that policy denies was answered {status}: {answer}"
    assert "default/no-admin" in answer, f"the denial does not name its policy: {answer}"
    assert json.loads(ask(target.planes[-1], "totals"))["denied"] > 0, "the denial was not counted"


def _wait_for_log(target: Target, size: int) -> None:
    deadline = time.monotonic() + LOG_S
    while not size:
        assert time.monotonic() < deadline, f"{target.name} logged nothing"
        time.sleep(0.1)
        size = sum(log.stat().st_size for log in target.logs if log.exists())
