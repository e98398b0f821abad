"""The figures of a plane and its process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PlaneStats:
    """For people: what is open now, how the process is, and events so far by reason.

    ``handed_over`` and ``taken`` are connections that went to and came from other workers of the node.
    ``flaws`` is what came and was no request. ``lag_s`` is how late the loop was all the time of late,
    ``lag_max_s`` the longest single lateness.
    """

    connections: int
    in_flight: int
    workloads: int
    hosts: int
    flaws: int
    overload_level: int
    pressure: float
    memory_bytes: int
    lag_s: float
    lag_max_s: float
    handed_over: int
    taken: int
    gc_pauses: int
    gc_pause_max_s: float
    gc_pause_total_s: float
    events: Mapping[str, int]
