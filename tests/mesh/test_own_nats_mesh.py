"""A mesh on a NATS of somebody's own: two accounts over TLS, and one credential for all."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from mesh_site import eventually
from own_nats import OwnNats, own_nats
from sidecar_process import CALLER, SERVER, call, free_port, running

from ray_mesh.bus import subjects
from ray_mesh.bus.client import Bus
from ray_mesh.bus.store import inspect
from ray_mesh.errors import MeshError, NotFound, PolicyDenied
from ray_mesh.sdk import Mesh
from ray_mesh.sdk.state import MeshState, read_state

pytestmark = pytest.mark.timeout(180)


@dataclass(slots=True)
class Own:
    """A NATS, the mesh on it, and its command line."""

    nats: OwnNats
    folder: Path
    arguments: tuple[str, ...]

    def run(self, *arguments: str, state: str = "mesh.json") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "RAY_MESH_STATE": str(self.folder / state)}
        environment.pop("RAY_ADDRESS", None)
        return subprocess.run(
            [sys.executable, "-m", "ray_mesh", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def up(self, *more: str, state: str = "mesh.json") -> subprocess.CompletedProcess[str]:
        return self.run("up", "--detach", "--proxies", "1", *self.arguments, *more, state=state)

    def state(self) -> MeshState:
        return read_state(self.folder / "mesh.json")

    def head(self) -> int:
        """The newest revision that is kept on the NATS; -1 when there is no bucket."""

        async def look() -> int:
            bus = await Bus.connect(self.nats.settings().address, "controller", "test", self.nats.logins()[0])
            try:
                return (await inspect(bus, subjects.DESIRED_BUCKET)).head
            except NotFound:
                return -1
            finally:
                await bus.close()

        return asyncio.run(look())


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Own]:
    """Two accounts, over TLS; what the mesh has is kept when it ends."""
    folder = tmp_path_factory.mktemp("own")
    with own_nats(folder / "nats") as nats:
        control, proxies = nats.files()
        one = Own(
            nats,
            folder,
            ("--nats", nats.url, "--nats-creds", str(control), "--nats-proxy-creds", str(proxies),
             "--nats-ca", str(nats.ca_file), "--state-dir", str(folder / "kept")),
        )  # fmt: skip
        started = one.up()
        try:
            assert started.returncode == 0, started.stderr + (folder / "mesh.log").read_text()
            yield one
        finally:
            ended = one.run("down")
        assert ended.returncode == 0, ended.stderr
        assert one.head() > 0, "what --state-dir keeps was removed"


@pytest.fixture(scope="module")
def mesh(own: Own) -> Iterator[Mesh]:
    with Mesh(own.state(), timeout_s=30.0) as client:
        yield client


def serve_echo(port: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SERVER, str(port)], stdout=subprocess.DEVNULL)


def test_traffic_over_mutual_tls_and_policy_reach_the_proxies(own: Own, mesh: Mesh) -> None:
    port = free_port()
    server = serve_echo(port)
    try:
        with mesh.attach("echo", "v1", port), mesh.attach("caller", "v1", 0) as caller:
            answer = eventually(lambda: (a := call(caller.http_proxy, "http://echo/x"))[0] == 200 and a)
            assert answer == (200, "echo of /x")
            eventually(lambda: any(edge.mtls and "echo" in str(edge) for edge in mesh.graph(0).edges))
            deny = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody}
spec: {selector: {matchLabels: {app: echo}}}
"""
            mesh.wait(mesh.apply(deny).revision, timeout_s=10.0)
            assert call(caller.http_proxy, "http://echo/x")[0] == 403
            mesh.wait(mesh.delete("AuthorizationPolicy", "nobody").revision, timeout_s=10.0)
            assert call(caller.http_proxy, "http://echo/x")[0] == 200
    finally:
        server.kill()
        server.wait()


def test_a_sidecar_gets_the_proxies_credential_and_calls(own: Own, mesh: Mesh, tmp_path: Path) -> None:
    port = free_port()
    server = serve_echo(port)
    try:
        with mesh.attach("echo", "v1", port):
            token = mesh.create_token("default/default")
            options = {"service": "visitor", "port": 0, "node": "sidecar-visitor"}
            arguments = (sys.executable, "-c", CALLER, "http://echo/y")
            with running(own.state().api, token, tmp_path, options, *arguments) as sidecar:
                assert sidecar.process.wait(45.0) == 0, sidecar.said()
                assert "echo of /y" in sidecar.said()
                assert secrets_of(own.nats).search(sidecar.said()) is None
    finally:
        server.kill()
        server.wait()


def test_what_is_shared_is_told(own: Own, mesh: Mesh) -> None:
    eventually(lambda: mesh.status().problems == ())
    status = mesh.status()
    assert "all proxies, sidecars too, have one NATS credential" in " ".join(status.warnings)
    assert not any(actor.role == "broker" for actor in status.actors)
    eventually(lambda: any(event.reason == "nats_shared" for event in mesh.events(1000)))
    told = own.run("status")
    assert told.returncode == 0
    assert "warning: all proxies" in told.stderr
    found = {one["check"]: one for one in json.loads(own.run("check", "-o", "json").stdout)}
    assert found["broker"]["outcome"] == "ok", found["broker"]
    assert found["nats"]["outcome"] == "warning"
    refused = own.run("observe", "me", "--seed", str(own.folder / "me.seed"))
    assert refused.returncode == 65
    assert "its administrator makes a user" in refused.stderr


def secrets_of(nats: OwnNats) -> re.Pattern[str]:
    return re.compile("|".join((nats.control.reveal(), nats.proxies.reveal())))


def test_no_credential_is_in_an_argument_a_log_or_rays_files(own: Own) -> None:
    seeds = secrets_of(own.nats)
    family = [psutil.Process(own.state().pid), *psutil.Process(own.state().pid).children(recursive=True)]
    for process in family:
        assert not seeds.search(" ".join([*process.cmdline(), *process.environ().values()])), process
    session = Path(
        next(word for one in family for word in one.cmdline() if "--log_dir=" in word).split("=")[1]
    )
    folders = [session.parent, own.folder / "kept"]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert [path for path in files if seeds.search(path.read_bytes().decode("latin-1"))] == []


def test_another_mesh_on_the_same_nats_is_refused(own: Own, tmp_path: Path) -> None:
    other = Own(own.nats, tmp_path, own.arguments[:-2])
    started = other.run("up", "--name", "other", *other.arguments)
    assert started.returncode == 65
    assert "belongs to another mesh: default" in started.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_one_credential_for_all_refuses_sidecars_and_leaves_nothing(tmp_path: Path) -> None:
    with own_nats(tmp_path / "nats", two=False) as nats:
        own = Own(nats, tmp_path, ("--nats", nats.url, "--nats-ca", str(nats.ca_file)))
        assert "needs a credential" in own.run("up", *own.arguments).stderr
        own.arguments += ("--nats-creds", str(nats.files()[0]))
        started = own.up()
        try:
            assert started.returncode == 0, started.stderr + (tmp_path / "mesh.log").read_text()
            assert "Sidecars are refused" in started.stderr
            with Mesh(own.state(), timeout_s=30.0) as mesh:
                assert len(mesh.status().warnings) == 2
                with pytest.raises(PolicyDenied, match="no sidecar may hold"):
                    mesh.create_token("default/default")
                asyncio.run(ask_the_controller(nats))
            assert own.head() > 0
        finally:
            ended = own.run("down")
        assert ended.returncode == 0, ended.stderr
        assert own.head() == -1


async def ask_the_controller(nats: OwnNats) -> None:
    """Whoever holds the credential of all cannot make the controller admit a sidecar either."""
    bus = await Bus.connect(nats.settings().address, "controller", "forger", nats.logins()[0])
    for verb in ("token", "join", "session"):
        with pytest.raises(MeshError, match="nobody answers"):
            await bus.request(subjects.control(verb), b"")
    await bus.close()
