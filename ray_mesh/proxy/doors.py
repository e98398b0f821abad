"""Gateway ports that are not plain HTTP: TLS whose server name chooses among servers, TCP, PROXY protocol.

A connection is looked at before it has a transport (MSG_PEEK): what decides stays in the socket, so that
whoever takes it, TLS or a relay, finds it whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from ray_mesh.proxy.client_hello import MAX_BYTES, BadHello, server_name
from ray_mesh.proxy.ingress import Ingress
from ray_mesh.proxy.proxy_protocol import MAX_BYTES as MAX_HEADER
from ray_mesh.proxy.proxy_protocol import BadProxyHeader, ProxyHeader, read_header
from ray_mesh.snapshot import GatewayServer, SecureServer

PEEK_S = 10.0
"""How long a client has for what decides."""
_UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"
"""A TLS record: the fatal alert that answers a name nobody serves."""


@dataclass(frozen=True, slots=True)
class SecureEntry:
    """One TLS server of a door, and whose requests it carries when it ends HTTP."""

    server: SecureServer
    ingress: Ingress | None


class Door:
    """What a gateway port does with connections; ``server`` None refuses them."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.server: GatewayServer | None = None
        self.entries: tuple[SecureEntry, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether the port is plain HTTP, which needs no door."""
        return self.server is None or not (self.server.secure or self.server.is_tcp)

    def choose(self, name: str) -> SecureEntry | None:
        """The TLS server for a name (empty: none was said): the most specific host decides."""
        best: SecureEntry | None = None
        best_rank = -1
        for entry in self.entries:
            found = max(rank(host, name) for host in entry.server.hosts)
            if found > best_rank:
                best, best_rank = entry, found
        return best


def rank(pattern: str, name: str) -> int:
    """How specific a pattern for a name is: -1 when it does not stand for it, more for a narrower one."""
    if pattern == name:
        return 1000
    if pattern == "*":
        return 0
    if pattern.startswith("*.") and name.endswith(pattern[1:]) and len(name) >= len(pattern):
        return len(pattern)
    return -1


class Doorman(asyncio.Protocol):
    """Takes the socket out of a new connection before anything is read, for ``serve``."""

    def __init__(self, serve: Callable[[socket.socket, bytes], None]) -> None:
        self._serve = serve

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        opened = cast(asyncio.Transport, transport)
        peer = opened.get_extra_info("peername")
        try:
            connection = socket.socket(fileno=os.dup(opened.get_extra_info("socket").fileno()))
        except OSError:  # no more file descriptors
            return
        finally:
            opened.abort()
        connection.setblocking(False)
        self._serve(connection, str(peer[0]).encode() if peer else b"unknown")


async def peek(connection: socket.socket, size: int, least: int) -> bytes:
    """At least ``least`` bytes, at most ``size``, which stay in the socket; fewer at its end."""
    loop = asyncio.get_running_loop()
    while True:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, least)
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(connection, _tell, ready)
        try:
            await ready
        finally:
            loop.remove_reader(connection)
        try:
            found = connection.recv(size, socket.MSG_PEEK)
        except BlockingIOError:
            continue
        if len(found) >= least or not found:
            return found
        await asyncio.sleep(0.02)  # the end came, or the kernel woke us early
        again = connection.recv(size, socket.MSG_PEEK)
        if len(again) == len(found):
            return found


def _tell(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def peek_name(connection: socket.socket) -> str:
    """The server name of the ClientHello with which a connection begins.

    Raises:
        BadHello: it begins otherwise, or ends before.
    """
    least = 5
    while True:
        found = await peek(connection, MAX_BYTES + 1024, least)
        name = server_name(found)
        if name is not None:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            return name
        if len(found) < least or len(found) > MAX_BYTES:
            raise BadHello("the connection ended before its ClientHello")
        least = len(found) + 1


async def take_header(connection: socket.socket) -> ProxyHeader:
    """The PROXY protocol header with which a connection begins, taken out of the socket.

    Raises:
        BadProxyHeader: it begins otherwise, or ends before.
    """
    least = 1
    while True:
        found = await peek(connection, MAX_HEADER, least)
        header = read_header(found)
        if header is not None:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            connection.recv(header.length)
            return header
        if len(found) < least:
            raise BadProxyHeader("the connection ended before its PROXY protocol header")
        least = len(found) + 1


def refuse_name(connection: socket.socket) -> None:
    """Tell a TLS client that nobody serves its name."""
    with contextlib.suppress(OSError):
        connection.send(_UNRECOGNIZED_NAME)
    connection.close()
