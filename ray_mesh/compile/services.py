"""``service`` resources: ports, subsets and routes of one host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ray_mesh import snapshot
from ray_mesh.compile.callee import Callee
from ray_mesh.compile.client_rules import RulesFor, merge_rules, rules_by_client
from ray_mesh.compile.exports import exported_to
from ray_mesh.compile.health_checks import health_check_of
from ray_mesh.compile.routings import routings_of
from ray_mesh.compile.traffic import Sections, by_port
from ray_mesh.compile.world import World
from ray_mesh.resources import DestinationRuleSpec, Document
from ray_mesh.resources.destination_rule import Subset, TrafficPolicy


def compile_service(world: World, callee: Callee) -> snapshot.Service:
    """How to call one host."""
    *special, usual = rules_by_client(world, callee)
    rules = _compile_rules(callee, usual)
    first, *others = routings_of(world, callee)
    return snapshot.Service(
        host=callee.host,
        namespace=callee.namespace,
        name=callee.document.name,
        ports=tuple(snapshot.Port(port.number, port.name, port.protocol) for port in callee.ports),
        subsets=rules.subsets,
        routes=first.routes,
        balance=rules.balance,
        plaintext=rules.plaintext,
        traffic=rules.traffic,
        port_traffic=rules.port_traffic,
        health=health_check_of(world, callee),
        tcp_routes=first.tcp_routes,
        tls_routes=first.tls_routes,
        exported_to=exported_to(world.config, callee.document),
        owners=first.owners,
        routings=tuple(others),
        is_dynamic=callee.is_dynamic,
        client_rules=tuple(_compile_rules(callee, one) for one in special),
    )


def allows_plaintext(world: World, callee: Callee) -> bool:
    """Whether some caller may call endpoints of a host that have no proxy, which is without TLS."""
    policies = (merge_rules(one.rules)[0] for one in rules_by_client(world, callee))
    return any(_allows_plaintext(callee, policy) for policy in policies)


def _compile_rules(callee: Callee, found: RulesFor) -> snapshot.ClientRules:
    policy, subsets = merge_rules(found.rules)
    ports = [port.number for port in callee.ports]
    origin = _origin(found.rules)
    whole = Sections().under(policy, origin)
    at_ports = {port: whole.at(port, policy, origin) for port in ports}
    return snapshot.ClientRules(
        found.namespace,
        found.labels,
        subsets=tuple(
            _subset(subset, _origin(found.rules, subset.name), whole, at_ports)
            for subset in sorted(subsets, key=lambda subset: subset.name)
        ),
        balance=whole.balance,
        plaintext=_allows_plaintext(callee, policy),
        traffic=whole.traffic,
        port_traffic=by_port(ports, whole, at_ports),
    )


def _allows_plaintext(callee: Callee, policy: TrafficPolicy | None) -> bool:
    """Inside the mesh a person has to say so. Outside it is what HTTP means, unless one says otherwise."""
    mode = policy.tls.mode if policy and policy.tls else None
    return mode == "DISABLE" or (mode is None and callee.is_external)


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
