"""Which workloads are served now, and where, by the leases of the proxies. Pure; ``now`` is monotonic.

The proxies of a node share its port, so a workload is served when all of them can. What a lease costs
depends on what it says, not on how many proxies there are: nothing here goes through all of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from ray_mesh.bus.messages import ProxyLease
from ray_mesh.compile import LiveWorkload

PROXY_LEASE_S = 3.0


@dataclass(frozen=True, slots=True)
class _Held:
    lease: ProxyLease
    heard_at: float


class Serving:
    """Leases in, live workloads out. Methods that take leases return the workloads that came or went."""

    def __init__(self) -> None:
        self._leases: OrderedDict[str, _Held] = OrderedDict()
        self._able: dict[str, dict[str, frozenset[LiveWorkload]]] = {}
        self._served: dict[str, frozenset[LiveWorkload]] = {}
        self._live: dict[str, set[LiveWorkload]] = {}

    def hear(self, lease: ProxyLease, now: float) -> set[str]:
        """A proxy's heartbeat."""
        held = self._leases.get(lease.proxy)
        self._leases[lease.proxy] = _Held(lease, now)
        self._leases.move_to_end(lease.proxy)
        before = held.lease if held else None
        if before is not None and _claim(before) == _claim(lease):
            return set()
        changed = self._drop(before) if before is not None and before.node != lease.node else set()
        if lease.state == "HEALTHY":
            self._able.setdefault(lease.node, {})[lease.proxy] = frozenset(_serves(lease))
            return changed | self._recount(lease.node)
        return changed | self._drop(lease)

    def expire(self, now: float) -> set[str]:
        """Forget who was not heard of for :data:`PROXY_LEASE_S`."""
        changed: set[str] = set()
        while self._leases:
            name, oldest = next(iter(self._leases.items()))
            if now - oldest.heard_at <= PROXY_LEASE_S:
                break
            del self._leases[name]
            changed |= self._drop(oldest.lease)
        return changed

    def of(self, workloads: Iterable[str]) -> list[LiveWorkload]:
        """Where these are served."""
        return [one for key in workloads for one in self._live.get(key, ())]

    def _drop(self, lease: ProxyLease) -> set[str]:
        able = self._able.get(lease.node, {})
        able.pop(lease.proxy, None)
        return self._recount(lease.node)

    def _recount(self, node: str) -> set[str]:
        able = self._able.get(node, {})
        before = self._served.get(node, frozenset())
        after = frozenset.intersection(*able.values()) if able else frozenset()
        for gone in before - after:
            self._live[gone.key].discard(gone)
            if not self._live[gone.key]:
                del self._live[gone.key]
        for come in after - before:
            self._live.setdefault(come.key, set()).add(come)
        self._served[node] = after
        if not able:
            self._able.pop(node, None)
            del self._served[node]
        return {one.key for one in before ^ after}


def _claim(lease: ProxyLease) -> tuple[object, ...]:
    return lease.state, lease.node, lease.address, lease.inbound_port, lease.served


def _serves(lease: ProxyLease) -> list[LiveWorkload]:
    return [LiveWorkload(key, lease.node, lease.address, lease.inbound_port) for key in lease.served]
