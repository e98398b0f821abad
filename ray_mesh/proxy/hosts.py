"""Names of hosts: what a caller wrote, and the full host that configuration uses."""

from __future__ import annotations

import re

SUFFIX = "svc.cluster.local"

_AUTHORITY = re.compile(rb"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def split_authority(authority: bytes, default_port: int = 80) -> tuple[str, int] | None:
    """Host in lower case without a final dot, and port; None when it is no authority."""
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        return None
    port = int(found[2]) if found[2] is not None else default_port
    if not 0 < port < 65536:
        return None
    return found[1].decode("ascii").lower().removesuffix("."), port


def full_host(host: str, namespace: str) -> str | None:
    """The mesh host that ``host`` means to a caller in ``namespace``.

    ``reviews``, ``reviews.default``, ``reviews.default.svc`` and the full host are names of the mesh.
    None for everything else: addresses (so also link-local ones) and names of other domains.
    """
    labels = host.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
        return None
    match labels:
        case [name]:
            return f"{name}.{namespace}.{SUFFIX}"
        case [name, space] | [name, space, "svc"] | [name, space, "svc", "cluster", "local"]:
            return f"{name}.{space}.{SUFFIX}"
    return None
