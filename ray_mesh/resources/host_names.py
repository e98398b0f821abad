"""What a host, a pattern of hosts and an address may look like, and what is wrong with one that does not.

Istio takes some forms that proxies here do not know (``*name.example.com``, a dot at the end): those are
valid, and not honoured.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from ray_mesh import addresses
from ray_mesh.resources.schema import Flaw
from ray_mesh.resources.source import Path

_LABEL = r"[A-Za-z0-9](?:[-A-Za-z0-9]{0,61}[A-Za-z0-9])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_PATTERN = re.compile(rf"(?:\*|\*-?{_LABEL}|{_LABEL})(?:\.{_LABEL})*\.?")


def is_host_name(text: str) -> bool:
    """Whether this is a DNS name: no wildcard, no address."""
    return bool(len(text) <= 255 and _NAME.fullmatch(text)) and not _ends_in_number(text)


def host_flaws(path: Path, text: str) -> Iterator[Flaw]:
    """What is wrong with a host, ``*.suffix`` or ``*``."""
    if not (len(text) <= 255 and _PATTERN.fullmatch(text)) or _ends_in_number(text):
        yield Flaw(path, f"{text!r} is not a host, *.host or *")
    elif text.startswith("*") and text != "*" and not text.startswith("*."):
        yield Flaw(path, f"{text}: write *. and a whole name", later=True)
    elif text.endswith("."):
        yield Flaw(path, f"{text}: write it without the dot at its end", later=True)


def host_or_address_flaws(path: Path, text: str) -> Iterator[Flaw]:
    """As :func:`host_flaws`; an IP address is one too."""
    if addresses.parse(text) is None:
        yield from host_flaws(path, text)


def entry_flaws(path: Path, text: str) -> Iterator[Flaw]:
    """What is wrong with ``namespace/host`` as Gateways and Sidecars write it, once the namespace is right.

    Istio takes no short name there.
    """
    if text.startswith("*") and text != "*" and not text.startswith("*."):
        yield Flaw(path, f"partial wildcard {text!r} not allowed: write *. and a whole name")
    elif text != "*" and "." not in text:
        yield Flaw(path, f"short names (non FQDN) are not allowed: write the whole name of {text!r}")
    else:
        yield from host_flaws(path, text)


def is_network(text: str) -> bool:
    """Whether this is an IP address or a block of them (CIDR)."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" not in text or text.partition("/")[2].isdigit()


def network_flaws(path: Path, blocks: tuple[str, ...] | None) -> Iterator[Flaw]:
    """What is wrong with a list of addresses and blocks."""
    for index, block in enumerate(blocks or ()):
        if not is_network(block):
            yield Flaw((*path, index), f"{block!r} is neither an IP address nor a CIDR block")


def _ends_in_number(text: str) -> bool:
    return text.rstrip(".").rpartition(".")[2].isdigit()
