"""What the admin endpoint of a plane shows. Tokens, keys and what looks like them are left out."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from ray_mesh.proxy.admin import JSON, TEXT, Gather, Page
from ray_mesh.proxy.cluster import Destination
from ray_mesh.proxy.journal import AccessRecord
from ray_mesh.proxy.stats import PlaneStats
from ray_mesh.snapshot import NamedMatch, Resource
from ray_mesh.telemetry.series import Series
from ray_mesh.telemetry.table import SeriesTable

HIDDEN = "(hidden)"
_SECRET = re.compile(r"token|secret|passw|credential|private|authorization|cookie|api-?key|(^|_)key", re.I)


class Shown(Protocol):
    """A plane, as far as it is shown."""

    @property
    def series(self) -> SeriesTable: ...
    def why_unready(self) -> str: ...
    def stats(self) -> PlaneStats: ...
    def resources(self) -> dict[str, Resource]: ...
    def destinations(self) -> tuple[Destination, ...]: ...
    def access_records(self) -> tuple[AccessRecord, ...]: ...


def pages_of(plane: Shown) -> dict[str, Page]:
    """The pages of a plane by path."""

    def healthz() -> tuple[int, functools.partial[str]]:
        return 200, functools.partial(str, "ok\n")

    def readyz() -> tuple[int, functools.partial[str]]:
        reason = plane.why_unready()
        return 503 if reason else 200, functools.partial(
            str, f"not ready: {reason}\n" if reason else "ready\n"
        )

    gathered: dict[str, tuple[str, Gather]] = {
        "/healthz": (TEXT, healthz),
        "/readyz": (TEXT, readyz),
        "/stats": (TEXT, lambda: (200, functools.partial(_stats, plane.stats()))),
        "/stats/prometheus": (
            TEXT,
            lambda: (200, functools.partial(_prometheus, plane.stats(), plane.series.totals())),
        ),
        "/config_dump": (JSON, lambda: (200, functools.partial(_config, plane.resources()))),
        "/clusters": (JSON, lambda: (200, functools.partial(_json, _clusters(plane.destinations())))),
        "/records": (JSON, lambda: (200, functools.partial(_records, plane.access_records()))),
    }
    return {path: Page(content_type, gather) for path, (content_type, gather) in gathered.items()}


def _numbers(stats: PlaneStats) -> dict[str, float]:
    names = [field.name for field in dataclasses.fields(stats) if field.name != "events"]
    return {name: getattr(stats, name) for name in names}


def _stats(stats: PlaneStats) -> str:
    lines = [f"{name}: {value:g}" for name, value in _numbers(stats).items()]
    lines += [f"events.{reason}: {count}" for reason, count in sorted(stats.events.items())]
    return "\n".join(lines) + "\n"


def _prometheus(stats: PlaneStats, series: Iterable[Series]) -> str:
    from ray_mesh.proxy.scrape import exposition  # most proxies are never asked, and it is not small

    return exposition(_numbers(stats), stats.events, series)


def _config(resources: dict[str, Resource]) -> str:
    return _json({key: plain(resources[key]) for key in sorted(resources)})


def plain(value: Any, name: str = "") -> Any:
    """A resource as JSON has it, without its secrets: bytes, and values under names of secrets."""
    if isinstance(value, bytes) or (
        isinstance(value, str) and (_SECRET.search(name) or "PRIVATE KEY" in value)
    ):
        return HIDDEN
    if isinstance(value, NamedMatch) and _SECRET.search(value.name):
        return {"name": value.name, "match": HIDDEN}
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return {field.name: plain(getattr(value, field.name), field.name) for field in fields}
    if isinstance(value, Mapping):
        return {str(key): plain(item, str(key)) for key, item in value.items()}
    if isinstance(value, tuple | list | frozenset):
        if len(value) == 2 and all(isinstance(item, str) for item in value):
            first, second = value
            return [first, plain(second, first)]
        return [plain(item, name) for item in value]
    return value


def _clusters(destinations: tuple[Destination, ...]) -> list[dict[str, Any]]:
    now = time.monotonic()
    return [
        {
            "host": destination.host,
            "subset": cluster.subset,
            "port": cluster.port,
            "members": [
                {
                    "workload": member.workload,
                    "address": f"{member.endpoint.address}:{member.endpoint.port}",
                    "active": member.active,
                    "failures": member.failures,
                    "ejected_for_s": round(max(member.ejected_until - now, 0.0), 1),
                    "available": member in cluster.available,
                }
                for member in cluster.members
            ],
        }
        for destination in destinations
        for cluster in destination.clusters
    ]


def _records(records: tuple[AccessRecord, ...]) -> str:
    """Without queries, which may hold what is nobody's business."""
    shown = []
    for record in records:
        fields = dataclasses.asdict(record)
        del fields["edge"]
        shown.append(fields | {"path": record.path.partition("?")[0]})
    return _json(shown)


def _json(value: object) -> str:
    return json.dumps(value, indent=1) + "\n"
