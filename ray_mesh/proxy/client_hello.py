"""The server name in the ClientHello of a TLS connection that the mesh does not end (RFC 8446, RFC 6066)."""

from __future__ import annotations

import re

MAX_BYTES = 16 * 1024
"""A larger ClientHello is refused."""
_NAME = re.compile(rb"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252}[A-Za-z0-9_])?\.?")
_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME, _HOST_NAME = 22, 1, 0, 0


class BadHello(ValueError):
    """The bytes are no ClientHello."""


class _Short(Exception):
    """There is less than a length says."""


def server_name(data: bytes) -> str | None:
    """The name that the connection is for, in lower case; empty when it says none, None: not all is there.

    Raises:
        BadHello: this is no TLS, or malformed, or too large.
    """
    hello = _handshake(data)
    if hello is None:
        return None
    try:
        return _name(hello)
    except _Short as error:
        raise BadHello("a length in the ClientHello is wrong") from error


def _handshake(data: bytes) -> bytes | None:
    """The body of the ClientHello out of its records."""
    body = b""
    position = 0
    while True:
        if body[:1] not in (b"", b"\x01"):
            raise BadHello("the first message of the handshake is no ClientHello")
        size = int.from_bytes(body[1:4], "big") if len(body) >= 4 else 0
        if size > MAX_BYTES:
            raise BadHello(f"the ClientHello is larger than {MAX_BYTES} bytes")
        if 4 <= len(body) >= 4 + size:
            return body[4 : 4 + size]
        head = data[position : position + 5]
        if head[:1] not in (b"", b"\x16") or head[1:2] not in (b"", b"\x03"):
            raise BadHello("it does not begin with a TLS handshake")
        if len(head) < 5:
            return None
        length = int.from_bytes(head[3:5], "big")
        if not 0 < length <= 1 << 14:
            raise BadHello("a record has no acceptable length")
        body += data[position + 5 : position + 5 + length]
        position += 5 + length


class _Cursor:
    """Takes fields from the front."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __bool__(self) -> bool:
        return bool(self._data)

    def take(self, size: int) -> bytes:
        if len(self._data) < size:
            raise _Short
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def vector(self, width: int) -> bytes:
        """A field that begins with its length, in so many bytes."""
        return self.take(int.from_bytes(self.take(width), "big"))


def _name(hello: bytes) -> str:
    fields = _Cursor(hello)
    fields.take(2 + 32)
    fields.vector(1)
    fields.vector(2)
    fields.vector(1)
    if not fields:
        return ""
    extensions = _Cursor(fields.vector(2))
    found: str | None = None
    while extensions:
        kind = int.from_bytes(extensions.take(2), "big")
        value = extensions.vector(2)
        if kind == _SERVER_NAME:
            if found is not None:
                raise BadHello("two server names")
            found = _host_name(value)
    return found or ""


def _host_name(value: bytes) -> str:
    names = _Cursor(_Cursor(value).vector(2))
    kind = names.take(1)[0]
    name = names.vector(2)
    if kind != _HOST_NAME or names or _NAME.fullmatch(name) is None:
        raise BadHello("the server name is not one host name")
    return name.decode("ascii").lower().removesuffix(".")
