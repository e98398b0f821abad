"""What stands on the two sides of a request, and who decides about it. :mod:`.pipeline` joins them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ray_mesh.proxy.breaker import Breaker
from ray_mesh.proxy.cluster import Cluster, Member
from ray_mesh.proxy.head import ResponseHead
from ray_mesh.proxy.pool import Pool
from ray_mesh.proxy.replies import Reply

if TYPE_CHECKING:
    from ray_mesh.proxy.pipeline import Request
    from ray_mesh.proxy.tunnel import Side


class Stream(Protocol):
    """The downstream side of one exchange. ``peer`` is who it proved to be, ``client`` its address."""

    peer: object
    client: bytes

    @property
    def is_http2(self) -> bool:
        """Whether it is a stream of HTTP/2."""

    def reply(self, reply: Reply) -> None:
        """Answer with a reply of our own; nothing was sent before."""

    def respond(self, line: bytes, head: ResponseHead, length: int | None, payload: bytes) -> None:
        """Send the head of a response and the first of its payload.

        ``length`` is the body's (0 for none, None or CHUNKED when unknown).
        """

    def send_whole(self, response: bytes) -> bool:
        """Send a complete response as it is and end; False when it cannot be sent as it is."""

    def interim(self, line: bytes, fields: bytes) -> None:
        """Send an interim (1xx) response."""

    def switch(self, line: bytes, fields: bytes, far: Side) -> None:
        """Send a 101 and join with the connection that it came on: see :class:`.tunnel.Tunnel`."""

    def send_body(self, payload: bytes) -> None:
        """Send more of the body."""

    def end(self) -> None:
        """The response is complete."""

    def abort(self) -> None:
        """Cut the response off so that the client notices."""

    def pause(self) -> None:
        """Take no more of the request's body until :meth:`resume`."""

    def resume(self) -> None:
        """Undo :meth:`pause`."""


class Connection(Protocol):
    """The upstream side of one exchange."""

    is_reused: bool
    security: str

    def start(self, request: Request) -> None:
        """Send the request's head and the body that is pending."""

    def send_body(self, payload: bytes, done: bool) -> None:
        """Send more of the body."""

    def abandon(self) -> None:
        """Close at once; nothing is reported any more."""

    def pause(self) -> None:
        """Take no more of the response until :meth:`resume`."""

    def resume(self) -> None:
        """Undo :meth:`pause`."""


class Entry(Protocol):
    """The role of a listener: what it admits, and as whom it calls."""

    def begin(self, request: Request) -> None:
        """Decide a new request: refuse it, forward it, or keep it for a while."""

    def pool(self, member: Member, breaker: Breaker | None = None, is_http2: bool = False) -> Pool:
        """The connections of this entry's identity to a member, those that the breaker counts."""

    def dial(self, request: Request, pool: Pool, member: Member) -> None:
        """Make a connection and start the request on it, or call ``connect_failed``."""

    def eject(self, cluster: Cluster, member: Member) -> None:
        """No connection could be made to a member."""

    def judge(self, cluster: Cluster, member: Member, status: int, has_answered: bool) -> None:
        """A member of a cluster with outlier detection answered, or did not and leads to ``status``."""

    def record(self, request: Request) -> None:
        """Count a finished request."""
