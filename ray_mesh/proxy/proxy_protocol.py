"""The PROXY protocol, versions 1 and 2: who is behind a connection, in front of its bytes (HAProxy's
specification). Pure: bytes in, an address out, and the other way round."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal

MAX_BYTES = 1024
"""A longer header is refused; the specification's own of version 1 has at most 107."""
_LINE_BYTES = 107
_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,4}")
_SIZES = {1: 4, 2: 16}  # of an address, by family
_STREAM = 1

Version = Literal["V1", "V2"]


class BadProxyHeader(ValueError):
    """A connection does not begin as it must."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A header of ``length`` bytes. ``source`` is the address behind it, empty when it names none."""

    length: int
    source: str


def read_header(data: bytes) -> ProxyHeader | None:
    """The header with which a connection begins; None when it is not all there.

    Raises:
        BadProxyHeader: there is none, or it breaks the protocol.
    """
    if data[:1] == b"P":
        return _read_line(data)
    if data[:12] != _SIGNATURE[: len(data)]:
        raise BadProxyHeader("it does not begin with a PROXY protocol header")
    return _read_binary(data) if len(data) >= 16 else None


def _read_line(data: bytes) -> ProxyHeader | None:
    if data[:6] != b"PROXY "[: len(data)]:
        raise BadProxyHeader("it does not begin with a PROXY protocol header")
    end = data.find(b"\r\n", 0, _LINE_BYTES)
    if end < 0:
        if len(data) >= _LINE_BYTES:
            raise BadProxyHeader("the header's line is too long")
        return None
    words = data[6:end].split(b" ")
    if words[0] == b"UNKNOWN":
        return ProxyHeader(end + 2, "")
    family = {b"TCP4": 4, b"TCP6": 6}.get(words[0])
    if family is None or len(words) != 5:
        raise BadProxyHeader("the header's line is not 'PROXY TCP4|TCP6 address address port port'")
    source = _address(words[1], family)
    _address(words[2], family)
    for port in words[3:]:
        if _NUMBER.fullmatch(port) is None or int(port) > 65535:
            raise BadProxyHeader("a port in the header is none")
    return ProxyHeader(end + 2, source)


def _address(text: bytes, family: int) -> str:
    try:
        found = ipaddress.ip_address(text.decode("ascii"))
    except ValueError as error:
        raise BadProxyHeader("an address in the header is none") from error
    if found.version != family or "%" in str(found):
        raise BadProxyHeader("an address in the header is of another family")
    return str(found)


def _read_binary(data: bytes) -> ProxyHeader | None:
    version, command = data[12] >> 4, data[12] & 15
    family, transport = data[13] >> 4, data[13] & 15
    length = 16 + int.from_bytes(data[14:16], "big")
    if version != 2 or command > 1:
        raise BadProxyHeader("the header is of another version")
    if family > 3 or transport > 2:
        raise BadProxyHeader("the header is of an unknown family")
    if length > MAX_BYTES:
        raise BadProxyHeader(f"the header is longer than {MAX_BYTES} bytes")
    if len(data) < length:
        return None
    size = _SIZES.get(family)
    if command == 0 or size is None or transport != _STREAM:
        return ProxyHeader(length, "")
    if length < 16 + 2 * size + 4:
        raise BadProxyHeader("the header is shorter than its addresses")
    return ProxyHeader(length, str(ipaddress.ip_address(data[16 : 16 + size])))


def write_header(version: Version, source: tuple[str, int] | None, to: tuple[str, int] | None) -> bytes:
    """The header of a connection from ``source`` to ``to`` (address and port); unknown when one is missing
    or they are of two families."""
    if source is None or to is None:
        return _unknown(version)
    try:
        first, second = ipaddress.ip_address(source[0]), ipaddress.ip_address(to[0])
    except ValueError:
        return _unknown(version)
    if first.version != second.version:
        return _unknown(version)
    if version == "V1":
        return f"PROXY TCP{first.version} {first} {second} {source[1]} {to[1]}\r\n".encode()
    body = first.packed + second.packed + source[1].to_bytes(2, "big") + to[1].to_bytes(2, "big")
    kind = 0x11 if first.version == 4 else 0x21
    return _SIGNATURE + bytes((0x21, kind)) + len(body).to_bytes(2, "big") + body


def _unknown(version: Version) -> bytes:
    return b"PROXY UNKNOWN\r\n" if version == "V1" else _SIGNATURE + b"\x20\0\0\0"
