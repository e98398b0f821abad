"""The requests of one HTTP/2 connection, from their header lists.

Clients repeat themselves: a list that says the same as the one before, but for the request id and the trace
at its end, where proxies put them, was understood already; so were fields that came with another path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray_mesh.proxy import http2_head
from ray_mesh.proxy.head import BadHead, RequestHead, parent_of
from ray_mesh.proxy.http2_codec import Headers
from ray_mesh.proxy.http2_head import Asked
from ray_mesh.proxy.path import Paths
from ray_mesh.proxy.pipeline import Request
from ray_mesh.proxy.sides import Stream
from ray_mesh.proxy.trace import is_request_id, is_valid

if TYPE_CHECKING:
    from ray_mesh.proxy.http1_server import ServerEntry


class RequestReader:
    """Understands header lists, and remembers the last one."""

    __slots__ = ("_fields_of", "_head", "_line", "_paths", "_whole", "has_read")

    def __init__(self) -> None:
        self.has_read = False
        self._head: RequestHead | None = None  # understood last,
        self._fields_of: tuple[object, bytes, bool] = ((), b"", False)  # from these fields,
        self._whole: tuple[Headers, bool] = ((), False)  # of this list without what is apart,
        self._line = (b"", b"", b"")  # with this method, path and query,
        self._paths: Paths | None = None  # by these rules

    def read(
        self, entry: ServerEntry, stream: Stream, headers: Headers, ended: bool, paths: Paths
    ) -> Request:
        """The request that a header list makes. Raises BadHead."""
        seen, seen_ended = self._whole
        head = self._head
        if head is not None and ended is seen_ended and paths is self._paths:
            if headers == seen:
                return Request(entry, stream, *self._line, head, b"", b"")
            if headers[:-2] == seen:
                apart = _apart(headers)
                if apart is not None:
                    return Request(entry, stream, *self._line, head, *apart)
        return self._understand(entry, stream, headers, ended, paths)

    def _understand(
        self, entry: ServerEntry, stream: Stream, headers: Headers, ended: bool, paths: Paths
    ) -> Request:
        asked = Asked(headers)
        asked.check()
        head = self._head
        fields_of = (asked.fields, asked.authority, ended)
        if head is None or self._fields_of != fields_of:
            head = entry.read_head(asked.block(ended))
            http2_head.check_ended(head, ended)
        try:
            path, query = paths.split(asked.target)
        except ValueError as error:
            raise BadHead(str(error)) from error
        self.has_read = True
        parent = asked.parent
        if not (head.traceparent or head.request_id or head.has_trace):
            self._head, self._fields_of, self._paths = head, fields_of, paths
            self._line = (asked.method, path, query)
            self._whole = (headers if _apart(headers) is None else headers[:-2], ended)
        elif head.has_trace and not parent:
            parent = parent_of(head)
        request_id = asked.request_id or head.request_id
        return Request(entry, stream, asked.method, path, query, head, parent, request_id)


def _apart(headers: Headers) -> tuple[bytes, bytes] | None:
    """The trace and the request id that end a list, as proxies write them; None when it ends otherwise."""
    if len(headers) < 2:
        return None
    (name, request_id), (last, parent) = headers[-2:]
    if name != b"x-request-id" or last != b"traceparent":
        return None
    return (parent, request_id) if is_valid(parent) and is_request_id(request_id) else None
