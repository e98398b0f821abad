"""Bodies that say by themselves whose they are, and how a connection is broken."""

from __future__ import annotations

import asyncio
import random
import socket
import struct

BLOCK = random.Random(7).randbytes(4 << 20)
"""Every body is a piece of this; which one follows from the request's seed, so that a body that is
damaged, cut, or another request's is found by comparing."""


def body_of(seed: int, size: int) -> bytes:
    """The body that belongs to a seed."""
    start = seed * 7919 % (len(BLOCK) - size)
    return BLOCK[start : start + size]


def reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the other side gets RST."""
    if not writer.transport.is_closing():
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
