from __future__ import annotations

import pytest

from ray_mesh.quota import PAUSE_S, Grant, QuotaBook, lead_s
from ray_mesh.rendezvous import owner

START = 1_000_000.0


def settled(instance: str = "a", members: tuple[str, ...] = ("a",)) -> tuple[QuotaBook, float]:
    """A book that may grant, at the start of a minute."""
    book = QuotaBook(instance, START)
    now = START
    while now < START + 100:
        now += 1.0
        book.observe(members, now)
    return book, now


def ask(book: QuotaBook, now: float, demand: int = 1, requests: int = 5, proxy: str = "p1") -> Grant:
    book.validate()
    return book.grant("default/limit", requests, 60, demand, proxy, now)


def test_grants_end_at_the_limit() -> None:
    book, now = settled()
    assert [ask(book, now).granted for _ in range(7)] == [1, 1, 1, 1, 1, 0, 0]


def test_an_exhausted_window_says_when_to_ask_again() -> None:
    book, now = settled()
    while ask(book, now).granted:
        pass
    grant = ask(book, now)
    assert (grant.granted, grant.error) == (0, "")
    assert grant.retry_in_s == pytest.approx(grant.expires_in_s - lead_s(60))
    assert (now + grant.expires_in_s) % 60 == pytest.approx(0.0)


def test_a_new_window_grants_again() -> None:
    book, now = settled()
    while ask(book, now).granted:
        pass
    expires_at = now + ask(book, now).expires_in_s
    while now < expires_at:
        now = min(now + 1.0, expires_at)
        book.observe({"a"}, now)
    assert ask(book, now).granted == 1


def test_the_next_window_is_granted_ahead() -> None:
    book, now = settled()
    ends_at = now + ask(book, now).expires_in_s
    while now < ends_at - lead_s(60) / 2:
        now = min(now + 1.0, ends_at - lead_s(60) / 2)
        book.observe({"a"}, now)
    assert now + ask(book, now).expires_in_s == pytest.approx(ends_at + 60)


def test_a_book_that_just_started_waits_for_its_next_window() -> None:
    book = QuotaBook("a", START)
    grant = ask(book, START)
    assert grant.granted == 0
    assert "took default/limit over" in grant.error


def test_the_owner_of_another_limit_grants_nothing() -> None:
    members = ("a", "b")
    loser = next(member for member in members if member != owner("default/limit", members))
    book, now = settled(loser, members)
    assert "does not own" in ask(book, now).error


def test_an_owner_that_took_over_waits_for_the_next_window() -> None:
    members = ("a", "b")
    heir = next(member for member in members if member != owner("default/limit", members))
    book, now = settled(heir, members)
    book.observe({heir}, now)
    first = ask(book, now)
    assert (first.granted, bool(first.error)) == (0, True)
    ready_at = now + first.retry_in_s + 0.01
    while now < ready_at:
        now = min(now + 1.0, ready_at)
        book.observe({heir}, now)
    assert ask(book, now).granted == 1


@pytest.mark.parametrize("step", [PAUSE_S + 0.1, -1.0])
def test_a_pause_or_a_clock_that_steps_back_is_a_takeover(step: float) -> None:
    book, now = settled()
    assert ask(book, now).granted == 1
    assert ask(book, now + step).error


def test_an_owner_that_was_cut_off_from_the_broker_begins_as_after_a_start() -> None:
    book, now = settled()
    assert ask(book, now).granted == 1
    book.hear_again(now)
    assert "took default/limit over" in ask(book, now).error


def test_proxies_share_by_what_they_want() -> None:
    book, now = settled()
    first = ask(book, now, demand=90, requests=100, proxy="p1").granted
    second = ask(book, now, demand=90, requests=100, proxy="p2").granted
    assert first == 90
    assert second == 5
    next_window = now + 60
    while now < next_window:
        now += 1.0
        book.observe({"a"}, now)
    assert ask(book, now, demand=90, requests=100, proxy="p1").granted == 50
    assert ask(book, now, demand=90, requests=100, proxy="p2").granted == 25


@pytest.mark.parametrize(("requests", "per_s", "demand"), [(0, 60, 1), (5, 0, 1), (5, 60, 0), (5, 3600, 1)])
def test_questions_without_sense_are_errors(requests: int, per_s: int, demand: int) -> None:
    book, now = settled()
    assert book.grant("default/limit", requests, per_s, demand, "p1", now).error
