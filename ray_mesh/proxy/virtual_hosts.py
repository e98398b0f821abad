"""The virtual host of a gateway that a host belongs to, exact before the longest ``*.suffix``, ``*`` last."""

from __future__ import annotations

from collections.abc import Sequence

from ray_mesh.snapshot import VirtualHost

_ANY = "*"


class VirtualHosts:
    """The virtual hosts of a listener; the first one that has a pattern keeps it. A look-up costs the
    number of labels of a host, not that of virtual hosts."""

    def __init__(self, hosts: Sequence[VirtualHost] = ()) -> None:
        self._by_pattern: dict[str, VirtualHost] = {}
        for each in hosts:
            for pattern in each.hosts:
                self._by_pattern.setdefault(pattern.lower(), each)

    def find(self, host: str) -> VirtualHost | None:
        """The virtual host of a host in lower case."""
        found = self._by_pattern.get(host)
        dot = host.find(".")
        while found is None and dot >= 0:
            found = self._by_pattern.get(_ANY + host[dot:])
            dot = host.find(".", dot + 1)
        return found or self._by_pattern.get(_ANY)
