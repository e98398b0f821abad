"""What is measured: one record per edge (who calls whom, how it ended), kept as cumulative totals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ray_mesh import codec


@dataclass(frozen=True, slots=True)
class Edge:
    """The labels of one series: who calls whom, how it ended, as seen by ``reporter``.

    ``protocol`` is ``http``, ``grpc`` or ``tcp``; a TCP connection has ``code`` 0. ``grpc_status`` is the
    number with which a call ended, as its caller saw it, and empty for others; ``code`` is beside it the
    status of HTTP, for answers of this reporter the one that they would have had there.

    Workload fields are ``<namespace>/<workload name>``, empty when unknown. ``security`` is
    ``mutual_tls`` only when this reporter verified the peer's identity after the handshake.
    """

    reporter: Literal["source", "destination"]
    source_workload: str
    source_app: str
    source_version: str
    source_principal: str
    destination_service: str
    destination_workload: str
    destination_app: str
    destination_version: str
    destination_principal: str
    route: str
    protocol: str
    code: int
    flags: str
    security: Literal["mutual_tls", "none", "unknown"]
    grpc_status: str = codec.later("")


@dataclass(frozen=True, slots=True)
class Histogram:
    """An exponential histogram (OpenTelemetry base-2 layout): bucket ``i`` counts
    ``base**i < x <= base**(i+1)`` with ``base = 2**(2**-scale)``. Values are seconds."""

    scale: int
    zeros: int
    counts: tuple[tuple[int, int], ...]
    total: float
    smallest: float
    largest: float


@dataclass(frozen=True, slots=True)
class Series:
    """Cumulative totals of one edge since the proxy's epoch.

    Of TCP, ``requests`` are connections that were closed and ``opened`` those that were opened.
    """

    edge: Edge
    requests: int
    request_bytes: int
    response_bytes: int
    duration: Histogram
    opened: int = codec.later(0)
