"""Compiling configuration: ``python tests/bench/config_compile.py [--rounds N]``.

One shard that owns every key compiles a mesh of 1,000 services with 3 subsets, 5 routes and 3 workloads each,
first from nothing, then after one change at a time. Counted is the CPU of all it does for that: indexing,
finding what is affected, compiling, encoding, signing. No sockets; reading the documents is told beside.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from ray_mesh.actors.routing_state import Shard, Write
from ray_mesh.bus.messages import encode
from ray_mesh.resources import Document, from_json
from ray_mesh.security.signing import SigningKey

SERVICES = 1_000
SUBSETS = ("v1", "v2", "v3")
ROUTES = 5
SCRATCH_BAR_MS, CHANGE_BAR_MS = 2_000.0, 5.0


@dataclass(frozen=True, slots=True)
class Row:
    """One case: the median of so many rounds in milliseconds, the worst of them, and the bar (0: none)."""

    case: str
    median_ms: float
    worst_ms: float
    rounds: int
    bar_ms: float

    @property
    def is_met(self) -> bool:
        """Whether the median is within the bar."""
        return not self.bar_ms or self.median_ms <= self.bar_ms


def run(services: int = SERVICES, rounds: int = 15) -> list[Row]:
    """Measure every case; ``rounds`` changes of each sort."""
    texts = _texts(services)
    begun = time.process_time()
    mesh = [from_json(text, 1.0) for text in texts]
    rows = [Row("documents read", *_of([time.process_time() - begun]), 0.0)]
    scratch: list[float] = []
    for _ in range(3):
        gc.collect()
        bench = _Bench()
        scratch.append(bench.timed(mesh))
    rows.append(Row("from scratch", *_of(scratch), SCRATCH_BAR_MS))
    gc.freeze()
    for name, changed in CHANGES.items():
        spent = [bench.timed([from_json(json.dumps(changed(number)), 2.0)]) for number in range(rounds)]
        rows.append(Row(f"one change: {name}", *_of(spent), CHANGE_BAR_MS))
    gc.unfreeze()
    return rows


def documents(services: int) -> list[Document]:
    """A mesh of so many services and all that belongs to them."""
    return [from_json(text, 1.0) for text in _texts(services)]


def compiled(mesh: Iterable[Document]) -> list[Write]:
    """What the only shard of a mesh writes for its documents."""
    shard = Shard("r1", 0.0, members=("r1",))
    for revision, document in enumerate(mesh, start=1):
        shard.put_document(document.key, document, revision)
    return shard.step(1_000.0)


class _Bench:
    """The only shard of a mesh, without a store."""

    def __init__(self) -> None:
        self._signing = SigningKey.generate()
        self._revision = 0
        self.shard = Shard("r1", 0.0, members=("r1",))

    def timed(self, documents: list[Document]) -> float:
        """CPU seconds from documents to signed bytes of all that they change."""
        begun = time.process_time()
        for document in documents:
            self._revision += 1
            self.shard.put_document(document.key, document, self._revision)
        for write in self.shard.step(1_000.0):
            self._store(write)
        return time.process_time() - begun

    def _store(self, write: Write) -> None:
        self._signing.sign("compiled", encode(write.compiled))
        self._revision += 1
        self.shard.wrote(write, self._revision)


def _of(spent: list[float]) -> tuple[float, float, int]:
    return median(spent) * 1000, max(spent) * 1000, len(spent)


def _manifest(kind: str, name: str, spec: object, labels: dict[str, str] | None = None) -> dict[str, object]:
    metadata = {"name": name, "namespace": "default", "labels": labels or {}}
    return {
        "apiVersion": _VERSIONS.get(kind, "mesh.ray.io/v1"),
        "kind": kind,
        "metadata": metadata,
        "spec": spec,
    }


_VERSIONS = {
    "Service": "v1",
    "VirtualService": "networking.istio.io/v1",
    "DestinationRule": "networking.istio.io/v1",
    "AuthorizationPolicy": "security.istio.io/v1",
}


def _service(number: int, ports: int = 1) -> dict[str, object]:
    listed = [{"port": 9080 + one, "name": f"http-{one}"} for one in range(ports)]
    return _manifest("Service", f"app-{number}", {"selector": {"app": f"app-{number}"}, "ports": listed})


def _rule(number: int, connections: int = 100) -> dict[str, object]:
    subsets = [{"name": one, "labels": {"version": one}} for one in SUBSETS]
    policy = {
        "connectionPool": {"tcp": {"maxConnections": connections}},
        "outlierDetection": {"interval": "5s"},
    }
    return _manifest(
        "DestinationRule",
        f"app-{number}",
        {"host": f"app-{number}", "trafficPolicy": policy, "subsets": subsets},
    )


def _routes(number: int, timeout_s: int = 3) -> dict[str, object]:
    host = f"app-{number}"
    shares = [
        {"destination": {"host": host, "subset": subset}, "weight": weight}
        for subset, weight in zip(SUBSETS, (80, 15, 5), strict=True)
    ]
    rules: list[dict[str, object]] = [
        {
            "match": [{"uri": {"prefix": f"/api/{one}"}, "headers": {"x-user": {"exact": f"u{one}"}}}],
            "timeout": f"{timeout_s}s",
            "retries": {"attempts": 2, "retryOn": "5xx"},
            "route": shares,
        }
        for one in range(ROUTES - 1)
    ]
    rules.append({"route": [{"destination": {"host": host, "subset": "v1"}}]})
    return _manifest("VirtualService", host, {"hosts": [host], "http": rules})


def _workload(number: int, version: str, port: int = 9000) -> dict[str, object]:
    spec = {
        "serviceAccount": f"app-{number}",
        "node": f"n{number % 50}",
        "port": port,
        "outboundPort": 9001,
        "tokenSha256": "ab" * 32,
    }
    return _manifest(
        "Workload", f"app-{number}-{version}", spec, {"app": f"app-{number}", "version": version}
    )


def _policy(number: int, method: str = "GET") -> dict[str, object]:
    rules = [{"to": [{"operation": {"methods": [method]}}]}]
    spec = {"selector": {"matchLabels": {"app": f"app-{number}"}}, "rules": rules}
    return _manifest("AuthorizationPolicy", f"app-{number}", spec)


def _texts(services: int) -> list[str]:
    found: list[dict[str, object]] = []
    for number in range(services):
        found += [_service(number), _rule(number), _routes(number), _policy(number)]
        found += [_workload(number, version) for version in SUBSETS]
    return [json.dumps(one) for one in found]


CHANGES: dict[str, Callable[[int], dict[str, object]]] = {
    "a route": lambda number: _routes(500 + number, 7),
    "a DestinationRule": lambda number: _rule(500 + number, 200),
    "a Service": lambda number: _service(500 + number, 2),
    "a Workload": lambda number: _workload(500 + number, "v2", 9100),
    "an AuthorizationPolicy": lambda number: _policy(500 + number, "POST"),
    "a new Workload": lambda number: _workload(500 + number, "v4"),
}
"""What is changed, by how people name it; the number says in which service."""


def main(arguments: list[str]) -> int:
    """Print the rows; the exit code tells whether every bar was met."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--services", type=int, default=SERVICES)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args(arguments)
    rows = run(options.services, options.rounds)
    for row in rows:
        bar = f"bar {row.bar_ms:.0f}: {'met' if row.is_met else 'NOT MET'}" if row.bar_ms else ""
        print(f"{row.case:32} {row.median_ms:10.2f} ms  worst {row.worst_ms:10.2f} ms  {bar}".rstrip())
    return 0 if all(row.is_met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
