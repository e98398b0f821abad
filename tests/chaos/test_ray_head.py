"""Ray's head loses its GCS, without fault tolerance: Ray ends every worker about 60 s later."""

from __future__ import annotations

import psutil
import pytest
from damage import RECOVERED_WITHIN_S, under_traffic
from mesh_site import Site, eventually
from own_mesh import own_mesh

from ray_mesh.errors import MeshError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


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


def test_a_mesh_whose_ray_lost_its_gcs_takes_changes_and_says_what_follows() -> None:
    with own_mesh() as site, under_traffic(site, "GCS killed, no fault tolerance") as case:
        gcs_of(site).kill()
        eventually(lambda: is_told(site), timeout_s=RECOVERED_WITHIN_S)
        case.note("told_s")
        site.mesh.wait(site.touch(), timeout_s=RECOVERED_WITHIN_S)
        case.note("change_applied_s")
