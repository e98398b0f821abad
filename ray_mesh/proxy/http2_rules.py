"""What makes a message of HTTP/2 malformed (RFC 9113 sections 8.1 to 8.5), told from its fields alone."""

from __future__ import annotations

import re

from ray_mesh.proxy.http2_codec import Headers

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[!-~\x80-\xff])?)?")
_STATUS = re.compile(rb"[1-9][0-9][0-9]")
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*")
_AUTHORITY = re.compile(rb"[A-Za-z0-9!$%&'()*+,.:;=\[\]_~-]+")
_PATH = re.compile(rb"/[!-~\x80-\xff]*")
_OTHER_PATH = re.compile(rb"[!-~\x80-\xff]+")
"""Of a scheme that is not HTTP's, whose paths are its own affair."""
_DIGITS = re.compile(rb"[0-9]{1,19}")
_MAX_LENGTH = (1 << 63) - 1
_OF_ONE_CONNECTION = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_OF_REQUESTS = frozenset((b":method", b":scheme", b":authority", b":path"))
_OF_RESPONSES = frozenset((b":status",))


class Malformed(Exception):
    """A message that must not be understood: a stream error."""


def request_length(headers: Headers) -> int | None:
    """Check the fields of a request; its Content-Length, if it tells. Raises Malformed."""
    pseudo = _pseudo(headers, _OF_REQUESTS)
    hosts = [value for name, value in headers if name == b"host"]
    authorities = [pseudo[b":authority"]] if b":authority" in pseudo else []
    method = pseudo.get(b":method", b"")
    if len(hosts) > 1 or not _are(_METHOD, method) or not _are(_AUTHORITY, *hosts, *authorities):
        raise Malformed
    if method == b"CONNECT":
        if not authorities or b":scheme" in pseudo or b":path" in pseudo:
            raise Malformed
        return _length(headers)
    scheme = pseudo.get(b":scheme", b"")
    path = pseudo.get(b":path")
    if path is None or not (hosts or authorities) or not _are(_SCHEME, scheme):
        raise Malformed
    is_of_server = path == b"*" and method == b"OPTIONS"
    wanted = _PATH if scheme.lower() in (b"http", b"https") else _OTHER_PATH
    if not is_of_server and not _are(wanted, path):
        raise Malformed
    return _length(headers)


def response_status(headers: Headers) -> int:
    """Check the fields of a response; its status. Raises Malformed."""
    status = _pseudo(headers, _OF_RESPONSES).get(b":status", b"")
    if _STATUS.fullmatch(status) is None or status == b"101":
        raise Malformed
    return int(status)


def response_length(headers: Headers, status: int, is_head: bool) -> int | None:
    """How long a response's body is, if it tells. Raises Malformed."""
    length = _length(headers)
    if length is not None and (status < 200 or (status == 204 and length)):
        raise Malformed
    if is_head or status in (204, 304):
        return 0
    return length


def check_trailers(headers: Headers) -> None:
    """Check the fields after a body. Raises Malformed."""
    _pseudo(headers, frozenset())
    if any(name == b"content-length" for name, _ in headers):
        raise Malformed


def _are(wanted: re.Pattern[bytes], *values: bytes) -> bool:
    return all(wanted.fullmatch(value) is not None for value in values)


def _pseudo(headers: Headers, known: frozenset[bytes]) -> dict[bytes, bytes]:
    """The pseudo-header fields, with all fields checked that every message may have."""
    pseudo: dict[bytes, bytes] = {}
    is_past = False
    for name, value in headers:
        if name[:1] == b":":
            if is_past or name not in known or name in pseudo or _VALUE.fullmatch(value) is None:
                raise Malformed
            pseudo[name] = value
            continue
        is_past = True
        if name in _OF_ONE_CONNECTION or (name == b"te" and value.lower() != b"trailers"):
            raise Malformed
        if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise Malformed
    return pseudo


def _length(headers: Headers) -> int | None:
    lengths = [value for name, value in headers if name == b"content-length"]
    if not lengths:
        return None
    if len(lengths) > 1 or _DIGITS.fullmatch(lengths[0]) is None:
        raise Malformed
    length = int(lengths[0])
    if length > _MAX_LENGTH:
        raise Malformed
    return length
