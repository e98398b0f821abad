"""What is remembered of finished requests: series for telemetry, the newest requests for people."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Literal

from ray_mesh.proxy.pipeline import Request
from ray_mesh.proxy.tcp_connection import TcpConnection
from ray_mesh.telemetry.series import Edge
from ray_mesh.telemetry.table import SeriesTable

RECORDS = 512
RECORDED_PER_S = 20
_GONE = "client_gone"


@dataclass(frozen=True, slots=True)
class AccessRecord:
    """One finished request. ``started_at`` is wall clock; sizes are those of the bodies.

    Phases are in seconds since the head came, None where a phase was not reached: ``decided_s`` it was
    known where it goes, ``connected_s`` a connection was made (none when one was at hand),
    ``first_byte_s`` the response began, ``duration_s`` its end. ``reason`` and ``message`` are those of
    an answer made here. ``grpc_status`` is empty for what was no gRPC call. ``cluster`` is
    ``host|subset|port``; ``policy`` is the authorization policy that decided.
    """

    edge: Edge
    started_at: float
    decided_s: float | None
    connected_s: float | None
    first_byte_s: float | None
    duration_s: float
    method: str
    host: str
    path: str
    request_bytes: int
    response_bytes: int
    attempts: int
    request_id: str
    traceparent: str
    user_agent: str
    trace_id: str
    route: str
    cluster: str
    upstream: str
    protocol: str
    status: int
    grpc_status: str
    flags: str
    reason: str
    message: str
    principal: str
    policy: str


class Flaws:
    """What came and was no request: all is counted, and at most ``RECORDED_PER_S`` of a second are
    recorded, so that who sends nothing else does not push the requests out of the journal."""

    def __init__(self) -> None:
        self.count = 0
        self._second = 0
        self._recorded = 0

    def admits(self, now: float) -> bool:
        """Count one; whether it may be recorded."""
        self.count += 1
        if int(now) != self._second:
            self._second, self._recorded = int(now), 0
        self._recorded += 1
        return self._recorded <= RECORDED_PER_S


class Journal:
    """The series of a plane and a ring of its newest requests."""

    def __init__(self) -> None:
        self.series = SeriesTable()
        self.flaws = Flaws()
        self._ring: deque[tuple[Request | TcpConnection, Edge]] = deque(maxlen=RECORDS)
        self.keep = self._ring.append

    def records(self) -> tuple[AccessRecord, ...]:
        """The newest requests, oldest first."""
        offset_s = time.time() - time.monotonic()
        return tuple(
            _record(each, edge, offset_s) if isinstance(each, Request) else _connection(each, edge, offset_s)
            for each, edge in self._ring
        )


def _record(request: Request, edge: Edge, offset_s: float) -> AccessRecord:
    member = request.member
    agent = request.header(b"user-agent") or b""
    cluster = request.cluster
    reply = request.reply
    ends_s = request.duration_s if request.responded else None
    return AccessRecord(
        edge=edge,
        started_at=request.started_at + offset_s,
        decided_s=_since(request, request.decided_at),
        connected_s=_since(request, request.connected_at),
        first_byte_s=_since(request, request.first_byte_at) or ends_s,
        duration_s=request.duration_s,
        method=request.method.decode("latin-1"),
        host=request.host.decode("latin-1"),
        path=(request.asked or request.path + request.query).decode("latin-1"),
        request_bytes=request.request_bytes,
        response_bytes=request.response_bytes,
        attempts=request.attempts,
        request_id=request.request_id.decode("latin-1"),
        traceparent=request.traceparent.decode("latin-1"),
        user_agent=agent.decode("latin-1"),
        trace_id=request.traceparent[3:35].decode("latin-1"),
        route=edge.route,
        cluster=f"{cluster.destination.host}|{cluster.subset}|{cluster.port}" if cluster is not None else "",
        upstream=f"{member.endpoint.address}:{member.endpoint.port}" if member is not None else "",
        protocol=edge.protocol,
        status=edge.code,
        grpc_status=edge.grpc_status,
        flags=edge.flags,
        reason=reply.reason if reply is not None else _GONE if "DC" in edge.flags.split(",") else "",
        message=reply.message if reply is not None else "",
        principal=edge.source_principal,
        policy=request.policy,
    )


def _connection(connection: TcpConnection, edge: Edge, offset_s: float) -> AccessRecord:
    """A TCP connection: CONNECT of what was asked for, to the bytes of both directions."""
    member = connection.member
    reply = connection.reply
    return AccessRecord(
        edge=edge,
        started_at=connection.started_at + offset_s,
        decided_s=None,
        connected_s=connection.opened_at - connection.started_at if connection.opened_at else None,
        first_byte_s=None,
        duration_s=connection.duration_s,
        method="CONNECT",
        host=connection.host,
        path="",
        request_bytes=connection.request_bytes,
        response_bytes=connection.response_bytes,
        attempts=connection.attempts,
        request_id="",
        traceparent="",
        user_agent="",
        trace_id="",
        route=edge.route,
        cluster="",
        upstream=f"{member.endpoint.address}:{member.endpoint.port}" if member is not None else "",
        protocol=edge.protocol,
        status=edge.code,
        grpc_status=edge.grpc_status,
        flags=edge.flags,
        reason=reply.reason if reply is not None else "",
        message=reply.message if reply is not None else "",
        principal=edge.source_principal,
        policy=connection.policy,
    )


def _since(request: Request, at: float) -> float | None:
    return at - request.started_at if at else None


def security_of(request: Request | TcpConnection) -> Literal["mutual_tls", "none", "unknown"]:
    """The security of the hop out, as an :class:`Edge` says it."""
    if request.security == "mutual_tls":
        return "mutual_tls"
    return "none" if request.security == "none" else "unknown"
