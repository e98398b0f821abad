"""What names, hosts and durations of the Gateway API look like."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, Field

from ray_mesh.resources.schema import seconds

GROUP = "gateway.networking.k8s.io"
HOSTNAMES_GROUP = "networking.istio.io"
"""Of Istio's reference kinds: a host of a ServiceEntry, or the ServiceEntry."""

_HOST = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_SUBDOMAIN = rf"^{_HOST}$"
_DURATION = re.compile(r"([0-9]{1,5}(h|m|s|ms)){1,4}")


def _host(text: str) -> str:
    if not is_hostname(text):
        raise ValueError("not a host, or *.host, in lower case")
    return _no_address(text)


def _precise_host(text: str) -> str:
    if not re.fullmatch(_HOST, text):
        raise ValueError("not a host in lower case")
    return _no_address(text)


def _no_address(text: str) -> str:
    if is_address(text):
        raise ValueError("an address: write a host")
    return text


def is_address(text: str) -> bool:
    """Whether this is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_hostname(text: str) -> bool:
    """Whether this is a host, or ``*.`` and a host, in lower case."""
    return bool(re.fullmatch(_HOST, text.removeprefix("*.")))


def _duration(text: str) -> str:
    if not _DURATION.fullmatch(text):
        raise ValueError("not a duration: write up to four whole numbers with units, such as 10s or 1h30m")
    return text


def duration_s(duration: str) -> float:
    """A duration of the Gateway API (GEP-2257) in seconds; 0 switches something off."""
    return seconds(duration)


Hostname = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_host)]
PreciseHostname = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_precise_host)]
SectionName = Annotated[str, Field(min_length=1, max_length=253, pattern=_SUBDOMAIN)]
ObjectName = Annotated[str, Field(min_length=1, max_length=253)]
GroupName = Annotated[str, Field(max_length=253, pattern=rf"^$|{_SUBDOMAIN}")]
KindName = Annotated[
    str, Field(min_length=1, max_length=63, pattern=r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$")
]
HeaderName = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$")]
QualifiedName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=rf"^({_HOST}/)?([A-Za-z0-9][-A-Za-z0-9_.]{{0,61}})?[A-Za-z0-9]$",
    ),
]
"""The name of a label, annotation or option: of at most 63 characters, behind a domain and a slash or not."""
Duration = Annotated[str, AfterValidator(_duration)]
