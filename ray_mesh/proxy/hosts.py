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
    host = found[1].decode("ascii").lower().removesuffix(".")
    return (host, port) if host and 0 < port < 65536 else None


def meanings(host: str, namespace: str) -> tuple[str, ...]:
    """The full hosts that ``host`` may mean to a caller in ``namespace``, the first that exists counts.

    ``reviews``, ``reviews.default``, ``reviews.default.svc`` and the full host are names of the mesh; other
    names, and those of two labels if no service has them, are what ServiceEntries are for. Addresses mean
    nothing (so nor do link-local ones).
    """
    labels = host.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
        return ()
    match labels:
        case [name]:
            return (f"{name}.{namespace}.{SUFFIX}",)
        case [name, space]:
            return (f"{name}.{space}.{SUFFIX}", host)
        case [name, space, "svc"] | [name, space, "svc", "cluster", "local"]:
            return (f"{name}.{space}.{SUFFIX}",)
    return () if host.endswith(f".{SUFFIX}") else (host,)


def bare(host: str) -> str:
    """The address in ``[::1]``, else the host itself."""
    return host[1:-1] if host.startswith("[") else host
