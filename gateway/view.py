"""What the gateway knows of the running mesh, from heartbeats alone: which proxies and roles live, and
which revision every proxy has applied.

The rule of :meth:`MeshView.progress` (``ray-mesh wait``). The live routing shards are those with a
fresh role lease. A revision R is applied when

1. the newest beacon of every live shard names exactly the live shards and has ``through >= R``: then
   every compiled key was written, from a world that includes R, by the shard that owns it now;
2. every live proxy that is not draining has applied, of each live shard X, the beacon ``n_X`` or a later
   one. ``n_X`` is the first beacon of X since its member set last changed that fulfils 1;
3. no such proxy refuses the newest version of a key. A refusal of a version that a later beacon replaced
   is waited out; a refusal of the newest one ends the wait, because nothing better is coming;
4. no live shard says of a key that it cannot be stored. That ends the wait, too.

Missed beacons only make ``n_X`` later, never earlier. Who is alive is known only after listening for as
long as a lease lives, so a view that has just started (or whose bus was away) says "not yet".

``now`` is a monotonic time in seconds of this process.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Generic, Literal, TypeVar

from ray_mesh.bus.messages import Acknowledgement, Beacon, ProxyLease, Rejection, RoleLease
from ray_mesh.compile import LiveWorkload, split_key, stored_key

PROXY_LEASE_S = 3.0
ROLE_LEASE_S = 2.0
FORGET_S = 60.0
"""Leases and shards that were silent for this long leave memory."""
KEPT_STEPS = 1024
"""Steps of ``through`` remembered per shard; older revisions use the oldest step kept."""

Sync = Literal["SYNCED", "STALE", "REJECTED"]
L = TypeVar("L")


@dataclass(frozen=True, slots=True)
class ProxyRow:
    """One live proxy, as shown by ``ray-mesh proxies``. ``reason`` explains STALE and REJECTED, ``behind`` is
    how many announcements of changes it has not applied, ``behind_s`` for how many seconds it has not been
    SYNCED."""

    proxy: str
    node: str
    state: str
    version: str
    sync: Sync
    reason: str
    applied: dict[str, int]
    ready: tuple[str, ...]
    address: str
    inbound_port: int
    pid: int
    svid_expires_at: float
    behind: int
    behind_s: float
    admin_port: int

    @property
    def is_trouble(self) -> bool:
        """Whether somebody should look: a proxy is STALE for a moment after every change."""
        return self.sync == "REJECTED" or (self.sync == "STALE" and self.behind_s >= PROXY_LEASE_S)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a revision has come. ``rejected`` is not empty when waiting is in vain."""

    applied: bool
    waiting_for: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()


@dataclass(slots=True)
class _Shard:
    """The beacons of one shard since its member set last changed: where ``through`` grew."""

    newest: Beacon
    heard_at: float
    changes: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=KEPT_STEPS))
    """The numbers of beacons that named changes, and when they were heard."""
    numbers: list[int] = field(default_factory=list)
    throughs: list[int] = field(default_factory=list)

    def note(self, beacon: Beacon) -> None:
        if not self.throughs or beacon.through > self.throughs[-1]:
            self.numbers.append(beacon.number)
            self.throughs.append(beacon.through)
            del self.numbers[:-KEPT_STEPS], self.throughs[:-KEPT_STEPS]

    def missed(self, applied: int) -> list[tuple[int, float]]:
        """The beacons with changes that come after one."""
        if not self.changes or applied >= self.changes[-1][0]:
            return []
        return [one for one in self.changes if one[0] > applied]

    def first_number(self, revision: int) -> int:
        return self.numbers[bisect_left(self.throughs, revision)]


@dataclass(frozen=True, slots=True)
class _Heard(Generic[L]):
    lease: L
    at: float


class MeshView:
    """Heartbeats in, answers out. Nothing here waits or sends."""

    def __init__(self, now: float) -> None:
        self._listening_since = now
        self._proxies: dict[str, _Heard[ProxyLease]] = {}
        self._roles: dict[tuple[str, str], _Heard[RoleLease]] = {}
        self._shards: dict[str, _Shard] = {}
        self._versions: dict[str, int] = {}
        self._on_node: dict[str, set[str]] = {}
        self._refusing_since: dict[str, float] = {}
        self._laggard = ""
        self._forgot_at = now

    def restart(self, now: float) -> None:
        """The bus was away: what was said meanwhile is unknown, so listen again before concluding."""
        self._listening_since = now

    def observe_proxy(self, lease: ProxyLease, now: float) -> None:
        """A proxy's heartbeat arrived."""
        before = self._proxies.get(lease.proxy)
        if before is not None:
            known = before.lease
            if known.node != lease.node:
                self._on_node[known.node].discard(lease.proxy)
            if known.epoch == lease.epoch and known.number > lease.number:
                # An acknowledgement overtook it.
                lease = replace(lease, applied=known.applied, rejected=known.rejected, number=known.number)
        self._put(lease, now)
        self._forget(now)

    def observe_acknowledgement(self, told: Acknowledgement, now: float) -> None:
        """A proxy says what it has applied. Of one whose lease was not heard yet, nothing is known."""
        heard = self._proxies.get(told.proxy)
        if heard is None or heard.lease.epoch != told.epoch or heard.lease.number > told.number:
            return
        lease = replace(heard.lease, applied=told.applied, rejected=told.rejected, number=told.number)
        self._put(lease, heard.at, now)

    def _put(self, lease: ProxyLease, heard_at: float, now: float | None = None) -> None:
        self._proxies[lease.proxy] = _Heard(lease, heard_at)
        self._on_node.setdefault(lease.node, set()).add(lease.proxy)
        if lease.rejected:
            self._refusing_since.setdefault(lease.proxy, heard_at if now is None else now)
        else:
            self._refusing_since.pop(lease.proxy, None)

    def observe_role(self, lease: RoleLease, now: float) -> None:
        """A control role's heartbeat arrived; ``leaving`` ends it at once."""
        key = (lease.role, lease.instance)
        if lease.leaving:
            self._roles.pop(key, None)
        else:
            self._roles[key] = _Heard(lease, now)

    def observe_beacon(self, beacon: Beacon, now: float) -> None:
        """A verified beacon arrived. Old and repeated ones are ignored."""
        shard = self._shards.get(beacon.shard)
        if shard is not None and not _is_newer(beacon, shard.newest):
            return
        for key, version in beacon.changed.items():
            self._versions[key] = max(version, self._versions.get(key, 0))
        if shard is None or _is_new_run(beacon, shard.newest):
            shard = self._shards[beacon.shard] = _Shard(beacon, now)
            shard.changes.append((beacon.number, now))
        elif beacon.changed:
            shard.changes.append((beacon.number, now))
        shard.newest, shard.heard_at = beacon, now
        shard.note(beacon)

    def proxies(self, now: float) -> tuple[ProxyRow, ...]:
        """Live proxies by name."""
        shards = self._live_shards(now)
        live = {lease.proxy for lease in self._live_proxies(now)}
        return tuple(self._row(self._proxies[name], shards, now) for name in sorted(live))

    def served(self, now: float) -> list[LiveWorkload]:
        """The workloads that are served now, as RoutingActors have it: the proxies of a node share its port,
        so all of them have to be ready for one."""
        by_node: dict[str, list[set[LiveWorkload]]] = {}
        for lease in self._live_proxies(now):
            if lease.state == "HEALTHY":
                by_node.setdefault(lease.node, []).append(
                    {LiveWorkload(key, lease.node, lease.address, lease.inbound_port) for key in lease.served}
                )
        return sorted(one for sets in by_node.values() for one in set.intersection(*sets))

    def roles(self, now: float, role: str = "") -> tuple[RoleLease, ...]:
        """Live control roles, of one role or of all, in a stable order."""
        found = [
            heard.lease
            for heard in self._roles.values()
            if now - heard.at < ROLE_LEASE_S and role in ("", heard.lease.role)
        ]
        return tuple(sorted(found, key=lambda lease: (lease.role, lease.instance)))

    def nodes(self, now: float) -> tuple[str, ...]:
        """Nodes with a live proxy that takes new workloads."""
        return tuple(sorted({lease.node for lease in self._serving(now)}))

    def is_decided(self, revision: int, now: float, node: str = "") -> bool:
        """Whether :meth:`progress` would say applied or rejected; the same answer, mostly without looking at
        every proxy: one that was behind at the last question usually still is."""
        if self._waiting_for_shards(revision, now):
            return False
        is_refused = self._is_refused(now, node) or bool(self.unstored(now, node))
        return is_refused or not self._is_awaited(revision, now, node)

    def is_applied(self, revision: int, now: float) -> bool:
        """What :meth:`progress` says of all proxies, found as fast as by :meth:`is_decided`."""
        if self._waiting_for_shards(revision, now) or self._is_refused(now, "") or self.unstored(now):
            return False
        return not self._is_awaited(revision, now, "")

    def _is_refused(self, now: float, node: str) -> bool:
        return any(self._standing(lease) for lease in self._refusing(now, node))

    def _is_awaited(self, revision: int, now: float, node: str) -> bool:
        """Whether a proxy is behind."""
        shards = self._live_shards(now)
        known = self._proxies.get(self._laggard)
        is_asked = known is not None and node in ("", known.lease.node) and self._serves(known, now)
        if known is not None and is_asked and self._behind(known.lease, revision, shards):
            return True
        for lease in self._serving(now, node):
            if self._behind(lease, revision, shards):
                self._laggard = lease.proxy
                return True
        return False

    def progress(self, revision: int, now: float, *, node: str = "") -> Progress:
        """Whether every live proxy (of ``node``, or of all) has applied ``revision``; the rule is above."""
        waiting = self._waiting_for_shards(revision, now)
        if waiting:
            return Progress(False, waiting)
        rejected = [*self.unstored(now, node)]
        behind: list[str] = []
        shards = self._live_shards(now)
        for lease in self._serving(now, node):
            rejected += [_refusal(lease, rejection) for rejection in self._standing(lease)]
            behind += self._behind(lease, revision, shards)
        return Progress(not behind and not rejected, tuple(behind), tuple(rejected))

    def unstored(self, now: float, node: str = "") -> tuple[str, ...]:
        """What live shards compiled and cannot store, of all keys or of those that a node follows: proxies
        keep what they had of it."""
        known = [(name, shard) for name in self._live_shards(now) if (shard := self._shards.get(name))]
        return tuple(
            f"shard {name} cannot store {one.key}: {one.reason}"
            for name, shard in known
            for one in shard.newest.refused
            if not node or split_key(one.key)[0] in ("", node)
        )

    def workload_progress(self, key: str, node: str, revision: int, now: float) -> Progress:
        """As :meth:`progress` for one node, and its proxies must serve the workload ``key``."""
        leases = self._serving(now, node)
        if not leases:
            return Progress(False, (f"node {node}: no live proxy",))
        progress = self.progress(revision, now, node=node)
        if not progress.applied:
            return progress
        unready = tuple(
            f"proxy {lease.proxy}: {key} has no identity or listener yet"
            for lease in leases
            if key not in lease.ready
        )
        return Progress(not unready, unready)

    def _waiting_for_shards(self, revision: int, now: float) -> tuple[str, ...]:
        heard_s = now - self._listening_since
        if heard_s < PROXY_LEASE_S:
            return (f"the gateway itself: it has listened for {heard_s:.1f} s of {PROXY_LEASE_S:.0f} s",)
        live = self._live_shards(now)
        if not live:
            return ("a routing shard: none is alive, nothing is compiled",)
        return tuple(
            reason for name in live if (reason := self._uncompiled(name, tuple(live), revision)) is not None
        )

    def _uncompiled(self, name: str, live: tuple[str, ...], revision: int) -> str | None:
        shard = self._shards.get(name)
        if shard is None:
            return f"shard {name}: no beacon heard yet"
        if set(shard.newest.members) != set(live):
            return f"shard {name}: knows the shards {sorted(shard.newest.members)}, alive are {sorted(live)}"
        if shard.newest.through < revision:
            return f"shard {name}: compiled through {shard.newest.through}"
        return None

    def _behind(self, lease: ProxyLease, revision: int, shards: tuple[str, ...]) -> list[str]:
        waiting = []
        for name in shards:
            shard = self._shards[name]
            needed, applied = shard.first_number(revision), lease.applied.get(name, 0)
            if not needed <= applied <= shard.newest.number:
                waiting.append(f"proxy {lease.proxy}: applied beacon {applied} of {name}, needs {needed}")
        return waiting

    def _row(self, heard: _Heard[ProxyLease], shards: tuple[str, ...], now: float) -> ProxyRow:
        lease = heard.lease
        sync, reason = self._sync(lease, shards)
        missed = self._missed(lease, shards)
        since = [at for _, at in missed]
        if sync == "REJECTED":
            since.append(self._refusing_since.get(lease.proxy, now))
        elif sync == "STALE" and not shards:
            since.append(self._shardless_since)
        return ProxyRow(
            proxy=lease.proxy,
            node=lease.node,
            state=lease.state,
            version=lease.version,
            sync=sync,
            reason=reason,
            applied=dict(lease.applied),
            ready=lease.ready,
            address=lease.address,
            inbound_port=lease.inbound_port,
            pid=lease.pid,
            svid_expires_at=lease.svid_expires_at,
            behind=len(missed),
            behind_s=round(now - min(since, default=now), 1),
            admin_port=lease.admin_port,
        )

    def _sync(self, lease: ProxyLease, shards: tuple[str, ...]) -> tuple[Sync, str]:
        refused = [_refusal(lease, rejection) for rejection in self._standing(lease)]
        if refused:
            return "REJECTED", "; ".join(refused)
        if not shards:
            return "STALE", "no routing shard is alive: serving the last good configuration"
        behind = [
            f"{name}: applied beacon {lease.applied.get(name, 0)}, changed at {shard.changes[-1][0]}"
            for name in shards
            if (shard := self._shards.get(name)) is not None
            and lease.applied.get(name, 0) < shard.changes[-1][0]
        ]
        return ("STALE", "; ".join(behind)) if behind else ("SYNCED", "")

    def _missed(self, lease: ProxyLease, shards: tuple[str, ...]) -> list[tuple[int, float]]:
        """The announcements of changes that a proxy has not applied."""
        known = [(name, shard) for name in shards if (shard := self._shards.get(name)) is not None]
        return [one for name, shard in known for one in shard.missed(lease.applied.get(name, 0))]

    @property
    def _shardless_since(self) -> float:
        """When the last routing shard was believed to live."""
        heard = [one.at for (role, _), one in self._roles.items() if role == "routing"]
        return max(heard) + ROLE_LEASE_S if heard else self._listening_since

    def _standing(self, lease: ProxyLease) -> list[Rejection]:
        return [
            one
            for one in lease.rejected
            if self._versions.get(stored_key(one.key, lease.node), 0) <= one.version
        ]

    def _live_shards(self, now: float) -> tuple[str, ...]:
        return tuple(lease.instance for lease in self.roles(now, "routing"))

    def _live_proxies(self, now: float) -> list[ProxyLease]:
        return [heard.lease for heard in self._proxies.values() if now - heard.at < PROXY_LEASE_S]

    def _serving(self, now: float, node: str = "") -> list[ProxyLease]:
        names = self._on_node.get(node, ()) if node else self._proxies
        return [heard.lease for name in names if self._serves(heard := self._proxies[name], now)]

    def _refusing(self, now: float, node: str) -> list[ProxyLease]:
        heard = (self._proxies[name] for name in self._refusing_since)
        return [one.lease for one in heard if self._serves(one, now) and node in ("", one.lease.node)]

    @staticmethod
    def _serves(heard: _Heard[ProxyLease], now: float) -> bool:
        return now - heard.at < PROXY_LEASE_S and heard.lease.state != "DRAINING"

    def _forget(self, now: float) -> None:
        if now - self._forgot_at < PROXY_LEASE_S:
            return
        self._forgot_at = now
        for name in [name for name, heard in self._proxies.items() if now - heard.at > FORGET_S]:
            self._on_node[self._proxies.pop(name).lease.node].discard(name)
            self._refusing_since.pop(name, None)
        for key in [key for key, heard in self._roles.items() if now - heard.at > FORGET_S]:
            del self._roles[key]
        for name in [name for name, shard in self._shards.items() if now - shard.heard_at > FORGET_S]:
            del self._shards[name]


def _is_newer(beacon: Beacon, newest: Beacon) -> bool:
    """A lower number sent later is a shard that started again."""
    return beacon.number > newest.number or (beacon.number < newest.number and beacon.at > newest.at)


def _is_new_run(beacon: Beacon, newest: Beacon) -> bool:
    return (
        beacon.number < newest.number or beacon.members != newest.members or beacon.through < newest.through
    )


def _refusal(lease: ProxyLease, rejection: Rejection) -> str:
    return f"proxy {lease.proxy} refuses {rejection.key} version {rejection.version}: {rejection.reason}"
