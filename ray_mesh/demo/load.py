"""Page views through the ingress at a steady rate, and what came of them.

The rate is kept whatever the answers take (an open loop), up to :data:`MOST_AT_ONCE` views under way;
beyond that the load waits, so that a stuck mesh is not buried. A view fails when its status is not 200
or when the page says that a part of it could not be fetched.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from dataclasses import dataclass, field

import aiohttp

from ray_mesh.demo.pages import DETAILS_ERROR, RECOMMENDATIONS_ERROR, REVIEWS_ERROR
from ray_mesh.demo.reviews import NO_RATINGS
from ray_mesh.errors import Unavailable

MOST_AT_ONCE = 64
VIEW_TIMEOUT_S = 10.0
PAUSE_S = 0.05
ERRORS = (DETAILS_ERROR, REVIEWS_ERROR, NO_RATINGS, RECOMMENDATIONS_ERROR)
MOST_REASONS = 20

_REVIEWS_VERSION = re.compile(r'<section id="reviews" data-version="([^"]+)"')


@dataclass(frozen=True, slots=True)
class View:
    """How one page view ended: ``problem`` is empty when all of the page came."""

    reviews_version: str
    problem: str


@dataclass(slots=True)
class Tally:
    """The counts so far. ``problems`` counts failures by cause, the first :data:`MOST_REASONS` apart."""

    requests: int = 0
    failures: int = 0
    reviews_split: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)

    def add(self, view: View) -> None:
        """Count one view."""
        self.requests += 1
        if view.reviews_version:
            self.reviews_split[view.reviews_version] += 1
        if view.problem:
            self.failures += 1
            known = view.problem in self.problems or len(self.problems) < MOST_REASONS
            self.problems[view.problem if known else "other"] += 1


def read_page(status: int, page: str) -> View:
    """What a page says about itself."""
    version = _REVIEWS_VERSION.search(page)
    problem = f"status {status}: {page[:200]}" if status != 200 else ""
    problem = problem or next((error for error in ERRORS if error in page), "")
    return View(version[1] if version else "", problem)


class Load:
    """A crowd of users (an empty name is nobody logged in) that views ``<base_url>/productpage``."""

    def __init__(
        self,
        base_url: str,
        rate: float = 20.0,
        users: tuple[str, ...] = ("", "jason"),
        timeout_s: float = VIEW_TIMEOUT_S,
    ) -> None:
        self._page = f"{base_url.rstrip('/')}/productpage"
        self._login = f"{base_url.rstrip('/')}/login"
        self._rate = rate
        self._users = users
        self._timeout_s = timeout_s
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self.tally = Tally()

    async def open(self, deadline_s: float) -> None:
        """View the page until it comes whole, then log the users in; this is not counted.

        Raises:
            Unavailable: it did not within ``deadline_s``; the message says how the last try ended.
        """
        for user in self._users:
            self._sessions[user] = _new_session(self._timeout_s)
        give_up_at = time.monotonic() + deadline_s
        while problem := await self._try_once():
            if time.monotonic() > give_up_at:
                raise Unavailable(f"{self._page} did not answer whole in {deadline_s:g} s: {problem}")
            await asyncio.sleep(PAUSE_S)

    async def run(self, duration_s: float | None = None) -> None:
        """View pages for ``duration_s`` (None: until cancelled), then wait for those under way.

        Call :meth:`open` first.
        """
        started_at = time.monotonic()
        number = 0
        while duration_s is None or number < duration_s * self._rate:
            await asyncio.sleep(max(0.0, started_at + number / self._rate - time.monotonic()))
            while len(self._under_way) >= MOST_AT_ONCE:
                await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            self._begin_view(self._users[number % len(self._users)])
            number += 1
            if duration_s is not None and time.monotonic() - started_at > duration_s:
                break
        await self.drain()

    async def drain(self) -> None:
        """Wait for the views under way, so that each is counted."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def close(self) -> None:
        """End what is under way and close all connections."""
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    def _begin_view(self, user: str) -> None:
        task = asyncio.create_task(self._count_view(user))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _count_view(self, user: str) -> None:
        self.tally.add(await self._view(user))

    async def _view(self, user: str) -> View:
        try:
            async with self._sessions[user].get(self._page) as response:
                return read_page(response.status, await response.text())
        except (aiohttp.ClientError, TimeoutError) as error:
            return View("", f"{type(error).__name__}: {error}")

    async def _try_once(self) -> str:
        """What is still wrong with the page or the logins; empty when nothing is."""
        for user in self._users:
            if user and (problem := await self._log_in(user)):
                return problem
            if problem := (await self._view(user)).problem:
                return problem
        return ""

    async def _log_in(self, user: str) -> str:
        try:
            async with self._sessions[user].post(
                self._login, data={"username": user}, allow_redirects=False
            ) as response:
                return "" if response.status == 302 else f"login of {user!r}: status {response.status}"
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"login of {user!r}: {type(error).__name__}: {error}"


def _new_session(timeout_s: float) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        cookie_jar=aiohttp.CookieJar(unsafe=True),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
    )
