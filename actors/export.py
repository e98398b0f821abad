"""The controller's copy of desired state: kept in a signed file, and put back when the store is lost."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Literal

from ray_mesh.bus import subjects
from ray_mesh.bus.client import Bus, end_tasks
from ray_mesh.bus.follower import Follower
from ray_mesh.bus.store import Entry, ensure_buckets
from ray_mesh.errors import ConfigError, MeshError, PeerError
from ray_mesh.gateway.export import MAX_EXPORT, DesiredCopy, read_export, write_export
from ray_mesh.security.sealed import read_private, write_private
from ray_mesh.security.signing import SigningKey

log = logging.getLogger(__name__)

COALESCE_S = 0.2
OTHERS_BACK_S = 3.0
"""Events are heard by who is connected: API servers come back to a broker in this time."""
RETRY_S = 1.0

MakeBuckets = Callable[[Bus, Sequence[Entry]], Awaitable[bool]]
Report = Callable[[Literal["info", "warning", "error"], str, str], None]


async def _make_own_buckets(bus: Bus, desired: Sequence[Entry]) -> bool:
    return await ensure_buckets(bus, desired=desired)


class DesiredExport:
    """Follows desired state into ``path``, and restores it from there.

    ``report`` takes a severity, a reason word and a sentence; ``make_buckets`` makes what is missing, and
    says whether it restored the entries that it is given.
    """

    def __init__(
        self, path: Path, signing: SigningKey, report: Report, make_buckets: MakeBuckets = _make_own_buckets
    ) -> None:
        self._path = path
        self._signing = signing
        self._report = report
        self._make_buckets = make_buckets
        self._copy = DesiredCopy(signing.verify_key)
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._mending = asyncio.Lock()
        self._is_failing = False

    async def start(self, bus: Bus) -> None:
        """Make the buckets, restored if they were lost, and keep the file up to date from now on.

        Raises:
            ConfigError: the file cannot be trusted; it says what to do.
            Unavailable: JetStream does not answer.
        """
        self._load()
        await self._ensure(bus)
        self._copy.replace()
        self._follower = Follower(
            bus, subjects.DESIRED_BUCKET, self._heard, on_reset=lambda: self._copy.replace()
        )
        await self._follower.start()
        await self._follower.synced()
        self._changed.set()
        self._spawn(self._keep())
        bus.on_reconnect(lambda: self._spawn(self._mend(bus)))

    async def stop(self) -> None:
        """Follow no more; what was heard is written."""
        await self._follower.stop()
        await end_tasks(self._tasks)
        if self._changed.is_set():
            await self._write()

    def _load(self) -> None:
        if not self._path.exists():
            return
        try:
            export = read_export(read_private(self._path, MAX_EXPORT), self._signing.verify_key)
        except PeerError as error:
            raise ConfigError(
                f"{self._path} is not the export of this mesh's configuration: {error}. "
                "Put a backup of the state directory back, or remove that file"
            ) from error
        self._copy.replace(export.entries)

    async def _ensure(self, bus: Bus) -> None:
        entries = self._copy.entries()
        if await self._make_buckets(bus, entries):
            self._spawn(self._tell_restored(len(entries)))

    async def _tell_restored(self, objects: int) -> None:
        await asyncio.sleep(OTHERS_BACK_S)
        self._report(
            "warning",
            "desired_state_restored",
            f"the broker had lost its store: {objects} objects of desired state were restored from "
            "the mesh's signed copy. Their history begins anew, and what was admitted in the second "
            "before the loss may have to be applied again",
        )

    async def _mend(self, bus: Bus) -> None:
        """The broker is back, perhaps with nothing."""
        async with self._mending:
            while True:
                try:
                    await self._ensure(bus)
                    return
                except MeshError as error:
                    log.warning("the buckets cannot be looked at yet: %s", error)
                    await asyncio.sleep(RETRY_S)

    async def _keep(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(COALESCE_S)
            await self._write()

    async def _write(self) -> None:
        self._changed.clear()
        raw = write_export(self._copy.entries(), self._signing, time.time())
        try:
            await asyncio.to_thread(write_private, self._path, raw)
        except OSError as error:
            self._changed.set()
            if not self._is_failing:
                self._is_failing = True
                self._report(
                    "error",
                    "export_failed",
                    f"{self._path} cannot be written: {error}. Were the store lost now, later changes "
                    "would be lost with it: make room, or mend the disk",
                )
            await asyncio.sleep(RETRY_S)
            return
        self._is_failing = False

    def _heard(self, entry: Entry) -> None:
        self._copy.put(entry)
        self._changed.set()

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
