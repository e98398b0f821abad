"""Who owns a key: highest random weight, so that a member that comes or goes moves only its own keys."""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b


def owner(key: str, members: Collection[str]) -> str:
    """The member that owns ``key``: the same answer for the same set, in any order, in any process.

    Raises:
        ValueError: there are no members.
    """
    if not members:
        raise ValueError(f"nobody can own {key!r}: there are no members")
    return max(members, key=lambda member: (weight(key, member), member))


def weight(key: str, member: str) -> bytes:
    """How strongly ``member`` claims ``key``. The length in front keeps pairs apart."""
    return blake2b(f"{len(key)}:{key}{member}".encode(), digest_size=8).digest()
