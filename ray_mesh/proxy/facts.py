"""What is known of a request while it passes through: what it asks for, where it goes, how it fares.

Routing and policies ask it (:class:`.match.Matchable`), telemetry and access records are made of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ray_mesh.proxy.breaker import Hold
from ray_mesh.proxy.cluster import Cluster, Member
from ray_mesh.proxy.grpc import is_grpc
from ray_mesh.proxy.head import RequestHead, values_of
from ray_mesh.proxy.pool import Pool
from ray_mesh.proxy.replies import Reply
from ray_mesh.proxy.sides import Connection, Entry, Stream
from ray_mesh.proxy.timers import Alarm

if TYPE_CHECKING:
    from ray_mesh.proxy.mirror import Copies
    from ray_mesh.proxy.retrying import Retrying

_SAID_OUTSIDE = (b"x-forwarded-", b"x-envoy-", b"x-mesh-")
_OF_ITS_OWN = (b"traceparent", b"x-request-id")
_now = time.monotonic


class Facts:
    """What is known of one request. Attributes without comment are there for routing, telemetry and access
    records; :class:`.pipeline.Request` moves them."""

    __slots__ = (
        "announced",  # header lines that only a verified proxy gets: who calls what
        "asked",  # path and query as they came, where the path was rewritten
        "attempts",
        "body_done",
        "client",  # the address of the downstream, as text
        "cluster",
        "connected_at",  # when a connection had been made for it; 0 when a pooled one was used
        "connection",
        "deadline",  # of the whole, or before that of an injected delay
        "decided_at",  # when it was known where it goes
        "done",
        "duration_s",
        "edit",  # what becomes of the fields of a response, where something does
        "entry",
        "extra",  # header lines that the next hop gets besides fields, request id and traceparent
        "fields",  # the header lines of head that the next hop gets
        "first_byte_at",  # of the response; 0 when the response came whole
        "flags",
        "grpc_status",  # the number with which a gRPC call ended, known at its end; empty for others
        "head",
        "hold",  # its place in the cluster's breaker, where there is one
        "host",
        "is_call",  # of gRPC
        "is_http2",  # whether the downstream speaks HTTP/2
        "is_shared",  # whether it goes out on a connection of HTTP/2
        "member",
        "method",
        "parent",  # the valid traceparent that came, or empty
        "path",
        "peer",  # who the downstream proved to be, where it did
        "pending",
        "policy",  # the authorization policy that decided, where one did
        "pool",
        "query",
        "replay",
        "reply",  # the answer made here, if one was
        "request_bytes",
        "request_id",
        "responded",
        "response_bytes",
        "response_trailer",
        "retrying",  # on a route that has retries
        "route",
        "scheme",  # what the client spoke, as far as it is known
        "security",
        "service",
        "source",
        "started_at",
        "status",
        "stream",
        "tap",  # copies of it that wait for its body
        "traceparent",  # of the span that this hop is
        "trailer",  # fields that follow the body, as bytes
        "tried",
    )

    def __init__(
        self,
        entry: Entry,
        stream: Stream,
        method: bytes,
        path: bytes,
        query: bytes,
        head: RequestHead,
        parent: bytes,
        request_id: bytes,
    ) -> None:
        self.entry = entry
        self.peer = stream.peer
        self.client = stream.client
        self.is_http2 = stream.is_http2
        self.is_call = self.is_http2 and is_grpc(head)
        self.is_shared = False
        self.stream: Stream | None = stream
        self.method = method
        self.path = path
        self.query = query
        self.asked = b""
        self.head = head
        self.fields = head.fields
        self.tap: Copies | None = None
        self.edit: Callable[[bytes], bytes] | None = None
        self.host = head.host
        self.started_at = _now()
        self.extra = b""
        self.announced = b""
        self.route: object = None
        self.service: str = ""
        self.source: object = None
        self.parent = parent
        self.request_id = request_id
        self.traceparent = b""
        self.cluster: Cluster | None = None
        self.member: Member | None = None
        self.pool: Pool | None = None
        self.connection: Connection | None = None
        self.hold: Hold | None = None
        self.retrying: Retrying | None = None
        self.scheme = b"http"
        self.security = "unknown"
        self.pending: list[bytes] | None = None
        self.replay: list[bytes] | None = None
        self.trailer = self.response_trailer = b""
        self.tried: tuple[Member, ...] = ()
        self.attempts = 0
        self.decided_at = self.connected_at = self.first_byte_at = 0.0
        self.reply: Reply | None = None
        self.policy = ""
        self.deadline: Alarm | None = None
        self.body_done = head.length == 0
        self.responded = False
        self.done = False
        self.status = 0
        self.flags = self.grpc_status = ""
        self.duration_s = 0.0
        self.request_bytes = 0
        self.response_bytes = 0

    def header(self, name: bytes) -> bytes | None:
        """See :class:`.match.Matchable`."""
        if name == b"traceparent":
            return self.parent or None
        if name == b"x-request-id":
            return self.request_id or None
        if self.head.is_from_outside and name.startswith(_SAID_OUTSIDE):
            return b", ".join(self._sent_on(name)) or None
        return self.head.named(name)

    def values(self, name: bytes) -> list[bytes]:
        """See :class:`.match.Matchable`."""
        if name in _OF_ITS_OWN:
            value = self.header(name)
            return [value] if value is not None else []
        if self.head.is_from_outside and name.startswith(_SAID_OUTSIDE):
            return self._sent_on(name)
        return self.head.values(name)

    def _sent_on(self, name: bytes) -> list[bytes]:
        """The values of a field as the next hop gets them."""
        block = self.fields + self.extra
        return values_of(name, block, block.lower())
