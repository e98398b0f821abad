"""The disk of the state directory is full: traffic goes on, changes are refused with a reason, and taken
again when there is room."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from damage import RECOVERED_WITHIN_S, told, under_traffic
from mesh_site import Site, eventually
from own_mesh import own_mesh

from ray_mesh.errors import Unavailable

SERVICE = f"""
apiVersion: v1
kind: Service
metadata: {{name: one-more, annotations: {{note: "{"x" * 100_000}"}}}}
spec: {{selector: {{app: nobody}}, ports: [{{name: http, port: 80}}]}}
"""
"""Too large for the rest of a page that the store has already."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=32m,mode=700", "tmpfs", folder], check=False, capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("a disk of its own needs root and the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_refuses_changes_and_fails_no_request(small_disk: Path) -> None:
    with own_mesh("--state-dir", str(small_disk / "state")) as site, under_traffic(site, "full disk") as case:
        rest = small_disk / "rest"
        with pytest.raises(OSError, match="No space left"):
            rest.write_bytes(bytes(64 << 20))
        eventually(lambda: is_told(site), timeout_s=RECOVERED_WITHIN_S)
        case.note("told_s")
        with pytest.raises(Unavailable, match=r"did not confirm.*What was in force stays.*disk full"):
            site.mesh.apply(SERVICE)
        case.more_requests(100)
        rest.unlink()
        case.began_at, freed_at = time.monotonic(), time.time()
        revision = eventually(lambda: site.touch(), timeout_s=RECOVERED_WITHIN_S)
        site.mesh.wait(revision, timeout_s=RECOVERED_WITHIN_S)
        case.note("change_applied_s")
        eventually(lambda: told(site, "trouble_over", freed_at), timeout_s=RECOVERED_WITHIN_S)
        assert site.mesh.apply(SERVICE).revision > revision
        eventually(lambda: not site.mesh.status().problems, timeout_s=RECOVERED_WITHIN_S)
        case.more_requests(100)
    assert not case.tally.failures, case.tally.problems


def is_told(site: Site) -> bool:
    return any("is full" in problem and "room" in problem for problem in site.mesh.status().problems)
