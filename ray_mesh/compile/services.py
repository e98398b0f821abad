"""``service`` resources: ports, subsets and routes of one host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ray_mesh import snapshot
from ray_mesh.compile.routes import compile_routes
from ray_mesh.compile.world import World, host_of, mesh_hosts
from ray_mesh.resources import DestinationRuleSpec, Document, ServiceSpec
from ray_mesh.resources.destination_rule import LoadBalancer, Subset, TrafficPolicy
from ray_mesh.resources.hosts import full_host, pattern_covers, specificity
from ray_mesh.resources.mesh import ROOT_NAMESPACE

BALANCE: Mapping[str, snapshot.Balance] = {
    "UNSPECIFIED": "LEAST_REQUEST",
    "LEAST_REQUEST": "LEAST_REQUEST",
    "LEAST_CONN": "LEAST_REQUEST",
    "ROUND_ROBIN": "ROUND_ROBIN",
    "RANDOM": "RANDOM",
}


def compile_service(world: World, service: Document) -> snapshot.Service:
    """How to call one Service."""
    host = host_of(service)
    policy, subsets = merge_rules(rules_for(world, service))
    ports = sorted(service.read(ServiceSpec).ports, key=lambda port: port.port)
    documents = virtual_services_for(world, host)
    return snapshot.Service(
        host=host,
        namespace=service.namespace,
        name=service.name,
        ports=tuple(snapshot.Port(port.port, port.name or "") for port in ports),
        subsets=tuple(_subset(subset) for subset in sorted(subsets, key=lambda subset: subset.name)),
        routes=compile_routes(world, documents) if documents else (_default_route(service, host),),
        balance=_balance(policy.load_balancer if policy else None),
    )


def _default_route(service: Document, host: str) -> snapshot.Route:
    return snapshot.Route("default", service.title, (), (snapshot.Destination(host),))


def virtual_services_for(world: World, host: str) -> list[Document]:
    """The VirtualServices whose most specific pattern covers a host in the mesh, oldest first."""
    exact = world.oldest("routes", host)
    if exact:
        return exact
    ranked = [(_best(mesh_hosts(document), host), document) for document in world.oldest("routes pattern")]
    best = max((rank for rank, _ in ranked if rank), default=None)
    return [document for rank, document in ranked if rank and rank == best]


def rules_for(world: World, service: Document) -> list[Document]:
    """The DestinationRules of a service, oldest first: its own namespace's, else the root namespace's;
    within one namespace those with the most specific host."""
    host = host_of(service)
    candidates = world.oldest("rule for", host) + world.oldest("rule for pattern")
    for namespace in (service.namespace, ROOT_NAMESPACE):
        ranked = [
            (_best([rule_host(rule)], host), rule) for rule in candidates if rule.namespace == namespace
        ]
        best = max((rank for rank, _ in ranked if rank), default=None)
        if best:
            return [rule for rank, rule in ranked if rank == best]
    return []


def rule_host(rule: Document) -> str:
    """The full host or pattern that a DestinationRule is for."""
    return full_host(rule.read(DestinationRuleSpec).host, rule.namespace)


def merge_rules(rules: Iterable[Document]) -> tuple[TrafficPolicy | None, list[Subset]]:
    """The first traffic policy, and the subsets of all rules, the first of each name."""
    policy: TrafficPolicy | None = None
    subsets: dict[str, Subset] = {}
    for rule in rules:
        spec = rule.read(DestinationRuleSpec)
        policy = policy or spec.traffic_policy
        for subset in spec.subsets:
            subsets.setdefault(subset.name, subset)
    return policy, list(subsets.values())


def _best(patterns: Iterable[str], host: str) -> tuple[bool, int] | None:
    return max((specificity(pattern) for pattern in patterns if pattern_covers(pattern, host)), default=None)


def _subset(subset: Subset) -> snapshot.Subset:
    own = subset.traffic_policy.load_balancer if subset.traffic_policy else None
    labels = tuple(sorted(subset.labels.items()))
    return snapshot.Subset(subset.name, labels, _balance(own) if own else None)


def _balance(balancer: LoadBalancer | None) -> snapshot.Balance:
    return BALANCE[(balancer.simple if balancer else None) or "UNSPECIFIED"]
