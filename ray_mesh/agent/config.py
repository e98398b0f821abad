"""Compiled configuration from the broker to the data plane, and what of it is applied.

One worker takes entries, beacons and lookups in order, so that an acknowledgement can only follow
what it acknowledges. A resource is applied after what it depends on; what nobody uses is not
followed. Whatever is not signed by the mesh, or older than what was seen, is refused and reported.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import TypeAlias

from ray_mesh import snapshot
from ray_mesh.bus import messages, subjects
from ray_mesh.bus.chunks import join
from ray_mesh.bus.client import Bus, Message
from ray_mesh.bus.follower import Follower
from ray_mesh.bus.store import Entry
from ray_mesh.errors import MeshError, PeerError, Unavailable
from ray_mesh.security.signing import VerifyKey
from ray_mesh.security.vouching import fingerprint, vouched

log = logging.getLogger(__name__)

FRESH_S = 30.0
"""The first beacon of a shard is refused if its time differs more than this from ours (replay, or a skewed
clock). Of a shard that is known, numbers tell a replay; what is late is believed, so that who cannot keep up
for a while need not fetch everything again for that."""

VOUCHED = 16
"""How many beacons are remembered that verified resources vouch for: these need no verification."""

RETRY_S = 0.2

Apply = Callable[[str, snapshot.Resource | None], Awaitable[None]]
Report = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class _Changed:
    key: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class _Wanted:
    host: str


@dataclass(frozen=True, slots=True)
class _Idle:
    host: str


@dataclass(frozen=True, slots=True)
class _Acknowledge:
    shard: str
    number: int


_Item: TypeAlias = _Changed | messages.Beacon | _Wanted | _Idle | _Acknowledge


class ConfigSync:
    """Follows what one proxy needs.

    ``apply`` takes a resource to the data plane (None = removed) and raises MeshError to reject it.
    ``unknown`` is told of hosts that are not in the mesh. ``changed`` is called when ``applied`` or
    ``rejected`` changed, ``assigned`` when ``workloads`` did, with all of the node's applied.
    ``report`` takes a reason word and a sentence.
    """

    def __init__(
        self,
        bus: Bus,
        node: str,
        verify: VerifyKey,
        *,
        apply: Apply,
        unknown: Callable[[str], Awaitable[None]],
        changed: Callable[[], None],
        assigned: Callable[[], None],
        report: Report,
    ) -> None:
        self._bus = bus
        self._node = node
        self._verify = verify
        self._apply = apply
        self._unknown = unknown
        self._changed = changed
        self._assigned = assigned
        self._report = report
        self._inbox: deque[_Item] = deque()
        self._filled = asyncio.Event()
        self._is_taking = False
        self._shared = Follower(
            bus, subjects.SHARED_BUCKET, self._heard, keys=(), version_of=self._verified_version
        )
        self._private = Follower(
            bus, subjects.PRIVATE_BUCKET, self._heard, keys=(), version_of=self._verified_version
        )
        self._followed: set[str] = set()
        self._versions: dict[str, int] = {}
        self._verified: dict[str, tuple[Entry, messages.Compiled]] = {}  # heard, not settled yet
        self._floors: dict[str, int] = {}  # outlives following: what was let go may come back, never older
        self._removed: set[str] = set()
        self._led_to: dict[str, set[str]] = {}  # by the routes of a followed service or gateway
        self._held: tuple[str, ...] = ()
        self._vouched: deque[bytes] = deque(maxlen=VOUCHED)
        self._newest_beacon: dict[str, int] = {}
        self._syncing: dict[str, asyncio.Task[None]] = {}
        self._worker: asyncio.Task[None] | None = None
        self.applied: dict[str, int] = {}
        self.rejected: dict[str, messages.Rejection] = {}
        self.workloads: dict[str, snapshot.Workload] = {}
        self.assigned_once = asyncio.Event()

    async def start(self) -> None:
        """Subscribe, read the node's own resources, and keep going until :meth:`stop`."""
        await self._shared.start()
        await self._private.start()
        self._worker = asyncio.create_task(self._work(), name="config-sync")
        await self._bus.subscribe(subjects.every("beacon"), self._heard_beacon)
        await self._follow(snapshot.MESH_KEY)
        await self._follow(self._node_key)
        self.assigned_once.set()

    async def stop(self) -> None:
        """Stop following."""
        tasks = [task for task in (self._worker, *self._syncing.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._shared.stop()
        await self._private.stop()

    def want(self, host: str) -> None:
        """Somebody called ``host``, which the data plane does not know yet."""
        self._put(_Wanted(host))

    def let_go(self, host: str) -> None:
        """Nobody has called ``host`` for long: it is followed no more, unless a route leads there."""
        self._put(_Idle(host))

    @property
    def _node_key(self) -> str:
        return f"node.mesh.{self._node}"

    def _heard(self, entry: Entry) -> None:
        self._put(_Changed(entry.key.removeprefix(f"{self._node}."), entry))

    def _verified_version(self, entry: Entry) -> int:
        return self._read(entry.key.removeprefix(f"{self._node}."), entry).version

    def _heard_beacon(self, message: Message) -> None:
        signature = message.headers.get(messages.SIGNATURE_HEADER, "")
        if fingerprint(message.data, signature) not in self._vouched:
            self._verify.verify("beacon", message.data, signature)
        beacon = messages.decode(messages.Beacon, message.data)
        age_s = time.time() - beacon.at
        if abs(age_s) > FRESH_S and beacon.shard not in self._newest_beacon:
            raise PeerError(f"beacon of {beacon.shard} is {age_s:.0f} s old: replayed, or a clock is wrong")
        if self._is_idle:
            self._compare(beacon)
        else:
            self._put(beacon)

    def _put(self, item: _Item) -> None:
        self._inbox.append(item)
        self._filled.set()

    @property
    def _is_idle(self) -> bool:
        """Whether all that was heard is taken, so that what is heard now need not wait for its turn."""
        return not self._inbox and not self._is_taking

    async def _work(self) -> None:
        while True:
            self._is_taking = False
            while not self._inbox:
                self._filled.clear()
                await self._filled.wait()
            self._is_taking, item = True, self._inbox.popleft()
            try:
                await self._take(item)
            except MeshError as error:
                self._report(error.reason, str(error))
            except Exception:
                log.exception("configuration: %r failed", item)
                self._report("internal", f"applying {type(item).__name__} failed; see the log")

    async def _take(self, item: _Item) -> None:
        match item:
            case _Changed(key, entry):
                await self._settle(key, entry)
            case messages.Beacon():
                self._compare(item)
            case _Wanted(host):
                if not await self._ensure_host(host):
                    await self._unknown(host)
            case _Idle(host):
                await self._drop_host(host)
            case _Acknowledge(shard, number):
                self._acknowledge(shard, number)

    def _compare(self, beacon: messages.Beacon) -> None:
        """See to it that what the beacon names is fetched, and acknowledged when it is applied."""
        newest = self._newest_beacon.get(beacon.shard)
        if newest is not None and beacon.number <= newest:
            return  # replayed: a shard's numbers only grow, a new shard has a new name
        self._newest_beacon[beacon.shard] = beacon.number
        for gone in self.applied.keys() - set(beacon.members) - {beacon.shard}:
            del self.applied[gone]
        if newest is not None and beacon.number != newest + 1:
            self._shared.resync()
            self._private.resync()
        behind = (*self._private.check(beacon.changed), *self._shared.check(beacon.changed))
        is_first_or_missed = newest is None or beacon.number != newest + 1
        if beacon.shard not in self._syncing:
            if behind or is_first_or_missed:
                self._syncing[beacon.shard] = asyncio.create_task(self._synchronize(beacon.shard))
            elif self._is_idle:
                self._acknowledge(beacon.shard, beacon.number)
            else:
                self._put(_Acknowledge(beacon.shard, beacon.number))

    def _acknowledge(self, shard: str, number: int) -> None:
        self.applied[shard] = number
        self._changed()

    async def _synchronize(self, shard: str) -> None:
        """Wait for the followers; what they delivered is in the inbox before the acknowledgement."""
        number = -1
        while number != self._newest_beacon[shard]:
            number = self._newest_beacon[shard]
            await self._shared.synced()
            await self._private.synced()
            self._put(_Acknowledge(shard, number))
        del self._syncing[shard]

    async def _follow(self, key: str) -> None:
        """Follow a key and apply its last value now."""
        if key in self._followed:
            return
        self._followed.add(key)
        entry = await self._fetch(key)
        if entry is None:
            return
        try:
            await self._settle(key, entry)
        except MeshError as error:
            # One resource that is refused must not keep the others from being taken up.
            self._report(error.reason, str(error))

    async def _fetch(self, key: str) -> Entry | None:
        """The last value of a key, however long the broker is away.

        What comes behind waits in the inbox: an acknowledgement must not overtake what it needs.
        """
        while True:
            try:
                if snapshot.kind_of(key) in snapshot.PRIVATE_KINDS:
                    return await self._private.follow(f"{self._node}.{key}")
                return await self._shared.follow(key)
            except Unavailable as error:
                self._report(error.reason, f"{key} is fetched again: {error}")
                await asyncio.sleep(RETRY_S)

    def _unfollow(self, key: str) -> None:
        if key not in self._followed:
            return
        self._followed.discard(key)
        self._versions.pop(key, None)
        self._verified.pop(key, None)
        self._removed.discard(key)
        self._led_to.pop(key, None)
        self.rejected.pop(key, None)
        private = snapshot.kind_of(key) in snapshot.PRIVATE_KINDS
        if private:
            self._private.unfollow(f"{self._node}.{key}")
        else:
            self._shared.unfollow(key)

    async def _ensure_host(self, host: str) -> bool:
        """Follow a host's service and endpoints; False when the mesh has no such host."""
        service = snapshot.key_for("service", host)
        await self._follow(snapshot.key_for("endpoints", host))
        await self._follow(service)
        if service in self._removed:
            return False  # it is followed all the same: it may come back
        if self._versions.get(service):
            return True
        self._unfollow(snapshot.key_for("endpoints", host))
        self._unfollow(service)
        return False

    async def _settle(self, key: str, entry: Entry) -> None:
        """Verify one stored resource and apply it unless it is already applied."""
        compiled = self._read(key, entry)
        self._verified.pop(key, None)
        seen = self._versions.get(key, 0)
        if key not in self._followed or compiled.version <= seen:
            return
        self._versions[key] = self._floors[key] = compiled.version
        (self._removed.add if compiled.removed else self._removed.discard)(key)
        try:
            resource = None if compiled.removed else snapshot.decode(key, compiled.resource)
            await self._adopt(key, resource)
        except Exception as error:  # whatever it is, it must not be acknowledged as applied
            self.rejected[key] = messages.Rejection(key, compiled.version, str(error))
            self._changed()
            raise
        if self.rejected.pop(key, None) is not None:
            self._changed()

    def _read(self, key: str, entry: Entry) -> messages.Compiled:
        """What an entry holds. The follower asks for its version, and then the worker for the whole: the
        signature is checked once."""
        known = self._verified.get(key)
        if known is not None and known[0] is entry:
            compiled = known[1]
        else:
            self._check(entry)
            compiled = messages.decode(messages.Compiled, entry.value)
            if compiled.key != key:
                raise PeerError(f"{key}: holds a resource that was signed for {compiled.key}")
            compiled = join(compiled, entry.parts)
            if key in self._followed:
                self._verified[key] = entry, compiled
        floor = self._floors.get(key, 0)
        if compiled.version < floor:
            raise PeerError(f"{key}: version {compiled.version} is older than {floor}, which was seen")
        return compiled

    def _check(self, entry: Entry) -> None:
        """Verify what an entry holds, and with it the beacon that it vouches for."""
        if not entry.beacon:
            self._verify.verify("compiled", entry.value, entry.signature)
            return
        beacon = vouched(self._verify, entry.value, entry.beacon)
        if beacon not in self._vouched:
            self._vouched.append(beacon)

    async def _adopt(self, key: str, resource: snapshot.Resource | None) -> None:
        """Apply after what it depends on."""
        match resource:
            case snapshot.Node():
                await self._assign((*resource.workloads, *resource.gateways))
                return
            case None if key == self._node_key:
                await self._assign(())
                return
            case snapshot.Service(routes=routes, routings=routings):
                everybody = (routes, *(routing.routes for routing in routings))
                await self._ensure_routes(key, chain.from_iterable(everybody), resource.host)
            case snapshot.Gateway(servers=servers):
                virtual_hosts = [one for server in servers for one in server.virtual_hosts]
                await self._ensure_routes(key, (route for one in virtual_hosts for route in one.routes), "")
            case snapshot.Workload():
                self.workloads[key] = resource
            case _:
                pass
        if resource is None:
            self.workloads.pop(key, None)
            self._led_to.pop(key, None)
        await self._apply(key, resource)
        if key in self._held and snapshot.kind_of(key) == "workload":
            self._assigned()

    async def _ensure_routes(self, key: str, routes: Iterable[snapshot.Route], own_host: str) -> None:
        hosts = {destination.host for route in routes for destination in route.destinations} - {own_host}
        self._led_to[key] = hosts
        for host in sorted(hosts):
            await self._ensure_host(host)

    async def _drop_host(self, host: str) -> None:
        if any(host in hosts for hosts in self._led_to.values()):
            return
        for kind in ("service", "endpoints"):
            key = snapshot.key_for(kind, host)
            if key in self._followed:
                self._unfollow(key)
                await self._apply(key, None)

    async def _assign(self, keys: tuple[str, ...]) -> None:
        """The node's workloads changed: take up the new ones, then let go of the others."""
        for key in keys:
            await self._follow(key)
        for key in self._held:
            if key not in keys:
                self._unfollow(key)
                self.workloads.pop(key, None)
                await self._apply(key, None)
        self._held = keys
        self._assigned()
