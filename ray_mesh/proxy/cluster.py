"""Endpoints in use: a service's members by subset, how busy each is, and which are ejected.

Passive health: an endpoint to which no connection can be made is ejected at once, for 1 s, then 2 s, 4 s
... 30 s while it goes on failing; one request that gets through resets this. When all members are
ejected they are tried anyway, since a wrong guess about health must not be an outage by itself. Where a
DestinationRule has outlierDetection, that decides instead (:mod:`.outlier`).
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Literal, TypeAlias

from ray_mesh.proxy.balance import Picker, picker
from ray_mesh.proxy.breaker import Breaker
from ray_mesh.proxy.hashing import Asking, Hashing
from ray_mesh.proxy.outlier import Outliers
from ray_mesh.proxy.places import Place, Places
from ray_mesh.proxy.view import Client, rules_for
from ray_mesh.proxy.weights import WeightedPicker
from ray_mesh.snapshot import (
    HTTP2_PROTOCOLS,
    Balance,
    ClientRules,
    ConnectionLimits,
    Endpoint,
    Labels,
    Service,
    Subset,
    TrafficPolicy,
    Warmup,
)

Speaks: TypeAlias = Literal["", "http1", "http2"]

FIRST_EJECTION_S = 1.0
LONGEST_EJECTION_S = 30.0
MOST_COLD = 8
"""To how many new members connections are made before a request is sent to them."""
MAX_REQUESTED = 1000
"""Hosts of a dynamic service that are kept though nobody may ask for them again."""


class Member:
    """One endpoint and its state. It lives as long as the endpoint does not change."""

    __slots__ = (
        "active",
        "app",
        "born_at",
        "ejected_until",
        "endpoint",
        "failures",
        "is_gone",
        "is_sick",
        "principal",
        "version",
        "workload",
    )

    def __init__(self, endpoint: Endpoint, born_at: float = 0.0) -> None:
        self.endpoint = endpoint
        self.born_at = born_at
        self.is_gone = False  # its host has it no more; requests may still have it
        self.is_sick = False  # health checks say so
        self.active = 0
        self.failures = 0
        self.ejected_until = 0.0
        labels = dict(endpoint.labels)
        self.workload = workload_label(endpoint.workload)
        self.app = labels.get("app", "")
        self.version = labels.get("version", "")
        self.principal = endpoint.identity.removeprefix("spiffe://")

    def __repr__(self) -> str:
        return f"<Member {self.workload} {self.endpoint.address}:{self.endpoint.port} active={self.active}>"

    @property
    def where(self) -> str:
        """What people find it by."""
        return f"{self.workload or 'the endpoint'} at {self.endpoint.address}:{self.endpoint.port}"

    def eject(self, now: float) -> float:
        """Note a failed connection; returns for how many seconds the member is ejected.

        Requests that failed together, by one dial perhaps, are one failure.
        """
        if self.ejected_until > now:
            return self.ejected_until - now
        self.failures += 1
        ejection_s = min(FIRST_EJECTION_S * (1 << min(self.failures - 1, 8)), LONGEST_EJECTION_S)
        self.ejected_until = now + ejection_s
        return ejection_s


def workload_label(workload: str) -> str:
    """``<namespace>/<name>`` from the key of a Workload or WorkloadEntry, or from that form itself; empty for
    an endpoint that a ServiceEntry lists, as it has no name."""
    if workload.startswith(("workload.", "workloadentry.")):
        _, namespace, name = workload.split(".", 2)
        return f"{namespace}/{name}"
    return "" if workload.startswith("serviceentry.") else workload


class Cluster:
    """The members of one subset of a service (or of all of it) that serve one of its ports.

    ``withheld`` would be members if ``is_plaintext_allowed``. ``requested`` is the host that was asked for,
    where that is the endpoint. Once the service changed it is not ``is_current``: requests that have it keep
    it, others get a new one. ``speaks`` is the version of HTTP towards its members, empty for that of the
    client; its ``port`` and a DestinationRule say it. One that ``is_undeclared`` has a client's for want of
    something better.
    """

    __slots__ = (
        "available",
        "balance",
        "breaker",
        "cold",
        "destination",
        "hashing",
        "is_current",
        "is_plaintext_allowed",
        "is_undeclared",
        "labels",
        "members",
        "outliers",
        "pick",
        "places",
        "port",
        "proxy_protocol",
        "requested",
        "speaks",
        "subset",
        "warmup",
        "withheld",
    )

    def __init__(
        self, destination: Destination, subset: str, port: int, labels: Labels, balance: Balance
    ) -> None:
        self.destination = destination
        self.is_current = True
        self.is_plaintext_allowed = False
        self.requested = ""
        self.proxy_protocol: Literal["", "V1", "V2"] = ""
        self.speaks: Speaks = ""
        self.is_undeclared = False
        self.subset = subset
        self.port = port
        self.labels = frozenset(labels)
        self.balance = balance
        self.pick: Picker[Member] = picker(balance)
        self.hashing: Hashing[Member] | None = None
        self.warmup: Warmup | None = None
        self.places: Places[Member] | None = None
        self.breaker: Breaker | None = None
        self.outliers: Outliers[Member] | None = None
        self.members: tuple[Member, ...] = ()
        self.available: tuple[Member, ...] = ()
        self.withheld: tuple[Member, ...] = ()
        self.cold: tuple[Member, ...] = ()
        """Members that joined the others since the last request, to which nobody is connected yet."""

    def choose(self, tried: Iterable[Member] = (), asking: Asking | None = None) -> Member | None:
        """A member for one request (``asking``), not one of ``tried``; None when there is none."""
        self.destination.is_asked_for = True
        candidates = self.available
        if self.places is not None and (drawn := self.places.draw(tuple(tried), random.random)):
            candidates = drawn
        elif tried:
            candidates = tuple(member for member in candidates if member not in tried)
            if not candidates and self.outliers is None:
                candidates = tuple(member for member in self.members if member not in tried)
        if self.hashing is not None and asking is not None and candidates:
            return self.hashing.choose(asking, candidates.__contains__) or self.pick(candidates)
        return self.pick(candidates) if candidates else None

    @property
    def is_any_alike(self) -> bool:
        """Whether another member than the one that was chosen will do: no key and no place asks for it."""
        return self.hashing is None and self.places is None

    def choose_beyond(self, spared: Iterable[Member]) -> Member | None:
        """One of the others, wherever it is; None when all are spared."""
        left = frozenset(spared)
        candidates = tuple(member for member in self.available if member not in left)
        return self.pick(candidates) if candidates else None

    def refill(self, members: Iterable[Member], withheld: Iterable[Member], now: float) -> None:
        """These are the members now."""
        members = tuple(members)
        if self.members and self.places is None:  # of several places most are not called
            known = frozenset(self.members).difference(self.cold)
            self.cold = tuple(member for member in members if member not in known)[:MOST_COLD]
        self.members, self.withheld = members, tuple(withheld)
        is_weighted = self.warmup is not None or len({each.endpoint.weight for each in self.members}) > 1
        if is_weighted != isinstance(self.pick, WeightedPicker):
            weighted: WeightedPicker[Member] = WeightedPicker(self.balance, self.warmup)
            self.pick = weighted if is_weighted else picker(self.balance)
        if self.hashing is not None:
            self.hashing.refill(self.members)
        self.refresh(now)

    def answered(self, member: Member, status: int, now: float) -> float | None:
        """A member answered. When it is left out for that, until when: :meth:`refresh` is due then."""
        assert self.outliers is not None
        back_at = self.outliers.answered(member, status, now)
        if back_at is not None:
            self.refresh(now)
        return back_at

    def failed(self, member: Member, status: int, now: float) -> float | None:
        """A member did not answer, which the client is told with ``status``. As :meth:`answered`."""
        assert self.outliers is not None
        back_at = self.outliers.failed_here(member, status, now)
        if back_at is not None:
            self.refresh(now)
        return back_at

    def connect_failed(self, member: Member, now: float) -> float | None:
        """No connection could be made to a member. As :meth:`answered`."""
        if self.outliers is not None:
            return self.failed(member, 503, now)
        ejection_s = member.eject(now)
        (self if self.requested else self.destination).refresh(now)
        return now + ejection_s

    def refresh(self, now: float) -> None:
        """Recompute who is available; call it after members changed, were ejected, or came back."""
        self.available = self._available(now)
        if self.places is not None:
            self.places.refresh(self.members, self.available)

    def _available(self, now: float) -> tuple[Member, ...]:
        outliers = self.outliers
        if outliers is None:
            healthy = tuple(
                member for member in self.members if member.ejected_until <= now and not member.is_sick
            )
            return healthy or self.members
        outliers.keep(self.members)
        healthy = tuple(
            member for member in self.members if not (member.is_sick or outliers.is_ejected(member, now))
        )
        return self.members if outliers.is_panic(len(healthy)) else healthy


_Key = tuple[tuple[str, Labels], str, int]
"""For whom, subset, port."""


class Destination:
    """Everything known of one host: its service, if it has come, and its members, if they have."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.service: Service | None = None
        self.members: dict[Endpoint, Member] | None = None
        self._clusters: dict[tuple[_Key, Place | None, str], Cluster] = {}
        self._requested: dict[tuple[str, int], Member] = {}
        self._breakers: dict[_Key, Breaker] = {}
        self._outliers: dict[_Key, Outliers[Member]] = {}
        self.is_asked_for = True
        self._idle_since = 0.0

    def idle_s(self, now: float) -> float:
        """For how long nobody has asked for it, to whoever looks regularly; 0 while it is in use."""
        members = (*(self.members or {}).values(), *self._requested.values())
        in_use = self.is_asked_for or any(member.active for member in members)
        self.is_asked_for = False
        if in_use or not self.is_complete:
            self._idle_since = now
        return now - self._idle_since

    @property
    def clusters(self) -> tuple[Cluster, ...]:
        """Those that were asked for."""
        return tuple(self._clusters.values())

    def speaks_to(self, member: Member) -> Speaks:
        """The version of HTTP towards one of its members, as far as requests have asked for it."""
        return next((each.speaks for each in self._clusters.values() if member in each.members), "")

    @property
    def is_complete(self) -> bool:
        """Whether both the service and its endpoints have come."""
        return self.service is not None and self.members is not None

    def set_service(self, service: Service | None, now: float) -> tuple[Member, ...]:
        """Take a new version of the service; clusters in use by requests stay as they are. Returns the
        members that are gone with it."""
        gone: tuple[Member, ...] = ()
        if service is None or not service.is_dynamic:
            gone, self._requested = tuple(self._requested.values()), {}
        self.service = service
        for cluster in self._clusters.values():
            cluster.is_current = False
        self._clusters = {}
        self.refresh(now)
        return gone

    def drop_idle(self) -> tuple[Member, ...]:
        """Forget hosts that were asked for and have no request now, once there are many; returns them."""
        if len(self._requested) <= MAX_REQUESTED:
            return ()
        idle = {key: member for key, member in self._requested.items() if not member.active}
        for key in idle:
            del self._requested[key]
        for placed, cluster in list(self._clusters.items()):
            if (cluster.requested, cluster.port) in idle:
                cluster.is_current = False
                del self._clusters[placed]
        return tuple(idle.values())

    def set_endpoints(self, endpoints: Iterable[Endpoint] | None, now: float) -> tuple[Member, ...]:
        """Take the new set of endpoints (None: unknown); returns the members that are gone."""
        before = self.members or {}
        if endpoints is None:
            self.members = None
        else:
            self.members = {each: before.get(each) or Member(each, now) for each in endpoints}
        gone = tuple(member for each, member in before.items() if each not in (self.members or {}))
        for member in gone:
            member.is_gone = True
        for cluster in self._clusters.values():
            self._fill(cluster, now)
        return gone

    def cluster(
        self,
        subset: str,
        now: float,
        port: int = 0,
        place: Place | None = None,
        client: Client | None = None,
        requested: str = "",
    ) -> Cluster | None:
        """The cluster of a subset (empty for all members) at a port, for a client at a place; None when there
        is no such subset for it. ``requested`` is the host that was asked for, where that is the endpoint."""
        if self.service is None:
            return None
        rules = rules_for(self.service, client)
        found = next((each for each in rules.subsets if each.name == subset), None)
        if subset and found is None:
            return None
        balance, traffic = policy_of(rules, found, port)
        locality = traffic.locality if traffic is not None else None
        key = (_holder(rules), subset, port)
        requested = requested if self.service.is_dynamic else ""
        placed = (key, (place or Place()) if locality is not None else None, requested)
        known = self._clusters.get(placed)
        if known is not None:
            return known
        labels = found.labels if found is not None else ()
        cluster = self._clusters[placed] = Cluster(self, subset, port, labels, balance)
        cluster.is_plaintext_allowed = rules.plaintext
        cluster.requested = requested
        if locality is not None:
            cluster.places = Places(locality, place or Place())
        if traffic is not None and (traffic.connections or traffic.retry_budget):
            cluster.breaker = self._breaker(key, traffic)
        if traffic is not None and traffic.outlier is not None:
            outliers: Outliers[Member] = Outliers(traffic.outlier, now)
            if not requested:
                outliers = self._outliers.setdefault(key, outliers)
            outliers.policy = traffic.outlier
            cluster.outliers = outliers
        if traffic is not None:
            cluster.hashing = Hashing(traffic.hashing) if traffic.hashing else None
            cluster.warmup = traffic.warmup
            cluster.proxy_protocol = traffic.proxy_protocol
        self._fill(cluster, now)
        return cluster

    def _breaker(self, key: _Key, traffic: TrafficPolicy) -> Breaker:
        """The breaker of a cluster, which outlives changes of the service: what it counted goes on."""
        breaker = self._breakers.get(key)
        if breaker is None:
            breaker = self._breakers[key] = Breaker(f"{self.host} {key[1]}".rstrip())
        breaker.set_policy(traffic)
        return breaker

    def refresh(self, now: float) -> None:
        """See :meth:`Cluster.refresh`."""
        for cluster in self._clusters.values():
            cluster.refresh(now)

    def on_deadline(self, now: float) -> None:
        """An ejection ends (see :class:`.timers.Timed`)."""
        self.refresh(now)

    def _fill(self, cluster: Cluster, now: float) -> None:
        members: list[Member] = []
        withheld: list[Member] = []
        known = (self.members or {}).values()
        for member in (self._member(cluster, now),) if cluster.requested else known:
            endpoint = member.endpoint
            if endpoint.service_port not in (0, cluster.port) or not cluster.labels.issubset(endpoint.labels):
                continue
            is_allowed = cluster.is_plaintext_allowed or endpoint.transport == "mutual_tls"
            (members if is_allowed else withheld).append(member)
        cluster.refill(members, withheld, now)
        has_outside = any(member.endpoint.transport == "plaintext" for member in members)
        limits = cluster.breaker.limits if cluster.breaker is not None else None
        protocol = self._protocol(cluster.port)
        cluster.speaks = spoken(protocol, limits, has_outside)
        cluster.is_undeclared = protocol == "auto" and not (limits and limits.uses_client_protocol)

    def _protocol(self, number: int) -> str:
        """What a port is declared to speak."""
        ports = self.service.ports if self.service is not None else ()
        return next((port.protocol for port in ports if port.number == number), "auto")

    def _member(self, cluster: Cluster, now: float) -> Member:
        """The host that was asked for as a member."""
        key = (cluster.requested, cluster.port)
        member = self._requested.get(key)
        if member is None:
            endpoint = Endpoint(
                workload="",
                address=cluster.requested,
                port=cluster.port,
                sni="",
                identity="",
                labels=(),
                node="",
                transport="plaintext",
            )
            member = self._requested[key] = Member(endpoint, now)
        return member


def _holder(rules: Service | ClientRules) -> tuple[str, Labels]:
    """The callers for whom rules hold; empty for those of the service itself."""
    return (rules.namespace, rules.labels) if isinstance(rules, ClientRules) else ("", ())


def spoken(protocol: str, limits: ConnectionLimits | None, has_outside: bool) -> Speaks:
    """The version of HTTP to a port of a protocol. Between proxies requests for one of HTTP/1.1 may go by
    HTTP/2; an endpoint without proxy (``has_outside``) gets what it understands."""
    said = limits.h2_upgrade if limits is not None else ""
    if limits is not None and limits.uses_client_protocol:
        return ""
    if protocol in HTTP2_PROTOCOLS or said == "UPGRADE":
        return "http2"
    return "http1" if protocol == "http" and (has_outside or said == "DO_NOT_UPGRADE") else ""


def policy_of(
    rules: Service | ClientRules, subset: Subset | None, port: int
) -> tuple[Balance, TrafficPolicy | None]:
    """What DestinationRules say of one port of a service, or of one subset of it."""
    whole = subset if subset is not None else rules
    for each in whole.port_traffic:
        if each.port == port:
            return each.balance, each.traffic
    return whole.balance or rules.balance, whole.traffic
