"""How much the kernel may hold for one connection, so that many slow readers do not fill its memory for TCP.

Left alone a connection grows to the machine's ``tcp_wmem`` and ``tcp_rmem``, 4 and 6 MB or more, and a
request has up to six of them on its way. What is unsent is bounded everywhere, which costs no throughput:
what is in flight does not count. What is unread is bounded between proxies and from applications only, where
a window of a megabyte is plenty; from the outside it may have to fill a long path.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

UNSENT_BYTES = 1024 * 1024
"""A quarter of it costs the relay of plain TCP half as much again."""
UNREAD_BYTES = 1024 * 1024
_MOST = Path("/proc/sys/net/core/rmem_max")


def bound_sending(made: Any) -> None:
    """Bound what a socket, or one that is accepted on it, holds unsent."""
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def bound_inside(made: Any) -> None:
    """Bound also what it holds unread, unless the machine lets nobody ask for as much."""
    bound_sending(made)
    if _may_be_set:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UNREAD_BYTES)


def _read_most() -> int:
    try:
        return int(_MOST.read_text())
    except (OSError, ValueError):
        return 0


_may_be_set = _read_most() >= UNREAD_BYTES
