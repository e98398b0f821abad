"""When a request that failed is sent again, on a route that says so (Istio's ``retries``).

Pure decisions; :mod:`.retrying` carries them out. A route that names its conditions (``retryOn``) asks
for them whatever the method. One that only says how often has Istio's conditions, but of those the ones
under which a request may have been processed count for idempotent methods only. Words of gRPC mean the
status in the head of a response, as in Envoy: where it comes after messages these have gone out.
"""

from __future__ import annotations

from collections.abc import Callable

from ray_mesh.grpc_status import GrpcStatus
from ray_mesh.proxy.grpc import status_of
from ray_mesh.snapshot import Retries

BACKOFF_S = 0.025
LONGEST_BACKOFFS = 10
_UNSAID = ("connect-failure", "refused-stream", "unavailable", "cancelled", "reset")
_UNSAID_STATUSES = (503,)
_GATEWAY_ERRORS = frozenset({502, 503, 504})
_GRPC = {
    "cancelled": GrpcStatus.CANCELLED,
    "deadline-exceeded": GrpcStatus.DEADLINE_EXCEEDED,
    "resource-exhausted": GrpcStatus.RESOURCE_EXHAUSTED,
    "internal": GrpcStatus.INTERNAL,
    "unavailable": GrpcStatus.UNAVAILABLE,
}


class RetryPolicy:
    """The retries of one route. ``is_said`` when it names conditions."""

    __slots__ = (
        "_codes",
        "_grpc",
        "attempts",
        "backoff_s",
        "goes_elsewhere",
        "is_said",
        "on_connect_failure",
        "on_reset",
        "per_try_timeout_s",
        "spares_tried",
    )

    def __init__(self, retries: Retries) -> None:
        self.is_said = bool(retries.on or retries.statuses)
        words = frozenset(retries.on if self.is_said else _UNSAID)
        self.attempts = retries.attempts
        self.per_try_timeout_s = retries.per_try_timeout_s
        self.backoff_s = retries.backoff_s or BACKOFF_S
        self.spares_tried = retries.ignore_previous_hosts
        self.goes_elsewhere = retries.remote_localities
        self.on_reset = bool(words & {"5xx", "gateway-error", "reset"})
        self.on_connect_failure = self.on_reset or bool(words & {"connect-failure", "reset-before-request"})
        codes = set(retries.statuses if self.is_said else _UNSAID_STATUSES)
        if "5xx" in words:
            codes |= set(range(500, 600))
        if "gateway-error" in words:
            codes |= _GATEWAY_ERRORS
        if "retriable-4xx" in words:
            codes.add(409)
        self._codes = frozenset(codes)
        self._grpc = frozenset(_GRPC[word] for word in words if word in _GRPC)

    def wants(self, status: int, head: bytes) -> bool:
        """Whether a response with this status and ``head`` asks for another try."""
        if status in self._codes:
            return True
        return bool(self._grpc) and status_of(head) in self._grpc

    def delay_s(self, number: int, draw: Callable[[], float]) -> float:
        """How long to wait before retry ``number`` (from 1 on); ``draw`` is uniform in [0, 1)."""
        return draw() * self.backoff_s * min((1 << min(number, 8)) - 1, LONGEST_BACKOFFS)
