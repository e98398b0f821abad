"""The proxy asks the workloads beside it whether they are well; who is not, is not served.

A workload with a probe is not well until it has answered. A command is run only if whoever started this
proxy allowed it: configuration says which checks are to be made, and may not make a machine run anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from ray_mesh.agent.grpc_probe import ask_health
from ray_mesh.snapshot import Probe, Workload

FIRST_PERIOD_S = 1.0
"""Between checks of a workload that has not been well yet, if its period is longer."""
MOST_LINE = 4096
"""Bytes of a status line that are read."""

Report = Callable[[str, str], None]


@dataclass(slots=True)
class Health:
    """What a row of checks says. Pure."""

    success_threshold: int
    failure_threshold: int
    is_well: bool = False
    _row: int = 0

    def note(self, is_good: bool) -> bool:
        """Count one check; True when the verdict changed with it."""
        if is_good == self.is_well:
            self._row = 0
            return False
        self._row += 1
        if self._row < (self.success_threshold if is_good else self.failure_threshold):
            return False
        self._row = 0
        self.is_well = is_good
        return True


class Checks:
    """One loop for each workload that has a probe. ``changed`` is called when :attr:`unhealthy` did,
    ``report`` takes a reason word and a sentence; ``commands`` are those that may be run."""

    def __init__(
        self, changed: Callable[[], None], report: Report, commands: Collection[tuple[str, ...]] = ()
    ) -> None:
        self._changed = changed
        self._report = report
        self._commands = commands
        self._probes: dict[str, Probe] = {}
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._unhealthy: set[str] = set()

    @property
    def unhealthy(self) -> tuple[str, ...]:
        """The keys of workloads that are not well."""
        return tuple(sorted(self._unhealthy))

    def hold(self, workloads: Mapping[str, Workload]) -> None:
        """Check these, and no others; a probe that did not change goes on."""
        wanted = {key: one.probe for key, one in workloads.items() if one.probe is not None}
        before = set(self._unhealthy)
        for key in [key for key, probe in self._probes.items() if wanted.get(key) != probe]:
            self._loops.pop(key).cancel()
            del self._probes[key]
            self._unhealthy.discard(key)
        for key in wanted.keys() - self._probes.keys():
            self._probes[key] = probe = wanted[key]
            self._unhealthy.add(key)
            self._loops[key] = asyncio.create_task(self._watch(key, probe), name=f"check {key}")
        if self._unhealthy != before:
            self._changed()

    async def stop(self) -> None:
        """Check nothing more."""
        loops = list(self._loops.values())
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)

    async def _watch(self, key: str, probe: Probe) -> None:
        health = Health(probe.success_threshold, probe.failure_threshold)
        was_well = False
        await asyncio.sleep(probe.initial_delay_s)
        while True:
            trouble = await self._ask(probe)
            if health.note(not trouble):
                self._tell(key, health.is_well, trouble, was_well)
                was_well |= health.is_well
            await asyncio.sleep(probe.period_s if was_well else min(FIRST_PERIOD_S, probe.period_s))

    def _tell(self, key: str, is_well: bool, trouble: str, was_well: bool) -> None:
        (self._unhealthy.discard if is_well else self._unhealthy.add)(key)
        if not is_well:
            self._report("workload_unhealthy", f"{key} is not served: {trouble}")
        elif was_well:
            self._report("workload_healthy", f"{key} is well and served again")
        self._changed()

    async def _ask(self, probe: Probe) -> str:
        """Empty when it is well, else why not."""
        if probe.kind == "exec" and probe.command not in self._commands:
            told = " ".join(probe.command)
            return f"this proxy was not started with the command of its probe, {told!r}"
        try:
            async with asyncio.timeout(probe.timeout_s):
                return await check(probe)
        except TimeoutError:
            return f"no answer within {probe.timeout_s:g} s"
        except UnicodeError:
            return f"{probe.host!r} is no host"
        except OSError as error:
            return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)


async def check(probe: Probe) -> str:
    """Make one check; empty when it was good, else why not. Raises OSError as well."""
    if probe.kind == "exec":
        return await _run(probe.command)
    if probe.kind == "grpc":
        return await ask_health(probe.host, probe.port, probe.service)
    is_tls = probe.kind == "https"
    reader, writer = await asyncio.open_connection(
        probe.host, probe.port, limit=MOST_LINE, ssl=_any_certificate() if is_tls else None
    )
    try:
        return "" if probe.kind == "tcp" else await _get(probe, reader, writer)
    finally:
        writer.transport.abort()


async def _get(probe: Probe, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    named = {name.lower() for name, _ in probe.headers}
    host = f"{probe.host}:{probe.port}"
    usual = (("Host", host), ("User-Agent", "ray-mesh-probe"), ("Connection", "close"))
    fields = [*probe.headers, *(one for one in usual if one[0].lower() not in named)]
    head = "".join(f"{name}: {value}\r\n" for name, value in fields)
    writer.write(f"GET {probe.path} HTTP/1.1\r\n{head}\r\n".encode())
    try:
        line = (await reader.readuntil(b"\n")).split()
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        line = []
    if len(line) < 2 or not line[0].startswith(b"HTTP/") or not line[1].isdigit():
        return f"GET {probe.path}: no answer in HTTP"
    return "" if 200 <= int(line[1]) < 400 else f"GET {probe.path}: {int(line[1])}"


async def _run(command: tuple[str, ...]) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        status = await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
    return "" if status == 0 else f"{command[0]} ended with {status}"


def _any_certificate() -> ssl.SSLContext:
    """Whoever answers on the workload's own port is asked, not trusted: as a kubelet does."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
