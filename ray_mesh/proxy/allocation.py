"""How the process takes memory for what it reads."""

from __future__ import annotations

_LARGEST_READ = 256 * 1024
"""What uvloop asks for before each read under TLS, to shrink it to what came."""


def keep_read_buffers() -> None:
    """Have the C library keep memory of that size instead of returning it to the kernel.

    Left alone it maps and unmaps 256 KiB, with their page faults, for each read of even one byte (about
    10 us). glibc raises its limits when a mapped block is freed, up to that block's size.
    """
    block = bytearray(4 * _LARGEST_READ)
    del block
