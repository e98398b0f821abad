"""The live service graph: who calls which service, who answers, how fast and how well.

An edge that both proxies reported is shown once, by its source: only the caller sees requests that
never arrived, and the latency that the caller felt. The destination's report adds the flags that only
it knows (a denial there is a plain 403 to the caller) and its half of the mTLS proof.

A destination may know its caller by identity only, so reports are paired by workload or by principal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ray_mesh.grpc_status import GrpcStatus
from ray_mesh.telemetry.histogram import ExpHistogram
from ray_mesh.telemetry.merge import merge_series
from ray_mesh.telemetry.series import Edge, Series

CANCELLED_FLAG = "DC"
"""The caller went away before the answer: neither a success nor an error."""


@dataclass(frozen=True, slots=True)
class Node:
    """A workload or a service. ``id`` is ``workload:<ns>/<name>`` or ``service:<host>``."""

    id: str
    kind: Literal["workload", "service"]
    name: str
    app: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class GraphEdge:
    """Requests from one workload to one service that one workload answered (or nobody: empty).

    ``requests`` is what the window holds, ``rps`` the rate. ``error_ratio`` counts 5xx, also those
    made by a proxy, requests without an answer, and calls of gRPC that did not end with OK.
    ``grpc_statuses`` has how many of those ended with which number. ``mtls`` is the share of
    connected requests whose handshake both sides verified, the lesser of the two reports. Latencies are
    milliseconds.
    """

    reporter: Literal["source", "destination"]
    source: str
    source_app: str
    source_version: str
    service: str
    destination: str
    destination_app: str
    destination_version: str
    protocol: str
    requests: int
    rps: float
    error_ratio: float
    cancelled: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    codes: dict[str, int]
    flags: dict[str, int]
    mtls: float
    grpc_statuses: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes and edges, sorted. ``seconds`` is the time that the numbers cover."""

    seconds: float
    nodes: tuple[Node, ...]
    edges: tuple[GraphEdge, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain maps and lists, ready for a JSON encoder."""
        return {
            "seconds": self.seconds,
            "nodes": [asdict(node) for node in self.nodes],
            "edges": [asdict(edge) for edge in self.edges],
        }

    def to_text(self) -> str:
        """A table for a terminal, busiest edges first."""
        if not self.edges:
            return "no traffic in this window"
        busiest = sorted(self.edges, key=lambda edge: -edge.requests)
        rows = [_HEADINGS, *(_row(edge) for edge in busiest)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
        lines = ["  ".join(map(_pad, row, widths, range(len(row)))).rstrip() for row in rows]
        return "\n".join(lines)


_HEADINGS = (
    "SOURCE",
    "SERVICE",
    "DESTINATION",
    "VERSION",
    "RPS",
    "ERR",
    "P50",
    "P90",
    "P99",
    "MTLS",
    "FLAGS",
)
_STATUSES = frozenset(GrpcStatus)
_LEFT_COLUMNS = frozenset({0, 1, 2, 3, 10})


def _row(edge: GraphEdge) -> tuple[str, ...]:
    counts = {_status_name(status): count for status, count in edge.grpc_statuses.items()} | edge.flags
    flags = ",".join(f"{flag}:{count}" for flag, count in counts.items())
    times = (f"{ms:.1f}ms" for ms in (edge.p50_ms, edge.p90_ms, edge.p99_ms))
    names = (edge.source or "unknown", edge.service.split(".svc.", 1)[0], edge.destination or "-")
    rates = (f"{edge.rps:.1f}", f"{edge.error_ratio:.1%}", *times, f"{edge.mtls:.0%}")
    return (*names, edge.destination_version or "-", *rates, flags or "-")


def _status_name(number: str) -> str:
    return GrpcStatus(int(number)).name if number.isdecimal() and int(number) in _STATUSES else number


def _pad(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column in _LEFT_COLUMNS else cell.rjust(width)


@dataclass(frozen=True, slots=True)
class _Ends:
    """What makes two series the same edge of the graph."""

    source: str
    source_app: str
    source_version: str
    source_principal: str
    service: str
    destination: str
    destination_app: str
    destination_version: str
    protocol: str


Group = dict[_Ends, list[Series]]


def build_graph(series: Iterable[Series], seconds: float) -> Graph:
    """The graph of ``series``, which came about in ``seconds``."""
    merged = merge_series(series)
    sources = _group(one for one in merged if one.edge.reporter == "source")
    destinations = _group(one for one in merged if one.edge.reporter == "destination")
    by_workload = _index(destinations, lambda ends: (ends.source, ends.destination))
    by_principal = _index(destinations, lambda ends: (ends.source_principal, ends.destination))
    edges = []
    seen: set[tuple[str, str]] = set()
    for ends, own in sources.items():
        peers = by_workload.get((ends.source, ends.destination), [])
        peers = peers or by_principal.get((ends.source_principal, ends.destination), [])
        seen |= {(ends.source, ends.destination), (ends.source_principal, ends.destination)}
        edges.append(_edge("source", ends, own, _of_service(peers, ends.service), seconds))
    for ends, own in destinations.items():
        if seen.isdisjoint({(ends.source, ends.destination), (ends.source_principal, ends.destination)}):
            edges.append(_edge("destination", ends, own, [], seconds))
    edges.sort(key=lambda edge: (edge.source, edge.service, edge.destination, edge.source_version))
    return Graph(seconds, _nodes(edges), tuple(edges))


def _group(series: Iterable[Series]) -> Group:
    groups: Group = {}
    for one in series:
        groups.setdefault(_ends(one.edge), []).append(one)
    return groups


def _ends(edge: Edge) -> _Ends:
    return _Ends(
        source=edge.source_workload,
        source_app=edge.source_app,
        source_version=edge.source_version,
        source_principal=edge.source_principal,
        service=edge.destination_service,
        destination=edge.destination_workload,
        destination_app=edge.destination_app,
        destination_version=edge.destination_version,
        protocol=edge.protocol,
    )


def _index(groups: Group, key: Callable[[_Ends], tuple[str, str]]) -> dict[tuple[str, str], list[Series]]:
    index: dict[tuple[str, str], list[Series]] = {}
    for ends, series in groups.items():
        if all(key(ends)):
            index.setdefault(key(ends), []).extend(series)
    return index


def _of_service(peers: list[Series], service: str) -> list[Series]:
    """The peers' reports on this service; a destination that could not name it counts as well."""
    return [one for one in peers if one.edge.destination_service in (service, "")]


def _edge(
    reporter: Literal["source", "destination"],
    ends: _Ends,
    own: list[Series],
    peers: list[Series],
    seconds: float,
) -> GraphEdge:
    duration = ExpHistogram()
    for one in own:
        duration.merge(one.duration)
    requests = sum(one.requests for one in own)
    cancelled = sum(one.requests for one in own if CANCELLED_FLAG in flags_of(one.edge))
    errors = sum(one.requests for one in own if is_error(one.edge))
    own_flags, peer_flags = _flags(own), _flags(peers)
    flags = {flag: max(own_flags.get(flag, 0), peer_flags.get(flag, 0)) for flag in own_flags | peer_flags}
    return GraphEdge(
        reporter=reporter,
        source=ends.source,
        source_app=ends.source_app,
        source_version=ends.source_version,
        service=ends.service,
        destination=ends.destination,
        destination_app=ends.destination_app,
        destination_version=ends.destination_version,
        protocol=ends.protocol,
        requests=requests,
        rps=requests / seconds if seconds > 0 else 0.0,
        error_ratio=errors / requests if requests else 0.0,
        cancelled=cancelled,
        p50_ms=duration.quantile(0.5) * 1e3,
        p90_ms=duration.quantile(0.9) * 1e3,
        p99_ms=duration.quantile(0.99) * 1e3,
        codes=_codes(own),
        flags=dict(sorted(flags.items())),
        mtls=min(_verified(own), _verified(peers)),
        grpc_statuses=_grpc_statuses(own),
    )


def flags_of(edge: Edge) -> tuple[str, ...]:
    """The response flags of an edge; none is an empty string or ``-``."""
    return tuple(flag for flag in edge.flags.split(",") if flag and flag != "-")


_ORDERLY = frozenset({CANCELLED_FLAG, "SI", "DT", "DR"})
"""Flags of TCP connections that were ended by their caller, by being idle or old, or by a drain."""


def is_error(edge: Edge) -> bool:
    """Whether requests of this edge failed: 5xx or no answer, of gRPC every status but OK, unless the caller
    went away first. A TCP connection failed when a flag says so, but for those that end one in good order."""
    if edge.protocol == "tcp":
        return not _ORDERLY.issuperset(flags_of(edge))
    has_failed = edge.code >= 500 or edge.code == 0 or edge.grpc_status not in ("", "0")
    return has_failed and CANCELLED_FLAG not in flags_of(edge)


def _codes(series: Iterable[Series]) -> dict[str, int]:
    codes: dict[int, int] = {}
    for one in series:
        codes[one.edge.code] = codes.get(one.edge.code, 0) + one.requests
    return {str(code): codes[code] for code in sorted(codes)}


def _grpc_statuses(series: Iterable[Series]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in series:
        if status := one.edge.grpc_status:
            counts[status] = counts.get(status, 0) + one.requests
    return {status: counts[status] for status in sorted(counts, key=lambda each: (len(each), each))}


def _flags(series: Iterable[Series]) -> dict[str, int]:
    flags: dict[str, int] = {}
    for one in series:
        for flag in flags_of(one.edge):
            flags[flag] = flags.get(flag, 0) + one.requests
    return flags


def _verified(series: list[Series]) -> float:
    """The share of connected requests whose peer this reporter verified; no report proves nothing."""
    connected = sum(max(one.requests, one.opened) for one in series if one.edge.security != "unknown")
    verified = sum(max(one.requests, one.opened) for one in series if one.edge.security == "mutual_tls")
    return verified / connected if connected else 0.0


def _nodes(edges: Iterable[GraphEdge]) -> tuple[Node, ...]:
    nodes: dict[str, Node] = {}
    for edge in edges:
        found = (
            _workload(edge.source, edge.source_app, edge.source_version),
            Node(f"service:{edge.service}", "service", edge.service) if edge.service else None,
            _workload(edge.destination, edge.destination_app, edge.destination_version),
        )
        nodes.update((node.id, node) for node in found if node is not None)
    return tuple(nodes[key] for key in sorted(nodes))


def _workload(name: str, app: str, version: str) -> Node | None:
    return Node(f"workload:{name}", "workload", name, app, version) if name else None
