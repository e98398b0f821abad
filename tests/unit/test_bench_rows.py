from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "bench"))

import bench_load
from bench_cpu import Sample
from bench_rows import Figure, Round, Row, figure, render_json, table


def row(ours: float, theirs: float, calm: int = 5) -> Row:
    figures = [Figure(value, value - 1, 6, calm) for value in (ours, theirs)]
    return Row("case", "us", figures[0], "peer", figures[1], bar=0.8)


def test_json_has_the_documented_shape() -> None:
    (only,) = json.loads(render_json([row(20.0, 40.0)]))
    assert only == {
        "case": "case",
        "value": 20.0,
        "unit": "us",
        "peer": "peer",
        "peer_value": 40.0,
        "ratio": 0.5,
        "bar": 0.8,
        "met": True,
    }


@pytest.mark.parametrize(("ours", "met"), [(32.0, True), (32.1, False)])
def test_the_bar_itself_is_met(ours: float, met: bool) -> None:
    assert row(ours, 40.0).is_met is met


def test_what_stands_beside_is_in_both_forms() -> None:
    others = (("relay", Figure(10.0, 9.0, 5, 5)),)
    wide = replace(row(20.0, 40.0), beside=others)
    assert json.loads(render_json([wide]))[0]["relay"] == 10.0
    assert "relay 10.0" in table([row(20.0, 40.0), wide]).splitlines()[2]


def test_the_table_has_a_line_for_each_row() -> None:
    lines = table([row(20.0, 40.0), row(39.0, 40.0)]).splitlines()
    assert len(lines) == 3
    assert lines[1].split()[-1] == "yes"
    assert lines[2].split()[-1] == "NO"


def test_a_busy_machine_is_told() -> None:
    assert "1+1 of 6+6 rounds were calm" in table([row(20.0, 40.0, calm=1)])


def test_only_calm_rounds_count() -> None:
    calm = [Round(value, 0.05) for value in (20.0, 21.0, 22.0)]
    assert figure([*calm, Round(90.0, 1.2)]) == Figure(21.0, 20.0, 4, 3)


def test_without_calm_rounds_the_calmer_half_counts() -> None:
    rounds = [Round(50.0, 0.9), Round(30.0, 0.3), Round(31.0, 0.4), Round(80.0, 1.0)]
    assert figure(rounds) == Figure(30.5, 30.0, 4, 0)


def test_what_others_used_is_what_is_left_over() -> None:
    before = Sample(10.0, 5.0, {1: 0, 2: 0})
    after = Sample(12.0, 8.5, {1: 2_000_000_000, 2: 1_000_000_000})
    assert before.unrelated_cores(after) == 0.25


def test_requests_differ_only_when_asked_to() -> None:
    plan = bench_load.Plan(port=1, fields=[("host", "reviews")], varies=True, proxies=[1])
    load = bench_load.Load(plan)
    first, second = load.next_request(load.head(0)), load.next_request(load.head(0))
    assert first != second
    assert first.startswith(b"GET /reviews/0 HTTP/1.1\r\nhost: reviews\r\ntraceparent: 00-")
    assert first.endswith(b"-01\r\n\r\n")
