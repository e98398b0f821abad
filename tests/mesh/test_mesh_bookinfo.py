"""Istio's own Bookinfo files do on this mesh what Istio documents for them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mesh_site import Site, eventually

from ray_mesh.errors import ConfigError

CONFORMANCE = Path(
    os.environ.get("RAY_MESH_CONFORMANCE", Path(__file__).parents[3] / "shared" / "conformance")
)
FILES = CONFORMANCE / "bookinfo"

pytestmark = pytest.mark.skipif(not FILES.is_dir(), reason=f"no conformance files in {CONFORMANCE}")

REFUSED = {
    "certmanager-gateway.yaml": "port",
    "egress-rule-google-apis.yaml": "not supported yet",
    "virtual-service-ratings-db.yaml": "subset",
    "virtual-service-ratings-mysql.yaml": "v2-mysql",
    "virtual-service-ratings-mysql-vm.yaml": "v2-mysql-vm",
}


@pytest.fixture
def routed(site: Site) -> Iterator[Site]:
    """The subsets of Istio's sample are there; afterwards no VirtualService but the ingress's is."""
    site.apply((FILES / "destination-rule-all.yaml").read_text())
    yield site
    for document in site.mesh.list("VirtualService"):
        if document.name != "bookinfo":
            site.remove("VirtualService", document.name)


def apply(site: Site, name: str) -> None:
    site.apply((FILES / name).read_text())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("virtual-service-all-v1.yaml", {"v1": 1.0}),
        ("virtual-service-reviews-v3.yaml", {"v3": 1.0}),
        ("virtual-service-reviews-80-20.yaml", {"v1": 0.8, "v2": 0.2}),
        ("virtual-service-reviews-90-10.yaml", {"v1": 0.9, "v2": 0.1}),
        ("virtual-service-reviews-50-v3.yaml", {"v1": 0.5, "v3": 0.5}),
        ("virtual-service-reviews-v2-v3.yaml", {"v2": 0.5, "v3": 0.5}),
    ],
)
def test_reviews_are_split_as_the_weights_say(routed: Site, name: str, expected: dict[str, float]) -> None:
    apply(routed, name)
    views = 200 if len(expected) > 1 else 40
    split = routed.split(views=views)
    total = sum(split.values())
    assert set(split) == set(expected)
    for version, share in expected.items():
        # 4.5 standard deviations of a binomial: a false alarm once in 100,000 runs.
        spread = 4.5 * (share * (1 - share) / total) ** 0.5
        assert abs(split[version] / total - share) <= spread, dict(split)


@pytest.mark.parametrize(
    ("name", "others"),
    [("virtual-service-reviews-test-v2.yaml", "v1"), ("virtual-service-reviews-jason-v2-v3.yaml", "v3")],
)
def test_jason_sees_v2_and_everybody_else_does_not(routed: Site, name: str, others: str) -> None:
    apply(routed, name)
    assert set(routed.split("jason", views=30)) == {"v2"}
    assert set(routed.split("", views=30)) == {others}


def test_a_change_is_in_the_traffic_as_soon_as_wait_returns(routed: Site) -> None:
    for version in ("v3", "v1", "v3", "v1"):
        name = "virtual-service-all-v1.yaml" if version == "v1" else "virtual-service-reviews-v3.yaml"
        apply(routed, name)
        assert set(routed.split(views=10)) == {version}


def test_ratings_abort_fails_for_jason_only(routed: Site) -> None:
    apply(routed, "virtual-service-reviews-test-v2.yaml")
    apply(routed, "virtual-service-ratings-test-abort.yaml")
    assert "Ratings service is currently unavailable" in routed.page("jason")
    routed.apply((FILES / "virtual-service-reviews-v3.yaml").read_text())  # v3 asks ratings for everybody
    assert "Ratings service is currently unavailable" not in routed.page("")


def test_ratings_delay_holds_jason_only(routed: Site) -> None:
    apply(routed, "virtual-service-reviews-test-v2.yaml")
    apply(routed, "virtual-service-ratings-test-delay.yaml")
    began_at = time.monotonic()
    # The page gives reviews 3 s and one more try, as Istio's does, so a delay of 7 s costs it 6 s.
    assert "Error fetching product reviews" in routed.page("jason")
    assert 5.5 <= time.monotonic() - began_at <= 9.0
    began_at = time.monotonic()
    routed.page("")
    assert time.monotonic() - began_at < 2.0


def test_details_abort_shows_as_555(routed: Site) -> None:
    apply(routed, "fault-injection-details-v1.yaml")
    assert "Error fetching product details" in routed.page("")
    eventually(
        lambda: [
            edge
            for edge in routed.mesh.graph(10.0).edges
            if edge.service.startswith("details.") and edge.codes.get("555")
        ]
    )


def test_details_v2_answers_when_it_is_asked_for(routed: Site) -> None:
    apply(routed, "virtual-service-details-v2.yaml")
    routed.page("")
    eventually(
        lambda: [
            edge
            for edge in routed.mesh.graph(5.0).edges
            if edge.service.startswith("details.") and edge.destination_version == "v2" and edge.requests
        ]
    )


@pytest.mark.parametrize("name", ["destination-rule-all-mtls.yaml", "destination-rule-reviews.yaml"])
def test_destination_rules_are_honoured(routed: Site, name: str) -> None:
    apply(routed, name)
    assert sum(routed.split(views=30).values()) > 0


def test_the_gateway_of_the_sample_opens_the_ingress(routed: Site) -> None:
    apply(routed, "bookinfo-gateway.yaml")
    assert "Comedy of Errors" in routed.page("")
    assert routed.get("/nothing-here")[0] == 404


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_this_mesh_cannot_do_is_refused_by_name(routed: Site, name: str) -> None:
    before = routed.mesh.list()
    with pytest.raises(ConfigError, match=REFUSED[name]):
        apply(routed, name)
    assert routed.mesh.list() == before


def test_every_file_of_the_sample_is_covered_here() -> None:
    text = Path(__file__).read_text()
    assert [path.name for path in FILES.glob("*.yaml") if path.name not in text] == []
