"""How a DestinationRule says that endpoints are picked (networking.istio.io)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from ray_mesh.resources.schema import (
    LATER,
    Duration,
    Flaw,
    Model,
    NonEmpty,
    Only,
    Percent,
    UInt64,
    seconds,
)
from ray_mesh.resources.source import Path

_COOKIE_TEXT = r"^[\x20-\x3a\x3c-\x7e]*$"
_LOCALITY = re.compile(r"[^/*]+(/\*|(/[^/*]+){1,2}|/[^/*]+/\*)?|\*")
_LOCALITY_FORM = "write region/zone/subzone, or less of it, with * at the end for any"
_LARGEST_RING = 16_384
_LARGEST_TABLE = 65_537
_TABLE_LIMIT = 5_000_011
_TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")


class CookieAttribute(Model):
    """One attribute of a cookie."""

    name: Annotated[str, Field(pattern=_COOKIE_TEXT)]
    value: Annotated[str, Field(pattern=_COOKIE_TEXT)] | None = None


class HttpCookie(Model):
    """A cookie to hash. With a ``ttl`` (``0s`` for a session) it is made when it is missing."""

    name: Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
    path: Annotated[str, Field(pattern=_COOKIE_TEXT)] | None = None
    ttl: str | None = None
    attributes: tuple[CookieAttribute, ...] = ()

    def flaws(self) -> Iterator[Flaw]:
        if self.ttl is not None:
            try:
                seconds(self.ttl)
            except ValueError as error:
                yield Flaw(("ttl",), f"{self.ttl!r} is {error}")


class RingHash(Model):
    """Ring hash settings."""

    minimum_ring_size: UInt64 | None = None

    def flaws(self) -> Iterator[Flaw]:
        yield from _ring_flaws(self.minimum_ring_size)


def _ring_flaws(size: int | None) -> Iterator[Flaw]:
    if size is not None and size > _LARGEST_RING:
        reason = f"{size}: rings have up to {_LARGEST_RING} points here"
        yield Flaw(("minimumRingSize",), reason, later=True)


def is_prime(number: int) -> bool:
    """By trial division; for sizes of tables."""
    return number > 1 and all(number % each for each in range(2, int(number**0.5) + 1))


class Maglev(Model):
    """Maglev settings."""

    table_size: UInt64 | None = None

    def flaws(self) -> Iterator[Flaw]:
        size = self.table_size
        if size is None:
            return
        if size >= _TABLE_LIMIT:
            yield Flaw(("tableSize",), f"{size}: tableSize must be less than {_TABLE_LIMIT}")
        elif not is_prime(size):
            message = f"{size} is not prime: a Maglev table needs that, such as 4099 or 65537"
            yield Flaw(("tableSize",), message)
        elif size > _LARGEST_TABLE:
            yield Flaw(("tableSize",), f"{size}: tables have up to {_LARGEST_TABLE} entries here", later=True)


class ConsistentHash(Model):
    """What part of a request picks its endpoint."""

    http_header_name: NonEmpty | None = None
    http_cookie: HttpCookie | None = None
    use_source_ip: bool | None = None
    http_query_parameter_name: NonEmpty | None = None
    ring_hash: RingHash | None = None
    maglev: Maglev | None = None
    minimum_ring_size: UInt64 | None = None

    def flaws(self) -> Iterator[Flaw]:
        keys = (
            self.http_header_name,
            self.http_cookie,
            self.use_source_ip or None,
            self.http_query_parameter_name,
        )
        given = sum(key is not None for key in keys)
        one = "httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName"
        if given > 1:
            yield Flaw((), f"set one of {one}")
        elif not given:
            yield Flaw((), f"without one of {one}", later=True)
        if self.ring_hash is not None and self.maglev is not None:
            yield Flaw((), "set one of ringHash and maglev")
        if self.minimum_ring_size and (self.ring_hash is not None or self.maglev is not None):
            yield Flaw(("minimumRingSize",), "set one of minimumRingSize, maglev and ringHash")
        yield from _ring_flaws(self.minimum_ring_size)


class Distribute(Model):
    """Shares per locality."""

    from_: Annotated[str, Field(alias="from")]
    to: dict[str, Annotated[int, Field(ge=1, le=100)]] = {}

    def flaws(self) -> Iterator[Flaw]:
        if not _LOCALITY.fullmatch(self.from_):
            yield Flaw(("from",), f"{self.from_!r} is no locality: {_LOCALITY_FORM}")
        for locality in self.to:
            if not _LOCALITY.fullmatch(locality):
                yield Flaw(("to", locality), f"not a locality: {_LOCALITY_FORM}")
        if sum(self.to.values()) != 100:
            yield Flaw(("to",), f"the shares sum to {sum(self.to.values())}, not to 100")


class Failover(Model):
    """Where traffic goes when a region fails."""

    from_: Annotated[NonEmpty, Field(alias="from")]
    to: NonEmpty

    def flaws(self) -> Iterator[Flaw]:
        if self.from_ == self.to:
            yield Flaw(("to",), "name another region than in from")
        for name, region in (("from", self.from_), ("to", self.to)):
            if "/" in region or "*" in region:
                yield Flaw((name,), f"{region!r} is no region: failover names regions only")


class LocalityLb(Model):
    """Balancing by locality."""

    distribute: tuple[Distribute, ...] = ()
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[NonEmpty, ...] = ()
    enabled: bool | None = None

    def flaws(self) -> Iterator[Flaw]:
        if self.distribute and self.failover:
            yield Flaw((), "can not simultaneously specify distribute and failover")
        elif self.failover and set(self.failover_priority) & set(_TOPOLOGY):
            yield Flaw(("failoverPriority",), "can not have labels of topology beside failover")
        elif self.failover_priority and (self.failover or self.distribute):
            other = "failover" if self.failover else "distribute"
            yield Flaw(("failoverPriority",), f"beside {other}", later=True)
        sources: list[tuple[Path, str]] = []
        for index, one in enumerate(self.distribute):
            path = ("distribute", index)
            sources.append(((*path, "from"), one.from_))
            shares = sorted(one.to, key=lambda place: place.endswith("*"))
            yield from _overlap_flaws([((*path, "to", place), place) for place in shares])
        yield from _overlap_flaws(sources)


def _overlap_flaws(places: list[tuple[Path, str]]) -> Iterator[Flaw]:
    """Localities that one above has in it; a wildcard may come after what it does not say."""
    for index, (path, place) in enumerate(places):
        for _, other in places[:index]:
            if _overlap(place.split("/"), other.split("/")):
                yield Flaw(path, f"{place!r} overlaps with {other!r}")


def _overlap(one: list[str], other: list[str]) -> bool:
    return all(above in ("*", place) for place, above in zip(one, other, strict=False))


class ZoneAwareLb(Model):
    """Balancing by zone."""

    enabled: bool | None = None
    failover: tuple[Failover, ...] = ()
    failover_priority: tuple[str, ...] = ()
    min_cluster_size: Annotated[int, Field(ge=1)] | None = None


class Warmup(Model):
    """A slow start for new endpoints."""

    duration: Duration
    minimum_percent: Percent | None = None
    aggression: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None

    def flaws(self) -> Iterator[Flaw]:
        if self.aggression is not None and self.aggression < 1:
            yield Flaw(("aggression",), f"{self.aggression}: 1 or more", later=True)


class LoadBalancer(Model):
    """How an endpoint is picked. ``LEAST_CONN`` is the older name of ``LEAST_REQUEST``."""

    simple: Annotated[
        Literal["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"] | None,
        Only(
            ("UNSPECIFIED", "LEAST_CONN", "RANDOM", "ROUND_ROBIN", "LEAST_REQUEST"),
            "callers name hosts and know no addresses that could be passed on",
        ),
    ] = None
    consistent_hash: ConsistentHash | None = None
    locality_lb_setting: LocalityLb | None = None
    zone_aware_lb_setting: Annotated[ZoneAwareLb | None, LATER] = None
    warmup: Warmup | None = None
    warmup_duration_secs: Duration | None = None

    def flaws(self) -> Iterator[Flaw]:
        if self.simple is not None and self.consistent_hash is not None:
            yield Flaw((), "set one of simple and consistentHash")
        if self.warmup is not None and self.warmup_duration_secs is not None:
            yield Flaw(("warmupDurationSecs",), "set warmup only; this is its older form")
        if (self.warmup or self.warmup_duration_secs) and (self.consistent_hash or self.simple == "RANDOM"):
            yield Flaw(("warmup",), "for other algorithms than LEAST_REQUEST and ROUND_ROBIN", later=True)
