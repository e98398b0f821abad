"""gRPC on top of HTTP/2: which requests are calls, what their fields mean, answers of our own as statuses.

A call ends with a status in the fields after the body, or in those of a response without body
(*trailers only*). The HTTP status says nothing then: it is 200. What a proxy answers itself is such a
response too, with the status that the HTTP status stands for in gRPC's table of statuses of proxies
(https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md, Envoy has the same one), unless
the reply names another. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from math import inf
from urllib.parse import quote_from_bytes

from ray_mesh.grpc_status import GrpcStatus
from ray_mesh.proxy.head import RequestHead
from ray_mesh.proxy.replies import FLAG_HEADER, Reply

HTTP_TO_GRPC: Mapping[int, int] = {
    400: GrpcStatus.INTERNAL,
    401: GrpcStatus.UNAUTHENTICATED,
    403: GrpcStatus.PERMISSION_DENIED,
    404: GrpcStatus.UNIMPLEMENTED,
    429: GrpcStatus.UNAVAILABLE,
    502: GrpcStatus.UNAVAILABLE,
    503: GrpcStatus.UNAVAILABLE,
    504: GrpcStatus.UNAVAILABLE,
}
"""What a client makes of a response that is not gRPC's; of others UNKNOWN."""

GRPC_TO_HTTP: Mapping[int, int] = {
    GrpcStatus.OK: 200,
    GrpcStatus.CANCELLED: 499,
    GrpcStatus.UNKNOWN: 500,
    GrpcStatus.INVALID_ARGUMENT: 400,
    GrpcStatus.DEADLINE_EXCEEDED: 504,
    GrpcStatus.NOT_FOUND: 404,
    GrpcStatus.ALREADY_EXISTS: 409,
    GrpcStatus.PERMISSION_DENIED: 403,
    GrpcStatus.RESOURCE_EXHAUSTED: 429,
    GrpcStatus.FAILED_PRECONDITION: 400,
    GrpcStatus.ABORTED: 409,
    GrpcStatus.OUT_OF_RANGE: 400,
    GrpcStatus.UNIMPLEMENTED: 501,
    GrpcStatus.INTERNAL: 500,
    GrpcStatus.UNAVAILABLE: 503,
    GrpcStatus.DATA_LOSS: 500,
    GrpcStatus.UNAUTHENTICATED: 401,
}
"""As what a status counts where HTTP statuses do (outlier detection), as in Envoy."""

MAX_MESSAGE_BYTES = 1024
"""So much of a sentence travels as ``grpc-message``; clients limit the size of all fields together."""

_CONTENT_TYPE = re.compile(rb"application/grpc(?:[+;].*)?", re.IGNORECASE | re.DOTALL)
_STATUS = re.compile(rb"(?:\A|\n)grpc-status:[ \t]*([0-9]{1,10})[ \t]*\r\n", re.IGNORECASE)
_TIMEOUT = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_NOT_SENT = frozenset(
    (
        *("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"),
        *("content-length", "content-type", "grpc-message", "grpc-status"),
    )
)


def is_grpc(head: RequestHead) -> bool:
    """Whether a request with this head is a gRPC call, given that HTTP/2 carries it. gRPC-Web is not."""
    known = head.has_grpc_content
    if known is None:
        value = head.named(b"content-type")
        known = head.has_grpc_content = value is not None and _CONTENT_TYPE.fullmatch(value) is not None
    return known


def timeout_s(value: bytes) -> float | None:
    """The seconds that a ``grpc-timeout`` field allows; None when it is malformed: no limit."""
    found = _TIMEOUT.fullmatch(value)
    return int(found[1]) * _UNITS_S[found[2]] if found is not None else None


def allowed_s(head: RequestHead) -> float:
    """The seconds that the caller of a call allows for it, infinite where it does not say."""
    known = head.call_allowed_s
    if known is None:
        value = head.named(b"grpc-timeout")
        seconds = timeout_s(value) if value is not None else None
        known = head.call_allowed_s = seconds if seconds is not None else inf
    return known


def is_over(allowed: float, passed: float) -> bool:
    """Whether so many seconds are over for a caller, whose clock began to run a little earlier than ours."""
    return passed >= allowed - max(0.02 * allowed, 0.005)


@lru_cache(maxsize=64)
def status_of(lines: bytes) -> int | None:
    """The ``grpc-status`` in lines of fields, of a head or after a body. They are kept for a while.

    A number that gRPC does not have is UNKNOWN, as for clients.
    """
    if b"grpc-status:" not in lines.lower():
        return None
    found = _STATUS.search(lines)
    if found is None:
        return None
    status = int(found[1])
    return status if status in GRPC_TO_HTTP else GrpcStatus.UNKNOWN


def grpc_to_http(status: int) -> int:
    """The HTTP status as which one of gRPC counts where those do, as in outlier detection."""
    return GRPC_TO_HTTP.get(status, 500)


def status_of_reply(reply: Reply) -> int:
    """The status with which a call is told of an answer of our own."""
    if reply.grpc_status is not None:
        return reply.grpc_status
    return HTTP_TO_GRPC.get(reply.status, GrpcStatus.UNKNOWN)


def grpc_reply(reply: Reply, *, is_brief: bool = False, request_id: str = "") -> list[tuple[bytes, bytes]]:
    """An answer of our own as the fields of a response without body; ``is_brief`` without what names the
    inside, as in :meth:`.replies.Reply.render`."""
    is_brief = is_brief and not reply.is_public
    fields = [
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"%d" % status_of_reply(reply)),
    ]
    if message := _message(reply, is_brief):
        fields.append((b"grpc-message", message))
    if reply.content is None:
        fields.append((FLAG_HEADER.encode(), (reply.flag or "-").encode()))
    for line in reply.fields:
        name, _, value = line.partition(":")
        name = name.lower()
        if name in _NOT_SENT or (is_brief and name.startswith("x-mesh-")):
            continue
        fields.append((name.encode("latin-1", "replace"), value.strip().encode("latin-1", "replace")))
    if request_id:
        fields.append((b"x-request-id", request_id.encode("latin-1", "replace")))
    return fields


def _message(reply: Reply, is_brief: bool) -> bytes:
    """The sentence, percent-encoded as gRPC wants it. A body of the reply stands in for it."""
    said = reply.content
    if said is None:
        said = (reply.reason if is_brief else reply.message).encode()
    return quote_from_bytes(said[:MAX_MESSAGE_BYTES], safe=_PRINTABLE).encode()
