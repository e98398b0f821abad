"""Connections of one source to one member: which to reuse, which to give up.

HTTP/1.1 carries one request at a time, so a pool is a stack of idle connections (the one used last is
the one least likely to be closed under us) and a count of all. A pool for HTTP/2 shares its connections:
a request takes part in the first that has room, since what is written together costs least; another is made
when all have ``max_streams``, and who comes while one is being made waits for it. Decisions only; connecting
is the business of :mod:`.connector`.
"""

from __future__ import annotations

from math import inf
from typing import Any, Protocol

CONNECT_TIMEOUT_S = 5.0
"""For TCP and TLS together, as Envoy's connect_timeout."""
MAX_CONNECTIONS = 1024
MAX_IDLE = 128
IDLE_S = 45.0
"""Shorter than the 75 s after which the inbound side closes, so that we are first."""
APP_FRESH_S = 1.0
"""A request that cannot be sent again does not use a connection to an application that was idle for
longer than this: servers with a short keep-alive may be closing it right now."""


MAX_STREAMS = 100
"""Requests on one connection of HTTP/2 before another is made, as in ztunnel."""
SHARED_IDLE_S = 300.0
"""How long a connection of HTTP/2 is kept without requests: less than the inbound side keeps it."""
PING_INTERVAL_S = 30.0
PING_TIMEOUT_S = 20.0
"""A connection of HTTP/2 between proxies with requests and without a byte for that long is asked whether it
lives."""


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


class Shared(Pooled, Protocol):
    """A connection that carries many requests at a time."""

    @property
    def active(self) -> int:
        """Requests under way."""

    @property
    def has_room(self) -> bool:
        """Whether one more request may be started: the limits of the pool and of the peer allow it."""

    def exchange(self) -> Any:
        """One request's part of it: a :class:`.sides.Connection`."""

    def is_dead(self, now: float, interval_s: float, timeout_s: float) -> bool:
        """Whether the peer shows no sign of life."""

    def retire(self) -> None:
        """Carry no more requests, and close after the last."""

    def kill(self) -> None:
        """Close at once."""


class Replayable(Protocol):
    """A request that may or may not be sent a second time."""

    @property
    def is_replayable(self) -> bool: ...


class Pool:
    """All connections of one source to one member. ``generation`` ends with the identity in use.

    ``fresh_s`` is how long a connection may have been idle to carry a request that is not replayable.
    ``is_http2`` asks for connections that are shared; what is made may still be HTTP/1.1 (``falls_back``).
    """

    __slots__ = (
        "connect_timeout_s",
        "count",
        "falls_back",
        "fresh_s",
        "generation",
        "idle",
        "idle_s",
        "is_http2",
        "max_idle",
        "max_served",
        "max_streams",
        "ping_interval_s",
        "ping_timeout_s",
        "shared",
        "waiting",
    )

    def __init__(self, fresh_s: float = IDLE_S, is_http2: bool = False) -> None:
        self.fresh_s = fresh_s
        self.is_http2 = is_http2
        self.falls_back = False
        self.shared: list[Shared] = []
        self.waiting: list[Any] | None = None  # for the connection under way that others may share
        self.max_served = inf
        self.max_streams = MAX_STREAMS
        self.ping_interval_s = 0.0  # nobody said
        self.ping_timeout_s = PING_TIMEOUT_S
        self.idle_s = SHARED_IDLE_S if is_http2 else IDLE_S
        self.connect_timeout_s = CONNECT_TIMEOUT_S
        self.idle: list[Pooled] = []
        self.count = 0
        self.max_idle = MAX_IDLE
        self.generation = 0

    def take(self, now: float, request: Replayable) -> Any:
        """An idle connection, or a part of a shared one, for one request, or None: then connect."""
        if self.shared:
            return self._take_part(now)
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

    def _take_part(self, now: float) -> Any:
        for connection in self.shared:
            if connection.has_room and now < connection.expires_at:
                return connection.exchange()
        return None

    @property
    def capacity(self) -> float:
        """How many requests a new connection may carry at a time."""
        return min(self.max_streams, self.max_served)

    def share(self, connection: Shared, generation: int) -> None:
        """Let others take part in a new connection, unless it is of the past already."""
        if generation == self.generation and self.max_idle:
            self.shared.append(connection)
        else:
            connection.retire()

    def drop(self, connection: Shared) -> None:
        """Let nobody else take part in a connection."""
        if connection in self.shared:
            self.shared.remove(connection)

    def stream_ended(self, connection: Shared) -> None:
        """A request on a shared connection is over, for the peer as well."""

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
        elif connection in self.shared:
            self.shared.remove(connection)

    def retire(self) -> None:
        """Close what is idle, and what is busy after its request."""
        self.generation += 1
        self.falls_back = False
        idle, self.idle = self.idle, []
        for connection in idle:
            connection.close()
        shared, self.shared = self.shared, []
        for each in shared:
            each.retire()

    def shut(self) -> None:
        """Retire, and keep nothing that comes later either: the member is gone."""
        self.max_idle = 0
        self.retire()

    def close_stale(self, now: float) -> None:
        """Close connections that were idle for too long, are about to expire, or do not answer."""
        for each in tuple(self.shared):
            if each.is_dead(now, self.ping_interval_s, self.ping_timeout_s):
                each.kill()
            elif now >= each.expires_at or (not each.active and now - each.idle_since > self.idle_s):
                self.drop(each)
                each.retire()
        kept = []
        for connection in self.idle:
            if now - connection.idle_since > self.idle_s or now >= connection.expires_at:
                connection.close()
            else:
                kept.append(connection)
        self.idle = kept
