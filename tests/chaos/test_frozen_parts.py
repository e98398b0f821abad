"""A part that is stopped (SIGSTOP) holds its connections and says nothing: others must notice by that."""

from __future__ import annotations

import time

import pytest
from damage import (
    RECOVERED_WITHIN_S,
    actors,
    all_healthy,
    broker_process,
    frozen,
    is_broker_back,
    is_whole,
    replaced,
    replacement_told,
    teach,
    told,
    under_traffic,
)
from mesh_site import Site, eventually

CONTROL = ("ca", "policy", "routing", "telemetry")


@pytest.fixture
def site(breakable: Site) -> Site:
    return breakable


def freeze_one_of_each(site: Site, *roles: str) -> None:
    eventually(lambda: all(all_healthy(site, role) for role in roles), timeout_s=RECOVERED_WITHIN_S)
    victims = [actors(site, role)[0] for role in roles]
    began_at = time.time()
    with under_traffic(site, f"frozen {', '.join(roles)}") as case, frozen(one.pid for one in victims):
        eventually(lambda: replaced(site, victims), timeout_s=RECOVERED_WITHIN_S)
        case.note("replaced_s")
        case.more_requests()
    assert not case.tally.failures, case.tally.problems
    eventually(lambda: replacement_told(site, victims, began_at), timeout_s=RECOVERED_WITHIN_S)


def test_one_of_each_role_that_freezes_is_replaced_and_fails_no_request(site: Site) -> None:
    freeze_one_of_each(site, *CONTROL, "gateway")


@pytest.mark.slow
@pytest.mark.parametrize("role", [*CONTROL, "gateway"])
def test_a_role_that_freezes_is_replaced_and_fails_no_request(site: Site, role: str) -> None:
    freeze_one_of_each(site, role)


def test_a_broker_that_freezes_is_ended_and_started_again(site: Site) -> None:
    process = broker_process(site)
    assert process is not None
    teach(site)
    began_at = time.time()
    with under_traffic(site, "frozen broker") as case, frozen([process.pid]):
        eventually(lambda: is_broker_back(site, process.pid), timeout_s=RECOVERED_WITHIN_S)
        case.note("broker_back_s")
        revision = eventually(lambda: site.touch(), timeout_s=RECOVERED_WITHIN_S)
        site.mesh.wait(revision, timeout_s=RECOVERED_WITHIN_S)
        case.note("changes_applied_s")
        case.more_requests()
    assert not case.tally.failures, case.tally.problems
    eventually(lambda: told(site, "broker_reconnected", began_at), timeout_s=RECOVERED_WITHIN_S)


def test_a_controller_that_freezes_holds_up_nothing_and_status_says_so(site: Site) -> None:
    eventually(lambda: all_healthy(site, "controller", 1), timeout_s=RECOVERED_WITHIN_S)
    (victim,) = actors(site, "controller")
    with under_traffic(site, "frozen controller") as case:
        with frozen([victim.pid]):
            problems = site.mesh.status().problems
            assert any("the controller does not answer" in one for one in problems), problems
            site.mesh.wait(site.touch(), timeout_s=RECOVERED_WITHIN_S)
            case.note("changes_applied_s")
        case.began_at = time.monotonic()
        eventually(lambda: all_healthy(site, "controller", 1), timeout_s=RECOVERED_WITHIN_S)
        case.note("back_after_wake_s")
        case.more_requests()
    assert not case.tally.failures, case.tally.problems
    assert [one.pid for one in actors(site, "controller")] == [victim.pid]


@pytest.mark.slow
def test_one_of_two_proxies_that_freezes_is_replaced_and_traffic_is_whole_again(site: Site) -> None:
    eventually(lambda: all_healthy(site, "proxy"), timeout_s=RECOVERED_WITHIN_S)
    victim = actors(site, "proxy")[0]
    began_at = time.time()
    with under_traffic(site, "frozen proxy") as case, frozen([victim.pid]):
        eventually(lambda: victim.name not in {one.proxy for one in site.mesh.proxies()})
        case.note("told_s")
        eventually(lambda: replaced(site, [victim]), timeout_s=RECOVERED_WITHIN_S)
        case.note("replaced_s")
        eventually(lambda: is_whole(case), timeout_s=RECOVERED_WITHIN_S)
        case.note("whole_s")
    eventually(lambda: replacement_told(site, [victim], began_at), timeout_s=RECOVERED_WITHIN_S)
