"""Connecting to the first of several addresses that answers (RFC 8305, "happy eyeballs")."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import zip_longest
from typing import TypeVar

STAGGER_S = 0.25
"""How long one address is waited for before the next is tried beside it."""

C = TypeVar("C")
Way = Callable[[], Awaitable[C]]


def interleaved(found: Sequence[str]) -> tuple[str, ...]:
    """The addresses in their order, but IPv6 and IPv4 by turns, beginning with the kind of the first."""
    if not found:
        return ()
    kinds: tuple[list[str], list[str]] = ([], [])
    first = ":" in found[0]
    for address in found:
        kinds[(":" in address) != first].append(address)
    return tuple(each for pair in zip_longest(*kinds) for each in pair if each is not None)


async def first_of(ways: Iterable[Way[C]], drop: Callable[[C], None], stagger_s: float = STAGGER_S) -> C:
    """What the first way gives that succeeds; the next one is begun when one fails, or after ``stagger_s``.

    What others give in the same moment is handed to ``drop``.

    Raises:
        OSError: none succeeded; this is why the last one did not.
    """
    left = iter(ways)
    tasks: set[asyncio.Task[C]] = set()
    failure: OSError | None = None
    try:
        while True:
            way = next(left, None)
            if way is not None:
                tasks.add(asyncio.ensure_future(way()))
            elif not tasks:
                raise failure or OSError("there is no address")
            timeout_s = stagger_s if way is not None else None
            done, _ = await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is None:
                    tasks.discard(task)
                    return task.result()
                if not isinstance(error, OSError):
                    raise error
                tasks.discard(task)
                failure = error
    finally:
        for task in tasks:
            task.cancel()
        for given in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(given, BaseException):
                drop(given)
