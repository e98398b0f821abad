"""Active health checks: the endpoints of a host that has a HealthCheck are asked regularly.

A proxy checks the hosts that its workloads call, with the certificate of one of them, so policies hold for
checks as for calls. Until it has failed often enough an endpoint counts as well.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from ray_mesh.proxy.cluster import Destination, Member
from ray_mesh.proxy.timers import Timed
from ray_mesh.snapshot import HealthCheck

TICK_S = 0.1
MAX_AT_ONCE = 64
"""Checks that run at a time in one proxy; the others wait for the next tick."""

Probe = Callable[[Destination, Member, HealthCheck], Awaitable[bool]]


class Ticking(Protocol):
    """See :class:`.timers.Wheel`."""

    def add(self, at: float, item: Timed) -> None:
        """Call back at a time."""


class Record:
    """How the checks of one endpoint went."""

    __slots__ = ("due_at", "in_a_row", "is_running")

    def __init__(self, due_at: float) -> None:
        self.due_at = due_at
        self.in_a_row = 0  # of results that speak against how it is counted now
        self.is_running = False

    def note(self, check: HealthCheck, was_sick: bool, succeeded: bool) -> bool:
        """Take a result; whether the endpoint counts as sick from now on."""
        if succeeded != was_sick:
            self.in_a_row = 0
            return was_sick
        self.in_a_row += 1
        needed = check.healthy_threshold if was_sick else check.unhealthy_threshold
        if self.in_a_row < needed:
            return was_sick
        self.in_a_row = 0
        return not was_sick


class HealthChecks:
    """Checks the destinations of a plane that ask for it."""

    def __init__(self, destinations: Iterable[Destination], wheel: Ticking, probe: Probe) -> None:
        self._destinations = destinations
        self._wheel = wheel
        self._probe = probe
        self._records: dict[Member, Record] = {}
        self._checked: set[Destination] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, now: float) -> None:
        """Begin."""
        self._wheel.add(now + TICK_S, self)

    async def stop(self) -> None:
        """End what runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def on_deadline(self, now: float) -> None:
        """Begin the checks that are due (see :class:`.timers.Timed`)."""
        seen: set[Member] = set()
        checked: set[Destination] = set()
        for destination in self._destinations:
            check = destination.service.health if destination.service is not None else None
            if check is None:
                continue
            checked.add(destination)
            for member in (destination.members or {}).values():
                seen.add(member)
                self._look_at(destination, member, check, now)
        for destination in self._checked - checked:
            self._forgive(destination, now)
        self._checked = checked
        for gone in self._records.keys() - seen:
            del self._records[gone]
        self._wheel.add(now + TICK_S, self)

    def _look_at(self, destination: Destination, member: Member, check: HealthCheck, now: float) -> None:
        record = self._records.get(member)
        if record is None:
            record = self._records[member] = Record(now + random.random() * check.interval_s)
        if record.is_running or now < record.due_at or len(self._tasks) >= MAX_AT_ONCE:
            return
        record.is_running = True
        record.due_at = now + check.interval_s
        task = asyncio.get_running_loop().create_task(self._check(destination, member, check, record))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _check(
        self, destination: Destination, member: Member, check: HealthCheck, record: Record
    ) -> None:
        try:
            async with asyncio.timeout(check.timeout_s):
                succeeded = await self._probe(destination, member, check)
        except (OSError, TimeoutError):
            succeeded = False
        finally:
            record.is_running = False
        is_sick = record.note(check, member.is_sick, succeeded)
        if is_sick != member.is_sick:
            member.is_sick = is_sick
            destination.refresh(time.monotonic())

    def _forgive(self, destination: Destination, now: float) -> None:
        for member in (destination.members or {}).values():
            member.is_sick = False
        destination.refresh(now)
