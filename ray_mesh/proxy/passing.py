"""Hosts that nobody has declared, where outboundTrafficPolicy is ALLOW_ANY.

They are called as they were asked for: by their name, which is resolved here, or by their address, without
TLS of the mesh. What an address is was looked at before it is connected to (:mod:`.outside`): link-local
addresses, metadata services, loopback and the mesh's own ports are never reached this way.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from ray_mesh import addresses
from ray_mesh.proxy.cluster import Destination
from ray_mesh.proxy.hosts import SUFFIX, bare
from ray_mesh.snapshot import Destination as To
from ray_mesh.snapshot import Mesh, OutboundPolicy, Route, Service

PASSTHROUGH = "PassthroughCluster"
"""The service under which such calls are counted, as in Istio. No host has capitals."""
BLACKHOLE = "BlackHoleCluster"
"""The same of calls that are refused because nobody knows the host."""


@dataclass(slots=True)
class Boundary:
    """What is known of hosts beyond those that are known by name: the policy of the mesh for the others, and
    the patterns and the blocks of addresses that ServiceEntries have."""

    policy: OutboundPolicy = "REGISTRY_ONLY"
    wildcards: frozenset[str] = frozenset()
    blocks: tuple[tuple[IPv4Network | IPv6Network, str], ...] = ()

    def take(self, mesh: Mesh) -> bool:
        """Take what the mesh says now; whether that differs."""
        before = (self.policy, self.wildcards, self.blocks)
        self.policy, self.wildcards = mesh.outbound_policy, frozenset(mesh.wildcards)
        blocks = [(ip_network(block, strict=False), host) for block, host in mesh.addresses]
        self.blocks = tuple(sorted(blocks, key=lambda one: -one[0].prefixlen))
        return before != (self.policy, self.wildcards, self.blocks)

    def beyond(self, host: str) -> tuple[str, ...]:
        """The hosts of the mesh that an address or another name may mean: patterns that cover it, blocks that
        it is in; the narrowest first."""
        ip = addresses.parse(bare(host))
        return self._patterns(host) if ip is None else self._blocks(ip)

    def _blocks(self, ip: addresses.Ip) -> tuple[str, ...]:
        return tuple(dict.fromkeys(host for block, host in self.blocks if ip in block))

    def _patterns(self, host: str) -> tuple[str, ...]:
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
