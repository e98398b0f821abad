"""``service`` resources: ports, subsets and routes of one host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ray_mesh import snapshot
from ray_mesh.compile.callee import Callee
from ray_mesh.compile.connection_routes import compile_connections
from ray_mesh.compile.health_checks import health_check_of
from ray_mesh.compile.routes import compile_routes
from ray_mesh.compile.traffic import Sections, by_port
from ray_mesh.compile.world import World, mesh_hosts, rule_hosts
from ray_mesh.resources import DestinationRuleSpec, Document, VirtualServiceSpec
from ray_mesh.resources.destination_rule import Subset, TrafficPolicy
from ray_mesh.resources.hosts import pattern_covers, specificity
from ray_mesh.resources.mesh import ROOT_NAMESPACE


def compile_service(world: World, callee: Callee) -> snapshot.Service:
    """How to call one host."""
    rules = rules_for(world, callee)
    policy, subsets = merge_rules(rules)
    documents = virtual_services_for(world, callee.host)
    ports = [port.number for port in callee.ports]
    origin = _origin(rules)
    whole = Sections().under(policy, origin)
    at_ports = {port: whole.at(port, policy, origin) for port in ports}
    over_http = [one for one in documents if one.read(VirtualServiceSpec).http]
    return snapshot.Service(
        host=callee.host,
        namespace=callee.namespace,
        name=callee.document.name,
        ports=tuple(snapshot.Port(port.number, port.name, port.protocol) for port in callee.ports),
        subsets=tuple(
            _subset(subset, _origin(rules, subset.name), whole, at_ports)
            for subset in sorted(subsets, key=lambda subset: subset.name)
        ),
        routes=compile_routes(world, over_http) if over_http else (_default_route(callee),),
        balance=whole.balance,
        plaintext=_allows_plaintext(callee, policy),
        traffic=whole.traffic,
        port_traffic=by_port(ports, whole, at_ports),
        health=health_check_of(world, callee),
        tcp_routes=compile_connections(world, documents, "tcp"),
        tls_routes=compile_connections(world, documents, "tls"),
    )


def allows_plaintext(world: World, callee: Callee) -> bool:
    """Whether endpoints of a host that have no proxy may be called, which is without TLS."""
    policy, _ = merge_rules(rules_for(world, callee))
    return _allows_plaintext(callee, policy)


def _allows_plaintext(callee: Callee, policy: TrafficPolicy | None) -> bool:
    """Inside the mesh a person has to say so. Outside it is what HTTP means, unless one says otherwise."""
    mode = policy.tls.mode if policy and policy.tls else None
    return mode == "DISABLE" or (mode is None and callee.is_external)


def _default_route(callee: Callee) -> snapshot.Route:
    return snapshot.Route("default", callee.document.title, (), (snapshot.Destination(callee.host),))


def virtual_services_for(world: World, host: str) -> list[Document]:
    """The VirtualServices whose most specific pattern covers a host in the mesh, oldest first."""
    exact = world.oldest("routes", host)
    if exact:
        return exact
    ranked = [(_best(mesh_hosts(document), host), document) for document in world.oldest("routes pattern")]
    best = max((rank for rank, _ in ranked if rank), default=None)
    return [document for rank, document in ranked if rank and rank == best]


def rules_for(world: World, callee: Callee) -> list[Document]:
    """The DestinationRules of a host, oldest first: its own namespace's, else the root namespace's;
    within one namespace those with the most specific host."""
    host = callee.host
    candidates = world.oldest("rule for", host) + world.oldest("rule for pattern")
    for namespace in (callee.namespace, ROOT_NAMESPACE):
        ranked = [(_best(rule_hosts(rule), host), rule) for rule in candidates if rule.namespace == namespace]
        best = max((rank for rank, _ in ranked if rank), default=None)
        if best:
            return [rule for rank, rule in ranked if rank == best]
    return []


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


def _origin(rules: Iterable[Document], subset: str = "") -> str:
    """The rule that has the traffic policy, or the subset."""
    for rule in rules:
        spec = rule.read(DestinationRuleSpec)
        if any(one.name == subset for one in spec.subsets) if subset else spec.traffic_policy:
            return rule.title
    return ""


def _subset(subset: Subset, origin: str, host: Sections, host_at: Mapping[int, Sections]) -> snapshot.Subset:
    policy = subset.traffic_policy
    whole = host.under(policy, origin)
    at_ports = {port: one.under(policy, origin).at(port, policy, origin) for port, one in host_at.items()}
    return snapshot.Subset(
        subset.name,
        tuple(sorted(subset.labels.items())),
        whole.balance if policy and policy.load_balancer else None,
        whole.traffic,
        by_port(host_at, whole, at_ports),
    )
