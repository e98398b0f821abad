"""The admin endpoint of a plane: what it is and does, for people and scrapers on this machine.

It is bound on loopback and has no secrets; GET and HEAD only. A Host that is not loopback is refused, so
that no web page can read it through a name that resolves to this machine (DNS rebinding). It is served
by the plane's own HTTP server, beside the traffic: what a page shows is gathered on the loop, which is
quick, and written out on a thread. It answers until the plane stops, also while it drains.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ray_mesh import addresses
from ray_mesh.proxy import replies
from ray_mesh.proxy.breaker import Breaker
from ray_mesh.proxy.cluster import Cluster, Member
from ray_mesh.proxy.connections import Connections
from ray_mesh.proxy.head import RequestHead, read_request
from ray_mesh.proxy.hosts import split_authority
from ray_mesh.proxy.http1_server import Admitted, Http1Server
from ray_mesh.proxy.listener import LOOPBACK, Listener, bind
from ray_mesh.proxy.path import BASE
from ray_mesh.proxy.pipeline import Request
from ray_mesh.proxy.pool import Pool
from ray_mesh.proxy.replies import Reply
from ray_mesh.proxy.timers import Wheel

MAX_CONNECTIONS = 16
MAX_PAGES_AT_ONCE = 4
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"

Write = Callable[[], str]
Gather = Callable[[], tuple[int, Write]]
"""Takes what a page shows, on the loop; answers the status and what writes it out, on a thread."""


@dataclass(frozen=True, slots=True)
class Page:
    """One path."""

    content_type: str
    gather: Gather


@dataclass(frozen=True, slots=True)
class _Document(Reply):
    content: bytes = b""
    content_type: str = TEXT

    def render(
        self, *, close: bool, without_body: bool = False, is_brief: bool = False, request_id: str = ""
    ) -> bytes:
        ending = "connection: close\r\n" if close else ""
        head = (
            f"HTTP/1.1 {self.status} {'OK' if self.status == 200 else 'Unavailable'}\r\n"
            f"content-type: {self.content_type}\r\ncontent-length: {len(self.content)}\r\n"
            f"cache-control: no-store\r\nx-content-type-options: nosniff\r\n{ending}\r\n"
        ).encode()
        return head if without_body else head + self.content


class _OnLoopback:
    bind_address = LOOPBACK


class Admin:
    """The entry and what its connections share (see :class:`.http1_server.Listening`)."""

    is_brief = False
    is_edge = False
    recent = None

    def __init__(self, port: int, wheel: Wheel, pages: Mapping[str, Page]) -> None:
        self.config = _OnLoopback()
        self.wheel = wheel
        self.connections = Connections()
        self.ends_connections = False
        self.paths = BASE
        self._pages = pages
        self._writing: set[asyncio.Task[None]] = set()
        self._opening: asyncio.Task[None] | None = None
        bound = bind(LOOPBACK, port, exclusive=True)  # no other proxy of the node must answer for it
        bound.listen(MAX_CONNECTIONS)
        self._listener = Listener(bound, lambda: Http1Server(self, self._admit))

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._listener.port

    def open(self) -> None:
        """Serve from the next turn of the loop on; who connects before that waits."""
        self._opening = asyncio.get_running_loop().create_task(self._listener.start())

    async def stop(self) -> None:
        """End it, and every connection."""
        tasks = [*self._writing, *([self._opening] if self._opening else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()
        for connection in self.connections:
            connection.abort()

    def _admit(self, server: Admitted, transport: asyncio.Transport) -> Admin | None:
        return self if len(self.connections) < MAX_CONNECTIONS else None

    def read_head(self, block: bytes) -> RequestHead:
        """See :class:`.http1_server.ServerEntry`."""
        return read_request(block, frozenset())

    def tunnel(
        self, transport: asyncio.Transport, target: bytes, head: RequestHead, rest: bytes
    ) -> Reply | None:
        """See :class:`.http1_server.ServerEntry`."""
        return replies.NO_TUNNELS

    def begin(self, request: Request) -> None:
        """See :class:`.sides.Entry`."""
        authority = split_authority(request.host)
        page = self._pages.get(request.path.decode("latin-1"))
        if authority is None or not addresses.is_loopback(authority[0].strip("[]")):
            message = "the admin endpoint answers to 127.0.0.1 and localhost only"
            request.refuse(Reply(421, "", "misdirected", message, closes=True))
        elif request.method not in (b"GET", b"HEAD"):
            message = "the admin endpoint can be read and no more"
            request.refuse(Reply(405, "", "method_not_allowed", message, ("allow: GET, HEAD",), closes=True))
        elif page is None:
            known = ", ".join(self._pages)
            request.refuse(Reply(404, "", "no_such_page", f"the admin endpoint has {known}"))
        elif len(self._writing) >= MAX_PAGES_AT_ONCE:
            message = "other pages are being written"
            request.refuse(Reply(503, "", "busy", message, ("retry-after: 1",)))
        else:
            status, write = page.gather()
            task = asyncio.get_running_loop().create_task(self._answer(request, page, status, write))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def _answer(self, request: Request, page: Page, status: int, write: Write) -> None:
        content = (await asyncio.to_thread(write)).encode()
        request.refuse(_Document(status, "", "", "", content=content, content_type=page.content_type))

    def record(self, request: Request) -> None:
        """See :class:`.sides.Entry`. Pages are no traffic."""

    def record_flaw(self, request: Request) -> None:
        """See :class:`.http1_server.ServerEntry`. Pages are no traffic."""

    def pool(self, member: Member, breaker: Breaker | None = None, is_http2: bool = False) -> Pool:
        """See :class:`.sides.Entry`. Pages go nowhere."""
        raise NotImplementedError

    def dial(self, request: Request, pool: Pool, member: Member) -> None:
        """See :class:`.sides.Entry`. Pages go nowhere."""
        raise NotImplementedError

    def eject(self, cluster: Cluster, member: Member) -> None:
        """See :class:`.sides.Entry`. Pages go nowhere."""
        raise NotImplementedError

    def judge(self, cluster: Cluster, member: Member, status: int, has_answered: bool) -> None:
        """See :class:`.sides.Entry`. Pages go nowhere."""
