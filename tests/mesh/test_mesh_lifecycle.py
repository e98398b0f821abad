"""Starting and ending a mesh as a person does: Ctrl-C leaves nothing behind, and no other Ray is touched."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from mesh_site import eventually

Run = Callable[..., subprocess.CompletedProcess[str]]

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: kept}
spec: {selector: {app: kept}, ports: [{name: http, port: 80}]}
"""


def start(tmp_path: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """``ray-mesh`` with a folder for temporary files of its own; its path is in the file ``folder``."""
    folder = tempfile.mkdtemp(prefix="m", dir="/tmp")
    (tmp_path / "folder").write_text(folder)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        "RAY_MESH_STATE": str(tmp_path / "mesh.json"),
        "TMPDIR": folder,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "ray_mesh", *arguments],
        env=environment,
        stdout=(tmp_path / "out").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("command", "number"),
    [pytest.param("demo", signal.SIGINT, marks=pytest.mark.slow), ("up", signal.SIGTERM)],
)
def test_an_interrupt_ends_everything_within_five_seconds(
    tmp_path: Path, command: str, number: signal.Signals
) -> None:
    process = start(tmp_path, command)
    folder = Path((tmp_path / "folder").read_text())
    try:
        ready = "Ctrl-C ends it" if command == "demo" else "ingress"
        eventually(lambda: ready in (tmp_path / "out").read_text(), timeout_s=120.0)
        children = family(process)
        assert len(children) > 8
        process.send_signal(number)
        began_at = time.monotonic()
        process.wait(20.0)
        assert time.monotonic() - began_at < 5.0
        _, alive = psutil.wait_procs(children, timeout=2.0)
        assert alive == []
        assert not (tmp_path / "mesh.json").exists()
        assert list(folder.iterdir()) == []
    finally:
        if process.poll() is None:
            for child in family(process):
                child.kill()
            process.kill()
        if not any(folder.iterdir()):
            folder.rmdir()


@pytest.mark.timeout(180)
def test_up_detached_is_found_ends_with_down_and_comes_back_from_its_backup(
    tmp_path: Path,
) -> None:
    environment = {
        **os.environ,
        "RAY_MESH_STATE": str(tmp_path / "mesh.json"),
        "RAY_MESH_PASSPHRASE": "correct horse battery",
    }
    environment.pop("RAY_ADDRESS", None)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ray_mesh", *arguments]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    kept, restored, copy = tmp_path / "kept", tmp_path / "restored", tmp_path / "backup"
    assert run("up", "--detach", "--state-dir", str(kept)).returncode == 0
    try:
        assert run("status").returncode == 0
        before = documents(run, copy)
        (tmp_path / "kept.yaml").write_text(SERVICE)
        assert run("apply", "-f", str(tmp_path / "kept.yaml"), "--wait").returncode == 0
        eventually(lambda: documents(run, copy) > before)
        for second in (run("up"), run("up", "--detach")):
            assert second.returncode == 0
            assert "already runs" in second.stderr
        other = run("up", "--name", "other", "--state-file", str(tmp_path / "mesh.json"))
        assert other.returncode == 65
        assert "belongs to mesh default" in other.stderr
    finally:
        ended = run("down")
    assert ended.returncode == 0, ended.stderr
    assert run("status").returncode == 5

    root = (kept / "root.crt").read_bytes()
    shutil.rmtree(kept)
    again = run("restore", str(copy), "--state-dir", str(restored))
    assert again.returncode == 0, again.stderr
    assert run("up", "--detach", "--state-dir", str(restored)).returncode == 0
    try:
        found = run("get", "Service", "kept")
        assert found.returncode == 0, found.stderr
        assert (restored / "root.crt").read_bytes() == root
    finally:
        assert run("down").returncode == 0


def documents(run: Run, file: Path) -> int:
    """Make a backup; how many documents it says it has."""
    made = run("backup", str(file), "--replace")
    assert made.returncode == 0, made.stderr
    found = re.search(r"its (\d+) documents", made.stderr)
    return int(found[1]) if found else 0
