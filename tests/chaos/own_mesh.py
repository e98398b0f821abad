"""A mesh of one's own with Bookinfo, started by ``ray-mesh up`` with an environment or folder of choice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
from mesh_site import Site, eventually

from ray_mesh.demo.bookinfo import INSTANCES, Instance
from ray_mesh.demo.deployment import read_documents
from ray_mesh.launch import RunningMesh
from ray_mesh.sdk import Mesh
from ray_mesh.sdk.state import read_state

START_WITHIN_S = 120.0


@contextmanager
def own_mesh(*arguments: str, env: Mapping[str, str] | None = None) -> Iterator[Site]:
    """A mesh with two of each role and two proxies, in a Ray of its own; all of it is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="rmc-", dir="/tmp"))  # Ray's socket paths must be short
    state_file = folder / "mesh.json"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with (folder / "out").open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "ray_mesh",
                "up",
                "--replicas",
                "2",
                "--state-file",
                str(state_file),
                *arguments,
            ],
            env={**kept, "TMPDIR": str(folder), **(env or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        eventually(lambda: _is_up(process, folder / "out"), timeout_s=START_WITHIN_S)
        state = read_state(state_file)
        with Mesh(state, timeout_s=30.0) as mesh, _bookinfo(mesh):
            running = RunningMesh(state, state_file, None, owns_ray=False)
            yield Site(running, mesh, state.ingress["8080"], None)
    finally:
        _end(process)
        shutil.rmtree(folder, ignore_errors=True)


def _is_up(process: subprocess.Popen[bytes], out: Path) -> bool:
    said = out.read_text()
    assert process.poll() is None, said
    return "ingress" in said


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        _, alive = psutil.wait_procs([psutil.Process(process.pid), *family], timeout=20.0)
        for one in alive:
            one.kill()
    process.wait(10.0)


@contextmanager
def _bookinfo(mesh: Mesh) -> Iterator[None]:
    """Bookinfo on the mesh, each instance a process of this one."""
    with ExitStack() as stack:
        mesh.apply(read_documents())
        processes = [stack.enter_context(_instance(one)) for one in INSTANCES]
        for instance, process in zip(INSTANCES, processes, strict=True):
            assert process.stdin is not None
            assert process.stdout is not None
            ticket = mesh.attach(
                instance.service,
                instance.version,
                int(process.stdout.readline()),
                name=instance.name,
                service_account=instance.service_account,
            )
            process.stdin.write(f"{ticket.http_proxy}\n".encode())
            process.stdin.flush()
        mesh.wait(ticket.revision, timeout_s=30.0)
        yield


@contextmanager
def _instance(instance: Instance) -> Iterator[subprocess.Popen[bytes]]:
    program = str(Path(__file__).with_name("bookinfo_instance.py"))
    command = [sys.executable, program, instance.service, instance.version]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()
