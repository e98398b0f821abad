"""The retries of one request, on a route that has them: :mod:`.retry` decides, this carries it out.

A response, a reset or a failed connect that the policy names leads to another try after a pause, while tries
and the breaker's budget last and the whole body is at hand.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from ray_mesh.proxy import replies
from ray_mesh.proxy.retry import RetryPolicy
from ray_mesh.proxy.timers import Alarm, Wheel

if TYPE_CHECKING:
    from ray_mesh.proxy.cluster import Member
    from ray_mesh.proxy.pipeline import Request
    from ray_mesh.proxy.replies import Reply


class Retrying:
    """How many tries are left to a request, and when the current one, or the pause before the next, ends."""

    __slots__ = ("_alarm", "_left", "_number", "_pauses", "_request", "_stands", "_wheel", "policy")

    def __init__(self, request: Request, policy: RetryPolicy, wheel: Wheel, pauses: Wheel) -> None:
        self.policy = policy
        self._request: Request | None = request
        self._wheel = wheel
        self._pauses = pauses
        self._left = policy.attempts
        self._number = 0
        self._stands = False  # a response was judged, and is to be sent
        self._alarm: Alarm | None = None  # ends a try, or the pause before one

    @property
    def retries_resets(self) -> bool:
        """Whether another try may follow one of which nobody knows how far it came."""
        return self.policy.on_reset and self._is_safe

    @property
    def _is_safe(self) -> bool:
        assert self._request is not None
        return self.policy.is_said or self._request.is_idempotent

    def arm(self) -> None:
        """The time of a try begins."""
        self.disarm()
        if self.policy.per_try_timeout_s:
            self._alarm = Alarm(self._wheel, self.policy.per_try_timeout_s, self._time_out)

    def disarm(self) -> None:
        """The try is over, or its response began."""
        if self._alarm is not None:
            self._alarm.call_off()
            self._alarm = None

    def end(self) -> None:
        """The request is over."""
        self.disarm()
        self._request = None

    def go_on(self, reply: Reply, member: Member, is_wanted: bool) -> None:
        """Try again after a pause if that is wanted and possible, else answer with ``reply``."""
        request = self._request
        assert request is not None
        self.disarm()
        if not is_wanted or not request.has_body:
            request.refuse_at(member, reply)
        elif not self._left:
            was_tried = self._number > 0
            request.refuse_at(member, replies.given_up(reply, request.attempts) if was_tried else reply)
        elif not request.may_retry():
            request.refuse_at(member, reply)
        else:
            self._pause()

    def holds_back(self, status: int, head: bytes) -> bool:
        """Whether a response is not sent because another try follows; the connection is not let go."""
        request = self._request
        assert request is not None
        if self._stands:
            return False
        self.disarm()
        if not self._may_repeat(request, status, head):
            self._stands = True
            return False
        assert request.member is not None
        request.hold_back(status, head, request.member)
        self._pause()
        return True

    def _time_out(self) -> None:
        """The current try took too long."""
        request = self._request
        member = request.member if request is not None else None
        if request is None or member is None or request.responded:
            return
        request.blame(504)
        request.end_try(member)
        reply = replies.try_timed_out(self.policy.per_try_timeout_s, member.where)
        self.go_on(reply, member, self.retries_resets)

    def _may_repeat(self, request: Request, status: int, head: bytes) -> bool:
        if not (self._is_safe and request.has_body and self.policy.wants(status, head)):
            return False
        if not self._left and self._number:
            request.flags = f"{request.flags},URX" if request.flags else "URX"
        return self._left > 0 and request.may_retry()

    def _pause(self) -> None:
        self._left -= 1
        self._number += 1
        delay_s = self.policy.delay_s(self._number, random.random)
        self._alarm = Alarm(self._pauses, delay_s, self._try_again)

    def _try_again(self) -> None:
        request = self._request
        if request is None:
            return
        cluster = request.cluster
        assert cluster is not None
        member: Member | None = None
        if self.policy.goes_elsewhere and cluster.places is not None:
            member = cluster.choose_beyond(cluster.places.neighbours(request.tried))
        if member is None and self.policy.spares_tried:
            member = cluster.choose(request.tried, request)
        if member is None:
            member = cluster.choose((), request)
        if member is None:
            request.refuse(replies.no_endpoint(cluster.destination.host, cluster.subset))
            return
        request.send_to(member)
