"""HTTP/2 header lists as blocks of field lines and back.

Inside, a head is what :mod:`.head` makes of a block of HTTP/1.1 field lines, whatever version carried it: so
routing, policies and edits know one form, and a request of one version leaves as the other. What could mean
something else as a line (RFC 9113 sections 8.2 and 8.3) is refused here again, whatever a codec let through.
"""

from __future__ import annotations

import re
from functools import lru_cache
from http import HTTPStatus

from ray_mesh.proxy.body import may_trail
from ray_mesh.proxy.head import (
    CHUNKED,
    MAX_HEAD_BYTES,
    BadHead,
    RequestHead,
    ResponseHead,
    interim_fields,
    read_response,
)
from ray_mesh.proxy.http2_codec import Headers
from ray_mesh.proxy.trace import is_request_id, is_valid

Pairs = tuple[tuple[bytes, bytes], ...]

_TOKEN = rb"[!#$%&'*+.^_`|~0-9a-z-]+"
_VALUE = rb"[\t\x20-\x7e\x80-\xff]*"
_LINES = re.compile(rb"(?:%b: %b\r\n)*" % (_TOKEN, _VALUE))
_METHOD = re.compile(rb"[A-Z]+(?:-[A-Z]+)*")
_TARGET = re.compile(rb"/[\x21-\x7e]*|\*")
_AUTHORITY = re.compile(rb"[\x21-\x7e]+")
_OF_ONE_CONNECTION = frozenset(
    b"connection keep-alive proxy-connection transfer-encoding upgrade http2-settings".split()
)


class Asked:
    """The header list of a request, taken apart. ``fields`` are those that make its block."""

    __slots__ = ("authority", "fields", "method", "parent", "request_id", "scheme", "target")

    def __init__(self, headers: Headers) -> None:
        self.method = self.target = self.authority = self.scheme = b""
        self.parent = self.request_id = b""
        fields: list[tuple[bytes, bytes]] = []
        for pair in headers:
            name, value = pair
            if name[:1] == b":":
                if fields:
                    raise BadHead("a pseudo-header field after others")
                self._take_pseudo(name, value)
            elif name == b"traceparent" and not self.parent and is_valid(value):
                self.parent = value
            elif name == b"x-request-id" and not self.request_id and is_request_id(value):
                self.request_id = value
            else:
                fields.append(pair)
        self.fields = fields

    def _take_pseudo(self, name: bytes, value: bytes) -> None:
        if name == b":method":
            self.method = value
        elif name == b":path":
            self.target = value
        elif name == b":authority":
            self.authority = value
        elif name == b":scheme":
            self.scheme = value
        else:
            raise BadHead("a pseudo-header field that requests do not have")

    def check(self) -> None:
        """Raise BadHead when method or target could not be those of a request line."""
        if _METHOD.fullmatch(self.method) is None:
            raise BadHead("the method is no word")
        if self.method == b"CONNECT":
            raise BadHead("CONNECT over HTTP/2 is not served: open tunnels with HTTP/1.1", 501)
        if _TARGET.fullmatch(self.target) is None:
            raise BadHead("the path is empty, relative or has characters that a path has not")
        if self.target == b"*" and self.method != b"OPTIONS":
            raise BadHead("the target * is for OPTIONS only")
        if len(self.target) > MAX_HEAD_BYTES:
            raise BadHead("the path is too large", 431)

    def block(self, ended: bool) -> bytes:
        """The field lines, as of an HTTP/1.1 request. Raises BadHead."""
        authority = self.authority
        lines: list[bytes] = []
        cookies: list[bytes] = []
        is_sized = False
        for name, value in self.fields:
            if name == b"host":
                authority = _same_host(authority, value)
            elif name == b"cookie":
                cookies.append(value)
            else:
                is_sized = is_sized or name == b"content-length"
                lines.append(_line(name, value))
        if _AUTHORITY.fullmatch(authority) is None:
            raise BadHead("no :authority and no Host field, or not a host")
        if cookies:
            lines.append(_line(b"cookie", b"; ".join(cookies)))
        if not ended and not is_sized:
            lines.append(b"transfer-encoding: chunked\r\n")
        return _checked(b"\r\nhost: %b\r\n" % authority, lines)


def _same_host(authority: bytes, host: bytes) -> bytes:
    if authority and authority.lower() != host.lower():
        raise BadHead("Host says something else than :authority")
    return host


def _line(name: bytes, value: bytes) -> bytes:
    if name in _OF_ONE_CONNECTION:
        raise BadHead("a field of the connection, which HTTP/2 does not have")
    if name == b"te" and value != b"trailers":
        raise BadHead("a TE other than trailers")
    return b"%b: %b\r\n" % (name, value)


def _checked(start: bytes, lines: list[bytes]) -> bytes:
    block = b"".join(lines)
    if len(block) > MAX_HEAD_BYTES:
        raise BadHead("the header fields are too large", 431)
    if _LINES.fullmatch(block) is None or block.count(b"\n") != len(lines):
        raise BadHead("a header field is malformed")
    return start + block


def check_ended(head: RequestHead, ended: bool) -> None:
    """Raise BadHead when a request that has ended says that it has a body."""
    if ended and head.length:
        raise BadHead("Content-Length of a request without body")


def answered(headers: Headers, ended: bool, trusts_mesh_fields: bool) -> ResponseHead:
    """The head of a final response without its ``:status``. Raises BadHead."""
    block = _checked(b"\r\n", [_line(name, value) for name, value in headers])
    head = read_response(block, trusts_mesh_fields)
    if ended:
        head.length = 0
    elif head.length is None:
        head.length = CHUNKED
    return head


def interim(headers: Headers, trusts_mesh_fields: bool) -> bytes:
    """The fields of an interim response. Raises BadHead."""
    block = _checked(b"\r\n", [_line(name, value) for name, value in headers])
    return interim_fields(read_response(block, trusts_mesh_fields))


@lru_cache(maxsize=1000)
def status_line(code: bytes) -> tuple[int, bytes]:
    """A ``:status`` as a number and as a status line. Raises BadHead."""
    if len(code) != 3 or not code.isdigit() or not 100 <= int(code) <= 999 or code == b"101":
        raise BadHead("the status is not one of a response")
    number = int(code)
    try:
        phrase = HTTPStatus(number).phrase
    except ValueError:
        phrase = ""
    return number, b"HTTP/1.1 %b %b" % (code, phrase.encode())


def trailer(headers: Headers) -> bytes:
    """The lines of a trailer that may travel on. Raises BadHead."""
    lines = [_line(name, value) for name, value in headers if may_trail(name)]
    return _checked(b"", lines)


def pairs(lines: bytes) -> Pairs:
    """Field lines as a header list; lines of one connection only are none of it."""
    found = []
    for line in lines.split(b"\r\n"):
        if line:
            name, _, value = line.partition(b":")
            name = name.lower()
            if name not in _OF_ONE_CONNECTION:
                found.append((name, value.strip(b" \t")))
    return tuple(found)


def request_pairs(fields: bytes) -> tuple[bytes, Pairs]:
    """The authority that a request's fields name, and the other fields."""
    found = pairs(fields)
    authority = next((value for name, value in found if name == b"host"), b"")
    return authority, tuple(pair for pair in found if pair[0] not in (b"host", b"te"))
