"""Processes of a bench: pinned to a processor, ended with the bench whatever happens to it."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).parent
READY_S = 20.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


@contextmanager
def process(command: list[str], core: int | None) -> Iterator[subprocess.Popen[str]]:
    """Run a program, on one processor if that is given, while the context lasts."""

    def prepare() -> None:
        if core is not None:
            os.sched_setaffinity(0, {core})
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=prepare
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


def program(name: str, *arguments: str) -> list[str]:
    """The command that runs one of the programs beside this file."""
    return [sys.executable, str(FOLDER / name), *arguments]


def read_line(child: subprocess.Popen[str]) -> str:
    """The next line that a child prints.

    Raises:
        RuntimeError: it ended instead.
    """
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise RuntimeError(f"{child.args!r} ended with {child.wait()} before it answered")
    return line.strip()


def ask(child: subprocess.Popen[str], question: str) -> str:
    """Write a line to a child and read the answer."""
    assert child.stdin is not None
    child.stdin.write(f"{question}\n")
    child.stdin.flush()
    return read_line(child)


def free_port(address: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def wait_for_port(child: subprocess.Popen[str], port: int) -> None:
    """Return when something accepts connections.

    Raises:
        RuntimeError: the child ended, or nothing listened in time.
    """
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise RuntimeError(f"{child.args!r} ended with {child.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"nothing listened on port {port} within {READY_S:g} s")
