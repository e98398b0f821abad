"""What is remembered of finished requests: series for telemetry, the newest requests for people."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Literal

from ray_mesh.proxy.pipeline import Request
from ray_mesh.telemetry.series import Edge
from ray_mesh.telemetry.table import SeriesTable

RECORDS = 512


@dataclass(frozen=True, slots=True)
class AccessRecord:
    """One finished request. ``started_at`` is wall clock; sizes are those of the bodies."""

    edge: Edge
    started_at: float
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
    upstream: str


class Journal:
    """The series of a plane and a ring of its newest requests."""

    def __init__(self) -> None:
        self.series = SeriesTable()
        self._ring: deque[tuple[Request, Edge]] = deque(maxlen=RECORDS)
        self.keep = self._ring.append

    def records(self) -> tuple[AccessRecord, ...]:
        """The newest requests, oldest first."""
        offset_s = time.time() - time.monotonic()
        return tuple(_record(request, edge, offset_s) for request, edge in self._ring)


def _record(request: Request, edge: Edge, offset_s: float) -> AccessRecord:
    member = request.member
    agent = request.header(b"user-agent") or b""
    return AccessRecord(
        edge=edge,
        started_at=request.started_at + offset_s,
        duration_s=request.duration_s,
        method=request.method.decode("latin-1"),
        host=request.host.decode("latin-1"),
        path=(request.path + request.query).decode("latin-1"),
        request_bytes=request.request_bytes,
        response_bytes=request.response_bytes,
        attempts=request.attempts,
        request_id=request.request_id.decode("latin-1"),
        traceparent=request.traceparent.decode("latin-1"),
        user_agent=agent.decode("latin-1"),
        upstream=f"{member.endpoint.address}:{member.endpoint.port}" if member is not None else "",
    )


def security_of(request: Request) -> Literal["mutual_tls", "none", "unknown"]:
    """The security of the hop out, as an :class:`Edge` says it."""
    if request.security == "mutual_tls":
        return "mutual_tls"
    return "none" if request.security == "none" else "unknown"
