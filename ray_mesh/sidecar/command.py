"""The program beside the proxy: started once, signalled as we are, its exit code handed on."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Mapping, Sequence

from ray_mesh.errors import ConfigError

FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
ENDING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})


def find(command: Sequence[str]) -> None:
    """Refuse a command that cannot be started, before anything else is done for it.

    Raises:
        ConfigError: there is no such program.
    """
    if not command or shutil.which(command[0]) is None:
        raise ConfigError(f"cannot run {' '.join(command[:1]) or 'nothing'}: there is no such program")


class Command:
    """One run of a command, in a session of its own, so that a signal reaches it once and whole."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def run(self, environment: Mapping[str, str]) -> int:
        """Run it to its end; returns its exit code, 128 + the number of the signal that ended it.

        Raises:
            OSError: it cannot be started.
        """
        self._process = await asyncio.create_subprocess_exec(
            *self._command, env=dict(environment), start_new_session=True
        )
        code = await self._process.wait()
        return 128 - code if code < 0 else code

    def signal(self, number: signal.Signals) -> None:
        """Pass a signal on to it and its children."""
        if self._process is not None and self._process.returncode is None:
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                return
