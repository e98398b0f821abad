"""One TCP connection through a proxy: what is known of it, and what is counted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ray_mesh.proxy.cluster import Member
from ray_mesh.proxy.pool import Pool
from ray_mesh.proxy.replies import Reply
from ray_mesh.proxy.tcp_relay import Relay
from ray_mesh.snapshot import ConnectionLimits
from ray_mesh.telemetry.table import Recorder

Address = tuple[str, int]


class TcpRefused(Exception):
    """A connection is refused, for the reason of the reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.message)
        self.reply = reply


class TcpConnection:
    """A connection that is open or being made (a :class:`.connections.Open`), later a record of it.
    Attributes without comment are facts for telemetry and records."""

    is_idle = False
    status = 0

    def __init__(self, entry: object, host: str, forget: Callable[[TcpConnection], None]) -> None:
        self.entry = entry
        self.host = host  # host:port as it was asked for
        self.service = host
        self.requested = ""  # the host that was asked for
        self.route = ""
        self.ends: tuple[Address | None, Address | None] = (None, None)  # the caller's, and where it came to
        self.member: Member | None = None
        self.pool: Pool | None = None  # that counts it
        self.limits = ConnectionLimits()
        self.flags = ""
        self.security = ""
        self.attempts = 0
        self.policy = ""  # the authorization policy that refused it
        self.reply: Reply | None = None  # why it was refused
        self.started_at = time.monotonic()
        self.opened_at = 0.0
        self.duration_s = 0.0
        self.request_bytes = 0
        self.response_bytes = 0
        self.relay: Relay | None = None
        self.task: asyncio.Task[None] | None = None
        self.is_trusted: Callable[[], bool] | None = None  # None: there is no peer to trust
        self._forget = forget
        self._opened: Recorder | None = None

    def __repr__(self) -> str:
        return f"<TcpConnection {self.host} {self.flags or 'open'}>"

    def open(self, recorder: Recorder) -> None:
        """Bytes may flow; count them in ``recorder``."""
        self.opened_at = time.monotonic()
        self._opened = recorder
        recorder.open()

    def count(self, relay: Relay) -> None:
        """Count what moved since the last time."""
        sent, received = relay.downstream.received, relay.upstream.received
        if self._opened is not None:
            self._opened.move(sent - self.request_bytes, received - self.response_bytes)
        self.request_bytes, self.response_bytes = sent, received

    def end(self, flags: str) -> None:
        """It is over: for good, and not counted yet."""
        self.flags = flags
        self.duration_s = time.monotonic() - self.started_at
        self._forget(self)

    def refuse(self, reply: Reply) -> None:
        """It is not made."""
        self.reply = reply
        self.end(reply.flag)

    def forget(self) -> None:
        """It is another protocol's from now on, and counted there."""
        self._forget(self)

    def dismiss(self) -> None:
        """See :class:`.connections.Open`. Nothing in its protocol says so."""

    def drain(self) -> None:
        """See :class:`.connections.Open`: it ends by itself, or after a while."""
        if self.relay is not None:
            self.relay.drain()

    def abort(self) -> None:
        """See :class:`.connections.Open`."""
        if self.task is not None:
            self.task.cancel()
        if self.relay is not None:
            self.relay.close("DR")

    def verify(self) -> None:
        """The bundles changed: end it if its peer is trusted no more."""
        if self.relay is not None and self.is_trusted is not None and not self.is_trusted():
            self.relay.close("UAEX")
