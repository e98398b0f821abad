"""What a run of the demo came to."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ray_mesh.demo.load import Tally

if TYPE_CHECKING:
    from ray_mesh.telemetry.graph import GraphEdge


@dataclass(slots=True)
class Outcome:
    """Filled in while the demo runs. ``first_request_s`` is the time to the first whole page."""

    urls: dict[str, str] = field(default_factory=dict)
    first_request_s: float = 0.0
    tally: Tally = field(default_factory=Tally)
    edges: tuple[GraphEdge, ...] = ()

    @property
    def mtls(self) -> float:
        """The share of requests between workloads whose handshake both sides verified."""
        between = [edge for edge in self.edges if edge.source and edge.destination]
        requests = sum(edge.requests for edge in between)
        return sum(edge.mtls * edge.requests for edge in between) / requests if requests else 0.0

    @property
    def is_good(self) -> bool:
        """Pages were asked for, none failed, and every request between workloads was mutual TLS."""
        return self.tally.requests > 0 and self.tally.failures == 0 and self.mtls == 1.0

    def to_json(self) -> dict[str, Any]:
        """Plain maps and lists, ready for a JSON encoder."""
        return {
            "requests": self.tally.requests,
            "failures": self.tally.failures,
            "problems": dict(self.tally.problems),
            "mtls": self.mtls,
            "reviews_split": dict(sorted(self.tally.reviews_split.items())),
            "first_request_s": round(self.first_request_s, 2),
            "urls": self.urls,
            "edges": [asdict(edge) for edge in self.edges],
        }

    def summary(self) -> str:
        """One line: views, failures, and which reviews answered."""
        tally = self.tally
        answered = sum(tally.reviews_split.values()) or 1
        split = ", ".join(
            f"{version} {count / answered:.0%}" for version, count in sorted(tally.reviews_split.items())
        )
        return f"{tally.requests} page views, {tally.failures} failed, reviews {split or '-'}"
