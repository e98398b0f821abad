"""Questions: from the command line, over the API and back."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from ray_mesh.errors import ConfigError, PeerError
from ray_mesh.explain.answer import Explanation, Ground, Note, Share, Step, Verdict, read_explanation
from ray_mesh.explain.question import Caller, ask, read_question, write_question

WEB = Caller(workload="default/web-v1")


@pytest.mark.parametrize(
    ("caller", "url", "method", "headers"),
    [
        (WEB, "http://reviews:9080/a?b=c", "GET", [("End-User", " jason ")]),
        (WEB, "reviews", "DELETE", []),
        (WEB, "mysql:3306", "CONNECT", []),
        (Caller(gateway="default/edge"), "https://127.0.0.1:443/x", "GET", [("host", "shop.com")]),
        (Caller(labels=(("app", "web"),), namespace="prod", account="me"), "http://a/", "GET", []),
    ],
)
def test_a_question_survives_the_api(
    caller: Caller, url: str, method: str, headers: list[tuple[str, str]]
) -> None:
    question = ask(caller, url, method, headers, client_ip="198.51.100.7", sni="A.com")
    body = json.loads(json.dumps(write_question(question, url)))
    assert read_question(body) == question


def test_what_is_left_out_has_its_default() -> None:
    question = read_question({"url": "http://reviews?x", "caller": {"workload": "web"}})
    assert (question.method, question.authority, question.target, question.port) == (
        "GET",
        "reviews",
        "/?x",
        0,
    )
    assert str(question) == "GET http://reviews/?x"


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"url": 1},
        {"url": "http://a/", "calller": {}},
        {"url": "http://a/", "caller": {"workload": 1}},
        {"url": "http://a/", "caller": {"labels": {"a": 1}}},
        {"url": "http://a/", "headers": {"a": "b"}},
        {"url": "http://a/", "headers": [["a"]]},
        {"url": "http://a/", "headers": [["a b", "c"]]},
        {"url": "http://a/", "method": "G T"},
    ],
)
def test_what_is_no_question_is_refused(body: Any) -> None:
    with pytest.raises(ConfigError):
        read_question(body)


def test_an_answer_survives_the_api() -> None:
    ground = Ground("service.default.a", "spec", "a.yaml:1:1")
    step = Step("host", "a is a", ground, (Note("not b", ground),), True)
    verdict = Verdict("refused", "no", 502, "NR", "no_route", ground)
    share = Share("a", "v1", 80, 100.0, ("default/a",), (step,), verdict)
    told = Explanation(
        "GET http://a/", "workload a", "mesh.local/a", verdict, (step,), (share,), ("assumed",)
    )
    assert read_explanation(json.loads(json.dumps(asdict(told)))) == told
    with pytest.raises(PeerError, match="without 'verdict'"):
        read_explanation({"request": "", "source": "", "principal": ""})
