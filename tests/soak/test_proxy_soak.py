"""A short soak; `make soak` is the long one."""

from __future__ import annotations

from soak_run import soak

SECONDS = 10.0


async def test_nothing_is_lost_or_corrupted_and_nothing_leaks() -> None:
    report = await soak(SECONDS, seed=1)
    assert report["lost"] == {}
    assert report["leaks"] == {}
    assert report["outcomes"]["steady: ok"] > 100
    assert report["outcomes"]["steady-tcp: ok"] > 3
    assert report["outcomes"]["steady-plain: ok"] > 3
    assert report["outcomes"]["trouble: change"] > 10
