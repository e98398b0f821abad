"""RoutingActor: one shard of the compiler (Pilot's role), fed by NATS, writing to NATS."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TypeAlias

from ray_mesh import snapshot
from ray_mesh.actors.desired import DesiredFollower
from ray_mesh.actors.pacing import Gaps, Passes, Pieces
from ray_mesh.actors.role import Role
from ray_mesh.actors.routing_state import Shard, Write
from ray_mesh.actors.settings import RoleSettings
from ray_mesh.bus import messages, subjects
from ray_mesh.bus.chunks import WHOLE_BYTES, Apart, fetch_whole, is_chunk, join, writes
from ray_mesh.bus.client import Message
from ray_mesh.bus.follower import Follower
from ray_mesh.bus.store import Entry, Store
from ray_mesh.bus.store import Write as StoreWrite
from ray_mesh.compile import split_key
from ray_mesh.errors import ConfigError, Conflict, MeshError, PeerError, Unavailable
from ray_mesh.membership import HEARTBEAT_S
from ray_mesh.resources import Document
from ray_mesh.security.join import is_of_node
from ray_mesh.security.vouching import fingerprint, vouch

log = logging.getLogger(__name__)

TICK_S = 0.1
PROMISED_S = 1.0
"""How long a beacon that was signed before its writes may be sent."""
_Through: TypeAlias = tuple[int, tuple[str, ...]]
_State: TypeAlias = tuple[int, tuple[str, ...], tuple[messages.Rejection, ...]]
"""What a beacon says beside what was written: how far, of which shards, what cannot be stored."""
BEACON_S = 2.0
"""Between beacons when nothing changes: each is checked by every proxy."""


@dataclass(frozen=True, slots=True)
class _SignedBeacon:
    message: messages.Beacon
    payload: bytes
    signature: str


class RoutingActor(Role):
    """Compiles what it owns, and says in beacons how far it is.

    The first change is taken up at once, and those that come while it is compiled and written together after
    it. Endpoints never wait for documents, nor for more than one piece of what these change.
    """

    lease_s = 1.5

    def __init__(self, settings: RoleSettings) -> None:
        super().__init__(settings)
        self._signing = self.state_dir.signing_key("compiled")
        self._verify = self._signing.verify_key
        self._desired = DesiredFollower(settings.keys.admission_public, self._heard_desired)
        self._shard = Shard(settings.instance, time.monotonic())
        self._changed = asyncio.Event()
        self._passes = Passes()
        self._pieces = Pieces()
        self._writing: dict[str, str] = {}
        self._chunks: dict[str, int] = {}
        self._in_parts: dict[str, Entry] = {}
        self._parts_due = asyncio.Event()
        self._number = 0
        self._unannounced: dict[str, int] = {}
        self._through: _Through = (0, ())
        self._promised: _SignedBeacon | None = None
        self._beaconed: _State = (0, (), ())
        self._beacon_at = 0.0
        self._gaps = Gaps()
        self._is_unheard = False

    async def run(self) -> None:
        """Read desired and compiled state, then follow both."""
        self._shared = Store(self.bus, subjects.SHARED_BUCKET)
        self._private = Store(self.bus, subjects.PRIVATE_BUCKET)
        await self.bus.subscribe(subjects.every("lease"), self._heard_lease)
        self.bus.on_reconnect(lambda: self._shard.hear_again(time.monotonic()))
        followers = [
            Follower(
                self.bus, bucket, partial(self._heard_stored, bucket), on_reset=partial(self._forget, bucket)
            )
            for bucket in (subjects.SHARED_BUCKET, subjects.PRIVATE_BUCKET)
        ]
        for follower in followers:
            await follower.start()
        for follower in followers:
            await follower.synced()
        await self._gather()
        self.spawn(self._gathering(), "gather chunks")
        await self._desired.start(self.bus)
        self.spawn(self._compile(), "compile")

    def _heard_role(self, message: Message) -> None:
        super()._heard_role(message)
        if subjects.last_token(message.subject) == self.settings.instance:
            self._shard.hear_echo(time.monotonic())

    def _heard_lease(self, message: Message) -> None:
        lease = messages.decode(messages.ProxyLease, message.data)
        if lease.proxy != subjects.last_token(message.subject) or not is_of_node(lease.proxy, lease.node):
            self.report("error", "forged_lease", f"{message.subject} claims to be {lease.proxy}: ignored")
            return
        self._shard.put_lease(lease, time.monotonic())
        self._is_unheard |= self.settings.instance not in lease.applied
        self._wake()

    def _heard_stored(self, bucket: str, entry: Entry) -> None:
        if is_chunk(bucket, entry.key):
            return
        if self._writing.get(entry.key) == entry.signature:
            return  # our own write, before its answer
        if entry.chunks:
            self._in_parts[entry.key] = entry
            self._parts_due.set()
        else:
            self._take_stored(entry)

    def _take_stored(self, entry: Entry) -> None:
        self._chunks[entry.key] = entry.chunks
        self._shard.put_stored(entry.key, entry.revision, partial(self._read, entry))
        self._wake()

    async def _gathering(self) -> None:
        while True:
            await self._parts_due.wait()
            self._parts_due.clear()
            await self._gather()

    async def _gather(self) -> None:
        """Fetch the chunks of what was heard in parts. What cannot be put together is written again."""
        while self._in_parts:
            key, entry = self._in_parts.popitem()
            try:
                whole = await fetch_whole(self.bus, self._bucket(key).bucket, key)
            except Apart:
                self._take_stored(entry)
            except Unavailable:
                self._in_parts.setdefault(key, entry)
                await asyncio.sleep(TICK_S)
            except MeshError:
                self._take_stored(entry)
            else:
                self._take_stored(whole or entry)

    def _read(self, entry: Entry) -> messages.Compiled | None:
        try:
            self._verify.verify("compiled", entry.value, entry.signature)
            compiled = messages.decode(messages.Compiled, entry.value)
            if split_key(entry.key)[1] != compiled.key:
                raise PeerError(f"holds what was signed as {compiled.key}")
            return join(compiled, entry.parts)
        except MeshError as error:
            self.report("error", error.reason, f"stored resource {entry.key}: {error}; it is written again")
            return None

    def _forget(self, bucket: str) -> None:
        """A bucket was made anew: what it held is gone, and is written again."""
        self._shard.forget_stored(shared=bucket == subjects.SHARED_BUCKET)
        self._wake()

    def _heard_desired(self, key: str, document: Document | None, revision: int) -> None:
        self._shard.put_document(key, document, revision)
        self._wake()

    def _wake(self) -> None:
        if not self._shard.idle:
            self._changed.set()

    async def _compile(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._pause_s(time.monotonic())):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            try:
                await self._turn()
            except MeshError as error:
                self.report("warning", error.reason, f"compiling goes on: {error}")
                await asyncio.sleep(TICK_S)

    def _pause_s(self, now: float) -> float:
        """How long to wait for changes: what has to wait for its time is not forgotten."""
        due = [now + TICK_S]
        if not self._shard.idle and self._shard.hears(now):
            due.append(self._passes.next_at)
        if self._has_news:
            due.append(self._gaps.next_at)
        return max(0.0, min(due) - now)

    async def _turn(self) -> None:
        now = time.monotonic()
        self._shard.set_members(self.members.live(now))
        if self.bus.connected:
            self._shard.tick(now)
        while self._has_work(now) and self._shard.hears(now):
            await self._piece(now)
            now = time.monotonic()
            self._announce(now)
        if self._shard.is_through:
            self._through = self._shard.through, self._shard.members
        self._announce(now)

    def _has_work(self, now: float) -> bool:
        shard = self._shard
        if shard.has_moved or not shard.is_between_passes:
            return True
        return not shard.idle and self._passes.is_due(now)

    async def _piece(self, begun_at: float) -> None:
        """Compile and write a few keys; a pass over documents is as many pieces as it needs."""
        shard = self._shard
        is_pass = not shard.is_between_passes or self._passes.is_due(begun_at)
        found = shard.step(time.time(), self._pieces.size, documents=self._passes.is_due(begun_at))
        self._pieces.took(time.monotonic() - begun_at)
        await self._write(found)
        now = time.monotonic()
        if is_pass:
            self._passes.worked(now - begun_at)
            if shard.is_between_passes:
                self._passes.end(now)
        if shard.is_through:
            self._through = shard.through, shard.members

    async def _write(self, changed: list[Write]) -> None:
        """Store the writes, those of one kind as one set, in order; what fails is looked at again."""
        groups = [list(alike) for _, alike in groupby(changed, key=self._kind_of_set)]
        for number, group in enumerate(groups):
            try:
                if not self._shard.hears(time.monotonic()):
                    raise Unavailable("nothing is written by a shard that does not hear itself")
                if self._is_large(group[0]):
                    await self._write_large(group)
                else:
                    await self._write_set(group, is_last=group is groups[-1])
            except MeshError:
                self._shard.retry(one.stored_key for late in groups[number:] for one in late)
                raise

    async def _write_set(self, group: list[Write], *, is_last: bool) -> None:
        """One synchronization of the broker's disk for all of them: ten times as many a second."""
        beacon = self._promise(group) if is_last and self._gaps.is_due(time.monotonic()) else None
        signed = [self._signed(one, beacon) for one in group]
        self._writing = {one.key: one.signature for one in signed}
        try:
            last = await self._bucket(group[0].stored_key).apply(signed)
        except Conflict:
            await self._write_each(group, signed)
            return
        finally:
            self._writing = {}
        for revision, write in enumerate(group, last - len(group) + 1):
            self._wrote(write, revision)

    async def _write_large(self, group: list[Write]) -> None:
        """Each with its chunks, or what is left of those that it had, as a set of its own."""
        for write in group:
            bucket = self._bucket(write.stored_key)
            try:
                signed = writes(
                    bucket.bucket,
                    write.stored_key,
                    write.compiled,
                    write.revision,
                    partial(self._signing.sign, "compiled"),
                    self._chunks.get(write.stored_key, 0),
                )
            except ConfigError as error:
                self.report("error", "too_large", f"{error}. Proxies keep what they had of it")
                self._shard.refuse(write, str(error))
                continue
            self._writing = {signed[-1].key: signed[-1].signature}
            try:
                self._wrote(write, await bucket.apply(signed))
                self._chunks[write.stored_key] = signed[-1].chunks
            except Conflict:
                await self._refresh(write.stored_key)
                self._shard.retry([write.stored_key])
            finally:
                self._writing = {}

    def _is_large(self, write: Write) -> bool:
        return len(write.compiled.resource) > WHOLE_BYTES or self._chunks.get(write.stored_key, 0) > 0

    def _kind_of_set(self, write: Write) -> tuple[bool, str, bool]:
        kind = snapshot.kind_of(write.compiled.key)
        return write.compiled.removed, kind, self._is_large(write)

    async def _write_each(self, group: list[Write], signed: list[StoreWrite]) -> None:
        """Somebody was before us with one of them."""
        for write, one in zip(group, signed, strict=True):
            bucket = self._bucket(write.stored_key)
            try:
                self._wrote(write, await bucket.apply([one]))
            except Conflict:
                await self._refresh(write.stored_key)
                self._shard.retry([write.stored_key])

    def _wrote(self, write: Write, revision: int) -> None:
        self._shard.wrote(write, revision)
        self._unannounced[write.stored_key] = write.compiled.version

    def _promise(self, group: list[Write]) -> bytes:
        """Sign the beacon that is to follow these writes if nothing comes between; returns its fingerprint,
        for which the writes vouch."""
        changed = {write.stored_key: write.compiled.version for write in group}
        shard = self._shard
        through = (shard.through, shard.members) if shard.is_through else self._through
        self._promised = self._signed_beacon(through, {**self._unannounced, **changed})
        return fingerprint(self._promised.payload, self._promised.signature)

    def _signed(self, write: Write, beacon: bytes | None) -> StoreWrite:
        value = messages.encode(write.compiled)
        return StoreWrite(
            write.stored_key,
            value,
            self._signing.sign("compiled", value),
            expected=write.revision,
            beacon="" if beacon is None else vouch(self._signing, value, beacon),
        )

    async def _refresh(self, stored_key: str) -> None:
        entry = await fetch_whole(self.bus, self._bucket(stored_key).bucket, stored_key)
        if entry is not None:
            self._take_stored(entry)

    def _bucket(self, stored_key: str) -> Store:
        node, _ = split_key(stored_key)
        return self._private if node else self._shared

    def _announce(self, now: float) -> None:
        """Send a beacon if there is news, or it is time for one."""
        most_s = HEARTBEAT_S if self._is_unheard else BEACON_S
        if (self._has_news and self._gaps.is_due(now)) or now - self._beacon_at >= most_s:
            self._send_beacon()
            self._gaps.sent(now)
            self._beacon_at = now

    @property
    def _has_news(self) -> bool:
        return bool(self._unannounced) or self._beaconed != (*self._through, self._shard.refused)

    def _send_beacon(self) -> None:
        beacon = self._promised
        if beacon is None or not self._is_kept(beacon.message):
            beacon = self._signed_beacon(self._through, self._unannounced)
        self._promised = None
        self._number = beacon.message.number
        headers = {messages.SIGNATURE_HEADER: beacon.signature}
        self.bus.publish(subjects.beacon(self.settings.instance), beacon.payload, headers)
        self._unannounced = {}
        self._beaconed = (*self._through, beacon.message.refused)
        self._is_unheard = False

    def _signed_beacon(self, through: _Through, changed: dict[str, int]) -> _SignedBeacon:
        beacon = messages.Beacon(
            self.settings.instance, self._number + 1, time.time(), *through, changed, self._shard.refused
        )
        payload = messages.encode(beacon)
        return _SignedBeacon(beacon, payload, self._signing.sign("beacon", payload))

    def _is_kept(self, promised: messages.Beacon) -> bool:
        """Whether a beacon that was signed before its writes says what is to be said now."""
        through, members = self._through
        said = promised.number, promised.through, promised.members, promised.changed, promised.refused
        due = self._number + 1, through, members, self._unannounced, self._shard.refused
        return said == due and time.time() - promised.at < PROMISED_S
