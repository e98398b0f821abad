"""One shard of the compiler. Pure: what was heard goes in, what must be written comes out.

Every shard knows all desired state and compiles only the keys that rendezvous hashing gives it among
the live shards. Two shards that disagree for a moment about who is alive write the same bytes, since
compiling is deterministic; the compare-and-set of the store picks one. The stored resources are the
memory of this role: a shard that starts reads them, so that versions go on and endpoints whose
leases it has not heard yet are kept for one lease period instead of being dropped. The same holds when
the broker was away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ray_mesh import snapshot
from ray_mesh.bus.messages import Compiled, ProxyLease
from ray_mesh.compile import (
    LiveWorkload,
    World,
    affected,
    compile_endpoints,
    compile_key,
    split_key,
    stored_keys,
)
from ray_mesh.rendezvous import owner
from ray_mesh.resources import Document

PROXY_LEASE_S = 3.0
DEAF_S = 1.5
"""A shard that has not heard its own heartbeat for this long hears nobody: the broker is stuck. It is less
than a proxy's lease minus a heartbeat of the proxy, so that a shard knows before a lease runs out."""
LOST = 0
"""The revision of a stored resource that is not in the store any more."""
_ORDER = {"mesh": 0, "endpoints": 1, "service": 2, "workload": 3, "gateway": 4, "node": 5}


@dataclass(frozen=True, slots=True)
class Write:
    """One stored key to change: ``revision`` is what the store must still hold (0 = nothing)."""

    stored_key: str
    compiled: Compiled
    revision: int


Read = Callable[[], Compiled | None]
"""Verifies and decodes what the store holds; None when it cannot be trusted."""


@dataclass(slots=True)
class _Stored:
    """What the store holds under a key. Each shard hears of every write, and reads only its own."""

    revision: int
    unread: Read | None = None
    known: Compiled | None = None

    def compiled(self) -> Compiled | None:
        if self.unread is not None:
            self.known, self.unread = self.unread(), None
        return self.known


@dataclass(frozen=True, slots=True)
class _Lease:
    lease: ProxyLease
    heard_at: float


@dataclass(slots=True)
class Shard:
    """The state of one RoutingActor. Times are monotonic seconds but for ``wall_at``."""

    instance: str
    started_at: float
    members: tuple[str, ...] = ()
    through: int = 0
    _world: World = field(default_factory=lambda: World({}))
    _changed: dict[str, Document | None] = field(default_factory=dict)
    _stored: dict[str, _Stored] = field(default_factory=dict)
    _leases: dict[str, _Lease] = field(default_factory=dict)
    _dirty: set[str] = field(default_factory=set)
    _grace_over: bool = False
    _echo_at: float | None = None
    _is_deaf: bool = False

    def put_document(self, key: str, document: Document | None, revision: int) -> None:
        """A verified document of desired state, or its removal, at a revision of the mesh."""
        self._changed[key] = document
        self.through = max(self.through, revision)

    def put_stored(self, stored_key: str, revision: int, read: Read) -> None:
        """The store holds another value now. ``read`` is called when the key is this shard's."""
        known = self._stored.get(stored_key)
        if known is None or known.revision < revision:
            self._stored[stored_key] = _Stored(revision, read)
            self._dirty.add(stored_key)

    def forget_stored(self, *, shared: bool) -> None:
        """One of the two buckets was made anew and is empty.

        What it held stays known: versions go on from it, and endpoints whose leases were not heard yet
        are kept, as after any other absence of the broker. Removals are written again, too.
        """
        for key in [key for key in self._stored if shared == (not split_key(key)[0])]:
            self._stored[key].revision = LOST
            self._dirty.add(key)
        self._dirty.update(stored_keys(self._world))

    def wrote(self, write: Write, revision: int) -> None:
        """A write of ours is stored, under this revision of its bucket."""
        self._stored[write.stored_key] = _Stored(revision, known=write.compiled)

    def put_lease(self, lease: ProxyLease, now: float) -> None:
        """A proxy's heartbeat."""
        known = self._leases.get(lease.proxy)
        self._leases[lease.proxy] = _Lease(lease, now)
        if known is None or _claim(known.lease) != _claim(lease):
            self._touch_endpoints(lease)
            if known is not None:
                self._touch_endpoints(known.lease)

    def set_members(self, members: tuple[str, ...]) -> None:
        """The live shards changed: look at every key again, some are ours now."""
        if members != self.members:
            self.members = members
            self._dirty.update(stored_keys(self._world), self._stored)

    def hear_again(self, now: float) -> None:
        """The broker was away: that nobody was heard says nothing of the proxies.

        As after a start, endpoints that are stored are kept for one lease period.
        """
        self.started_at = now
        self._grace_over = False

    def hear_echo(self, now: float) -> None:
        """The shard's own heartbeat came back from the broker."""
        self._echo_at = now

    def tick(self, now: float) -> None:
        """Let leases run out, unless it is the broker that is silent."""
        if self._echo_at is not None and now - self._echo_at > DEAF_S:
            self._is_deaf = True
            return
        if self._is_deaf:
            self._is_deaf = False
            self.hear_again(now)
        if not self._grace_over and now - self.started_at > PROXY_LEASE_S:
            self._grace_over = True
            self._dirty.update(key for key in self._stored if key.startswith("endpoints."))
        for name in [n for n, one in self._leases.items() if now - one.heard_at > PROXY_LEASE_S]:
            self._touch_endpoints(self._leases.pop(name).lease)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to compile."""
        return not self._changed and not self._dirty

    def step(self, wall_at: float) -> list[Write]:
        """What to write now, dependencies first and removals last. ``wall_at``: seconds since 1970."""
        if self._changed:
            old, self._world = self._world, self._world.replace(self._changed)
            self._dirty |= affected(old, self._world, self._changed.keys())
            self._changed = {}
        dirty, self._dirty = self._dirty, set()
        writes = [write for key in dirty if self._is_ours(key) for write in self._rewrite(key, wall_at)]
        return sorted(writes, key=_order)

    def retry(self, stored_keys_: Iterable[str]) -> None:
        """Writing these failed (somebody else was first, or the broker was away)."""
        self._dirty.update(stored_keys_)

    def validate(self) -> None:
        """Assert what must always hold."""
        for stored_key, stored in self._stored.items():
            if stored.known is not None:
                assert stored_key.endswith(stored.known.key), f"{stored_key} holds {stored.known.key}"
                assert stored.known.removed == (not stored.known.resource)

    def _is_ours(self, stored_key: str) -> bool:
        return owner(stored_key, self.members) == self.instance

    def _rewrite(self, stored_key: str, wall_at: float) -> list[Write]:
        stored = self._stored.get(stored_key)
        before = stored.compiled() if stored else None
        resource = self._compile(stored_key)
        raw = b"" if resource is None else snapshot.encode(resource)
        is_there = stored is not None and stored.revision != LOST
        if before is not None and is_there and raw == before.resource:
            return []
        if stored is None and not raw:
            return []
        # Milliseconds keep versions growing even when the store was lost with the counter in it.
        version = max((before.version if before else 0) + 1, int(wall_at * 1000))
        _, key = split_key(stored_key)
        compiled = Compiled(key, version, self.through, raw, removed=not raw)
        return [Write(stored_key, compiled, stored.revision if stored else 0)]

    def _compile(self, stored_key: str) -> snapshot.Resource | None:
        if stored_key.startswith("endpoints."):
            return compile_endpoints(self._world, stored_key, self._live(stored_key))
        return compile_key(self._world, stored_key)

    def _live(self, stored_key: str) -> list[LiveWorkload]:
        """The workloads that are served now; during the first lease period also those of before.

        The proxies of a node share its port, so a workload is served when all of them can.
        """
        served: dict[str, list[set[LiveWorkload]]] = {}
        for one in self._leases.values():
            if one.lease.state == "HEALTHY":
                served.setdefault(one.lease.node, []).append(set(_serves(one.lease)))
        live = set().union(*(set.intersection(*sets) for sets in served.values()))
        if not self._grace_over:
            live.update(self._remembered(stored_key))
        return list(live)

    def _remembered(self, stored_key: str) -> list[LiveWorkload]:
        stored = self._stored.get(stored_key)
        compiled = stored.compiled() if stored else None
        if compiled is None or not compiled.resource:
            return []
        endpoints = snapshot.decode(compiled.key, compiled.resource)
        assert isinstance(endpoints, snapshot.Endpoints)
        return [LiveWorkload(one.workload, one.node, one.address, one.port) for one in endpoints.endpoints]

    def _touch_endpoints(self, lease: ProxyLease) -> None:
        """What the proxies of a node can serve together may have changed."""
        leases = (one.lease for one in self._leases.values() if one.lease.node == lease.node)
        keys = {key for each in (lease, *leases) for key in each.ready}
        for key in keys:
            self._dirty.update(self._world.endpoints_of(key))


def _claim(lease: ProxyLease) -> tuple[object, ...]:
    return lease.state, lease.node, lease.address, lease.inbound_port, lease.ready


def _serves(lease: ProxyLease) -> list[LiveWorkload]:
    return [LiveWorkload(key, lease.node, lease.address, lease.inbound_port) for key in lease.ready]


def _order(write: Write) -> tuple[bool, int, str]:
    rank = _ORDER[snapshot.kind_of(write.compiled.key)]
    removed = write.compiled.removed
    return removed, -rank if removed else rank, write.stored_key
