"""What a peer may do on an HTTP/2 connection without getting anything done, the same for both codecs.

Frames that cost us work and bring no request further (pings, settings, empty DATA, window updates) and
streams that end before their time each take a token from a bucket. The buckets are wide: a client that
cancels, or that measures its bandwidth by pings, never sees their bottom; one that does nothing else is
shown the door.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

IDLE_FRAMES = (10_000, 5_000)
"""How many frames without effect at once, and how many a second."""
RESETS = (1_000, 200)
"""How many streams that end badly at once, and how many a second; one that ends well makes up for one."""
OWN_RESETS = (500, 33)
"""As RESETS, for streams that we end before their time, after which the connection is replaced: so that who
cancels many requests brings none of the others on it to the end of the peer's patience. That of libnghttp2 is
the shortest known, 1,000 and 33 a second."""
SETTINGS_COST = 10
"""A SETTINGS frame may touch every stream: it counts as so many frames without effect."""
PENDING_ACKS = 1_000
"""How many answers to PING and SETTINGS may wait for a peer that does not read."""
UNKNOWN_MAX_STREAMS = 100
"""How many requests a peer is taken to allow until it says so."""
MAX_SETTINGS = 32
"""Entries of one SETTINGS frame."""
MAX_CONTINUATIONS = 128
"""Pieces of one block of fields. libnghttp2 counts a frame's head that comes in pieces each time (2817)."""
RETIRE_BYTES = 1 << 30
"""How much of frames that were cut off by a reset a connection survives, see :mod:`.http2_ngh2`."""


class Bucket:
    """Tokens that come back with time. The clock is looked at only when they are all gone."""

    __slots__ = ("burst", "clock", "filled_at", "left", "rate")

    def __init__(self, limit: tuple[int, int], clock: Callable[[], float] = monotonic) -> None:
        self.burst, self.rate = limit
        self.clock = clock
        self.left: float = self.burst
        self.filled_at = clock()

    def take(self, tokens: int = 1) -> bool:
        """Whether there were that many; if not, the peer is over its limit."""
        if self.left >= tokens:
            self.left -= tokens
            return True
        now = self.clock()
        self.left = min(self.left + (now - self.filled_at) * self.rate, self.burst)
        self.filled_at = now
        if self.left < tokens:
            return False
        self.left -= tokens
        return True

    def give(self) -> None:
        """Put one back."""
        if self.left < self.burst:
            self.left += 1
