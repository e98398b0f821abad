"""Bookinfo on a running mesh, and traffic through its ingress, for the tests of this folder."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from http.cookiejar import CookieJar
from typing import TypeVar
from urllib.error import HTTPError
from urllib.request import HTTPCookieProcessor, HTTPRedirectHandler, ProxyHandler, build_opener

from ray_mesh.demo.deployment import Deployment
from ray_mesh.demo.load import VIEW_TIMEOUT_S, Load, Tally
from ray_mesh.errors import Unavailable
from ray_mesh.launch import RunningMesh
from ray_mesh.sdk import Mesh

T = TypeVar("T")


@dataclass(slots=True)
class Site:
    """A mesh with Bookinfo on it. ``ingress`` is the base URL of the ingress; ``deployment`` is there when
    this process's Ray runs Bookinfo."""

    running: RunningMesh
    mesh: Mesh
    ingress: str
    deployment: Deployment | None

    def apply(self, text: str) -> int:
        """Apply documents and wait until every proxy has them; returns the revision."""
        revision = self.mesh.apply(text).revision
        self.mesh.wait(revision, timeout_s=10.0)
        return revision

    def remove(self, kind: str, name: str, namespace: str = "default") -> None:
        """Delete an object and wait until every proxy knows."""
        self.mesh.wait(self.mesh.delete(kind, name, namespace=namespace).revision, timeout_s=10.0)

    def touch(self) -> int:
        """Change something harmless; returns the revision, 0 when the mesh cannot store just now."""
        text = f"""
apiVersion: mesh.ray.io/v1
kind: WorkloadBinding
metadata: {{name: touched, annotations: {{at: "{time.time()}"}}}}
spec: {{serviceAccount: nobody, nodes: ["*"]}}
"""
        try:
            return self.mesh.apply(text).revision
        except Unavailable:
            return 0

    def status_from_another_controller(self, pid: int) -> dict[str, int]:
        """Actors and their processes as a new controller sees them; empty while there is none."""
        try:
            actors = self.mesh.status().actors
        except Unavailable:
            return {}
        if any(actor.role == "controller" and actor.pid == pid for actor in actors):
            return {}
        return {actor.name: actor.pid for actor in actors if actor.role != "controller"}

    def split(self, user: str = "", views: int = 60) -> Counter[str]:
        """Which version of reviews answered, over a number of page views by one user."""
        tally = asyncio.run(self._views((user,), views))
        assert not tally.failures, tally.problems
        return tally.reviews_split

    def page(self, user: str = "") -> str:
        """The product page as one user sees it."""
        jar = CookieJar()
        opener = build_opener(ProxyHandler({}), HTTPCookieProcessor(jar), _NoRedirect())
        if user:
            with suppress(HTTPError):
                opener.open(f"{self.ingress}/login", f"username={user}".encode(), timeout=10.0)
            assert len(jar) == 1, f"{user} is not logged in"
        with opener.open(f"{self.ingress}/productpage", timeout=20.0) as response:
            text: str = response.read().decode()
        return text

    def get(self, path: str) -> tuple[int, str, dict[str, str]]:
        """Status, body and headers (names in lower case) of one request through the ingress."""
        try:
            with build_opener(ProxyHandler({})).open(f"{self.ingress}{path}", timeout=20.0) as response:
                return response.status, response.read().decode(), _lowered(response.headers)
        except HTTPError as error:
            with error:
                return error.code, error.read().decode(), _lowered(error.headers)

    async def _views(self, users: tuple[str, ...], views: int) -> Tally:
        load = Load(self.ingress, rate=100.0, users=users)
        try:
            await load.open(20.0)
            await load.run(views / 100.0)
        finally:
            await load.close()
        return load.tally

    @contextmanager
    def traffic(self, rate: float = 25.0, timeout_s: float = VIEW_TIMEOUT_S) -> Iterator[Tally]:
        """Page views in the background; the tally grows while the block runs."""
        loop = asyncio.new_event_loop()
        load = Load(self.ingress, rate=rate, timeout_s=timeout_s)
        ready = threading.Event()
        stop = asyncio.Event()

        async def run() -> None:
            await load.open(20.0)
            ready.set()
            views = asyncio.create_task(load.run(None))
            await stop.wait()
            views.cancel()
            await asyncio.gather(views, return_exceptions=True)
            await load.drain()
            await load.close()

        thread = threading.Thread(target=loop.run_until_complete, args=(run(),), name="traffic")
        thread.start()
        assert ready.wait(25.0), "no page came whole"
        try:
            yield load.tally
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(30.0)
            loop.close()


class _NoRedirect(HTTPRedirectHandler):
    """The login answers with a redirect to the page, which is viewed in its own time."""

    def redirect_request(self, *_: object) -> None:
        return None


def _lowered(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def eventually(condition: Callable[[], T], timeout_s: float = 15.0) -> T:
    """The first true result of ``condition``; fails with its last one when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {result!r}"
        time.sleep(0.05)
