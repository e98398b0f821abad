"""The clock of a machine is set two hours ahead under traffic: every Python process of the mesh sees the
new time at once (a preloaded library). Ray's C++ code and nats-server keep to the clock of the kernel."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from damage import RECOVERED_WITHIN_S, events, is_whole, under_traffic
from mesh_site import Site, eventually
from own_mesh import own_mesh

COMPILER = shutil.which("cc")
JUMP_S = 7200
"""Ahead; tests/unit/test_agent_identity.py has a clock that is set back, too."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        COMPILER is None, reason="the clock is set by a preloaded library: needs a C compiler"
    ),
]


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    file = tmp_path / "clock"
    file.write_text("0")
    return file


@pytest.fixture
def machine(clock: Path, tmp_path: Path) -> Iterator[Site]:
    """A mesh whose clock is off by the seconds in the file ``clock``."""
    library = tmp_path / "set_clock.so"
    source = Path(__file__).with_name("set_clock.c")
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
    with own_mesh(env={"LD_PRELOAD": str(library), "SET_CLOCK_FILE": str(clock)}) as site:
        yield site


def test_a_clock_that_jumps_costs_a_moment_and_people_are_told(machine: Site, clock: Path) -> None:
    before = {one.proxy: one.svid_expires_at for one in machine.mesh.proxies()}
    with under_traffic(machine, "clock set 2 hours ahead") as case:
        clock.write_text(str(JUMP_S))
        eventually(lambda: jumped_proxies(machine) == set(before), timeout_s=RECOVERED_WITHIN_S)
        case.note("told_s")
        eventually(lambda: is_whole(case), timeout_s=RECOVERED_WITHIN_S)
        case.note("whole_s")
        revision = eventually(lambda: machine.touch(), timeout_s=RECOVERED_WITHIN_S)
        machine.mesh.wait(revision, timeout_s=RECOVERED_WITHIN_S)
        case.note("change_applied_s")
        case.more_requests(100)
    for one in machine.mesh.proxies():
        assert abs(one.svid_expires_at - before[one.proxy] - JUMP_S) < 1800.0


def jumped_proxies(site: Site) -> set[str]:
    """The proxies that told of the jump."""
    told = [one for one in events(site) if one.reason == "clock_jumped"]
    return {one.source.partition(".")[2] for one in told}
