"""What the demo says about a run, and how it draws."""

from __future__ import annotations

import io
import json

import pytest

from ray_mesh.demo.load import Tally, View
from ray_mesh.demo.outcome import Outcome
from ray_mesh.demo.screen import Screen
from ray_mesh.telemetry.graph import GraphEdge


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def edge(source: str, destination: str, requests: int, mtls: float) -> GraphEdge:
    return GraphEdge(
        reporter="source",
        source=source,
        source_app="",
        source_version="",
        service=f"{destination}.default.svc.cluster.local",
        destination=destination,
        destination_app="",
        destination_version="v1",
        protocol="http",
        requests=requests,
        rps=1.0,
        error_ratio=0.0,
        cancelled=0,
        p50_ms=1.0,
        p90_ms=1.0,
        p99_ms=1.0,
        codes={"200": requests},
        flags={},
        mtls=mtls,
    )


def outcome(*edges: GraphEdge, problem: str = "") -> Outcome:
    tally = Tally()
    tally.add(View("v2", problem))
    return Outcome(tally=tally, edges=edges)


def test_users_outside_the_mesh_do_not_count_against_mutual_tls() -> None:
    run = outcome(edge("", "default/ingress", 100, 0.0), edge("default/a", "default/b", 10, 1.0))
    assert run.mtls == 1.0
    assert run.is_good


def test_one_request_in_plain_is_enough_to_fail() -> None:
    run = outcome(edge("default/a", "default/b", 999_999, 1.0), edge("default/b", "default/c", 1, 0.0))
    assert 0.99 < run.mtls < 1.0
    assert not run.is_good


@pytest.mark.parametrize(
    "run",
    [
        Outcome(edges=(edge("default/a", "default/b", 1, 1.0),)),
        outcome(),
        outcome(edge("default/a", "default/b", 1, 1.0), problem="status 503"),
    ],
    ids=["no views", "no telemetry", "a failure"],
)
def test_nothing_shown_is_nothing_proved(run: Outcome) -> None:
    assert not run.is_good


def test_the_report_is_json_with_all_that_was_counted() -> None:
    report = json.loads(json.dumps(outcome(edge("default/a", "default/b", 1, 1.0)).to_json()))
    assert report["requests"] == 1
    assert report["failures"] == 0
    assert report["reviews_split"] == {"v2": 1}
    assert report["mtls"] == 1.0
    assert [(each["source"], each["destination"]) for each in report["edges"]] == [("default/a", "default/b")]


def test_the_summary_names_the_shares_of_the_reviews() -> None:
    run = outcome(problem="status 503")
    run.tally.add(View("v3", ""))
    assert run.summary() == "2 page views, 1 failed, reviews v2 50%, v3 50%"
    assert Outcome().summary() == "0 page views, 0 failed, reviews -"


def test_a_terminal_is_redrawn_in_place_and_cut_to_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    monkeypatch.setenv("LINES", "4")
    terminal = Terminal()
    screen = Screen(terminal)
    screen.draw("one", "a much longer line\nb\nc\nd")
    assert terminal.getvalue() == "one\na much lo\nb\n"
    screen.draw("two", "")
    screen.say("stays")
    screen.finish("end")
    assert terminal.getvalue().removeprefix("one\na much lo\nb\n") == (
        "\x1b[3F\x1b[Jtwo\n\x1b[1F\x1b[Jstays\nend\n"
    )


def test_a_file_gets_plain_lines() -> None:
    stream = io.StringIO()
    screen = Screen(stream)
    screen.draw("one", "table")
    screen.draw("two", "table")
    screen.finish("end")
    assert stream.getvalue() == "one\ntwo\nend\n"
