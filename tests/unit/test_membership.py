"""Who is alive, by heartbeats."""

from __future__ import annotations

from ray_mesh.membership import LEASE_S, Membership


def test_an_instance_lives_as_long_as_it_is_heard() -> None:
    members = Membership()
    members.heard("a", 0.0)
    assert members.live(LEASE_S - 0.1) == ("a",)
    assert members.live(LEASE_S) == ()


def test_a_farewell_ends_an_instance_at_once() -> None:
    members = Membership(always="me")
    members.heard("a", 0.0)
    members.heard("a", 0.1, leaving=True)
    assert members.live(0.2) == ("me",)


def test_oneself_never_expires_and_the_answer_is_sorted() -> None:
    members = Membership(always="m")
    members.heard("z", 0.0)
    members.heard("a", 0.0)
    assert members.live(0.1) == ("a", "m", "z")
    assert members.live(100.0) == ("m",)
