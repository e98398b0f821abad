"""Durations from admission to all proxies."""

from __future__ import annotations

from ray_mesh.gateway.convergence import Convergence


def test_each_change_is_measured_once_when_it_is_applied() -> None:
    convergence = Convergence()
    for revision, at in ((5, 100.0), (6, 100.1), (6, 100.1), (7, 100.2)):
        convergence.admit(revision, at)
    convergence.settle(lambda revision: revision <= 4, 100.3)
    assert convergence.durations.count == 0
    convergence.settle(lambda revision: revision <= 6, 100.5)
    assert convergence.durations.count == 2
    assert abs(convergence.durations.total - 0.9) < 1e-6
    convergence.settle(lambda _: True, 101.2)
    assert convergence.durations.count == 3
    assert convergence.durations.largest == 1.0


def test_of_desired_state_that_was_made_anew_nothing_is_waited_for() -> None:
    convergence = Convergence()
    convergence.admit(500, 100.0)
    convergence.reset()
    convergence.admit(3, 101.0)
    convergence.settle(lambda revision: revision <= 3, 101.5)
    assert convergence.durations.count == 1
