"""What a served application should be."""

from __future__ import annotations

import pytest

from ray_mesh.workload.plan import count_of


@pytest.mark.parametrize(
    ("names", "count"),
    [
        ([], 0),
        (["kept-v1-0"], 1),
        (["kept-v1-0", "kept-v1-2"], 3),
        (["kept-v1-0", "kept-v1-x", "kept-v1", "kept-v10-7", "other-v1-9", "kept-v1-1-5"], 1),
    ],
)
def test_how_many_copies_there_were(names: list[str], count: int) -> None:
    assert count_of("kept-v1", names) == count
