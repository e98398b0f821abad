"""What the gateway knows of the running mesh, from heartbeats alone: which proxies and roles live, and
which revision every proxy has applied.

The rule of :meth:`MeshView.progress` (``ray-mesh wait``). The live routing shards are those with a
fresh role lease. A revision R is applied when

1. the newest beacon of every live shard names exactly the live shards and has ``through >= R``: then
   every compiled key was written, from a world that includes R, by the shard that owns it now;
2. every live proxy that is not draining has applied, of each live shard X, the beacon ``n_X`` or a later
   one. ``n_X`` is the first beacon of X since its member set last changed that fulfils 1;
3. no such proxy refuses the newest version of a key. A refusal of a version that a later beacon replaced
   is waited out; a refusal of the newest one ends the wait, because nothing better is coming.

Missed beacons only make ``n_X`` later, never earlier. Who is alive is known only after listening for as
long as a lease lives, so a view that has just started (or whose bus was away) says "not yet".

``now`` is a monotonic time in seconds of this process.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from ray_mesh.bus.messages import Beacon, ProxyLease, Rejection, RoleLease
from ray_mesh.compile import LiveWorkload

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
    """One live proxy, as shown by ``ray-mesh proxies``. ``reason`` explains STALE and REJECTED, ``behind_s``
    for how many seconds it has not been SYNCED."""

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
    changed_at_number: int
    numbers: list[int] = field(default_factory=list)
    throughs: list[int] = field(default_factory=list)

    def note(self, beacon: Beacon) -> None:
        if not self.throughs or beacon.through > self.throughs[-1]:
            self.numbers.append(beacon.number)
            self.throughs.append(beacon.through)
            del self.numbers[:-KEPT_STEPS], self.throughs[:-KEPT_STEPS]

    def first_number(self, revision: int) -> int:
        return self.numbers[bisect_left(self.throughs, revision)]


@dataclass(frozen=True, slots=True)
class _Heard(Generic[L]):
    lease: L
    at: float
    behind_since: float | None = None


class MeshView:
    """Heartbeats in, answers out. Nothing here waits or sends."""

    def __init__(self, now: float) -> None:
        self._listening_since = now
        self._proxies: dict[str, _Heard[ProxyLease]] = {}
        self._roles: dict[tuple[str, str], _Heard[RoleLease]] = {}
        self._shards: dict[str, _Shard] = {}
        self._versions: dict[str, int] = {}

    def restart(self, now: float) -> None:
        """The bus was away: what was said meanwhile is unknown, so listen again before concluding."""
        self._listening_since = now

    def observe_proxy(self, lease: ProxyLease, now: float) -> None:
        """A proxy's heartbeat arrived."""
        before = self._proxies.get(lease.proxy)
        behind_since = None
        if self._sync(lease, self._live_shards(now))[0] != "SYNCED":
            known = before.behind_since if before is not None else None
            behind_since = now if known is None else known
        self._proxies[lease.proxy] = _Heard(lease, now, behind_since)
        self._forget(now)

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
            shard = self._shards[beacon.shard] = _Shard(beacon, now, beacon.number)
        if beacon.changed:
            shard.changed_at_number = beacon.number
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
                    {LiveWorkload(key, lease.node, lease.address, lease.inbound_port) for key in lease.ready}
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

    def progress(self, revision: int, now: float, *, node: str = "") -> Progress:
        """Whether every live proxy (of ``node``, or of all) has applied ``revision``; the rule is above."""
        waiting = self._waiting_for_shards(revision, now)
        if waiting:
            return Progress(False, waiting)
        rejected: list[str] = []
        behind: list[str] = []
        shards = self._live_shards(now)
        for lease in self._serving(now, node):
            rejected += [_refusal(lease, rejection) for rejection in self._standing(lease)]
            behind += self._behind(lease, revision, shards)
        return Progress(not behind and not rejected, tuple(behind), tuple(rejected))

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
        since = now if sync == "SYNCED" or heard.behind_since is None else heard.behind_since
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
            behind_s=round(now - since, 1),
            admin_port=lease.admin_port,
        )

    def _sync(self, lease: ProxyLease, shards: tuple[str, ...]) -> tuple[Sync, str]:
        refused = [_refusal(lease, rejection) for rejection in self._standing(lease)]
        if refused:
            return "REJECTED", "; ".join(refused)
        if not shards:
            return "STALE", "no routing shard is alive: serving the last good configuration"
        behind = [
            f"{name}: applied beacon {lease.applied.get(name, 0)}, changed at {shard.changed_at_number}"
            for name in shards
            if (shard := self._shards.get(name)) is not None
            and lease.applied.get(name, 0) < shard.changed_at_number
        ]
        return ("STALE", "; ".join(behind)) if behind else ("SYNCED", "")

    def _standing(self, lease: ProxyLease) -> list[Rejection]:
        return [r for r in lease.rejected if self._versions.get(r.key, 0) <= r.version]

    def _live_shards(self, now: float) -> tuple[str, ...]:
        return tuple(lease.instance for lease in self.roles(now, "routing"))

    def _live_proxies(self, now: float) -> list[ProxyLease]:
        return [heard.lease for heard in self._proxies.values() if now - heard.at < PROXY_LEASE_S]

    def _serving(self, now: float, node: str = "") -> list[ProxyLease]:
        return [
            lease
            for lease in self._live_proxies(now)
            if lease.state != "DRAINING" and node in ("", lease.node)
        ]

    def _forget(self, now: float) -> None:
        for name in [name for name, heard in self._proxies.items() if now - heard.at > FORGET_S]:
            del self._proxies[name]
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
