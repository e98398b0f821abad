"""The open downstream connections of a plane."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Protocol


class Open(Protocol):
    """A downstream connection as its plane sees it."""

    @property
    def entry(self) -> object:
        """Whose requests it carries."""

    @property
    def is_idle(self) -> bool:
        """Whether no request is in flight."""

    def dismiss(self) -> None:
        """Tell the client to connect again, where that cannot cross a request of its own."""

    def drain(self) -> None:
        """Close now when idle, else after the response."""

    def abort(self) -> None:
        """Close now."""


class Connections:
    """A set that can tell when it becomes empty, and calls ``on_change`` when its size changes."""

    def __init__(self) -> None:
        self._open: set[Open] = set()
        self._emptied = asyncio.Event()
        self.on_change: Callable[[], None] | None = None

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Open]:
        return iter(tuple(self._open))

    def add(self, connection: Open) -> None:
        """A connection was accepted."""
        self._open.add(connection)
        self._emptied.clear()
        if self.on_change is not None:
            self.on_change()

    def discard(self, connection: Open) -> None:
        """A connection is closed."""
        self._open.discard(connection)
        if not self._open:
            self._emptied.set()
        if self.on_change is not None:
            self.on_change()

    async def wait_empty(self) -> None:
        """Return once none is open."""
        if self._open:
            await self._emptied.wait()
