"""Following a bucket without losing an update, however the broker behaves.

A follower hears committed writes on their republished subjects (never on ``$KV...``, which shows
writes that compare-and-set then refuses), and fetches by Direct Get what it may have missed: after a
gap in a key's revisions, after a reconnection, when a beacon names a version it does not have, and,
where it follows a whole bucket, when the bucket's head is ahead or the bucket was made anew.
Only last values count: a value that was replaced before it was read may never be delivered.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping

from ray_mesh.bus import subjects
from ray_mesh.bus.chunks import fetch_whole
from ray_mesh.bus.client import Bus, Subscription, end_tasks
from ray_mesh.bus.envelope import Message
from ray_mesh.bus.ledger import Ledger
from ray_mesh.bus.store import Entry, Store, check_key, entry_of, inspect, is_under, predecessor_of
from ray_mesh.errors import MeshError

log = logging.getLogger(__name__)

CHECK_S = 1.0
"""How often a whole-bucket follower compares itself with the head of the bucket."""
GRACE_S = 0.2
"""How long a write may be on its way before it counts as missed."""
SPREAD_S = 0.2
"""Followers of one broker spread their fetches over this time after a reconnection."""
RETRY_S = (0.05, 2.0)
CONCURRENT_FETCHES = 16


class Follower:
    """Follows a whole bucket (or what is under ``prefix``), or only ``keys`` and what :meth:`follow` adds.

    ``on_entry`` hears each key's values in order. ``version_of`` gives the order of a value (for
    compiled resources their version, after checking the signature); what it refuses is never
    delivered. ``on_reset`` is called when the whole bucket was made anew, before its entries are
    delivered again. Neither may block. A value in chunks is delivered with them to who follows keys, and
    without to who follows a whole bucket. A whole bucket can only be followed by roles that may ask for
    stream information; a proxy follows keys.
    """

    def __init__(
        self,
        bus: Bus,
        bucket: str,
        on_entry: Callable[[Entry], None],
        *,
        prefix: str = "",
        keys: Iterable[str] | None = None,
        version_of: Callable[[Entry], int] | None = None,
        on_reset: Callable[[], None] | None = None,
    ) -> None:
        self.bucket = bucket
        self.refused = 0
        self.resyncs = 0
        self._bus = bus
        self._store = Store(bus, bucket)
        self._on_entry = on_entry
        self._on_reset = on_reset
        self._prefix = prefix
        self._is_whole = keys is None
        self._keys: dict[str, Subscription | None] = dict.fromkeys(map(check_key, keys or ()))
        self._ledger = Ledger(version_of)
        self._subscription: Subscription | None = None
        self._epoch = ""
        self._head = 0
        self._heard = 0
        self._held: dict[str, Entry] | None = None  # heard while the whole bucket is to be read
        self._is_anew = False  # the receiver has to begin anew first
        self._due: set[str] = set()
        self._is_due = False
        self._wanted: dict[str, int] = {}
        self._pause_s = 0.0
        self._work = asyncio.Event()
        self._synced = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Subscribe, and begin to load. :meth:`synced` tells when everything has been delivered."""
        if self._is_whole:
            everything = subjects.republished(self.bucket, ">")
            self._subscription = await self._bus.subscribe(everything, self._hear)
        for key in self._keys:
            await self._listen(key)
        self._bus.on_reconnect(self._on_reconnect)
        self._flag_all()
        self._worker = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Hear and fetch nothing more."""
        worker, self._worker = self._worker, None
        if worker is not None:
            await end_tasks([worker])
        for subscription in (self._subscription, *self._keys.values()):
            if subscription is not None:
                subscription.stop()
        self._keys.clear()

    async def follow(self, key: str, timeout_s: float = 5.0) -> Entry | None:
        """Follow one key more; returns its last value, delivered already, or None if there is none.

        Raises:
            Unavailable: the bucket does not answer. The key is followed all the same.
        """
        check_key(key)
        if key not in self._keys:
            self._keys[key] = None
            await self._listen(key)
        try:
            entry = await fetch_whole(self._bus, self.bucket, key, timeout_s)
        except MeshError:
            self._flag({key})
            raise
        if key in self._keys:
            self._take(key, entry)
        return entry

    def unfollow(self, key: str) -> None:
        """Forget a key."""
        subscription = self._keys.pop(key, None)
        if subscription is not None:
            subscription.stop()
        self._ledger.forget(key)
        self._due.discard(key)
        self._wanted.pop(key, None)

    def check(self, changed: Mapping[str, int]) -> tuple[str, ...]:
        """Compare with the versions that a beacon names, and fetch what is behind.

        Returns the followed keys that are behind now.
        """
        followed = {key: version for key, version in changed.items() if self._follows(key)}
        behind = self._ledger.behind(followed)
        for key, version in behind.items():
            self._wanted[key] = max(version, self._wanted.get(key, 0))
        if behind:
            self._wake()
        return tuple(behind)

    def resync(self) -> None:
        """Fetch everything again, for instance because a beacon was missed."""
        self._pause_s = random.uniform(0, SPREAD_S)
        if self._is_whole and self._held is None:
            # What comes after a loss may not be delivered before what was lost.
            self._held = {}
        self._flag_all()

    async def synced(self) -> None:
        """Wait until everything that is known to be needed has been delivered."""
        await self._synced.wait()

    def _follows(self, key: str) -> bool:
        return is_under(key, self._prefix) if self._is_whole else key in self._keys

    async def _listen(self, key: str) -> None:
        subscription = await self._bus.subscribe(subjects.republished(self.bucket, key), self._hear)
        if key in self._keys:
            self._keys[key] = subscription
        else:
            subscription.stop()

    def _on_reconnect(self) -> None:
        self._heard = 0
        if self._worker is not None:
            self.resync()

    # Hearing.

    def _hear(self, message: Message) -> None:
        entry = entry_of(self.bucket, message)
        predecessor = predecessor_of(message)
        if entry.revision <= self._heard:
            # Within one epoch of a bucket, revisions only grow.
            self._wake()
        is_after_a_loss = self._is_whole and 0 < self._heard < entry.revision - 1
        self._heard = entry.revision
        self._head = max(self._head, entry.revision)
        if is_after_a_loss:
            self.resync()
        if not self._follows(entry.key):
            return
        if self._held is not None:
            self._held[entry.key] = entry
            return
        if entry.chunks and not self._is_whole:
            self._flag({entry.key})  # fetched with its chunks
            return
        try:
            verdict = self._ledger.hear(entry, predecessor)
        except MeshError as error:
            self._refuse(entry, error)
            return
        if verdict.deliver:
            self._deliver(entry)
        if verdict.gap:
            self.resync()

    def _take(self, key: str, entry: Entry | None) -> None:
        """A fetched value, or the news that there is none."""
        if entry is None:
            self._ledger.miss(key)
            return
        try:
            is_new = self._ledger.fetch(entry)
        except MeshError as error:
            self._refuse(entry, error)
            return
        if is_new:
            self._deliver(entry)

    def _deliver(self, entry: Entry) -> None:
        try:
            self._on_entry(entry)
        except MeshError as error:
            self._refuse(entry, error)
        except Exception as error:
            log.exception("the receiver of %s failed", entry.key)
            self._refuse(entry, error)

    def _refuse(self, entry: Entry, error: Exception) -> None:
        self.refused += 1
        self._bus.report(
            "error", "entry_refused", f"{self.bucket}/{entry.key} revision {entry.revision}: {error}"
        )

    # Fetching.

    def _flag_all(self) -> None:
        self._is_due = True
        self._flag(self._keys)

    def _flag(self, keys: Iterable[str]) -> None:
        self._due.update(keys)
        self._wake()

    def _wake(self) -> None:
        self._synced.clear()
        self._work.set()

    async def _run(self) -> None:
        failures = 0
        while True:
            await self._wait_for_work()
            await asyncio.sleep(self._pause_s)
            self._pause_s = 0.0
            self._work.clear()
            try:
                is_done = await (self._step_whole() if self._is_whole else self._step_keys())
            except MeshError as error:
                log.info("%s cannot be read: %s", self.bucket, error)
                is_done = False
            except Exception as error:
                log.exception("following %s failed", self.bucket)
                self._bus.report("error", "follower_failed", f"following {self.bucket} failed: {error!r}")
                self._flag_all()
                is_done = False
            failures = 0 if is_done else failures + 1
            if not is_done:
                await asyncio.sleep(_retry_s(failures))
                self._wake()
            elif not self._work.is_set():
                self._synced.set()

    async def _wait_for_work(self) -> None:
        try:
            async with asyncio.timeout(CHECK_S if self._is_whole else None):
                await self._work.wait()
        except TimeoutError:
            return

    async def _step_keys(self) -> bool:
        """Fetch the keys that are due; False if some are still behind."""
        if self._wanted:
            # A beacon often overtakes the write it names.
            await asyncio.sleep(random.uniform(0, GRACE_S / 4))
        self._wanted = self._ledger.behind(self._wanted)
        due = [*self._due, *(self._wanted.keys() - self._due)]
        self._due.clear()
        self.resyncs += bool(due)
        for start in range(0, len(due), CONCURRENT_FETCHES):
            chunk = due[start : start + CONCURRENT_FETCHES]
            results = await asyncio.gather(
                *(fetch_whole(self._bus, self.bucket, key) for key in chunk), return_exceptions=True
            )
            for key, result in zip(chunk, results, strict=True):
                self._take_result(key, result)
        self._wanted = self._ledger.behind(self._wanted)
        return not self._wanted and not self._due

    def _take_result(self, key: str, result: Entry | BaseException | None) -> None:
        if key not in self._keys:
            return
        if isinstance(result, MeshError):
            # Away, or permissions that are still on their way.
            log.info("%s of %s cannot be read: %s", key, self.bucket, result)
            self._due.add(key)
        elif isinstance(result, BaseException):
            raise result
        else:
            self._take(key, result)

    async def _step_whole(self) -> bool:
        """Compare with the bucket, and load it if there is a difference; False if still behind."""
        bucket = await inspect(self._bus, self.bucket)
        if bucket.created != self._epoch:
            self._begin_epoch(bucket.created)
        if not self._is_due and (bucket.head > self._head or self._wanted):
            await asyncio.sleep(GRACE_S)
        self._wanted = self._ledger.behind(self._wanted)
        if self._is_due or bucket.head > self._head or self._wanted:
            await self._load()
            self._head = max(self._head, bucket.head)
        self._wanted = self._ledger.behind(self._wanted)
        return not self._wanted

    def _begin_epoch(self, created: str) -> None:
        is_first, self._epoch = not self._epoch, created
        self._head = 0
        self._is_due = True
        if not is_first:
            # What is heard from here on waits until the receiver has been told to begin anew.
            self._held = {}
            self._is_anew = True

    async def _load(self) -> None:
        self.resyncs += 1
        self._is_due = False
        try:
            entries = await self._store.list(self._prefix)
        except MeshError:
            self._is_due = True
            raise
        held, self._held = self._held, None
        if self._is_anew:
            self._is_anew = False
            self._reset()
        for entry in (*entries, *(held or {}).values()):
            self._take(entry.key, entry)
        self._ledger.whole = True

    def _reset(self) -> None:
        self._ledger.clear()
        self._bus.report("warning", "bucket_recreated", f"{self.bucket} was made anew and is read again")
        if self._on_reset is None:
            return
        try:
            self._on_reset()
        except Exception as error:
            log.exception("the receiver of %s failed to begin anew", self.bucket)
            self._bus.report("error", "callback_failed", f"beginning {self.bucket} anew failed: {error!r}")


def _retry_s(failures: int) -> float:
    least, most = RETRY_S
    return random.uniform(0.5, 1.0) * min(most, least * 2.0 ** min(failures, 10))
