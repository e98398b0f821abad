"""Addresses that no endpoint outside the mesh may have.

A link-local address is how a machine in a cloud asks who it is and gets its credentials, so a name that
is made to resolve to it would hand them to whoever may call the name. Loopback means the machine of the
proxy that happens to carry the request, where the mesh has ports of its own; it makes sense only in a
mesh that is on loopback as a whole.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

_TRANSLATED = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96")))
"""What NAT64 makes IPv4 of (RFC 6052, RFC 8215), and SIIT (RFC 2765)."""
_CLOUD_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        (
            *("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"),
            *("100.100.100.200", "168.63.129.16", "192.0.0.192"),
        ),
    )
)
"""Metadata services that are not link-local."""


def parse(address: str) -> Ip | None:
    """The IP address that a text is; None for names, zones and anything else."""
    try:
        return ipaddress.ip_address(address)
    except ValueError:
        return None


def is_loopback(address: str) -> bool:
    """Whether an address, or a name by its form, is that of the machine itself."""
    ip = parse(address)
    if ip is None:
        name = address.lower().rstrip(".")
        return name == "localhost" or name.endswith(".localhost")
    return any(one.is_loopback for one in _forms(ip))


def forms(address: str) -> tuple[str, ...]:
    """An IP address as it is usually written, and the IPv4 addresses that it may stand for; a name as is."""
    ip = parse(address)
    return (address,) if ip is None else tuple(map(str, _forms(ip)))


def are_same(one: str, other: str) -> bool:
    """Whether two addresses may lead to one place, however they are written."""
    return one == other or not set(forms(one)).isdisjoint(forms(other))


def why_unfit(address: str) -> str:
    """What is wrong with an IP address wherever the mesh runs; empty when nothing is.

    Loopback is another matter: see :func:`is_loopback`. IPv4 inside IPv6 is seen through.
    """
    ip = parse(address)
    return next((reason for one in _forms(ip) if (reason := _why(one))), "") if ip is not None else ""


def _why(ip: Ip) -> str:
    if ip.is_link_local:
        return "link-local"
    if ip.is_unspecified or (ip.version == 4 and int(ip) >> 24 == 0):
        return "unspecified"
    if ip.is_multicast or ip == ipaddress.IPv4Address("255.255.255.255"):
        return "multicast or broadcast"
    return "a cloud's metadata service" if ip in _CLOUD_METADATA else ""


def _forms(ip: Ip) -> Iterator[Ip]:
    """An address, and the IPv4 addresses that it may stand for."""
    yield ip
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            yield ip.ipv4_mapped
        if ip.sixtofour:
            yield ip.sixtofour
        if any(ip in network for network in _TRANSLATED) or 0xFFFF < int(ip) <= 0xFFFFFFFF:
            yield ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
