"""With traffic flowing, each control role and the broker is killed, one at a time: no request fails, and
each is back. Killing one of two proxies costs its open connections and nothing more."""

from __future__ import annotations

import os
import signal

import psutil
import pytest
from mesh_site import Site, eventually

from ray_mesh.sdk.answers import Actor


def actors(site: Site, role: str) -> list[Actor]:
    return [actor for actor in site.mesh.status().actors if actor.role == role]


def broker_process(site: Site) -> psutil.Process | None:
    """The nats-server of this mesh, by its configuration file; None while there is none."""
    folder = site.running.state.state_dir
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if words and words[0].endswith("nats-server") and any(folder in word for word in words):
            return process
    return None


def all_healthy(site: Site, role: str, count: int) -> bool:
    rows = actors(site, role)
    return len(rows) == count and all(row.state == "HEALTHY" and row.pid for row in rows)


@pytest.mark.parametrize("role", ["routing", "policy", "telemetry", "ca"])
def test_killing_a_control_role_fails_no_request(site: Site, role: str) -> None:
    eventually(lambda: all_healthy(site, role, 2), timeout_s=30.0)
    victim = actors(site, role)[0]
    with site.traffic() as tally:
        os.kill(victim.pid, signal.SIGKILL)
        eventually(lambda: victim.name not in {one.name for one in actors(site, role)}, timeout_s=30.0)
        eventually(lambda: all_healthy(site, role, 2), timeout_s=30.0)
        seen = tally.requests
        eventually(lambda: tally.requests > seen + 25)
    assert not tally.failures, tally.problems


def test_killing_the_broker_fails_no_request_and_configuration_goes_on(site: Site) -> None:
    process = broker_process(site)
    assert process is not None
    with site.traffic() as tally:
        process.kill()
        eventually(lambda: (now := broker_process(site)) and now.pid != process.pid, timeout_s=30.0)
        revision = eventually(lambda: site.touch(), timeout_s=30.0)
        site.mesh.wait(revision, timeout_s=30.0)
        seen = tally.requests
        eventually(lambda: tally.requests > seen + 25)
    assert not tally.failures, tally.problems


def test_killing_one_of_two_proxies_breaks_only_its_open_connections(site: Site) -> None:
    eventually(lambda: all_healthy(site, "proxy", 2), timeout_s=30.0)
    victim = actors(site, "proxy")[0]
    with site.traffic() as tally:
        os.kill(victim.pid, signal.SIGKILL)
        eventually(lambda: victim.name not in {one.proxy for one in site.mesh.proxies()})
        eventually(lambda: len(site.mesh.proxies()) == 2, timeout_s=30.0)
        eventually(lambda: all_healthy(site, "proxy", 2), timeout_s=30.0)
        broken = tally.failures
        seen = tally.requests
        eventually(lambda: tally.requests > seen + 50)
        # At 25 views a second hardly more than a second's worth can have been on the wire.
        assert broken <= 25, tally.problems
        assert tally.failures == broken, tally.problems


def test_killing_the_gateway_api_leaves_the_other_replica_answering(site: Site) -> None:
    eventually(lambda: all_healthy(site, "gateway", 2), timeout_s=30.0)
    victim = actors(site, "gateway")[0]
    with site.traffic() as tally:
        os.kill(victim.pid, signal.SIGKILL)
        eventually(lambda: victim.name not in {one.name for one in actors(site, "gateway")}, timeout_s=30.0)
        eventually(lambda: all_healthy(site, "gateway", 2), timeout_s=30.0)
    assert not tally.failures, tally.problems


def test_killing_the_controller_leaves_everything_running_and_it_comes_back(site: Site) -> None:
    eventually(lambda: all_healthy(site, "proxy", 2), timeout_s=30.0)
    (victim,) = actors(site, "controller")
    before = {actor.name: actor.pid for actor in site.mesh.status().actors if actor.role != "controller"}
    with site.traffic() as tally:
        os.kill(victim.pid, signal.SIGKILL)
        after = eventually(lambda: site.status_from_another_controller(victim.pid), timeout_s=40.0)
    assert {name: pid for name, pid in after.items() if name in before} == before
    assert not tally.failures, tally.problems
