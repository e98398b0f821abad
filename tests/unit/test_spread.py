"""Who takes a new connection."""

from __future__ import annotations

import random

import pytest

from ray_mesh.proxy.spread import better_place


@pytest.mark.parametrize(
    ("own", "others", "place"),
    [
        (0, {}, None),
        (5, {}, None),
        (0, {"a": 0, "b": 0}, None),
        (1, {"a": 0}, "a"),
        (1, {"a": 1, "b": 2}, None),
        (2, {"a": 1, "b": 0}, "b"),
        (81, {"a": 80}, None),
        (90, {"a": 80}, None),
        (91, {"a": 80}, "a"),
    ],
)
def test_the_least_loaded_takes_it_unless_the_difference_is_small(
    own: int, others: dict[str, int], place: str | None
) -> None:
    assert better_place(own, others) == place


@pytest.mark.parametrize(("workers", "connections"), [(8, 10), (2, 3), (3, 100), (8, 1000)])
def test_wherever_the_kernel_puts_connections_they_end_up_even(workers: int, connections: int) -> None:
    kernel = random.Random(1)
    loads = [0] * workers
    for _ in range(connections):
        accepted_by = kernel.randrange(workers)
        others = {each: load for each, load in enumerate(loads) if each != accepted_by}
        place = better_place(loads[accepted_by], others)
        loads[accepted_by if place is None else place] += 1
    mean = connections / workers
    assert max(loads) <= -(-connections // workers) + mean / 8
