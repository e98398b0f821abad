"""Sidecars when all of Ray, and the broker with it, is killed: their traffic goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from mesh_site import eventually
from sidecar_process import SERVER, call, free_port, running

from ray_mesh.sdk import Mesh

CALLER = """
import sys
from urllib.request import urlopen
for line in iter(lambda: open(sys.argv[1]).readline(), "\\n"):
    print(line.strip(), urlopen("http://server/" + line.strip(), timeout=10).read().decode(), flush=True)
"""


@dataclass(slots=True)
class Mortal:
    """A mesh of its own in a process, which can be killed whole and started again."""

    folder: Path
    temporary: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def state(self) -> Path:
        return self.folder / "mesh.json"

    def up(self) -> None:
        """Start it, on the same state directory each time, and wait until it serves."""
        environment = {**os.environ, "TMPDIR": self.temporary}
        environment.pop("RAY_ADDRESS", None)
        said = self.folder / "up.out"
        arguments = ["--state", str(self.state), "up", "--proxies", "1", "--state-dir", f"{self.folder}/kept"]
        with said.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ray_mesh", *arguments],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        eventually(lambda: "ingress" in said.read_text(), timeout_s=90.0)

    def kill(self) -> set[str]:
        """Kill all of it; returns the names of the processes."""
        process, self.process = self.process, None
        if process is None:
            return set()
        names = kill_family(process.pid)
        process.wait(10.0)
        return names


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Mortal]:
    with tempfile.TemporaryDirectory(prefix="m", dir="/tmp", ignore_cleanup_errors=True) as temporary:
        mesh = Mortal(tmp_path, temporary)
        try:
            mesh.up()
            yield mesh
        finally:
            mesh.kill()


def kill_family(pid: int) -> set[str]:
    """Kill a process and all that it started, at once: nobody gets to say farewell."""
    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return set()
    names = set()
    for process in family:
        try:
            names.add(process.name())
            process.kill()
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(family[1:], timeout=10.0)
    assert alive == []
    return names


@pytest.mark.timeout(240)
def test_sidecars_call_each_other_while_all_of_ray_is_gone_and_are_there_when_it_is_back(
    mortal: Mortal, tmp_path: Path
) -> None:
    with Mesh.connect(mortal.state) as mesh:
        tokens = [mesh.create_token("default/default") for _ in range(2)]
        api = mesh.state.api
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

        def ask(word: str) -> None:
            asks.write_text(f"{word}\n")
            eventually(lambda: f"{word} echo of /{word}" in calls.said())

        ask("before")
        assert {"raylet", "gcs_server", "nats-server"} <= mortal.kill()
        for n in range(50):
            ask(f"without-{n}")
        asks.write_text("\n")
        assert calls.process.wait(30.0) == 0, calls.said()
        assert "could not leave the mesh" in calls.said()
        mortal.up()
        with Mesh.connect(mortal.state) as mesh:
            eventually(lambda: "sidecar-server" in {proxy.node for proxy in mesh.proxies()}, timeout_s=30.0)
            with mesh.attach("insider", "v1", 0) as insider:
                eventually(lambda: call(insider.http_proxy, "http://server/back") == (200, "echo of /back"))
            callee.process.terminate()
            assert callee.process.wait(30.0) == 3, callee.said()
            assert "could not leave" not in callee.said()
            eventually(lambda: "sidecar-server" not in {proxy.node for proxy in mesh.proxies()})
