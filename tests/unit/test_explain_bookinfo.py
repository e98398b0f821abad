"""Samples of Istio, each explained from its file alone: which route takes a request, and where it stands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ray_mesh.explain.answer import Explanation
from ray_mesh.explain.explaining import explain
from ray_mesh.explain.offline import assumed_world, read_files
from ray_mesh.explain.question import Caller, ask

CONFORMANCE = os.environ.get("RAY_MESH_CONFORMANCE", Path(__file__).parents[3] / "shared" / "conformance")
ROOT = Path(CONFORMANCE) / "bookinfo"
WEB = Caller(labels=(("app", "productpage"),), account="bookinfo-productpage")
JASON = {"end-user": "jason"}

pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason=f"no conformance files in {ROOT}")


def told(name: str, url: str, headers: dict[str, str], caller: Caller = WEB) -> Explanation:
    """What the samples say of a request: a file, and the rules with the subsets."""
    names = ("destination-rule-all.yaml", f"{name}.yaml")
    files = read_files([(one, (ROOT / one).read_text()) for one in names])
    world, assumed = assumed_world(files, {}, caller, services=True, port=9080)
    question = ask(caller, url, headers=list(headers.items()))
    return explain(world, question, doubts=files.doubts, warnings=assumed)


@pytest.mark.parametrize(
    ("name", "url", "headers", "line", "shares"),
    [
        ("virtual-service-all-v1", "http://reviews:9080/", {}, 22, [("v1", 100)]),
        ("virtual-service-reviews-80-20", "http://reviews:9080/", {}, 9, [("v1", 80), ("v2", 20)]),
        ("virtual-service-reviews-90-10", "http://reviews:9080/", {}, 9, [("v1", 90), ("v2", 10)]),
        ("virtual-service-reviews-50-v3", "http://reviews:9080/", {}, 9, [("v1", 50), ("v3", 50)]),
        ("virtual-service-reviews-jason-v2-v3", "http://reviews:9080/", JASON, 9, [("v2", 100)]),
        ("virtual-service-reviews-jason-v2-v3", "http://reviews:9080/", {}, 17, [("v3", 100)]),
        ("virtual-service-reviews-test-v2", "http://reviews:9080/", {}, 17, [("v1", 100)]),
        ("virtual-service-details-v2", "http://details:9080/", {}, 9, [("v2", 100)]),
        ("virtual-service-ratings-test-delay", "http://ratings:9080/", JASON, 9, [("v1", 100)]),
        ("virtual-service-ratings-test-abort", "http://ratings:9080/", JASON, 9, []),
    ],
)
def test_the_route_and_its_line(
    name: str, url: str, headers: dict[str, str], line: int, shares: list[tuple[str, int]]
) -> None:
    found = told(name, url, headers)
    route = next(one for one in found.steps if one.stage == "route")
    assert route.ground.where.startswith(f"{name}.yaml:{line}:"), route
    assert [(one.subset, one.percent) for one in found.shares] == shares
    assert found.verdict.outcome == ("forwarded" if shares else "refused")


def test_the_gateway_of_the_samples() -> None:
    edge = Caller(gateway="default/bookinfo-gateway")
    found = told("bookinfo-gateway", "http://bookinfo.com/productpage", {}, edge)
    assert found.verdict.outcome == "forwarded"
    assert "no ingress workload is selected by Gateway default/bookinfo-gateway" in found.warnings[-1]
    assert told("bookinfo-gateway", "http://bookinfo.com/other", {}, edge).verdict.status == 404
