"""Injected faults: which of them hit one request (Istio's ``fault``: delay and abort, drawn apart)."""

from __future__ import annotations

from collections.abc import Callable

from ray_mesh.snapshot import Fault


def draw(fault: Fault, random: Callable[[], float]) -> tuple[float, int]:
    """Seconds to delay (0 for none) and the status to abort with (0 for none).

    ``random`` returns floats in [0, 1).
    """
    delay_s = fault.delay_s if fault.delay_s > 0 and random() * 100 < fault.delay_percent else 0.0
    hit = fault.abort_status and random() * 100 < fault.abort_percent
    return delay_s, fault.abort_status if hit else 0
