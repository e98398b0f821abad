"""Copies of requests for mirrors: sent beside the request, never before it; what comes back is thrown away.

A copy is a request of its own, so it uses connections, is limited and recorded like any other, under the
name of its route with ``mirror`` behind it. It is given up, and recorded with the flag ``UO``, when
``MAX_ACTIVE`` copies are on their way to its host, or when its body has more than ``MAX_BODY_BYTES``.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ray_mesh.proxy import replies
from ray_mesh.proxy.breaker import Breaker
from ray_mesh.proxy.cluster import Cluster, Member
from ray_mesh.proxy.head import ResponseHead
from ray_mesh.proxy.pipeline import Request
from ray_mesh.proxy.pool import Pool
from ray_mesh.proxy.replies import Reply
from ray_mesh.proxy.timers import Wheel

if TYPE_CHECKING:
    from ray_mesh.proxy.caller import Caller
    from ray_mesh.proxy.routes import Shadow
    from ray_mesh.proxy.tunnel import Side

MAX_ACTIVE = 100
MAX_BODY_BYTES = 64 * 1024
TIMEOUT_S = 15.0
"""How long a copy may take; the route's timeout where that is shorter."""

_HOST = re.compile(rb"(\r\nhost:[ \t]*(?:\[[^\]\r]*\]|[^:\r \t]*))", re.IGNORECASE)
_random = random.random

Send = Callable[[Request, "Shadow"], None]


class Mirrors:
    """The copies that one caller makes; the entry of their requests."""

    def __init__(self, caller: Caller, wheel: Wheel, send: Send) -> None:
        self._caller = caller
        self._wheel = wheel
        self._send = send
        self._active: dict[str, int] = {}

    def copies(self, request: Request, shadows: Iterable[Shadow]) -> Copies | None:
        """Those that are drawn for a request, just before it is sent; they wait for its body."""
        if request.head.upgrade:
            return None
        drawn = [shadow for shadow in shadows if _random() * 100 < shadow.percent]
        if not drawn:
            return None
        copies = Copies(self, [self._copy(request, shadow) for shadow in drawn])
        if request.head.length:
            request.tap = copies
            copies.take(b"".join(request.pending or ()))
        return copies

    def _copy(self, request: Request, shadow: Shadow) -> tuple[Request, Shadow]:
        copy = Request(
            self,
            Nowhere(request.client, request.is_http2),
            request.method,
            request.path,
            request.query,
            request.head,
            request.parent,
            request.request_id,
        )
        copy.fields = _HOST.sub(rb"\1-shadow", request.fields, count=1)
        copy.extra = request.extra
        copy.asked = request.asked
        copy.route = shadow
        copy.service = shadow.target.host
        copy.body_done = True
        active = self._active[copy.service] = self._active.get(copy.service, 0) + 1
        if active > MAX_ACTIVE:
            copy.refuse(replies.mirror_given_up(f"{MAX_ACTIVE} copies are on their way to {copy.service}"))
        return copy, shadow

    def start(self, copy: Request, shadow: Shadow) -> None:
        """Send a complete copy."""
        copy.limit(self._wheel, shadow.timeout_s)
        self._send(copy, shadow)

    def begin(self, request: Request) -> None:
        """See :class:`.sides.Entry`. Copies are begun by :meth:`start`."""

    def pool(self, member: Member, breaker: Breaker | None = None, is_http2: bool = False) -> Pool:
        """See :class:`.sides.Entry`."""
        return self._caller.pool(member, breaker, is_http2)

    def dial(self, request: Request, pool: Pool, member: Member) -> None:
        """See :class:`.sides.Entry`."""
        self._caller.dial(request, pool, member)

    def eject(self, cluster: Cluster, member: Member) -> None:
        """See :class:`.sides.Entry`."""
        self._caller.eject(cluster, member)

    def judge(self, cluster: Cluster, member: Member, status: int, has_answered: bool) -> None:
        """See :class:`.sides.Entry`."""
        self._caller.judge(cluster, member, status, has_answered)

    def record(self, request: Request) -> None:
        """See :class:`.sides.Entry`."""
        left = self._active.pop(request.service) - 1
        if left:
            self._active[request.service] = left
        self._caller.record(request)


class Copies:
    """The copies of one request while its body comes."""

    __slots__ = ("_copies", "_mirrors", "_parts", "_size")

    def __init__(self, mirrors: Mirrors, copies: list[tuple[Request, Shadow]]) -> None:
        self._mirrors = mirrors
        self._copies = copies
        self._parts: list[bytes] = []
        self._size = 0

    def take(self, payload: bytes) -> None:
        """More of the body came."""
        self._size += len(payload)
        if self._size <= MAX_BODY_BYTES:
            self._parts.append(payload)
        else:
            self.give_up(f"the body has more than {MAX_BODY_BYTES} bytes")

    def send(self) -> None:
        """The request was sent, and its body is complete."""
        copies, self._copies = self._copies, []
        body = b"".join(self._parts)
        self._parts = []
        for copy, shadow in copies:
            if not copy.done:
                copy.pending = [body]
                copy.request_bytes = len(body)
                self._mirrors.start(copy, shadow)

    def give_up(self, cause: str) -> None:
        """Send none of them."""
        copies, self._copies = self._copies, []
        self._parts = []
        for copy, _ in copies:
            copy.refuse(replies.mirror_given_up(cause))


class Nowhere:
    """The downstream of a copy: a :class:`.sides.Stream` that throws everything away."""

    __slots__ = ("client", "is_http2", "peer")

    def __init__(self, client: bytes, is_http2: bool) -> None:
        self.client = client
        self.is_http2 = is_http2
        self.peer: object = None

    def reply(self, reply: Reply) -> None:
        """See :class:`.sides.Stream`."""

    def respond(self, line: bytes, head: ResponseHead, length: int | None, payload: bytes) -> None:
        """See :class:`.sides.Stream`."""

    def send_whole(self, response: bytes) -> bool:
        """See :class:`.sides.Stream`."""
        return True

    def interim(self, line: bytes, fields: bytes) -> None:
        """See :class:`.sides.Stream`."""

    def switch(self, line: bytes, fields: bytes, far: Side) -> None:
        """See :class:`.sides.Stream`. Requests to switch are not copied."""

    def send_body(self, payload: bytes) -> None:
        """See :class:`.sides.Stream`."""

    def end(self) -> None:
        """See :class:`.sides.Stream`."""

    def abort(self) -> None:
        """See :class:`.sides.Stream`."""

    def pause(self) -> None:
        """See :class:`.sides.Stream`."""

    def resume(self) -> None:
        """See :class:`.sides.Stream`."""
