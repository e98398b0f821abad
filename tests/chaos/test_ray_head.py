"""Ray's head loses its GCS, without fault tolerance and with it (kept on disk, RocksDB)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from damage import RECOVERED_WITHIN_S, actors, replaced, under_traffic
from mesh_site import Site, eventually
from own_mesh import own_mesh

from ray_mesh.errors import MeshError, Unavailable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
AWAY_S = 20.0


def gcs_of(site: Site) -> psutil.Process:
    """The GCS of the Ray that the mesh started for itself."""
    family = psutil.Process(site.running.state.pid).children(recursive=True)
    (gcs,) = [one for one in family if one.name() == "gcs_server"]
    return gcs


def is_told(site: Site) -> bool:
    try:
        return any("GCS does not answer" in one for one in site.mesh.status().problems)
    except MeshError:
        return False


def is_down(site: Site) -> bool:
    try:
        site.mesh.version()
    except Unavailable:
        return True
    return False


def test_without_fault_tolerance_the_mesh_lives_as_long_as_its_workers() -> None:
    with own_mesh() as site, under_traffic(site, "GCS killed, no fault tolerance") as case:
        gcs_of(site).kill()
        eventually(lambda: is_told(site), timeout_s=RECOVERED_WITHIN_S)
        case.note("told_s")
        site.mesh.wait(site.touch(), timeout_s=RECOVERED_WITHIN_S)
        case.note("change_applied_s")
        case.more_requests()
        assert not case.tally.failures, case.tally.problems
        eventually(lambda: case.tally.failures, timeout_s=150.0)
        case.note("first_failure_s")
        eventually(lambda: is_down(site), timeout_s=RECOVERED_WITHIN_S)
        case.note("api_gone_s")


def test_with_fault_tolerance_traffic_goes_on_and_actors_are_replaced_again(
    tmp_path: Path,
) -> None:
    environment = {
        "RAY_gcs_storage": "rocksdb",
        "RAY_gcs_storage_path": str(tmp_path / "gcs"),
        "RAY_gcs_rpc_server_reconnect_timeout_s": "300",
    }
    with own_mesh(env=environment) as site, under_traffic(site, "GCS killed, fault tolerance") as case:
        gcs = gcs_of(site)
        command, variables = gcs.cmdline(), gcs.environ()
        gcs.kill()
        eventually(lambda: is_told(site), timeout_s=RECOVERED_WITHIN_S)
        case.note("told_s")
        eventually(lambda: time.monotonic() - case.began_at > AWAY_S, timeout_s=AWAY_S + 15.0)
        with subprocess.Popen(command, env=variables, start_new_session=True) as again:
            try:
                case.began_at = time.monotonic()
                eventually(lambda: not is_told(site), timeout_s=RECOVERED_WITHIN_S)
                case.note("gcs_back_s")
                victim = eventually(lambda: actors(site, "policy"), timeout_s=RECOVERED_WITHIN_S)[0]
                os.kill(victim.pid, signal.SIGKILL)
                eventually(lambda: replaced(site, [victim]), timeout_s=RECOVERED_WITHIN_S)
                case.note("replaces_again_s")
                case.more_requests()
                assert not case.tally.failures, case.tally.problems
            finally:
                again.kill()
