"""Istio's protocol selection: what a port speaks, by its name or by what is said of it."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Literal

Protocol = Literal["http", "tcp", "tls", "auto"]

SPOKEN: dict[str, Protocol] = {
    "http": "http",
    "kubernetes.io/http": "http",
    "https": "tls",
    "tls": "tls",
    "tcp": "tcp",
    "mongo": "tcp",
    "mysql": "tcp",
    "redis": "tcp",
}
"""Protocols by name, in lower case. HTTPS is TLS that the mesh does not end."""
LATER = frozenset({"http2", "http3", "grpc", "grpc-web", "kubernetes.io/h2c", "udp"})
"""Names of protocols that are not carried yet."""

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


def by_name(name: str) -> Protocol | None:
    """What ``mysql`` or ``http-admin`` speaks, ``auto`` for a name of no protocol; None: not carried yet."""
    name = name.lower()
    word = "grpc-web" if name.startswith("grpc-web") else name.partition("-")[0]
    return None if word in LATER else SPOKEN.get(word, "auto")


def of_port(name: str, app_protocol: str | None) -> Protocol | None:
    """What a Service's port speaks; ``appProtocol`` counts before the name. None: not carried yet."""
    if app_protocol is None:
        return by_name(name)
    word = app_protocol.lower()
    return None if word in LATER else SPOKEN.get(word, by_name(name))


def said(protocol: str) -> Protocol | None:
    """What a ServiceEntry's port speaks, by its ``protocol``. None: not carried yet."""
    word = protocol.lower()
    return None if word in LATER else SPOKEN.get(word, "auto")
