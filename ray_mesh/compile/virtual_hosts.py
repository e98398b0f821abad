"""The hosts of a gateway's listener and their routes, in a fixed order."""

from __future__ import annotations

from collections.abc import Mapping

from ray_mesh import snapshot
from ray_mesh.resources.hosts import specificity


def virtual_hosts(routes: Mapping[str, tuple[snapshot.Route, ...]]) -> tuple[snapshot.VirtualHost, ...]:
    """Hosts with equal routes together, the most specific first."""
    hosts: dict[tuple[snapshot.Route, ...], list[str]] = {}
    for host in sorted(routes, key=by_specificity):
        hosts.setdefault(routes[host], []).append(host)
    return tuple(snapshot.VirtualHost(tuple(names), merged) for merged, names in hosts.items())


def by_specificity(host: str) -> tuple[bool, int, str]:
    """Orders hosts: exact ones first, longer ones before shorter."""
    is_exact, length = specificity(host)
    return (not is_exact, -length, host)
