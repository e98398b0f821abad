"""Where the mesh itself is, so that no document sends calls around its proxies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ray_mesh import addresses
from ray_mesh.compile.world import World
from ray_mesh.resources import Document, WorkloadSpec


@dataclass(frozen=True, slots=True)
class Grounds:
    """``nodes`` are pairs of a node's name and its address; ``ports`` those of proxies, API and broker.

    Loopback is an address for endpoints only in a mesh whose nodes are all on loopback: elsewhere it
    would mean another machine for each proxy. Without nodes nothing is known, and it is refused.
    """

    nodes: tuple[tuple[str, str], ...] = ()
    ports: frozenset[int] = frozenset()

    @property
    def is_on_loopback(self) -> bool:
        """Whether every node is."""
        return bool(self.nodes) and all(addresses.is_loopback(address) for _, address in self.nodes)

    def why_unfit(self, world: World, address: str, port: int) -> str:
        """Why an endpoint may not be there; empty when it may."""
        is_loopback = addresses.is_loopback(address)
        if is_loopback and not self.is_on_loopback:
            return "is loopback, and the mesh is not on loopback alone"
        if port in self.ports and (is_loopback or self._is_node(address)):
            return "is a port of the mesh itself"
        for workload in world.find("kind", "Workload"):
            if reason := self.why_of(workload, address, port):
                return reason
        return ""

    def _is_node(self, address: str) -> bool:
        return any(addresses.are_same(where, address) for _, where in self.nodes)

    def why_of(self, workload: Document, address: str, port: int) -> str:
        """Why an endpoint may not be there beside one workload; empty when it may."""
        spec = workload.read(WorkloadSpec)
        if port not in _ports(spec):
            return ""
        places = (spec.address, *(where for node, where in self.nodes if node == spec.node))
        is_there = any(addresses.are_same(place, address) for place in places)
        if addresses.is_loopback(address):
            is_there = addresses.is_loopback(spec.address)
        if not is_there:
            return ""
        return f"is a port of {workload.title}, whose policies such calls would go around"


def _ports(spec: WorkloadSpec) -> tuple[int, ...]:
    return (spec.port, spec.outbound_port, *spec.gateway_ports.values())


def grounds_of(nodes: Iterable[tuple[str, str, int]], ports: Iterable[int]) -> Grounds:
    """The grounds of proxies (node, address, inbound port) and further ports of the mesh."""
    listed = sorted(set(nodes))
    pairs = dict.fromkeys((node, address) for node, address, _ in listed)
    return Grounds(tuple(pairs), frozenset(ports) | {port for _, _, port in listed})
