"""A request on its way through the proxy, whatever version of HTTP carries it.

An entry (outbound, inbound, ingress) decides a request in :meth:`.sides.Entry.begin` and ends with
:meth:`Request.refuse` or :meth:`Request.forward`. From there on the request reacts to its two sides:
the :class:`.sides.Stream` it came on and the :class:`.sides.Connection` it goes out on. It ends once,
in ``_finish``, which records it.

What may be sent again, and when:

* nothing was sent (no connection): to another member, always, at most ``MAX_ATTEMPTS`` times in all;
  without another one once more to the same, whose node may have a second proxy on the port;
* the connection ended before the first byte of a response: only when the method is idempotent and the
  whole body so far is still at hand. A reused connection that died says nothing about the member, so
  the same one is tried with a new connection; a new connection that died leads to another member, and
  only without a body;
* a byte of a response was sent: never.

What the peer of a connection of HTTP/2 did not look at (GOAWAY, REFUSED_STREAM) is sent again whatever it is.

A route with ``retries`` has these instead (:mod:`.retrying`). Only the dead reused connection is replaced as
above, which is no try.
"""

from __future__ import annotations

import functools
import time
from math import inf
from typing import TYPE_CHECKING

from ray_mesh.grpc_status import GrpcStatus
from ray_mesh.proxy import grpc, replies
from ray_mesh.proxy.breaker import Breaker, Hold
from ray_mesh.proxy.cluster import Cluster, Member
from ray_mesh.proxy.facts import Facts
from ray_mesh.proxy.head import RequestHead, ResponseHead
from ray_mesh.proxy.pool import Pool
from ray_mesh.proxy.replies import Reply
from ray_mesh.proxy.sides import Connection, Entry, Stream
from ray_mesh.proxy.timers import Alarm, Wheel

if TYPE_CHECKING:
    from ray_mesh.proxy.tunnel import Side

MAX_ATTEMPTS = 3
REPLAY_BYTES = 64 * 1024
PENDING_BYTES = 64 * 1024
"""A downstream is paused when this much of a body waits for a connection."""

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))

_NO_HEAD = RequestHead(b"\r\n", b"\r\n")
_now = time.monotonic


class Request(Facts):
    """One request, and what it does next."""

    __slots__ = ()

    @property
    def is_idempotent(self) -> bool:
        """Whether sending it twice is safe."""
        return self.method in IDEMPOTENT

    @property
    def is_replayable(self) -> bool:
        """Whether sending it twice is safe and possible."""
        return self.method in IDEMPOTENT and self.has_body

    @property
    def has_body(self) -> bool:
        """Whether all of the body that was sent is at hand."""
        return self.head.length == 0 or self.replay is not None

    # From the entry.

    def forward(self, cluster: Cluster) -> None:
        """Send the request to a member of the cluster that was not tried yet."""
        self.decided_at = _now()
        member = cluster.choose(self.tried, self)
        if member is None:
            host = cluster.destination.host
            without_proxy = [each.workload for each in cluster.withheld]
            reply = replies.no_proxy(host, without_proxy) if without_proxy else None
            if cluster.members:
                reply = replies.all_ejected(host, cluster.subset, len(cluster.members))
            self.refuse(reply or replies.no_endpoint(host, cluster.subset))
            return
        self.cluster = cluster
        if cluster.breaker is not None and not self._enter(cluster.breaker):
            return
        self.is_shared = goes_by_http2(self, cluster)
        if self.head.length and (self.is_shared or self.method in IDEMPOTENT or self.retrying is not None):
            self.replay = []
        self.send_to(member)

    def send_to(self, member: Member, fresh: bool = False) -> None:
        """Try a member, with a new connection if ``fresh``."""
        self.member = member
        self.attempts += 1
        member.active += 1
        hold = self.hold
        if self.retrying is not None and self.body_done:
            self.retrying.arm()
        pool = self.pool = self.entry.pool(member, hold.breaker if hold is not None else None, self.is_shared)
        now = self.started_at if self.attempts == 1 else _now()
        connection = None if fresh else pool.take(now, self)
        if connection is not None:
            self._start_on(connection)
        elif hold is None:
            self.entry.dial(self, pool, member)
        else:
            self._await_connection(hold, member)

    def _enter(self, breaker: Breaker) -> bool:
        if not breaker.may_begin():
            self.refuse(breaker_open(breaker, "http2MaxRequests", breaker.max_requests))
            return False
        self.hold = Hold(breaker)
        return True

    def _await_connection(self, hold: Hold, member: Member) -> None:
        """Connect, or wait until a connection is free or may be made, if one more may."""
        breaker = hold.breaker
        if not breaker.may_wait():
            self.refuse(breaker_open(breaker, "http1MaxPendingRequests", breaker.max_pending))
            return
        hold.wait()
        self.connect()

    def connect(self) -> None:
        """Connect now, or as soon as the breaker has room."""
        breaker = self.hold.breaker if self.hold is not None else None
        if breaker is None or breaker.has_room():
            self.dial()
        else:
            breaker.waiting[self] = None

    def dial(self) -> None:
        """Connect to the member that was chosen."""
        assert self.pool is not None
        assert self.member is not None
        self.entry.dial(self, self.pool, self.member)

    def may_use(self, pool: Pool, member: Member, breaker: Breaker) -> bool:
        """Whether a connection of the pool will do; the request then goes to the pool's member."""
        if pool is self.pool:
            return True
        cluster = self.cluster
        assert cluster is not None
        assert self.member is not None
        if member in self.tried or not cluster.is_any_alike:
            return False
        if self.entry.pool(member, breaker, self.is_shared) is not pool:
            return False
        self.member.active -= 1
        member.active += 1
        self.member, self.pool = member, pool
        return True

    def start_on(self, connection: Connection) -> None:
        """A connection was made for it, or became free."""
        if self.hold is not None:
            self.hold.start(self)
        self.connected_at = _now()
        self._start_on(connection)

    def _start_on(self, connection: Connection) -> None:
        self.connection = connection
        self.security = connection.security
        connection.start(self)

    def refuse(self, reply: Reply) -> None:
        """Answer it here, or cut the response off when it has begun."""
        if self.done:
            return
        stream = self.stream
        if self.edit is not None:
            reply = reply.edited(self.edit)
        self.reply = reply
        if reply.flag:
            self.flags = f"{self.flags},{reply.flag}" if self.flags else reply.flag
        if self.connection is not None:
            self.connection.abandon()
        if not self.responded:
            self.status = reply.status
        responded = self.responded
        self._finish()
        assert stream is not None
        if responded:
            stream.abort()
        else:
            stream.reply(reply)

    # From the downstream side.

    def feed(self, payload: bytes, done: bool) -> None:
        """More of the request's body came."""
        self.request_bytes += len(payload)
        self.body_done = done
        if done and self.retrying is not None and self.member is not None:
            self.retrying.arm()
        if self.connection is not None:
            if self.replay is not None:
                self._remember(payload)
            self.connection.send_body(payload, done)
        else:
            self._keep(payload, done)
        if self.tap is not None:
            self.tap.take(payload)
            if done:
                self.tap.send()

    def _keep(self, payload: bytes, done: bool) -> None:
        if self.pending is None:
            self.pending = []
        if payload:
            self.pending.append(payload)
        if not done and self.request_bytes > PENDING_BYTES and self.stream is not None:
            self.stream.pause()

    def take_pending(self) -> bytes:
        """The body that waited for a connection; the connection sends it after the head."""
        pending, self.pending = self.pending, None
        payload = b"".join(pending) if pending else b""
        self._remember(payload)
        if not self.body_done and self.stream is not None:
            self.stream.resume()
        return payload

    def _remember(self, payload: bytes) -> None:
        if self.replay is not None:
            if self.request_bytes > REPLAY_BYTES:
                self.replay = None
            elif payload:
                self.replay.append(payload)

    def cancel(self) -> None:
        """The client is gone. A caller of gRPC goes when the time is over that it allowed."""
        if self.done:
            return
        if self.is_call:
            allowed_s = grpc.allowed_s(self.head)
            if grpc.is_over(allowed_s, _now() - self.started_at):
                self._expire(allowed_s)
                return
        if self.connection is not None:
            self.connection.abandon()
        self.flags = f"{self.flags},DC" if self.flags else "DC"
        self._finish(is_cancelled=True)

    # From the upstream side.

    def connect_failed(self, member: Member, cause: str) -> None:
        """No connection could be made; nothing was sent."""
        cluster = self.cluster
        assert cluster is not None
        self.entry.eject(cluster, member)
        if self.done:
            return
        if self.hold is not None:
            self.hold.start(self)
        self._leave(member)
        reply = replies.connect_failed(member.where, cause)
        if self.retrying is not None:
            self.retrying.go_on(reply, member, self.retrying.policy.on_connect_failure)
            return
        again = cluster.choose(self.tried, self) if self.attempts < MAX_ATTEMPTS else None
        if again is None and self.attempts == 1:
            again = member
        if again is not None and self.may_retry():
            self.send_to(again)
            return
        self.refuse_at(member, reply)

    def connection_lost(self) -> None:
        """The connection ended before the response was complete."""
        connection, member = self.connection, self.member
        if self.done or connection is None or member is None:
            return
        self.connection = None
        if not (connection.is_reused and not self.responded):
            self.blame(503)
        if self.responded:
            self.refuse(replies.cut_off(self.status, member.where))
            return
        reply = replies.connection_reset(member.where)
        was_reused = connection.is_reused
        if self.retrying is not None and not (was_reused and self.is_replayable):
            self.end_try(member)
            self.retrying.go_on(reply, member, self.retrying.retries_resets)
            return
        if not self.is_replayable or (self.attempts >= MAX_ATTEMPTS and self.retrying is None):
            self.refuse(reply)
            return
        self._send_again(was_reused, member)

    def turned_away(self) -> None:
        """The peer of a shared connection did not look at the request, so it may be sent again."""
        member = self.member
        if self.done or member is None:
            return
        if self.responded:
            self.connection_lost()  # the peer contradicts itself
            return
        self.connection = None
        if self.has_body and self.attempts < MAX_ATTEMPTS and self.may_retry():
            member.active -= 1
            self._take_back_body()
            self.send_to(member)
            return
        self.blame(503)
        reply = replies.connection_reset(member.where)
        if self.retrying is None:
            self.refuse(reply)
        else:
            self.end_try(member)
            self.retrying.go_on(reply, member, True)

    def _send_again(self, was_reused: bool, member: Member) -> None:
        assert self.cluster is not None
        again: Member | None = member
        if not was_reused:
            self.tried = (*self.tried, member)
            again = self.cluster.choose(self.tried, self) if self.head.length == 0 else None
        if again is None or not self.may_retry():
            self.refuse(replies.connection_reset(member.where))
            return
        member.active -= 1
        self._take_back_body()
        self.send_to(again, fresh=was_reused)

    def _take_back_body(self) -> None:
        if self.replay is not None:
            self.pending = [*self.replay, *(self.pending or ())]
            self.replay = []

    def _judge(self, status: int) -> None:
        """The member answered."""
        if self.cluster is not None and self.cluster.outliers is not None and self.member is not None:
            self.entry.judge(self.cluster, self.member, status, True)

    def blame(self, status: int) -> None:
        """The member did not answer as it should."""
        if self.cluster is not None and self.cluster.outliers is not None and self.member is not None:
            self.entry.judge(self.cluster, self.member, status, False)

    def _time_out(self) -> None:
        """The time of the whole request is over."""
        assert self.deadline is not None
        if self.connection is not None and not self.responded:
            self.blame(504)
        self.refuse(replies.timed_out(self.deadline.after_s, getattr(self.route, "name", "")))

    def _expire(self, allowed_s: float) -> None:
        """The time that the caller allows is over."""
        if self.connection is not None and not self.responded:
            self.blame(504)
        self.refuse(replies.deadline_exceeded(allowed_s))

    def may_retry(self) -> bool:
        """Whether the breaker has room for one more retry; it then counts as one."""
        hold = self.hold
        if hold is None or hold.is_retry:
            return True
        if not hold.breaker.may_retry():
            return False
        hold.retry()
        return True

    def end_try(self, member: Member) -> None:
        """Give the current try up before another one, or before the answer."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abandon()
        if self.hold is not None:
            self.hold.start(self)
        self._leave(member)
        self._take_back_body()

    def hold_back(self, status: int, head: bytes, member: Member) -> None:
        """Give a response up, since another try follows; the connection may be good for others."""
        ended = grpc.status_of(head) if self.is_call else None
        self._judge(status if ended is None else grpc.grpc_to_http(ended))
        self._leave(member)
        self._take_back_body()

    def _leave(self, member: Member) -> None:
        member.active -= 1
        self.member = None
        self.tried = (*self.tried, member)

    def refuse_at(self, member: Member, reply: Reply) -> None:
        """Answer it here, because of what happened at a member."""
        self.member = member
        member.active += 1
        self.refuse(reply)

    def on_whole(self, status: int, response: bytes, size: int) -> bool:
        """A complete response came that may be sent as it is, with a body of ``size`` bytes; False
        when it has to be sent by :meth:`on_response` and :meth:`on_end`."""
        if self.retrying is not None:
            head = response[: response.find(b"\r\n\r\n") + 2]
            if self.retrying.holds_back(status, head):
                return True
        if self.edit is not None or not self.stream.send_whole(response):  # type: ignore[union-attr]
            return False
        self.status = status
        self.responded = True
        self.response_bytes = size
        if self.member.failures:  # type: ignore[union-attr]
            self.member.failures = 0  # type: ignore[union-attr]
        if self.cluster.outliers is not None:  # type: ignore[union-attr]
            self._judge(status)
        self._finish()
        return True

    def on_response(
        self, status: int, line: bytes, head: ResponseHead, length: int | None, payload: bytes
    ) -> None:
        """The head of the final response came, with the first of its body (:meth:`.sides.Stream.respond`)."""
        if self.retrying is not None and not self.responded and self.retrying.holds_back(status, head.block):
            connection, self.connection = self.connection, None
            if connection is not None:
                connection.abandon()
            return
        self.status = status
        self.responded = True
        self.replay = None
        self.first_byte_at = _now()
        self.response_bytes = len(payload)
        member = self.member
        if member is not None and member.failures:
            member.failures = 0
        ended = grpc.status_of(head.block) if self.is_call else None
        if ended is None:
            self._judge(status)
        else:
            self.grpc_status = str(ended)
            self._judge(grpc.grpc_to_http(ended))
        if self.edit is not None:
            head = head.with_fields(self.edit(head.fields))
        self.stream.respond(line, head, length, payload)  # type: ignore[union-attr]

    def on_switch(self, line: bytes, fields: bytes, far: Side) -> None:
        """The upstream switches protocols; from here on the tunnel decides, until :meth:`end_tunnel`."""
        stream = self.stream
        assert stream is not None
        self.status = 101
        self.responded = self.done = True
        self.stream = self.connection = None
        self._disarm()
        stream.switch(line, fields if self.edit is None else self.edit(fields), far)

    def end_tunnel(self, request_bytes: int, response_bytes: int, flag: str) -> None:
        """Both directions are over."""
        self.request_bytes, self.response_bytes = request_bytes, response_bytes
        if flag:
            self.flags = f"{self.flags},{flag}" if self.flags else flag
        self._finish()

    def on_body(self, payload: bytes) -> None:
        """More of the response's body came."""
        self.response_bytes += len(payload)
        if self.stream is not None:
            self.stream.send_body(payload)

    def on_end(self) -> None:
        """The response is complete; the connection has let go of the request."""
        stream = self.stream
        self._finish()
        if stream is not None:
            stream.end()

    def bad_response(self, cause: str) -> None:
        """The response breaks HTTP; nothing of it may be forwarded from here on."""
        self.blame(503)
        member = self.member
        reply = replies.bad_response(member.where if member is not None else "the upstream", cause)
        if self.retrying is None or self.responded or self.done or member is None:
            self.refuse(reply)
            return
        self.end_try(member)
        self.retrying.go_on(reply, member, self.retrying.retries_resets)

    def limit(self, wheel: Wheel, timeout_s: float) -> None:
        """Refuse the request when it is not done ``timeout_s`` from now."""
        self.deadline = Alarm(wheel, timeout_s, self._time_out)

    def limit_call(self, wheel: Wheel, timeout_s: float) -> None:
        """As :meth:`limit`, for a call of gRPC, whose caller may allow less time; 0 is no timeout."""
        allowed_s = grpc.allowed_s(self.head)
        left_s = max(allowed_s - (_now() - self.started_at), 0.0) if allowed_s < inf else inf
        if left_s < (timeout_s or inf):
            self.deadline = Alarm(wheel, left_s, functools.partial(self._expire, allowed_s))
        elif timeout_s:
            self.limit(wheel, timeout_s)

    def _ended_with(self, is_cancelled: bool) -> int:
        """The status of a call, as its caller sees it."""
        reply = self.reply
        if is_cancelled:
            return GrpcStatus.CANCELLED
        if reply is not None:
            is_cut_off = self.responded and reply.reason != replies.DEADLINE_EXCEEDED
            return GrpcStatus.INTERNAL if is_cut_off else grpc.status_of_reply(reply)
        ended = grpc.status_of(self.response_trailer)
        if ended is not None:
            return ended
        return (
            int(self.grpc_status)
            if self.grpc_status
            else grpc.HTTP_TO_GRPC.get(self.status, GrpcStatus.UNKNOWN)
        )

    def _finish(self, is_cancelled: bool = False) -> None:
        self.done = True
        if self.is_call:
            self.grpc_status = str(int(self._ended_with(is_cancelled)))
        self.duration_s = _now() - self.started_at
        if self.member is not None:
            self.member.active -= 1
        self.connection = None
        self.stream = None
        self.pending = self.replay = None
        if self.tap is not None and not self.body_done:
            self.tap.give_up("the request ended before its body")
        if self.deadline is not None or self.retrying is not None:
            self._disarm()
        if self.hold is not None:
            self.hold.end(self)
            self.hold = None
        self.entry.record(self)

    def _disarm(self) -> None:
        if self.deadline is not None:
            self.deadline.call_off()
            self.deadline = None
        if self.retrying is not None:
            self.retrying.end()
            self.retrying = None


def goes_by_http2(request: Facts, cluster: Cluster) -> bool:
    """Whether a request goes to a cluster by HTTP/2. What asks for another protocol cannot. What came through
    a gateway by HTTP/2 may have done so because that offers it, whatever the application understands."""
    speaks = cluster.speaks
    if speaks:
        return speaks == "http2" and not request.head.upgrade
    if cluster.is_undeclared and request.head.is_from_outside:
        return request.is_http2 and grpc.is_grpc(request.head)
    return request.is_http2


def flaw(entry: Entry, stream: Stream, reply: Reply) -> Request:
    """What is recorded of bytes that were no request and were answered with ``reply``."""
    request = Request(entry, stream, b"", b"", b"", _NO_HEAD, b"", b"")
    request.stream = None
    request.done = True
    request.reply, request.status, request.flags = reply, reply.status, reply.flag
    return request


def breaker_open(breaker: Breaker, limit: str, value: float) -> Reply:
    """The answer when a limit of a breaker is reached."""
    return replies.breaker_open(limit, value, breaker.name, breaker.origin)
