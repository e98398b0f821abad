"""Which part of a request picks its endpoint (``consistentHash``)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from ray_mesh.proxy.ring import Maglev, Ring, Table, hash_of
from ray_mesh.snapshot import Endpoint, HashPolicy

Edit = Callable[[bytes], bytes]


class Asking(Protocol):
    """A request as it is hashed. ``edit`` is what becomes of the fields of its response."""

    attempts: int
    client: bytes
    query: bytes
    edit: Edit | None

    def header(self, name: bytes) -> bytes | None:
        """See :class:`.match.Matchable`."""


class Owner(Protocol):
    """What a key may belong to."""

    endpoint: Endpoint


O = TypeVar("O", bound=Owner)  # noqa: E741


class Hashing(Generic[O]):
    """The table of one cluster. It is made when it is first needed after the members changed."""

    def __init__(self, policy: HashPolicy) -> None:
        self.policy = policy
        self._members: Sequence[O] = ()
        self._table: Table[O] | None = None
        self._name = policy.name.encode("latin-1")

    def refill(self, members: Sequence[O]) -> None:
        """These are the members now."""
        if tuple(members) != tuple(self._members):
            self._members = members
            self._table = None

    def choose(self, asking: Asking, is_usable: Callable[[O], bool]) -> O | None:
        """The member of a request; None when the request has nothing to hash."""
        value = self._value(asking)
        if value is None:
            return None
        if self._table is None:
            self._table = self._make()
        return self._table.choose(hash_of(value), is_usable)

    def _make(self) -> Table[O]:
        named = [(_name(member.endpoint), member.endpoint.weight, member) for member in self._members]
        size = self.policy.table_size
        return Maglev(named, size) if size else Ring(named, self.policy.minimum_ring_size)

    def _value(self, asking: Asking) -> bytes | None:
        kind = self.policy.kind
        if kind == "source_ip":
            return asking.client
        if kind == "header":
            return asking.header(self._name)
        if kind == "query":
            return _parameter(asking.query, self._name)
        found = _cookie(asking.header(b"cookie") or b"", self._name)
        if found is None and self.policy.cookie_ttl_s is not None and not asking.attempts:
            found = f"{random.getrandbits(64):016x}".encode()
            line, before = set_cookie(self.policy, found), asking.edit
            asking.edit = lambda block: (before(block) if before is not None else block) + line
        return found


def set_cookie(policy: HashPolicy, value: bytes) -> bytes:
    """The header line that gives a client its cookie; a lifetime of 0 is that of the browser's session."""
    parts = [f'{policy.name}="{value.decode()}"']
    if policy.cookie_ttl_s:
        parts.append(f"Max-Age={policy.cookie_ttl_s:.0f}")
    if policy.cookie_path:
        parts.append(f"Path={policy.cookie_path}")
    parts += [f"{name}={value}" if value else name for name, value in policy.cookie_attributes]
    return f"set-cookie: {'; '.join([*parts, 'HttpOnly'])}\r\n".encode("latin-1")


def _name(endpoint: Endpoint) -> str:
    return f"{endpoint.workload} {endpoint.address}:{endpoint.port}"


def _cookie(text: bytes, name: bytes) -> bytes | None:
    for part in text.split(b";"):
        found, _, value = part.strip().partition(b"=")
        if found == name:
            return value.strip(b'"') or None
    return None


def _parameter(query: bytes, name: bytes) -> bytes | None:
    for part in query[1:].split(b"&"):
        found, _, value = part.partition(b"=")
        if found == name:
            return value
    return None
