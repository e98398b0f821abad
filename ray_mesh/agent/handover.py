"""Listening sockets go from one proxy of a node to the one that takes its place.

When a process closes a listening socket, the kernel resets the connections that wait in its queue, also
when others share the port. So the old proxy passes its sockets on (``SCM_RIGHTS``, unix(7)), and the new
one accepts from the very same queues. They meet at an abstract Unix socket of a random name; only a
process of the same user is served, once.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
from collections.abc import Sequence

from ray_mesh.errors import PeerError, Unavailable

OFFER_S = 20.0
"""How long an offer is open."""
BATCH = 200
"""The kernel passes at most 253 descriptors in a message."""
_MORE, _LAST = b"more", b"last"
_CREDENTIALS = struct.Struct("3i")


class Offer:
    """Sockets that another process of this user may fetch once, under ``name``."""

    def __init__(self, sockets: Sequence[socket.socket], timeout_s: float = OFFER_S) -> None:
        self.name = f"ray-mesh-{secrets.token_hex(16)}"
        self._sockets = sockets
        self._meeting = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._meeting.bind(f"\0{self.name}")
        self._meeting.listen(1)
        self._meeting.settimeout(timeout_s)

    def serve(self) -> None:
        """Wait for the one that takes over and pass the sockets; ours stay open. Blocks.

        Raises:
            Unavailable: nobody came in time.
            PeerError: somebody came who is another user.
        """
        with self._meeting:
            try:
                peer, _ = self._meeting.accept()
            except TimeoutError as error:
                raise Unavailable("nobody came to take the sockets over") from error
        with peer:
            _check_user(peer)
            peer.settimeout(OFFER_S)
            numbers = [one.fileno() for one in self._sockets]
            batches = [numbers[at : at + BATCH] for at in range(0, len(numbers), BATCH)] or [[]]
            for batch in batches:
                socket.send_fds(peer, [_LAST if batch is batches[-1] else _MORE], batch)


def fetch(name: str) -> list[socket.socket]:
    """Take over what is offered under ``name``. Blocks.

    Raises:
        Unavailable: there is no such offer, or it broke off.
    """
    fetched: list[socket.socket] = []
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
            peer.settimeout(OFFER_S)
            peer.connect(f"\0{name}")
            said = _MORE
            while said == _MORE:
                said, numbers, _, _ = socket.recv_fds(peer, len(_MORE), BATCH)
                fetched += [socket.socket(fileno=number) for number in numbers]
    except OSError as error:
        _close(fetched)
        raise Unavailable(f"cannot take the sockets over: {error}") from error
    if said != _LAST:
        _close(fetched)
        raise Unavailable("cannot take the sockets over: the offer broke off")
    for one in fetched:
        one.setblocking(False)
    return fetched


def _check_user(peer: socket.socket) -> None:
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(raw)
    if user != os.getuid():
        raise PeerError(f"user {user} may not take the sockets of user {os.getuid()} over")


def _close(sockets: Sequence[socket.socket]) -> None:
    for one in sockets:
        one.close()
