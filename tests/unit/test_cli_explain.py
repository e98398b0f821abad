"""What ``ray-mesh config explain`` prints of files, and with which code it exits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from ray_mesh.cli import exits
from ray_mesh.cli.main import run
from ray_mesh.explain.answer import read_explanation

BOOKINFO = Path(__file__).parents[2] / "configs" / "bookinfo"
FILES = [
    part
    for name in ("services", "destination-rules", "reviews-jason-v2", "authorization")
    for part in ("-f", str(BOOKINFO / f"{name}.yaml"))
]
FROM = ["--from-labels", "app=productpage,version=v1", "--from-account", "bookinfo-productpage"]
ASK = ["config", "explain", *FROM]
PAGE = (
    "GET http://reviews:9080/reviews/0\n"
    "from a workload of namespace default with app=productpage,version=v1 "
    "(mesh.local/ns/default/sa/bookinfo-productpage)\n\n"
    "FORWARDED  forwarded to reviews.default.svc.cluster.local subset v1\n\n"
    "  listener             outbound listener of the caller (127.0.0.1:15001)\n"
    "  host                 reviews is reviews.default.svc.cluster.local, "
    "Service default/reviews with port 9080 (http)"
)


def test_the_page_is_short_and_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*ASK, "http://reviews:9080/reviews/0", "-H", "end-user: bob", *FILES, "--offline"]) == 0
    page = capsys.readouterr().out
    assert page.startswith(PAGE)
    lines = page.splitlines()
    route = next(line for line in lines if line.startswith("  route"))
    assert route.endswith("reviews-jason-v2.yaml:15:7 spec.http[1]")
    reason = lines[lines.index(route) + 1]
    assert reason.startswith(
        " " * 23 + "- not VirtualService default/reviews spec.http[0] (testers): header end-user"
    )
    assert reason.endswith("reviews-jason-v2.yaml:12:13 spec.http[0].match[0].headers.end-user")
    assert "100% to reviews.default.svc.cluster.local subset v1 port 9080: forwarded" in lines


def test_a_refusal_is_marked_and_has_its_own_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*ASK, "POST", "http://reviews:9080/", *FILES]) == exits.REFUSED == 80
    page = capsys.readouterr().out
    assert "\nREFUSED 403 UAEX  RBAC: access of mesh.local/ns/default/sa/bookinfo-productpage" in page
    assert "\n  ! authorization        denied: no ALLOW policy matches" in page


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_programs_get_the_same_values_and_code(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*ASK, "POST", "http://reviews:9080/", *FILES, "-o", form]) == exits.REFUSED
    text = capsys.readouterr().out
    told = read_explanation(json.loads(text) if form == "json" else yaml.safe_load(text))
    assert told.verdict.flag == "UAEX"
    assert told.shares[0].steps[-1].ground.where == f"{BOOKINFO}/authorization.yaml:7:1"


@pytest.mark.parametrize(
    "wrong",
    [
        ["http://reviews:9080/", "--offline", *FROM],
        ["http://reviews:9080/", "--assume-services", *FROM],
        ["http://reviews:9080/", *FILES],
        ["http://reviews:9080/", "--from", "a", *FROM, *FILES],
        ["GET", "http://reviews:9080/", "again", *FROM, *FILES],
        ["http://reviews:9080/", "-H", "no colon", *FROM, *FILES],
        ["http://reviews:9080/", "--from-labels", "no-value", *FILES],
    ],
)
def test_wrong_usage_is_told(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["config", "explain", *wrong]) == exits.USAGE
    assert capsys.readouterr().err


def test_a_caller_that_no_file_has_is_not_found(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: web}\n")
    caller = ["--from", "default/nobody", "-f", str(tmp_path)]
    assert run(["config", "explain", *caller, "http://reviews/", *FILES]) == 3
    assert (
        "default/nobody does not exist; workloads here: default/web; or say its labels"
        in capsys.readouterr().err
    )
