"""RoutingActor: one shard of the compiler (Pilot's role), fed by NATS, writing to NATS."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial

from ray_mesh.actors.desired import DesiredFollower
from ray_mesh.actors.role import Role
from ray_mesh.actors.routing_state import Shard, Write
from ray_mesh.actors.settings import RoleSettings
from ray_mesh.bus import messages, subjects
from ray_mesh.bus.client import Message
from ray_mesh.bus.follower import Follower
from ray_mesh.bus.store import Entry, Store
from ray_mesh.compile import split_key
from ray_mesh.errors import Conflict, MeshError, PeerError
from ray_mesh.membership import HEARTBEAT_S
from ray_mesh.resources import Document
from ray_mesh.security.join import is_of_node

log = logging.getLogger(__name__)

TICK_S = 0.1


class RoutingActor(Role):
    """Compiles what it owns, at once on the first change, and says in beacons how far it is."""

    def __init__(self, settings: RoleSettings) -> None:
        super().__init__(settings)
        self._signing = self.state_dir.signing_key("compiled")
        self._verify = self._signing.verify_key
        self._desired = DesiredFollower(settings.keys.admission_public, self._heard_desired)
        self._shard = Shard(settings.instance, time.monotonic())
        self._changed = asyncio.Event()
        self._number = 0
        self._unannounced: dict[str, int] = {}
        self._beaconed: tuple[int, tuple[str, ...]] = (0, ())
        self._beacon_at = 0.0

    async def run(self) -> None:
        """Read desired and compiled state, then follow both."""
        self._shared = Store(self.bus, subjects.SHARED_BUCKET)
        self._private = Store(self.bus, subjects.PRIVATE_BUCKET)
        await self.bus.subscribe(subjects.every("lease"), self._heard_lease)
        self.bus.on_reconnect(lambda: self._shard.hear_again(time.monotonic()))
        followers = [
            Follower(self.bus, bucket, self._heard_stored, on_reset=partial(self._forget, bucket))
            for bucket in (subjects.SHARED_BUCKET, subjects.PRIVATE_BUCKET)
        ]
        for follower in followers:
            await follower.start()
        for follower in followers:
            await follower.synced()
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
        self._wake()

    def _heard_stored(self, entry: Entry) -> None:
        self._shard.put_stored(entry.key, entry.revision, partial(self._read, entry))
        self._wake()

    def _read(self, entry: Entry) -> messages.Compiled | None:
        try:
            self._verify.verify("compiled", entry.value, entry.signature)
            compiled = messages.decode(messages.Compiled, entry.value)
            if split_key(entry.key)[1] != compiled.key:
                raise PeerError(f"holds what was signed as {compiled.key}")
        except MeshError as error:
            self.report("error", error.reason, f"stored resource {entry.key}: {error}; it is written again")
            return None
        return compiled

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
                async with asyncio.timeout(TICK_S):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            try:
                await self._turn()
            except MeshError as error:
                self.report("warning", error.reason, f"compiling goes on: {error}")

    async def _turn(self) -> None:
        now = time.monotonic()
        self._shard.set_members(self.members.live(now))
        if self.bus.connected:
            self._shard.tick(now)
        through, members = self._shard.through, self._shard.members
        while not self._shard.idle:
            through, members = self._shard.through, self._shard.members
            await self._write(self._shard.step(time.time()))
        due = now - self._beacon_at >= HEARTBEAT_S
        if self._unannounced or due or self._beaconed != (through, members):
            self._send_beacon(through, members)

    async def _write(self, writes: list[Write]) -> None:
        """Store the writes in order; what fails is looked at again."""
        for index, write in enumerate(writes):
            try:
                revision = await self._store(write)
            except Conflict:
                await self._refresh(write.stored_key)
                self._shard.retry([write.stored_key])
                continue
            except MeshError:
                self._shard.retry(one.stored_key for one in writes[index:])
                raise
            self._shard.wrote(write, revision)
            self._unannounced[write.compiled.key] = write.compiled.version

    async def _store(self, write: Write) -> int:
        value = messages.encode(write.compiled)
        signature = self._signing.sign("compiled", value)
        return await self._bucket(write.stored_key).put(write.stored_key, value, signature, write.revision)

    async def _refresh(self, stored_key: str) -> None:
        entry = await self._bucket(stored_key).get(stored_key)
        if entry is not None:
            self._heard_stored(entry)

    def _bucket(self, stored_key: str) -> Store:
        node, _ = split_key(stored_key)
        return self._private if node else self._shared

    def _send_beacon(self, through: int, members: tuple[str, ...]) -> None:
        self._number += 1
        beacon = messages.Beacon(
            self.settings.instance, self._number, time.time(), through, members, self._unannounced
        )
        payload = messages.encode(beacon)
        headers = {messages.SIGNATURE_HEADER: self._signing.sign("beacon", payload)}
        self.bus.publish(subjects.beacon(self.settings.instance), payload, headers)
        self._unannounced = {}
        self._beaconed = (through, members)
        self._beacon_at = time.monotonic()
