"""Hosts that nobody has declared, where outboundTrafficPolicy is ALLOW_ANY.

They are called as they were asked for: by their name, which is resolved here, or by their address, without
TLS of the mesh. What an address is was looked at before it is connected to (:mod:`.outside`): link-local
addresses, metadata services, loopback and the mesh's own ports are never reached this way.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray_mesh import addresses
from ray_mesh.proxy.cluster import Destination
from ray_mesh.proxy.hosts import SUFFIX
from ray_mesh.snapshot import Destination as To
from ray_mesh.snapshot import OutboundPolicy, Route, Service

PASSTHROUGH = "PassthroughCluster"
"""The service under which such calls are counted, as in Istio. No host has capitals."""
BLACKHOLE = "BlackHoleCluster"
"""The same of calls that are refused because nobody knows the host."""


@dataclass(slots=True)
class Boundary:
    """What is known of hosts beyond those that are known by name: the policy of the mesh for the others, and
    the patterns that ServiceEntries have."""

    policy: OutboundPolicy = "REGISTRY_ONLY"
    wildcards: frozenset[str] = frozenset()

    def take(self, policy: OutboundPolicy, wildcards: frozenset[str]) -> bool:
        """Take new ones; whether they differ."""
        before = (self.policy, self.wildcards)
        self.policy, self.wildcards = policy, wildcards
        return before != (policy, wildcards)

    def patterns(self, host: str) -> tuple[str, ...]:
        """The patterns of the mesh that cover a host, the longest first."""
        if not self.wildcards or host.endswith(SUFFIX):
            return ()
        labels = host.split(".")
        found = ("*." + ".".join(labels[index:]) for index in range(1, len(labels)))
        return tuple(one for one in found if one in self.wildcards)


def passthrough() -> Destination:
    """Where such calls go."""
    route = Route("allow_any", "outboundTrafficPolicy ALLOW_ANY", (), (To(PASSTHROUGH),))
    service = Service(PASSTHROUGH, "", PASSTHROUGH, (), (), (route,), plaintext=True, is_dynamic=True)
    destination = Destination(PASSTHROUGH)
    destination.set_service(service, 0.0)
    destination.set_endpoints((), 0.0)
    return destination


def why_not_passed(host: str) -> str:
    """What is wrong with a host by its form, so that it is not even looked up; empty when nothing is."""
    if host.endswith((f".{SUFFIX}", ".svc")):
        return "is a name of the mesh, and no service has it"
    if addresses.is_loopback(host):
        return "is loopback, where ports of the mesh and of other workloads are"
    if reason := addresses.why_unfit(host):
        return f"is {reason}"
    return ""
