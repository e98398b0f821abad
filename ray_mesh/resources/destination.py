"""Where a route of a VirtualService leads."""

from __future__ import annotations

from collections.abc import Iterator

from ray_mesh.resources.host_names import host_flaws
from ray_mesh.resources.schema import Flaw, Model, NonEmpty, PortSelector, is_label


class Destination(Model):
    """A host, one of its subsets, and its port (optional when it has one)."""

    host: NonEmpty
    subset: str = ""
    port: PortSelector | None = None

    def flaws(self) -> Iterator[Flaw]:
        if self.host == "*":
            yield Flaw(("host",), "'*' is not a host")
        elif self.host.startswith("*."):
            yield Flaw(("host",), f"{self.host}: name one host", later=True)
        else:
            yield from host_flaws(("host",), self.host)
        if self.subset and not is_label(self.subset):
            yield Flaw(("subset",), f"{self.subset!r} is not a DNS label")
        if self.port is not None and not 0 < self.port.number < 65536:
            yield Flaw(("port", "number"), "a port is 1 to 65535")
