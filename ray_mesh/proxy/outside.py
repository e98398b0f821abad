"""Connections to endpoints that have no proxy: plain TCP, to addresses that were looked at first.

A name is resolved here, and what is connected to is an address that passed the check, not the name: it
cannot be made to mean something else in between. Answers are kept for a short while, and lookups of one
name that come together are one.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from ray_mesh import addresses
from ray_mesh.errors import PeerError
from ray_mesh.proxy.connector import HttpClient, plain_client
from ray_mesh.proxy.eyeballs import first_of, interleaved
from ray_mesh.proxy.kernel_buffers import bound_sending
from ray_mesh.proxy.pool import Pool
from ray_mesh.proxy.tls import Identity
from ray_mesh.snapshot import Endpoint

ANSWER_S = 5.0
"""How long an answer is believed, as Envoy's dns_refresh_rate."""
CONNECTION_S = 60.0
"""A connection to a name is given up after this, so that the name may move."""
_MAX_NAMES = 1000

P = TypeVar("P", bound=asyncio.Protocol)
Lookup = Callable[[str], Awaitable[Sequence[str]]]


async def system_lookup(name: str) -> list[str]:
    """The addresses of a name, as the machine knows them. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def is_here(address: str) -> bool:
    """Whether an IP address is one of this machine: then a socket can be bound to it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


class Resolver:
    """Names to addresses, each answer beginning with another address than the one before."""

    def __init__(self, lookup: Lookup = system_lookup) -> None:
        self._lookup = lookup
        self._answers: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._asking: dict[str, asyncio.Task[tuple[str, ...]]] = {}
        self._turns = itertools.count()

    async def resolve(self, name: str) -> tuple[str, ...]:
        """The addresses of a name, at least one.

        Raises:
            PeerError: it has none, or nobody knows.
        """
        until, found = self._answers.get(name, (0.0, ()))
        if until <= time.monotonic():
            found = await asyncio.shield(self._ask(name))
        start = next(self._turns) % len(found)
        return found[start:] + found[:start]

    async def stop(self) -> None:
        """Give up every lookup under way."""
        asking = tuple(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    def _ask(self, name: str) -> asyncio.Task[tuple[str, ...]]:
        task = self._asking.get(name)
        if task is None:
            task = self._asking[name] = asyncio.get_running_loop().create_task(self._answer(name))
            task.add_done_callback(_retrieve)
        return task

    async def _answer(self, name: str) -> tuple[str, ...]:
        try:
            found = tuple(await self._lookup(name))
            if not found:
                raise PeerError(f"{name} has no address")
            if len(self._answers) >= _MAX_NAMES:
                self._answers.clear()
            self._answers[name] = (time.monotonic() + ANSWER_S, found)
            return found
        except OSError as error:
            raise PeerError(f"{name} cannot be resolved: {error.strerror or error}") from error
        finally:
            del self._asking[name]


def _retrieve(task: asyncio.Task[tuple[str, ...]]) -> None:
    """Whoever waited may have given up: its error is nobody's any more."""
    if not task.cancelled():
        task.exception()


class Outside:
    """An :class:`.connector.UpstreamConnector` for endpoints without proxy. It presents nothing.

    ``why_unfit`` says what is wrong with an address and port in this plane, empty for nothing.
    """

    def __init__(self, why_unfit: Callable[[str, int], str], resolver: Resolver) -> None:
        self._why_unfit = why_unfit
        self._resolver = resolver

    async def connect(self, endpoint: Endpoint, identity: Identity | None, pool: Pool) -> HttpClient:
        """See :class:`.connector.UpstreamConnector`."""
        connection = await self.reach(endpoint, lambda: plain_client(pool))
        if addresses.parse(endpoint.address) is None:
            connection.expires_at = time.monotonic() + CONNECTION_S
        return connection

    async def reach(self, endpoint: Endpoint, make: Callable[[], P]) -> P:
        """A connection of whatever protocol ``make`` makes. Raises OSError, PeerError."""
        is_name = addresses.parse(endpoint.address) is None
        found = await self._resolver.resolve(endpoint.address) if is_name else (endpoint.address,)
        refusal = ""
        fit = []
        for address in interleaved(found):
            if reason := self._why_not(endpoint, address):
                what = f"{endpoint.address} resolves to {address}, which" if is_name else address
                refusal = refusal or f"{what} is {reason}: not connected to"
            else:
                fit.append(address)
        if not fit:
            raise PeerError(refusal)
        loop = asyncio.get_running_loop()

        async def open_at(address: str) -> tuple[asyncio.Transport, P]:
            return await loop.create_connection(make, address, endpoint.port)

        ways = [partial(open_at, address) for address in fit]
        transport, connection = await first_of(ways, lambda made: made[0].abort())
        bound_sending(transport.get_extra_info("socket"))
        return connection

    def _why_not(self, endpoint: Endpoint, address: str) -> str:
        """Admission saw the ports of what says that it is loopback; other names must not get there."""
        if addresses.is_loopback(address) and not addresses.is_loopback(endpoint.address):
            return "loopback, which only localhost and names below it may mean"
        ways = addresses.forms(address)
        reasons = (self._why_unfit(one, endpoint.port) for one in ways)
        return addresses.why_unfit(address) or next(filter(None, reasons), "")
