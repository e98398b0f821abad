"""The service graph in the hands of a person: text, HTML in a notebook, JSON, pandas."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from ray_mesh.sdk.answers import read, read_many
from ray_mesh.telemetry import graph as telemetry
from ray_mesh.telemetry.graph import GraphEdge, Node

if TYPE_CHECKING:
    from pandas import DataFrame

_NUMBERS = ("RPS", "errors", "p50 ms", "p90 ms", "p99 ms", "mTLS")
_NAMES = ("from", "service", "to", "version")
_CELL = "padding:2px 10px;text-align:{align};{extra}"


@dataclass(frozen=True, slots=True)
class _Outer:
    seconds: float
    missing: tuple[str, ...]


class Graph:
    """Who called whom over ``seconds``. ``missing`` names telemetry collectors that did not answer: the
    traffic of their proxies is not in here."""

    def __init__(
        self, seconds: float, nodes: Iterable[Node], edges: Iterable[GraphEdge], missing: Iterable[str] = ()
    ) -> None:
        self.seconds = seconds
        self.nodes = tuple(nodes)
        self.edges = tuple(edges)
        self.missing = tuple(missing)

    @classmethod
    def from_json(cls, plain: Any) -> Graph:
        """From what the API or :meth:`to_json` made.

        Raises:
            PeerError: it is something else.
        """
        outer = read(_Outer, plain)
        return cls(
            outer.seconds,
            read_many(Node, plain["nodes"]),
            read_many(GraphEdge, plain["edges"]),
            outer.missing,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain maps and lists, ready for a JSON encoder."""
        return {**self._telemetry.to_json(), "missing": list(self.missing)}

    def to_text(self) -> str:
        """A table for a terminal, busiest edges first; empty without traffic."""
        return self._telemetry.to_text() if self.edges else ""

    def to_pandas(self) -> DataFrame:
        """One row per edge, with the fields of :class:`GraphEdge`. Needs pandas (``ray-mesh[notebook]``)."""
        import pandas

        columns = list(GraphEdge.__dataclass_fields__)
        return pandas.DataFrame(self.to_json()["edges"], columns=columns)

    def _repr_html_(self) -> str:
        busiest = sorted(self.edges, key=lambda edge: -edge.requests)
        head = "".join(_cell("th", name, "left") for name in _NAMES)
        head += "".join(_cell("th", name, "right") for name in _NUMBERS)
        body = "".join(f"<tr>{_row(edge)}</tr>" for edge in busiest)
        note = f"{len(self.edges)} edges over {self.seconds:.0f} s"
        if self.missing:
            note += f"; no answer from {', '.join(self.missing)}"
        return (
            f"<table><caption>{escape(note)}</caption>"
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )

    def __repr__(self) -> str:
        return f"<Graph of {len(self.edges)} edges over {self.seconds:.0f} s>"

    @property
    def _telemetry(self) -> telemetry.Graph:
        return telemetry.Graph(self.seconds, self.nodes, self.edges)


def _row(edge: GraphEdge) -> str:
    service = edge.service.split(".svc.", 1)[0]
    names = (edge.source or "unknown", service, edge.destination or "nobody", edge.destination_version)
    numbers = (
        f"{edge.rps:.1f}",
        f"{edge.error_ratio:.1%}",
        f"{edge.p50_ms:.1f}",
        f"{edge.p90_ms:.1f}",
        f"{edge.p99_ms:.1f}",
        f"{edge.mtls:.0%}",
    )
    failing = "color:#b00020;" if edge.error_ratio > 0 else ""
    return "".join(_cell("td", name, "left") for name in names) + "".join(
        _cell("td", number, "right", failing if column == 1 else "") for column, number in enumerate(numbers)
    )


def _cell(tag: str, text: str, align: str, extra: str = "") -> str:
    return f'<{tag} style="{_CELL.format(align=align, extra=extra)}">{escape(text)}</{tag}>'
