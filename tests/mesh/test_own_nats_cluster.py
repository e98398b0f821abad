"""A NATS of somebody's own that fails: one server of three under traffic, the only one under a restart."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mesh_site import eventually
from own_nats import own_nats
from sidecar_process import call, free_port
from test_own_nats_mesh import Own, serve_echo

from ray_mesh.bus import subjects
from ray_mesh.bus.client import Bus
from ray_mesh.bus.store import api
from ray_mesh.errors import Unavailable
from ray_mesh.sdk import Mesh

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@contextmanager
def requests(http_proxy: str) -> Iterator[Counter[int]]:
    """Requests one after the other in the background; the statuses so far."""
    seen: Counter[int] = Counter()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            seen[call(http_proxy, "http://echo/x")[0]] += 1

    thread = threading.Thread(target=work, name="requests")
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join(30.0)


def deny(mesh: Mesh, number: int) -> int:
    """A policy that selects nobody, changed each time; the revision, 0 while nothing can be stored."""
    text = f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: nobody, annotations: {{number: "{number}"}}}}
spec: {{selector: {{matchLabels: {{app: nobody}}}}}}
"""
    try:
        return mesh.apply(text).revision
    except Unavailable:
        return 0


def test_one_of_three_servers_dies_under_traffic(tmp_path: Path) -> None:
    with own_nats(tmp_path / "nats", size=3) as nats:
        control, proxies = nats.files()
        own = Own(
            nats,
            tmp_path,
            ("--nats", nats.url, "--nats-creds", str(control), "--nats-proxy-creds", str(proxies),
             "--nats-ca", str(nats.ca_file)),
        )  # fmt: skip
        started = own.up()
        port = free_port()
        server = serve_echo(port)
        try:
            assert started.returncode == 0, started.stderr + (tmp_path / "mesh.log").read_text()
            with (
                Mesh(own.state(), timeout_s=30.0) as mesh,
                mesh.attach("echo", "v1", port),
                mesh.attach("caller", "v1", 0) as caller,
            ):
                eventually(lambda: call(caller.http_proxy, "http://echo/x")[0] == 200)
                with requests(caller.http_proxy) as seen:
                    mesh.wait(deny(mesh, 0), timeout_s=20.0)
                    nats.kill(leader(own))
                    revision = eventually(lambda: deny(mesh, 1), timeout_s=60.0)
                    mesh.wait(revision, timeout_s=30.0)
                    eventually(lambda: mesh.status().problems == (), timeout_s=30.0)
                    before = sum(seen.values())
                    eventually(lambda: sum(seen.values()) > before + 100)
                assert set(seen) == {200}, seen
        finally:
            ended = own.run("down")
            server.kill()
            server.wait()
        assert ended.returncode == 0, ended.stderr


def test_a_controller_that_is_restarted_while_nats_is_away_waits_for_it(tmp_path: Path) -> None:
    with own_nats(tmp_path / "nats", two=False) as nats:
        arguments = ("--nats", nats.url, "--nats-creds", str(nats.files()[0]), "--nats-ca", str(nats.ca_file))
        own = Own(nats, tmp_path, arguments)
        started = own.up()
        try:
            assert started.returncode == 0, started.stderr + (tmp_path / "mesh.log").read_text()
            with Mesh(own.state(), timeout_s=30.0) as mesh:
                pid = next(one.pid for one in mesh.status().actors if one.role == "controller")
                nats.kill(0)
                os.kill(pid, signal.SIGKILL)
                # Longer than one connection is tried for.
                time.sleep(15.0)
                nats.start(0)
                eventually(lambda: controllers(mesh) not in ({pid}, set()), timeout_s=60.0)
                eventually(lambda: mesh.status().problems == (), timeout_s=30.0)
        finally:
            ended = own.run("down")
        assert ended.returncode == 0, ended.stderr


def controllers(mesh: Mesh) -> set[int]:
    try:
        return {one.pid for one in mesh.status().actors if one.role == "controller"}
    except Unavailable:
        return set()


def leader(own: Own) -> int:
    """Which server leads the bucket of desired state, and that all three keep it."""

    async def look() -> int:
        bus = await Bus.connect(own.nats.settings().address, "controller", "test", own.nats.logins()[0])
        answer = await api(bus, f"STREAM.INFO.{subjects.stream(subjects.DESIRED_BUCKET)}")
        await bus.close()
        assert answer["config"]["num_replicas"] == 3, json.dumps(answer)
        return int(answer["cluster"]["leader"].removeprefix("own"))

    return asyncio.run(look())
