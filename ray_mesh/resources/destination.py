"""Where a route of a VirtualService leads."""

from __future__ import annotations

from collections.abc import Iterator

from ray_mesh.resources.hosts import is_host_pattern
from ray_mesh.resources.schema import Flaw, Model, NonEmpty, PortSelector


class Destination(Model):
    """A host, one of its subsets, and its port (optional when it has one)."""

    host: NonEmpty
    subset: str = ""
    port: PortSelector | None = None

    def flaws(self) -> Iterator[Flaw]:
        if "*" in self.host or not is_host_pattern(self.host):
            yield Flaw(("host",), f"{self.host!r} is not a host")
        if self.port is not None and self.port.number == 0:
            yield Flaw(("port", "number"), "a port is 1 to 65535")
