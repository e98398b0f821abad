"""A Ray head as a person starts it, `ray start --head`, with ports, token and folders of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from mesh_site import eventually

BIN = Path(sys.executable).parent
START_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 110.0


@dataclass(frozen=True, slots=True)
class Head:
    """A running head. ``env`` is that of a person on its machine; ``home`` their home directory."""

    env: Mapping[str, str]
    home: Path
    dashboard: str

    @property
    def state_file(self) -> Path:
        """Where the default mesh of this person is told of."""
        return self.home / "state" / "ray-mesh" / "default.json"

    def run(
        self, *command: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as that person does; ``env`` adds to theirs."""
        return subprocess.run(
            command,
            cwd=cwd or self.home,
            env={**self.env, **(env or {})},
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )

    def ray_mesh(
        self, *arguments: str, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run ``ray-mesh``."""
        return self.run(str(BIN / "ray-mesh"), *arguments, env=env)

    def submit(self, *arguments: str, cwd: Path | None = None) -> str:
        """Submit a job, wait for its end, and return its log."""
        done = self.run(str(BIN / "ray"), "job", "submit", "--address", self.dashboard, *arguments, cwd=cwd)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@contextmanager
def ray_head(*, token: bool) -> Iterator[Head]:
    """A head with Ray's token authentication on or off. All its processes and files are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="rmh-"))
    home = folder / "home"
    home.mkdir()
    dashboard, client, listen = free_ports(3)
    env = environment(folder, home, token)
    command = [
        str(BIN / "ray"),
        "start",
        "--head",
        "--block",
        "--port=0",
        "--num-cpus=2",
        "--disable-usage-stats",
    ]
    ports = [
        f"--dashboard-port={dashboard}",
        f"--ray-client-server-port={client}",
        f"--dashboard-agent-listen-port={listen}",
        "--dashboard-host=127.0.0.1",
        "--min-worker-port=0",
        "--max-worker-port=0",
    ]
    log = folder / "head.log"
    with log.open("wb") as output:
        head = subprocess.Popen(
            [*command, *ports], env=env, stdout=output, stderr=output, start_new_session=True
        )
    try:
        eventually(lambda: "Ray runtime started" in log.read_text(), timeout_s=START_TIMEOUT_S)
        yield Head(env, home, f"http://127.0.0.1:{dashboard}")
    finally:
        processes = [*psutil.Process(head.pid).children(recursive=True), psutil.Process(head.pid)]
        head.terminate()
        _, alive = psutil.wait_procs(processes, timeout=15.0)
        for process in alive:
            process.kill()
        head.wait(5.0)
        shutil.rmtree(folder, ignore_errors=True)


def environment(folder: Path, home: Path, token: bool) -> dict[str, str]:
    """Variables of a person whose files are all in ``home``, and whose Ray is in ``folder``."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RAY_", "XDG_", "PYTHONPATH"))
    }
    kept |= {
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "RAY_TMPDIR": str(folder / "r"),
        "RAY_AUTH_MODE": "token" if token else "disabled",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    (folder / "r").mkdir()
    return kept | ({"RAY_AUTH_TOKEN": secrets.token_hex(32)} if token else {})


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at the moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
