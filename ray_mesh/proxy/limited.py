"""Pools whose connections a circuit breaker counts and limits."""

from __future__ import annotations

import socket
from collections.abc import Callable

from ray_mesh.proxy.breaker import Breaker
from ray_mesh.proxy.cluster import Member
from ray_mesh.proxy.pool import Pool, Pooled, Shared
from ray_mesh.snapshot import ConnectionLimits


class LimitedPool(Pool):
    """The connections of one source to one member of a cluster that has a breaker."""

    __slots__ = ("breaker", "member")

    def __init__(self, breaker: Breaker, member: Member, fresh_s: float, is_http2: bool = False) -> None:
        super().__init__(fresh_s, is_http2)
        self.breaker = breaker
        self.member = member
        breaker.add(self)

    def admit(self) -> bool:
        """See :class:`.pool.Pool`."""
        if not self.breaker.may_connect() or not super().admit():
            return False
        self.breaker.connections += 1
        return True

    def prepare(self, connection: Pooled, now: float) -> None:
        """Give a new connection its options and its end."""
        limits = self.breaker.limits
        if limits.max_duration_s:
            connection.expires_at = min(connection.expires_at, now + limits.max_duration_s)
        set_keepalive(limits, connection.set_option)

    def give_back(self, connection: Pooled, generation: int, now: float) -> None:
        """Hand a free connection to who waits for one, keep it, or close it."""
        breaker = self.breaker
        connection.served += 1
        limit = breaker.limits.max_requests_per_connection
        is_used_up = bool(limit) and connection.served >= limit
        if is_used_up or generation != self.generation or now >= connection.expires_at:
            connection.close()
            return
        if not breaker.waiting:
            super().give_back(connection, generation, now)
            return
        heir = breaker.heir(self, self.member)
        if heir is None:
            connection.close()
        else:
            heir.start_on(connection)

    def stream_ended(self, connection: Shared) -> None:
        """Let who waits take part, and end a connection that has carried its number of requests."""
        if connection.served >= self.max_served:
            self.drop(connection)
            connection.retire()
        else:
            self._let_in(connection)

    def share(self, connection: Shared, generation: int) -> None:
        """See :class:`.pool.Pool`. Whoever waits takes part."""
        super().share(connection, generation)
        self._let_in(connection)

    def _let_in(self, connection: Shared) -> None:
        breaker = self.breaker
        while breaker.waiting and connection.has_room:
            heir = breaker.heir(self, self.member)
            if heir is None:
                self._make_way(connection)
                return
            heir.start_on(connection.exchange())

    def _make_way(self, connection: Shared) -> None:
        """Who waits has no use for the connection: where it is in their way it ends after its requests."""
        self.breaker.wake()
        if self.breaker.waiting:
            self.drop(connection)
            connection.retire()

    def forget(self, connection: Pooled | None) -> None:
        """A connection is closed, or was never made: there is room for another."""
        super().forget(connection)
        self.breaker.connections -= 1
        self.breaker.wake()

    def close_one(self) -> bool:
        """See :class:`.breaker.Counted`."""
        if self.idle:
            self.idle.pop(0).close()
            return True
        unused = next((each for each in self.shared if not each.active), None)
        if unused is None:
            return False
        self.drop(unused)
        unused.retire()
        return True

    def shut(self) -> None:
        """See :class:`.pool.Pool`."""
        super().shut()
        if self in self.breaker.pools:
            self.breaker.pools.remove(self)


def set_keepalive(limits: ConnectionLimits, set_option: Callable[[int, int, int], None]) -> None:
    """Ask for TCP keepalive on a socket if the limits do."""
    if not limits.keepalive:
        return
    set_option(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = (
        (socket.TCP_KEEPCNT, limits.keepalive_probes),
        (socket.TCP_KEEPIDLE, limits.keepalive_time_s),
        (socket.TCP_KEEPINTVL, limits.keepalive_interval_s),
    )
    for option, value in options:
        if value:
            set_option(socket.IPPROTO_TCP, option, max(1, round(value)))
