"""The broker away, and back with or without its store: traffic goes on, and no change is lost."""

from __future__ import annotations

import shutil
import time
from functools import partial
from pathlib import Path

import pytest
from damage import (
    RECOVERED_WITHIN_S,
    Case,
    teach,
    told,
    under_traffic,
    without_broker,
)
from mesh_site import Site, eventually

from ray_mesh.errors import Unavailable

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: admitted-before}
spec: {selector: {app: nobody}, ports: [{name: http, port: 80}]}
"""


@pytest.fixture
def site(breakable: Site) -> Site:
    return breakable


def change_is_applied(site: Site, case: Case) -> int:
    """Wait until the mesh takes a change and every proxy has it; returns its revision."""
    revision = eventually(lambda: site.touch(), timeout_s=RECOVERED_WITHIN_S)
    case.note("change_taken_s")
    site.mesh.wait(revision, timeout_s=RECOVERED_WITHIN_S)
    case.note("change_applied_s")
    return revision


def check_that_people_are_told(site: Site) -> None:
    problems = eventually(lambda: site.mesh.status().problems)
    assert any("no connection to the broker" in one and "changes wait" in one for one in problems), problems
    with pytest.raises(Unavailable, match="no connection to the broker"):
        site.mesh.proxies()
    with pytest.raises(Unavailable, match="the broker is away"):
        site.mesh.apply(SERVICE)


def outage(site: Site, seconds: float, *, is_store_lost: bool) -> None:
    teach(site)
    before = site.apply(SERVICE)
    copy = Path(site.running.state.state_dir, "desired.export")
    eventually(lambda: b"admitted-before" in copy.read_bytes())
    objects = {(one.kind, one.namespace, one.name) for one in site.mesh.list()}
    began_at = time.time()
    lose = partial(shutil.rmtree, Path(site.running.state.state_dir, "broker", "store"))
    name = f"broker away for {seconds:g} s{', its store lost' if is_store_lost else ''}"
    with under_traffic(site, name) as case:
        with without_broker(site, before=lose if is_store_lost else lambda: None):
            check_that_people_are_told(site)
            eventually(lambda: time.monotonic() - case.began_at > seconds, timeout_s=seconds + 15.0)
        case.began_at = time.monotonic()
        assert change_is_applied(site, case) > before
        assert {(one.kind, one.namespace, one.name) for one in site.mesh.list()} >= objects
        site.remove("Service", "admitted-before")
        case.more_requests(100)
    assert not case.tally.failures, case.tally.problems
    eventually(
        lambda: told(site, "broker_unavailable", began_at) and told(site, "broker_reconnected", began_at)
    )
    if is_store_lost:
        restored = eventually(lambda: told(site, "desired_state_restored", began_at))
        assert restored is not None
        assert "may have to be applied again" in restored.message
    else:
        assert told(site, "desired_state_restored", began_at) is None
    eventually(lambda: not site.mesh.status().problems)


def test_a_broker_away_for_longer_than_any_lease_and_its_store_lost_fails_no_request(site: Site) -> None:
    outage(site, 8.0, is_store_lost=True)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("is_store_lost", [False, True])
def test_a_broker_away_for_a_minute_fails_no_request(site: Site, is_store_lost: bool) -> None:
    outage(site, 60.0, is_store_lost=is_store_lost)
