"""Connections of one source to one member: which to reuse, which to give up.

HTTP/1.1 carries one request at a time, so a pool is a stack of idle connections (the one used last is
the one least likely to be closed under us) and a count of all. Decisions only; connecting is the
business of :mod:`.pipeline`.
"""

from __future__ import annotations

from typing import Protocol

CONNECT_TIMEOUT_S = 5.0
"""For TCP and TLS together, as Envoy's connect_timeout."""
MAX_CONNECTIONS = 1024
MAX_IDLE = 128
IDLE_S = 45.0
"""Shorter than the 75 s after which the inbound side closes, so that we are first."""
APP_FRESH_S = 1.0
"""A request that cannot be sent again does not use a connection to an application that was idle for
longer than this: servers with a short keep-alive may be closing it right now."""


class Pooled(Protocol):
    """A connection as the pool sees it."""

    idle_since: float
    expires_at: float
    served: int

    @property
    def is_open(self) -> bool:
        """Whether it can carry a request."""

    def set_option(self, level: int, option: int, value: int) -> None:
        """Set an option of its socket."""

    def close(self) -> None:
        """Close it; it tells the pool by :meth:`Pool.forget`."""


class Replayable(Protocol):
    """A request that may or may not be sent a second time."""

    @property
    def is_replayable(self) -> bool: ...


class Pool:
    """All connections of one source to one member. ``generation`` ends with the identity in use.

    ``fresh_s`` is how long a connection may have been idle to carry a request that is not replayable.
    """

    __slots__ = ("connect_timeout_s", "count", "fresh_s", "generation", "idle", "idle_s", "max_idle")

    def __init__(self, fresh_s: float = IDLE_S) -> None:
        self.fresh_s = fresh_s
        self.idle_s = IDLE_S
        self.connect_timeout_s = CONNECT_TIMEOUT_S
        self.idle: list[Pooled] = []
        self.count = 0
        self.max_idle = MAX_IDLE
        self.generation = 0

    def take(self, now: float, request: Replayable) -> Pooled | None:
        """An idle connection for one request, or None: then connect."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            if not connection.is_open:
                continue
            idle_s = now - connection.idle_since
            if idle_s > self.idle_s or now >= connection.expires_at:
                connection.close()
                continue
            if idle_s > self.fresh_s and not request.is_replayable:
                idle.append(connection)
                return None
            return connection
        return None

    def admit(self) -> bool:
        """Whether one more connection may be opened; it then counts until :meth:`forget`."""
        if self.count >= MAX_CONNECTIONS:
            return False
        self.count += 1
        return True

    def prepare(self, connection: Pooled, now: float) -> None:
        """A connection was made and is about to be used."""

    def give_back(self, connection: Pooled, generation: int, now: float) -> None:
        """Keep a connection whose exchange is complete, or close it."""
        if generation != self.generation or now >= connection.expires_at or len(self.idle) >= self.max_idle:
            connection.close()
            return
        connection.idle_since = now
        self.idle.append(connection)

    def forget(self, connection: Pooled | None) -> None:
        """A connection is closed, or was never made."""
        self.count -= 1
        if connection in self.idle:
            self.idle.remove(connection)

    def retire(self) -> None:
        """Close what is idle, and what is busy after its request."""
        self.generation += 1
        idle, self.idle = self.idle, []
        for connection in idle:
            connection.close()

    def shut(self) -> None:
        """Retire, and keep nothing that comes later either: the member is gone."""
        self.max_idle = 0
        self.retire()

    def close_stale(self, now: float) -> None:
        """Close connections that were idle for too long or are about to expire."""
        kept = []
        for connection in self.idle:
            if now - connection.idle_since > self.idle_s or now >= connection.expires_at:
                connection.close()
            else:
                kept.append(connection)
        self.idle = kept
