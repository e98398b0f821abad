"""Who the client of a gateway is, when trusted proxies stand between them."""

from __future__ import annotations

import ipaddress


def client_behind(forwarded_for: bytes, peer: bytes, trusted: int) -> bytes:
    """The address of the client.

    Each of the ``trusted`` proxies appended the address of who called it, so the entry of the first of
    them is the ``trusted``-th from the right, as in Envoy. Without so many entries, or with one that is no
    address, it is the ``peer``.
    """
    entries = forwarded_for.split(b",")
    if len(entries) < trusted:
        return peer
    entry = entries[-trusted].strip()
    try:
        ipaddress.ip_address(entry.decode("ascii"))
    except ValueError:
        return peer
    return entry
