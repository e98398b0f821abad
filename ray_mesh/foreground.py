"""``ray-mesh up`` as a process: in the foreground until a signal, or leaving another one behind."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ray_mesh import __version__, cluster
from ray_mesh.errors import ConfigError, Unavailable
from ray_mesh.launch import (
    READY_TIMEOUT_S,
    LaunchOptions,
    RunningMesh,
    already,
    find_running,
    start,
    state_file_of,
)
from ray_mesh.sdk.state import MeshState, read_state


def run_foreground(options: LaunchOptions, say: Callable[[str], None]) -> int:
    """``ray-mesh up``: start a mesh and run it until SIGINT, SIGTERM or ``ray-mesh down``.

    On a cluster it returns when the mesh serves; one that runs already is only told of.
    """
    if running := find_running(options):
        return _tell_running(running, say)
    mesh = start(options)
    try:
        for line in describe(mesh):
            say(line)
        for sentence in mesh.warnings:
            say(f"warning: {sentence}")
        if mesh.owns_ray:
            wait_for_end(mesh)
            say("ending the mesh")
    finally:
        if mesh.owns_ray:
            mesh.stop()
    return 0


def run_detached(options: LaunchOptions, arguments: list[str], say: Callable[[str], None]) -> int:
    """``ray-mesh up --detach``: leave a process behind that runs the mesh; return when it serves.

    ``arguments`` are those of the same command without ``--detach``. On a cluster no process is needed.

    Raises:
        Unavailable: the process ended, or was not ready in time; its log is named.
    """
    if cluster.address_of(options.address):
        return run_foreground(options, say)
    if running := find_running(options):
        return _tell_running(running, say)
    state_file = state_file_of(options)
    log_file = state_file.with_suffix(".log")
    state_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with log_file.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "ray_mesh", "up", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + READY_TIMEOUT_S + 10
    while child.poll() is None and time.monotonic() < deadline:
        if state_file.exists() and read_state(state_file).pid == child.pid:
            say(f"the mesh runs as process {child.pid}; `ray-mesh down` ends it (log: {log_file})")
            for line in _logged(log_file, "warning: "):
                say(line)
            return 0
        time.sleep(0.1)
    child.terminate()
    why = "; ".join(_logged(log_file, "error: ")) or "it said nothing"
    raise Unavailable(f"the mesh did not come up: {why} (log: {log_file})")


def _logged(log_file: Path, prefix: str) -> list[str]:
    return [line for line in log_file.read_text(errors="replace").splitlines() if line.startswith(prefix)]


def describe(running: RunningMesh) -> list[str]:
    """What a person wants to know of a mesh that just started."""
    state = running.state
    ingress = [
        f"ingress  {url}  (port {number} of Gateway documents)" for number, url in state.ingress.items()
    ]
    return [f"mesh     {state.name} {state.version}", f"API      {state.api}", *ingress]


def wait_for_end(running: RunningMesh) -> None:
    """Return at SIGINT, SIGTERM, or when the mesh was taken down from elsewhere."""
    import ray

    ended = threading.Event()
    with _signals(ended):
        done = running.controller.wait_down.remote()
        while not ended.is_set():
            with contextlib.suppress(ray.exceptions.RayError):
                ready, _ = ray.wait([done], timeout=0.2)
                if ready:
                    return


@contextlib.contextmanager
def _signals(ended: threading.Event) -> Iterator[None]:
    def note(_number: int, _frame: object) -> None:
        ended.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell_running(state: MeshState, say: Callable[[str], None]) -> int:
    """``up`` has nothing to do.

    Raises:
        ConfigError: it is of another version.
    """
    if state.version != __version__:
        raise ConfigError(
            f"{already(state)}, this is {__version__}: take it down first (--state-dir keeps what it has)"
        )
    say(f"{already(state)}; `ray-mesh down` ends it")
    return 0
