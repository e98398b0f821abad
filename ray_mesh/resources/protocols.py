"""Istio's protocol selection: what a port speaks, by its name or by what is said of it."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Literal

Protocol = Literal["http", "http2", "grpc", "tcp", "tls", "auto"]

SPOKEN: dict[str, Protocol] = {
    "http": "http",
    "http2": "http2",
    "grpc": "grpc",
    "kubernetes.io/h2c": "http2",
    "kubernetes.io/http": "http",
    "kubernetes.io/ws": "http",
    "kubernetes.io/wss": "tls",
    "https": "tls",
    "tls": "tls",
    "tcp": "tcp",
    "mongo": "tcp",
    "mysql": "tcp",
    "redis": "tcp",
}
"""Protocols by name, in lower case. HTTP/2 is in cleartext with prior knowledge, HTTPS is TLS that the mesh
does not end."""
LATER = {
    "http3": "",
    "grpc-web": "it is not translated to gRPC; of a server that speaks gRPC-Web itself say http",
    "udp": "",
    "hbone": "",
    "http_proxy": "a proxy that understands HTTP is http",
}
"""Names of protocols that are not carried yet, and what to do about it."""
CARRIED = "HTTP, gRPC, TCP and TLS are carried"
SERVER_FIRST = frozenset({25, 53, 3306, 27017})
"""Ports of SMTP, DNS, MySQL and MongoDB, whose clients wait for the server: no bytes of theirs could tell."""

KNOWN = (
    *("HTTP", "HTTPS", "HTTP2", "HTTP3", "GRPC", "GRPC-WEB", "GRPC-WEB-TLS", "HTTP_PROXY", "HBONE"),
    *("TLS", "TCP", "MONGO", "MYSQL", "REDIS", "UDP"),
)
"""Every protocol that Istio knows, as its kinds write them."""


def is_known(protocol: str) -> bool:
    """Whether Istio knows a protocol, in any case."""
    return protocol.upper() in KNOWN


def unknown(protocol: str) -> str:
    """What to say of a protocol that nobody knows."""
    close = get_close_matches(protocol.upper(), KNOWN, 1, 0.6)
    hint = f"did you mean {close[0]}?" if close else f"write one of {', '.join(KNOWN)}"
    return f"{protocol!r} is not a protocol; {hint}"


def why_later(protocol: str) -> str:
    """Why a protocol, or a port of that name, is not carried yet, or what to do about it."""
    return LATER.get(_word(protocol)) or CARRIED


def _word(text: str) -> str:
    """The protocol that the name of a port begins with: what comes before the first ``-``."""
    word = text.lower()
    return "grpc-web" if word.startswith("grpc-web") else word.partition("-")[0]


def of_port(number: int, name: str, app_protocol: str | None) -> Protocol | None:
    """What a Service's port speaks; ``appProtocol`` stands for the name. None: not carried yet.

    ``mysql`` and ``http-admin`` say it, whatever comes behind the first ``-``; any other word says nothing.
    Where nothing is said, ports of servers that speak first are TCP.
    """
    word = _word(name if app_protocol is None else app_protocol)
    if word in LATER:
        return None
    return SPOKEN.get(word, "tcp" if number in SERVER_FIRST else "auto")


def said(protocol: str) -> Protocol | None:
    """What a ServiceEntry's port speaks, by its ``protocol``. None: not carried yet."""
    word = protocol.lower()
    return None if word in LATER else SPOKEN.get(word, "auto")
