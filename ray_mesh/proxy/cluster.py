"""Endpoints in use: a service's members by subset, how busy each is, and which are ejected.

Passive health: an endpoint to which no connection can be made is ejected at once, for 1 s, then 2 s, 4 s
... 30 s while it goes on failing; one request that gets through resets this. When all members are
ejected they are tried anyway, since a wrong guess about health must not be an outage by itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from ray_mesh.proxy.balance import Picker, picker
from ray_mesh.snapshot import Endpoint, Labels, Service

FIRST_EJECTION_S = 1.0
LONGEST_EJECTION_S = 30.0


class Member:
    """One endpoint and its state. It lives as long as the endpoint does not change."""

    __slots__ = (
        "active",
        "app",
        "ejected_until",
        "endpoint",
        "failures",
        "principal",
        "version",
        "workload",
    )

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
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

    def eject(self, now: float) -> float:
        """Note a failed connection; returns for how many seconds the member is ejected."""
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

    ``withheld`` would be members if calls without TLS were allowed.
    """

    __slots__ = ("available", "destination", "labels", "members", "pick", "port", "subset", "withheld")

    def __init__(
        self, destination: Destination, subset: str, port: int, labels: Labels, pick: Picker[Member]
    ) -> None:
        self.destination = destination
        self.subset = subset
        self.port = port
        self.labels = frozenset(labels)
        self.pick = pick
        self.members: tuple[Member, ...] = ()
        self.available: tuple[Member, ...] = ()
        self.withheld: tuple[Member, ...] = ()

    def choose(self, tried: Iterable[Member] = ()) -> Member | None:
        """A member for one request, not one of ``tried``; None when there is none."""
        candidates = self.available
        if tried:
            candidates = tuple(member for member in self.members if member not in tried)
            candidates = tuple(member for member in candidates if member in self.available) or candidates
        return self.pick(candidates) if candidates else None

    def refresh(self, now: float) -> None:
        """Recompute who is available; call it after members changed, were ejected, or came back."""
        healthy = tuple(member for member in self.members if member.ejected_until <= now)
        self.available = healthy or self.members


class Destination:
    """Everything known of one host: its service, if it has come, and its members, if they have."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.service: Service | None = None
        self.members: dict[Endpoint, Member] | None = None
        self._clusters: dict[tuple[str, int], Cluster] = {}

    @property
    def clusters(self) -> tuple[Cluster, ...]:
        """Those that were asked for."""
        return tuple(self._clusters.values())

    @property
    def is_complete(self) -> bool:
        """Whether both the service and its endpoints have come."""
        return self.service is not None and self.members is not None

    def set_service(self, service: Service | None, now: float) -> None:
        """Take a new version of the service; clusters in use by requests stay as they are."""
        self.service = service
        self._clusters = {}
        self.refresh(now)

    def set_endpoints(self, endpoints: Iterable[Endpoint] | None, now: float) -> tuple[Member, ...]:
        """Take the new set of endpoints (None: unknown); returns the members that are gone."""
        before = self.members or {}
        if endpoints is None:
            self.members = None
        else:
            self.members = {each: before.get(each) or Member(each) for each in endpoints}
        gone = tuple(member for each, member in before.items() if each not in (self.members or {}))
        for cluster in self._clusters.values():
            self._fill(cluster, now)
        return gone

    def cluster(self, subset: str, now: float, port: int = 0) -> Cluster | None:
        """The cluster of a subset (empty for all members) at a port; None when the service has no such
        subset."""
        known = self._clusters.get((subset, port))
        if known is not None or self.service is None:
            return known
        labels: Labels = ()
        balance = self.service.balance
        if subset:
            found = next((each for each in self.service.subsets if each.name == subset), None)
            if found is None:
                return None
            labels, balance = found.labels, found.balance or balance
        cluster = self._clusters[subset, port] = Cluster(self, subset, port, labels, picker(balance))
        self._fill(cluster, now)
        return cluster

    def refresh(self, now: float) -> None:
        """See :meth:`Cluster.refresh`."""
        for cluster in self._clusters.values():
            cluster.refresh(now)

    def on_deadline(self, now: float) -> None:
        """An ejection ends (see :class:`.timers.Timed`)."""
        self.refresh(now)

    def _fill(self, cluster: Cluster, now: float) -> None:
        allows_plaintext = self.service is not None and self.service.plaintext
        members: list[Member] = []
        withheld: list[Member] = []
        for member in (self.members or {}).values():
            endpoint = member.endpoint
            if endpoint.service_port not in (0, cluster.port) or not cluster.labels.issubset(endpoint.labels):
                continue
            is_allowed = allows_plaintext or endpoint.transport == "mutual_tls"
            (members if is_allowed else withheld).append(member)
        cluster.members, cluster.withheld = tuple(members), tuple(withheld)
        cluster.refresh(now)
