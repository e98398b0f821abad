"""The first at once, the next ones together."""

from __future__ import annotations

from itertools import pairwise

from ray_mesh.actors.pacing import LEAST_GAP_S, MOST_GAP_S, MOST_KEYS, MOST_PAUSE_S, Gaps, Passes, Pieces


def test_a_pass_is_followed_by_as_long_a_rest_but_not_too_long() -> None:
    passes = Passes()
    assert passes.is_due(10.0)
    passes.worked(0.02)
    passes.worked(0.03)
    passes.end(10.05)
    assert not passes.is_due(10.09)
    assert passes.is_due(10.11)
    passes.worked(60.0)
    passes.end(80.0)
    assert passes.is_due(80.0 + MOST_PAUSE_S)


def test_gaps_grow_while_it_goes_on_and_begin_anew_after_a_pause() -> None:
    gaps, now, sent = Gaps(), 100.0, []
    while now < 102.0:
        if gaps.is_due(now):
            gaps.sent(now)
            sent.append(now)
        now += 0.001
    distances = [later - earlier for earlier, later in pairwise(sent)]
    assert distances[0] < 3 * LEAST_GAP_S
    assert max(distances) < MOST_GAP_S + 0.002
    assert MOST_GAP_S - 0.002 < distances[-1] < MOST_GAP_S + 0.002
    now += 1.0
    assert gaps.is_due(now)
    gaps.sent(now)
    assert gaps.is_due(now + LEAST_GAP_S)


def test_pieces_get_smaller_when_they_take_long_and_larger_again() -> None:
    pieces = Pieces()
    for _ in range(20):
        pieces.took(3.0)
    assert pieces.size == 1
    pieces.took(0.1)
    assert pieces.size == 1
    for _ in range(20):
        pieces.took(0.01)
    assert pieces.size == MOST_KEYS
