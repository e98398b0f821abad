"""Injected faults: which of them hit one request (Istio's ``fault``: delay and abort, drawn apart)."""

from __future__ import annotations

from collections.abc import Callable

from ray_mesh.grpc_status import GrpcStatus
from ray_mesh.proxy import replies
from ray_mesh.proxy.grpc import grpc_to_http
from ray_mesh.proxy.replies import Reply
from ray_mesh.snapshot import Fault


def draw(fault: Fault, random: Callable[[], float]) -> tuple[float, Reply | None]:
    """Seconds to delay (0 for none) and the answer to abort with.

    ``random`` returns floats in [0, 1).
    """
    delay_s = fault.delay_s if fault.delay_s > 0 and random() * 100 < fault.delay_percent else 0.0
    hit = fault.aborts and random() * 100 < fault.abort_percent
    return delay_s, abort_of(fault) if hit else None


def abort_of(fault: Fault) -> Reply:
    """What requests are answered that it aborts. Callers by HTTP alone get the HTTP status that a status of
    gRPC counts as."""
    if fault.abort_grpc_status is None:
        return replies.injected_abort(fault.abort_status)
    status = GrpcStatus(fault.abort_grpc_status)
    return replies.injected_abort(grpc_to_http(status), status)
