"""A request as the proxy's decisions see one, without a connection."""

from __future__ import annotations

from dataclasses import dataclass, field

from ray_mesh.proxy.hashing import Edit
from ray_mesh.proxy.path import PATHS


@dataclass(slots=True)
class Asked:
    """One request; ``host`` is in lower case, ``query`` begins with ``?`` or is empty.

    It is both :class:`ray_mesh.proxy.match.Matchable` and :class:`ray_mesh.proxy.hashing.Asking`.
    """

    scheme: bytes
    method: bytes
    path: bytes
    query: bytes
    host: bytes
    client: bytes = b""
    fields: tuple[tuple[bytes, bytes], ...] = ()
    attempts: int = 0
    edit: Edit | None = field(default=None)

    def header(self, name: bytes) -> bytes | None:
        """The joined values of a header field; ``name`` in lower case."""
        values = self.values(name)
        return b",".join(values) if values else None

    def values(self, name: bytes) -> list[bytes]:
        """The values of each of its lines."""
        if name == b"host":
            return [self.host]
        return [value for each, value in self.fields if each == name]


def split_target(target: str, normalization: str) -> tuple[bytes, bytes]:
    """The normalized path of a target, and its query.

    Raises:
        ValueError: the proxy would refuse it.
    """
    return PATHS[normalization].split(target.encode("utf-8"))
