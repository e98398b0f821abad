"""Sidecars when all of Ray, and the broker with it, is killed: their traffic goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from mesh_site import eventually
from sidecar_process import SERVER, free_port, running

from ray_mesh.sdk import Mesh

CALLER = """
import sys
from urllib.request import urlopen
for line in iter(lambda: open(sys.argv[1]).readline(), "\\n"):
    print(line.strip(), urlopen("http://server/" + line.strip(), timeout=10).read().decode(), flush=True)
"""


@pytest.fixture
def mesh_file(tmp_path: Path) -> Iterator[Path]:
    """The state file of a mesh of its own, whose processes are killed at the end."""
    state = tmp_path / "mesh.json"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    with (tmp_path / "up.out").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ray_mesh", "--state", str(state), "up", "--proxies", "1"],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: state.exists() and "ingress" in (tmp_path / "up.out").read_text(), timeout_s=90.0)
        yield state
    finally:
        kill_family(process.pid)
        process.wait(10.0)


def kill_family(pid: int) -> None:
    """Kill a process and all that it started, at once: nobody gets to say farewell."""
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family[1:], timeout=10.0)


@pytest.mark.timeout(180)
def test_sidecars_call_each_other_when_all_of_ray_is_gone(mesh_file: Path, tmp_path: Path) -> None:
    with Mesh.connect(mesh_file) as mesh:
        tokens = [mesh.create_token("default/default") for _ in range(2)]
        api, pid = mesh.state.api, mesh.state.pid
    port = free_port()
    asks = tmp_path / "asks"
    os.mkfifo(asks)
    server = {"service": "server", "port": port, "node": "sidecar-server"}
    caller = {"service": "caller", "port": 0, "node": "sidecar-caller"}
    with (
        running(api, tokens[0], tmp_path, server, sys.executable, "-c", SERVER, str(port)) as callee,
        running(api, tokens[1], tmp_path, caller, sys.executable, "-c", CALLER, str(asks)) as calls,
    ):
        eventually(lambda: "serving" in callee.said(), timeout_s=30.0)
        eventually(lambda: "starting" in calls.said(), timeout_s=30.0)
        asks.write_text("before\n")
        eventually(lambda: "before echo of /before" in calls.said())
        kill_family(pid)
        for n in range(50):
            asks.write_text(f"after-{n}\n")
            eventually(lambda n=n: f"after-{n} echo of /after-{n}" in calls.said())
        asks.write_text("\n")
        assert calls.process.wait(30.0) == 0, calls.said()
        callee.process.terminate()
        assert callee.process.wait(30.0) == 3, callee.said()
        assert "could not leave the mesh" in callee.said()
