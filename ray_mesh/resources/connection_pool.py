"""The limits that a DestinationRule or a Sidecar sets for connections (networking.istio.io)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from ray_mesh.resources.schema import (
    Duration,
    Flaw,
    Limit,
    Model,
    UInt32,
    seconds,
)


class TcpKeepalive(Model):
    """TCP keepalive settings."""

    probes: UInt32 | None = None
    time: Duration | None = None
    interval: Duration | None = None


class TcpSettings(Model):
    """Connection settings."""

    max_connections: Limit | None = None
    connect_timeout: Duration | None = None
    tcp_keepalive: TcpKeepalive | None = None
    max_connection_duration: Duration | None = None
    idle_timeout: str | None = None

    def flaws(self) -> Iterator[Flaw]:
        try:
            length = seconds(self.idle_timeout) if self.idle_timeout is not None else 1.0
        except ValueError as error:
            yield Flaw(("idleTimeout",), f"{self.idle_timeout!r} is {error}")
            return
        if length == 0:
            yield Flaw(("idleTimeout",), "0s, which is none at all", later=True)
        elif length < 0.001:
            yield Flaw(("idleTimeout",), "a duration is at least 1ms")


class Http2KeepAlive(Model):
    """Pings on connections of HTTP/2: how often, and how long an answer may take."""

    interval: Duration | None = None
    timeout: Duration | None = None


class HttpSettings(Model):
    """Request settings."""

    http1_max_pending_requests: Annotated[Limit | None, Field(alias="http1MaxPendingRequests")] = None
    http2_max_requests: Annotated[Limit | None, Field(alias="http2MaxRequests")] = None
    max_requests_per_connection: Limit | None = None
    max_retries: Limit | None = None
    idle_timeout: Duration | None = None
    h2_upgrade_policy: Annotated[
        Literal["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"] | None, Field(alias="h2UpgradePolicy")
    ] = None
    use_client_protocol: bool | None = None
    max_concurrent_streams: Limit | None = None
    http2_keep_alive: Annotated[Http2KeepAlive | None, Field(alias="http2KeepAlive")] = None

    def flaws(self) -> Iterator[Flaw]:
        if self.h2_upgrade_policy == "UPGRADE" and self.use_client_protocol:
            yield Flaw(("useClientProtocol",), "must not be true when h2UpgradePolicy is UPGRADE")


class ConnectionPool(Model):
    """Limits towards one host."""

    tcp: TcpSettings | None = None
    http: HttpSettings | None = None

    def flaws(self) -> Iterator[Flaw]:
        if self.tcp is None and self.http is None:
            yield Flaw((), "a connectionPool has tcp, http or both")
