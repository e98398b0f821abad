"""One event loop on one thread, for programs that have none to spare (scripts, Jupyter)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from ray_mesh.errors import Unavailable

T = TypeVar("T")


class BackgroundLoop:
    """Runs coroutines on its own loop; the calling thread waits for the result."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether :meth:`run` works."""
        return self._thread.is_alive()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``, or what it raised. Ctrl-C cancels it.

        Raises:
            Unavailable: the loop is closed.
        """
        if not self._thread.is_alive() or threading.current_thread() is self._thread:
            work.close()
            raise Unavailable("this mesh connection is closed: connect again")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End the loop and its thread; calling it again does nothing."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
