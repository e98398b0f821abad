"""The demo as a person runs it: Ray, the mesh, Bookinfo and traffic, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.timeout(240)
def test_the_demo_serves_every_page_over_mutual_tls_and_says_so_in_json(tmp_path: Path) -> None:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "RAY_MESH_STATE")
    }
    environment["XDG_STATE_HOME"] = str(tmp_path)
    command = [sys.executable, "-m", "ray_mesh", "demo", "--duration", "4", "--rate", "15", "-o", "json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=220)
    assert done.returncode == 0, done.stderr[-5000:] + done.stdout[-1000:]
    report = json.loads(done.stdout)
    assert report["requests"] > 30
    assert report["failures"] == 0, report["problems"]
    assert report["mtls"] == 1.0
    assert set(report["reviews_split"]) == {"v1", "v2", "v3"}
    calls = {(edge["source"], edge["destination"]) for edge in report["edges"]}
    assert {
        ("mesh-system/ingressgateway", "default/productpage-v1"),
        ("default/productpage-v1", "default/details-v1"),
        ("default/productpage-v1", "default/reviews-v2"),
        ("default/reviews-v3", "default/ratings-v1"),
        ("default/productpage-v1", "default/recommendations-v1"),
        ("default/productpage-v1", "default/recommendations-v2"),
    } <= calls
    statuses = {
        edge["destination"]: (edge["protocol"], frozenset(edge["grpc_statuses"]))
        for edge in report["edges"]
        if edge["destination"].startswith("default/recommendations-")
    }
    assert set(statuses.values()) == {("grpc", frozenset({"0"}))}, statuses
    assert list(tmp_path.rglob("*.json")) == []
