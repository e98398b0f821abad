"""With traffic flowing, each control role and the broker is killed, one at a time: no request fails, and
each is back. Killing one of two proxies costs its open connections and nothing more."""

from __future__ import annotations

import os
import signal
import time

import pytest
from damage import (
    RECOVERED_WITHIN_S,
    actors,
    all_healthy,
    broker_process,
    is_broker_back,
    replaced,
    replacement_told,
    told,
    under_traffic,
)
from mesh_site import Site, eventually


@pytest.fixture
def site(breakable: Site) -> Site:
    return breakable


@pytest.mark.parametrize("role", ["routing", "policy", "telemetry", "ca", "gateway"])
def test_killing_a_control_role_fails_no_request(site: Site, role: str) -> None:
    eventually(lambda: all_healthy(site, role), timeout_s=RECOVERED_WITHIN_S)
    victim = actors(site, role)[0]
    began_at = time.time()
    with under_traffic(site, f"killed {role}") as case:
        os.kill(victim.pid, signal.SIGKILL)
        eventually(lambda: replaced(site, [victim]), timeout_s=RECOVERED_WITHIN_S)
        case.note("replaced_s")
        case.more_requests()
    assert not case.tally.failures, case.tally.problems
    eventually(lambda: replacement_told(site, [victim], began_at), timeout_s=RECOVERED_WITHIN_S)


def test_killing_the_broker_fails_no_request_and_configuration_goes_on(site: Site) -> None:
    process = broker_process(site)
    assert process is not None
    began_at = time.time()
    with under_traffic(site, "killed broker") as case:
        process.kill()
        eventually(lambda: is_broker_back(site, process.pid), timeout_s=RECOVERED_WITHIN_S)
        case.note("broker_back_s")
        revision = eventually(lambda: site.touch(), timeout_s=RECOVERED_WITHIN_S)
        site.mesh.wait(revision, timeout_s=RECOVERED_WITHIN_S)
        case.note("change_applied_s")
        case.more_requests()
    assert not case.tally.failures, case.tally.problems
    eventually(lambda: told(site, "broker_reconnected", began_at), timeout_s=RECOVERED_WITHIN_S)


def test_killing_one_of_two_proxies_breaks_only_its_open_connections(site: Site) -> None:
    eventually(lambda: all_healthy(site, "proxy"), timeout_s=RECOVERED_WITHIN_S)
    victim = actors(site, "proxy")[0]
    began_at = time.time()
    with under_traffic(site, "killed proxy") as case:
        os.kill(victim.pid, signal.SIGKILL)
        eventually(lambda: victim.name not in {one.proxy for one in site.mesh.proxies()})
        eventually(lambda: len(site.mesh.proxies()) == 2, timeout_s=RECOVERED_WITHIN_S)
        eventually(lambda: replaced(site, [victim]), timeout_s=RECOVERED_WITHIN_S)
        case.note("replaced_s")
        broken = case.tally.failures
        case.more_requests(50)
        # At 15 views a second hardly more than a second's worth can have been on the wire.
        assert broken <= 15, case.tally.problems
        assert case.tally.failures == broken, case.tally.problems
    eventually(lambda: replacement_told(site, [victim], began_at), timeout_s=RECOVERED_WITHIN_S)


def test_killing_the_controller_leaves_everything_running_and_it_comes_back(site: Site) -> None:
    eventually(lambda: all_healthy(site, "proxy"), timeout_s=RECOVERED_WITHIN_S)
    (victim,) = actors(site, "controller")
    before = {actor.name: actor.pid for actor in site.mesh.status().actors if actor.role != "controller"}
    with under_traffic(site, "killed controller") as case:
        os.kill(victim.pid, signal.SIGKILL)
        after = eventually(
            lambda: site.status_from_another_controller(victim.pid), timeout_s=RECOVERED_WITHIN_S
        )
        case.note("back_s")
    assert {name: pid for name, pid in after.items() if name in before} == before
    assert not case.tally.failures, case.tally.problems
