"""How the process takes memory for what it reads."""

from __future__ import annotations

_KEPT_BYTES = 8 * 1024 * 1024
"""Well above the 256 KiB that uvloop asks for with each connection under TLS, and before each read of it, to
shrink them to what came."""


def keep_read_buffers() -> None:
    """Have the C library keep so much freed memory instead of returning it to the kernel.

    Left alone it maps and unmaps 256 KiB, with their page faults, for each read of even one byte (about
    25 us). glibc raises its limits when a mapped block is freed, up to that block's size.
    """
    block = bytearray(_KEPT_BYTES)
    del block
