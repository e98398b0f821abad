"""Where the API listens and what it is called: plain on loopback, over TLS wherever others reach it."""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from ray_mesh.errors import ConfigError
from ray_mesh.gateway.access import LOOPBACK_NAMES

_DNS_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


@dataclass(frozen=True, slots=True)
class ApiAddress:
    """``host`` is the IP that is bound (``0.0.0.0`` or ``::``: all of the machine's); ``names`` are what
    clients call it besides, DNS names or IPs: those of the machine, of a load balancer, of a Service.

    Raises:
        ConfigError: ``host`` is no IP, or a name is neither an IP nor a DNS name.
    """

    host: str = "127.0.0.1"
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if _ip(self.host) is None:
            raise ConfigError(f"the API cannot listen on {self.host!r}: give an IP, such as 0.0.0.0")
        for name in self.names:
            if _ip(name) is None and not _DNS_NAME.fullmatch(name):
                raise ConfigError(f"the API cannot be called {name!r}: give an IP or a DNS name")

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it: then it needs no TLS."""
        ip = _ip(self.host)
        return ip is not None and ip.is_loopback

    @property
    def is_everywhere(self) -> bool:
        """Whether it listens on all addresses of its machine."""
        return ipaddress.ip_address(self.host).is_unspecified

    def called(self) -> tuple[str, ...]:
        """The hosts of URLs, and of Host headers, that mean this API."""
        return (*LOOPBACK_NAMES, *(in_url(name) for name in self._others()))

    def url(self, port: int) -> str:
        """Where a client finds it: the address that was chosen, else the first name."""
        if self.is_local:
            return f"http://{in_url(self.host)}:{port}"
        return f"https://{in_url([*self._others(), '127.0.0.1'][0])}:{port}"

    def subjects(self) -> tuple[list[str], list[str]]:
        """DNS names and IPs for its server certificate."""
        others = self._others()
        names = ["localhost", *(name for name in others if _ip(name) is None)]
        ips = ["127.0.0.1", "::1", *(name for name in others if _ip(name) is not None)]
        return names, list(dict.fromkeys(ips))

    def _others(self) -> list[str]:
        bound = [] if self.is_everywhere else [self.host]
        return list(dict.fromkeys((*bound, *self.names)))


def in_url(host: str) -> str:
    """An IPv6 address in brackets, anything else as it is."""
    return f"[{host}]" if ":" in host else host


def reserve(host: str, port: int) -> socket.socket:
    """Bind without listening: the port stays ours while the replicas that share it come and go.

    Raises:
        ConfigError: the address is not this machine's, or the port is taken by something else.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigError(f"the API cannot listen on {in_url(host)}:{port}: {error.strerror}") from error
    return listener


def listen(host: str, port: int) -> socket.socket:
    """A listener that other replicas can share.

    Raises:
        ConfigError: as :func:`reserve`.
    """
    listener = reserve(host, port)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def server_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.3 with the API's own certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    return context


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
