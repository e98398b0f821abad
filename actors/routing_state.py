"""One shard of the compiler. Pure: what was heard goes in, what must be written comes out.

Every shard knows all desired state and compiles only the keys that rendezvous hashing gives it among
the live shards. Two shards that disagree for a moment about who is alive write the same bytes, since
compiling is deterministic; the compare-and-set of the store picks one. The stored resources are the
memory of this role: a shard that starts reads them, so that versions go on and endpoints whose
leases it has not heard yet are kept for one lease period instead of being dropped. The same holds when
the broker was away.

There are two lanes. What leases move (endpoints) is always next; what documents change comes in pieces,
dependencies first, removals last.

A shard that was stalled and goes on with what it knew then must change nothing. Three fences see to it.
It does not write while it is deaf: its own heartbeat, which comes behind all that it missed, must have
come back. A write names the revision that it replaces, and fails when somebody else has written since. And it
does not replace what was compiled from later desired state than it knows (``Compiled.through``, the epoch
of a write): it waits until it knows that, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ray_mesh import snapshot
from ray_mesh.actors.serving import PROXY_LEASE_S, Serving
from ray_mesh.bus.messages import Compiled, ProxyLease, Rejection
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

DEAF_S = 1.5
"""A shard that has not heard its own heartbeat for this long hears nobody: the broker is stuck. It is less
than a proxy's lease minus a heartbeat of the proxy, so that a shard knows before a lease runs out."""
FENCE_S = 5.0
"""How long a shard that hears waits for desired state that a stored resource was compiled from. If that has
not come by then, desired state was made anew with smaller revisions."""
MOST_REFUSED = 64
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


@dataclass(slots=True)
class Shard:
    """The state of one RoutingActor. Times are monotonic seconds but for ``wall_at``."""

    instance: str
    started_at: float
    members: tuple[str, ...] = ()
    through: int = 0
    """The revision of the mesh that is compiled from; what was heard since waits for its turn."""
    _world: World = field(default_factory=lambda: World({}))
    _changed: dict[str, Document | None] = field(default_factory=dict)
    _heard: int = 0
    _stored: dict[str, _Stored] = field(default_factory=dict)
    _serving: Serving = field(default_factory=Serving)
    _moved: set[str] = field(default_factory=set)
    _dirty: set[str] = field(default_factory=set)
    _leaving: set[str] = field(default_factory=set)
    _fenced: dict[str, float] = field(default_factory=dict)
    _refused: dict[str, Rejection] = field(default_factory=dict)
    _now: float = 0.0
    _grace_over: bool = False
    _echo_at: float | None = None
    _is_deaf: bool = False

    def put_document(self, key: str, document: Document | None, revision: int) -> None:
        """A verified document of desired state, or its removal, at a revision of the mesh."""
        self._changed[key] = document
        self._heard = max(self._heard, revision)

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

    def refuse(self, write: Write, reason: str) -> None:
        """A write of ours cannot be stored, however often it is tried: what is there stays, until the key is
        compiled anew."""
        compiled = write.compiled
        self._refused[write.stored_key] = Rejection(write.stored_key, compiled.version, reason)

    @property
    def refused(self) -> tuple[Rejection, ...]:
        """What cannot be stored as it is now, by key; no more than a beacon may well carry."""
        return tuple(self._refused[key] for key in sorted(self._refused)[:MOST_REFUSED])

    def put_lease(self, lease: ProxyLease, now: float) -> None:
        """A proxy's heartbeat."""
        self._move(self._serving.hear(lease, now))

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
        self._fenced = dict.fromkeys(self._fenced, now)

    def hear_echo(self, now: float) -> None:
        """The shard's own heartbeat came back from the broker."""
        self._echo_at = now

    def hears(self, now: float) -> bool:
        """Whether what this shard knows is of now: it may write then, and only then."""
        return self._echo_at is None or now - self._echo_at <= DEAF_S

    def tick(self, now: float) -> None:
        """Let leases run out, unless it is the broker that is silent."""
        self._now = now
        if not self.hears(now):
            self._is_deaf = True
            return
        if self._is_deaf:
            self._is_deaf = False
            self.hear_again(now)
        self._dirty.update(self._fenced)
        if not self._grace_over and now - self.started_at > PROXY_LEASE_S:
            self._grace_over = True
            self._moved.update(key for key in self._stored if key.startswith("endpoints."))
        self._move(self._serving.expire(now))

    @property
    def idle(self) -> bool:
        """Whether there is nothing to compile now."""
        return not (self._changed or self._moved or self._dirty or self._leaving)

    @property
    def is_between_passes(self) -> bool:
        """Whether all that is known of documents was looked at."""
        return not (self._dirty or self._leaving)

    @property
    def has_moved(self) -> bool:
        """Whether endpoints wait that leases moved."""
        return bool(self._moved)

    @property
    def is_through(self) -> bool:
        """Whether all that was heard of documents is written."""
        return not (self._changed or self._dirty or self._leaving or self._fenced)

    def step(self, wall_at: float, limit: int | None = None, *, documents: bool = True) -> list[Write]:
        """What to write now, dependencies first and removals last. ``wall_at``: seconds since 1970.

        Looks at no more than ``limit`` keys, endpoints that moved before all others; ``documents`` says
        whether to take up those that changed.
        """
        keys = sorted(self._moved)[:limit]
        self._moved.difference_update(keys)
        writes = [write for key in keys for write in self._rewrite(key, wall_at)]
        if documents and self._changed:
            self._learn()
        if limit is None or len(keys) < limit:
            writes += self._step_config(wall_at, None if limit is None else limit - len(keys))
        return sorted(writes, key=_order)

    def _learn(self) -> None:
        old, self._world = self._world, self._world.replace(self._changed)
        self._dirty |= affected(old, self._world, self._changed.keys())
        self._changed = {}
        self.through = max(self.through, self._heard)

    def _step_config(self, wall_at: float, limit: int | None) -> list[Write]:
        is_last = not self._dirty
        source = self._leaving if is_last else self._dirty
        keys = sorted(source, key=_rank)[:limit]
        source.difference_update(keys)
        writes = [write for key in keys for write in self._rewrite(key, wall_at)]
        if not is_last and limit is not None:
            self._leaving.update(write.stored_key for write in writes if write.compiled.removed)
            writes = [write for write in writes if not write.compiled.removed]
        return writes

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
        self._refused.pop(stored_key, None)
        if not self._is_ours(stored_key):
            self._fenced.pop(stored_key, None)
            return []
        stored = self._stored.get(stored_key)
        before = stored.compiled() if stored else None
        if self._is_fenced(stored_key, before):
            return []
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

    def _is_fenced(self, stored_key: str, before: Compiled | None) -> bool:
        """Whether the stored resource was compiled from later desired state than this shard knows."""
        if before is None or before.through <= self.through:
            self._fenced.pop(stored_key, None)
            return False
        since = self._fenced.setdefault(stored_key, self._now)
        if self._now - since < FENCE_S:
            return True
        del self._fenced[stored_key]
        return False

    def _compile(self, stored_key: str) -> snapshot.Resource | None:
        if stored_key.startswith("endpoints."):
            return compile_endpoints(self._world, stored_key, self._live(stored_key))
        return compile_key(self._world, stored_key)

    def _live(self, stored_key: str) -> list[LiveWorkload]:
        """The workloads that are served now; during the first lease period also those of before."""
        callee = self._world.callee(snapshot.host_for(stored_key))
        if callee is None:
            return []
        live = set(self._serving.of(one.key for one in self._world.attached(callee)))
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

    def _move(self, workloads: Iterable[str]) -> None:
        """These are served elsewhere now, or not any more."""
        for key in workloads:
            self._moved.update(self._world.endpoints_of(key))


def _rank(stored_key: str) -> tuple[int, str]:
    return _ORDER[snapshot.kind_of(split_key(stored_key)[1])], stored_key


def _order(write: Write) -> tuple[bool, int, str]:
    rank = _ORDER[snapshot.kind_of(write.compiled.key)]
    removed = write.compiled.removed
    return removed, -rank if removed else rank, write.stored_key
