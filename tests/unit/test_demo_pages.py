"""What Bookinfo's page shows, and what the load generator reads back from it."""

from __future__ import annotations

from typing import Any

import pytest

from ray_mesh.demo import load, pages
from ray_mesh.demo.bookinfo import INSTANCES, make_app
from ray_mesh.demo.reviews import NO_RATINGS
from ray_mesh.errors import ConfigError

DETAILS = (200, {"id": 0, "author": "William Shakespeare", "version": "v1"})


def reviews(**rating: Any) -> tuple[int, dict[str, Any]]:
    review: dict[str, Any] = {"reviewer": "Reviewer1", "text": "Fine."}
    if rating:
        review["rating"] = rating
    return 200, {"podname": "reviews-v2", "version": "v2", "reviews": [review]}


def test_a_whole_page_is_a_success_with_its_reviews_version() -> None:
    page = pages.product_page(DETAILS, reviews(stars=4, color="black"), "")
    assert page.count("\u2605") == 4
    assert load.read_page(200, page) == load.View("v2", "")


def test_recommendations_are_there_where_somebody_was_asked() -> None:
    answer = (200, {"version": "v2", "titles": ["<Twelfth> Night"]})
    page = pages.product_page(DETAILS, reviews(), "", answer)
    assert '<section id="recommendations" data-version="v2">' in page
    assert "<li>&lt;Twelfth&gt; Night</li>" in page
    assert load.read_page(200, page).problem == ""
    failed = pages.product_page(DETAILS, reviews(), "", (503, {"error": "UNAVAILABLE: <no>"}))
    assert load.read_page(200, failed).problem == pages.RECOMMENDATIONS_ERROR
    assert "UNAVAILABLE: &lt;no&gt;" in failed
    assert "recommendations" not in pages.product_page(DETAILS, reviews(), "")


@pytest.mark.parametrize(
    ("details", "answered", "problem"),
    [
        ((503, {"error": "Sorry"}), reviews(), pages.DETAILS_ERROR),
        (DETAILS, (503, {"error": "Sorry"}), pages.REVIEWS_ERROR),
        (DETAILS, reviews(error=NO_RATINGS), NO_RATINGS),
    ],
)
def test_a_page_with_a_part_missing_is_a_failure(
    details: tuple[int, dict[str, Any]], answered: tuple[int, dict[str, Any]], problem: str
) -> None:
    assert load.read_page(200, pages.product_page(details, answered, "")).problem == problem


def test_any_status_but_200_is_a_failure_that_quotes_the_body() -> None:
    view = load.read_page(503, '{"flag": "NR"}')
    assert view == load.View("", 'status 503: {"flag": "NR"}')


def test_what_a_service_says_cannot_become_markup() -> None:
    hostile = "<script>alert(1)</script>"
    body = {"podname": hostile, "version": hostile, "reviews": [{"reviewer": hostile, "text": hostile}]}
    page = pages.product_page((200, {hostile: hostile}), (200, body), hostile)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_a_tally_counts_and_keeps_few_causes() -> None:
    tally = load.Tally()
    tally.add(load.View("v1", ""))
    tally.add(load.View("v1", pages.DETAILS_ERROR))
    for number in range(2 * load.MOST_REASONS):
        tally.add(load.View("", f"cause {number}"))
    assert (tally.requests, tally.failures) == (2 + 2 * load.MOST_REASONS, 1 + 2 * load.MOST_REASONS)
    assert tally.reviews_split == {"v1": 2}
    assert len(tally.problems) == load.MOST_REASONS + 1
    assert sum(tally.problems.values()) == tally.failures


async def test_every_instance_of_bookinfo_can_be_made() -> None:
    for instance in INSTANCES:
        assert make_app(instance.service, instance.version)
    assert len({instance.name for instance in INSTANCES}) == len(INSTANCES)


def test_an_unknown_instance_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no reviews-v9; it has ratings-v1, details-v1"):
        make_app("reviews", "v9")
