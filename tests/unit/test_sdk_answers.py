"""What the SDK makes of what it is given and answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_mesh import errors
from ray_mesh.errors import ConfigError, MeshError, NotFound, PeerError, Unavailable
from ray_mesh.sdk.answers import Applied, Change, Event, Finding, read, read_applied, read_many
from ray_mesh.sdk.attachment import Ticket
from ray_mesh.sdk.documents import gather
from ray_mesh.sdk.graph import Graph
from ray_mesh.sdk.transport import error_of
from ray_mesh.telemetry.graph import GraphEdge, Node

EDGE = GraphEdge(
    reporter="source",
    source="default/<b>productpage",
    source_app="productpage",
    source_version="v1",
    service="reviews.default.svc.cluster.local",
    destination="default/reviews-v2",
    destination_app="reviews",
    destination_version="v2",
    protocol="http",
    requests=10,
    rps=1.0,
    error_ratio=0.1,
    cancelled=0,
    p50_ms=1.0,
    p90_ms=2.0,
    p99_ms=3.0,
    codes={"200": 9, "503": 1},
    flags={"UF": 1},
    mtls=1.0,
)
GRAPH = Graph(10.0, (Node("service:a", "service", "a"),), (EDGE,), ("t1",))


@pytest.mark.parametrize(
    "kind", [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, MeshError)]
)
def test_each_error_word_raises_its_class(kind: type[MeshError]) -> None:
    error = error_of(kind.status, {"error": kind.reason, "message": "why"})
    assert type(error) is kind
    assert str(error) == "why"


def test_unknown_words_fall_back_to_the_status() -> None:
    assert type(error_of(404, {"error": "brand_new"})) is NotFound
    assert type(error_of(503, {})) is Unavailable
    assert type(error_of(418, {"error": "teapot"})) is MeshError


def test_findings_reach_the_error() -> None:
    error = error_of(422, {"error": "invalid_config", "message": "no", "findings": [{"code": "RM1"}, 7]})
    assert isinstance(error, ConfigError)
    assert error.findings == ({"code": "RM1"},)


def test_reading_ignores_news_and_refuses_gaps() -> None:
    plain = {"kind": "Service", "namespace": "default", "name": "a", "action": "created", "new": 1}
    assert read(Change, plain) == Change("Service", "default", "a", "created")
    with pytest.raises(PeerError, match="without 'at'"):
        read(Event, {})
    with pytest.raises(PeerError, match="Change was expected"):
        read(Change, [])
    with pytest.raises(PeerError, match="list was expected"):
        read_many(Change, {})


def test_read_applied() -> None:
    finding = {"code": "c", "severity": "warning", "key": "k", "path": "p", "message": "m", "fix": "f"}
    change = {"kind": "Service", "namespace": "default", "name": "a", "action": "created"}
    plain = {"revision": 7, "changes": [change], "findings": [finding], "dry_run": False}
    assert read_applied(plain) == Applied(
        7,
        (Change("Service", "default", "a", "created"),),
        (Finding("c", "warning", "k", "p", "m", "f"),),
        False,
    )


def test_gather_takes_text_paths_folders_and_manifests(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("b: 1\n")
    (tmp_path / "a.yml").write_text("a: 1\n")
    (tmp_path / "notes.txt").write_text("no")
    assert [one["name"] for one in gather(tmp_path)] == [str(tmp_path / "a.yml"), str(tmp_path / "b.yaml")]
    assert gather(str(tmp_path / "b.yaml")) == [{"name": str(tmp_path / "b.yaml"), "text": "b: 1\n"}]
    both = gather(["x: 1\n", {"kind": "Service"}])
    assert both == [
        {"name": "text 0", "text": "x: 1\n"},
        {"name": "manifest 1", "text": '{"kind": "Service"}'},
    ]


def test_gather_says_what_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        gather("no-such-file.yaml")
    with pytest.raises(ConfigError, match=r"has no \.yaml"):
        gather(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        gather(tmp_path)


def test_graph_survives_json_and_shows_itself() -> None:
    again = Graph.from_json(GRAPH.to_json())
    assert (again.edges, again.nodes, again.missing) == (GRAPH.edges, GRAPH.nodes, ("t1",))
    html = GRAPH._repr_html_()
    assert "&lt;b&gt;productpage" in html
    assert "<b>" not in html
    assert "no answer from t1" in html
    assert "reviews-v2" in GRAPH.to_text()
    assert Graph(1.0, (), ()).to_text() == ""


def test_graph_to_pandas() -> None:
    frame = GRAPH.to_pandas()
    assert list(frame["destination_version"]) == ["v2"]
    assert frame["p99_ms"].max() == 3.0
    assert len(Graph(1.0, (), ()).to_pandas()) == 0


def test_a_ticket_hides_its_token_and_makes_an_environment() -> None:
    ticket = Ticket("workload.default.a", "default", "a", "n1", "http://a:tok@127.0.0.1:1", 1, {}, 5)
    assert "tok" not in repr(ticket)
    assert ticket.env()["http_proxy"] == ticket.env()["HTTP_PROXY"] == "http://a:tok@127.0.0.1:1"
    assert "127.0.0.1" in ticket.env()["no_proxy"]
