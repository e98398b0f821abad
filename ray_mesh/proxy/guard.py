"""What a workload's policies and rate limits say of a request, on whichever of its listeners it comes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from ray_mesh.proxy import replies
from ray_mesh.proxy.pipeline import Request
from ray_mesh.proxy.replies import Reply
from ray_mesh.proxy.timers import Wheel
from ray_mesh.quota import LeaseBucket
from ray_mesh.security.authorization import AuthorizationInput, compile_policies, for_connections
from ray_mesh.snapshot import RateLimit, Workload

RETRY_LIMIT_S = 0.05

Onward = Callable[[Request], None]
Limits = Sequence[tuple[RateLimit, LeaseBucket]]


class Guard:
    """Decides who passes. ``is_open`` says that everybody does, unseen."""

    __slots__ = ("_authorizer", "_bucket", "_connections", "_limits", "_name", "_wheel", "is_open")

    def __init__(self, workload: Workload, wheel: Wheel, bucket: Callable[[RateLimit], LeaseBucket]) -> None:
        self._wheel = wheel
        self._bucket = bucket
        self.set_workload(workload)

    def set_workload(self, workload: Workload) -> None:
        """Take a new version: policies and limits hold from the next request on."""
        self._name = f"{workload.namespace}/{workload.name}"
        self._authorizer = compile_policies(workload.policies)
        self._connections = compile_policies(for_connections(workload.policies))
        self._limits: Limits = [(limit, self._bucket(limit)) for limit in workload.rate_limits]
        self.is_open = self._authorizer.is_open and not self._limits

    @property
    def limits(self) -> Limits:
        """The rate limits and their buckets."""
        return self._limits

    def check_connection(self, principal: str, namespace: str, port: int) -> tuple[Reply, str] | None:
        """Why a connection that is not HTTP is refused, and by which policy; None when it is not."""
        decision = self._connections.check(AuthorizationInput(principal, namespace, "", port, "", ""))
        if decision.allowed:
            return None
        return replies.denied(decision, principal, self._name), decision.policy

    def check(self, request: Request, principal: str, namespace: str, port: int, onward: Onward) -> None:
        """Refuse the request, or let it go ``onward``, now or when a first lease has come.

        ``principal`` and ``namespace`` are empty for a caller without identity.
        """
        if not self._authorizer.is_open:
            decision = self._authorizer.check(
                AuthorizationInput(
                    principal,
                    namespace,
                    _without_dot(request.host).decode("latin-1"),
                    port,
                    request.method.decode("latin-1"),
                    request.path.decode("latin-1"),
                )
            )
            request.policy = decision.policy
            if not decision.allowed:
                request.refuse(replies.denied(decision, principal, self._name))
                return
        self.spend(request, self._limits, onward)

    def spend(self, request: Request, limits: Limits, onward: Onward) -> None:
        """Spend a token of each limit; hold the request while a first lease is on its way."""
        now = time.monotonic()
        for number, (limit, bucket) in enumerate(limits):
            if bucket.take(now):
                continue
            if bucket.is_waiting(now):
                self._wheel.add(now + RETRY_LIMIT_S, _Held(self, request, limits[number:], onward))
            else:
                retry_in_s = max(1, math.ceil(bucket.refused_until - now))
                request.refuse(replies.rate_limited(limit, retry_in_s))
            return
        onward(request)


def _without_dot(host: bytes) -> bytes:
    """A host as policies name it: the dot at its end means nothing to routing, so nor to them."""
    return host.replace(b".:", b":").removesuffix(b".")


class _Held:
    """A request that waits for the first lease of a rate limit."""

    __slots__ = ("_guard", "_limits", "_onward", "_request")

    def __init__(self, guard: Guard, request: Request, limits: Limits, onward: Onward) -> None:
        self._guard = guard
        self._request = request
        self._limits = limits
        self._onward = onward

    def on_deadline(self, now: float) -> None:
        """See :class:`.timers.Timed`."""
        if not self._request.done:
            self._guard.spend(self._request, self._limits, self._onward)
