"""Which DestinationRule, and which level of it, decides how a destination is called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ray_mesh.compile.callee import Callee
from ray_mesh.compile.client_rules import merge_rules, rules_by_client
from ray_mesh.compile.traffic import Sections
from ray_mesh.explain.answer import NOWHERE, Ground, Note, Step
from ray_mesh.explain.case import Case
from ray_mesh.proxy.cluster import policy_of
from ray_mesh.proxy.view import Client, rules_for
from ray_mesh.resources import DestinationRuleSpec, Document
from ray_mesh.resources.destination_rule import TrafficPolicy
from ray_mesh.resources.source import Path, show
from ray_mesh.snapshot import ConnectionLimits, OutlierDetection, Service
from ray_mesh.snapshot import TrafficPolicy as Compiled

_SECTIONS = {
    "loadBalancer": "load_balancer",
    "connectionPool": "connection_pool",
    "outlierDetection": "outlier_detection",
}


@dataclass(frozen=True, slots=True)
class _Level:
    """One trafficPolicy, or what it says of one port."""

    name: str
    document: Document
    path: Path
    settings: object


def documents_for(case: Case, callee: Callee, client: Client) -> Sequence[Document]:
    """The DestinationRules of a host that hold for a caller, chosen as its proxy chooses what they say."""
    *special, usual = rules_by_client(case.world, callee)
    for one in special:
        if one.namespace == client.namespace and client.labels.issuperset(one.labels):
            return one.rules
    return usual.rules


def rule_step(case: Case, callee: Callee, service: Service, subset: str, port: int, client: Client) -> Step:
    """What the DestinationRules of a host say of one subset and port, each section with its level."""
    rules = documents_for(case, callee, client)
    compiled = rules_for(service, client)
    found = next((one for one in compiled.subsets if one.name == subset), None)
    balance, traffic = policy_of(compiled, found, port)
    if not rules:
        says = f"none is for {callee.host}: {balance}, no limits, mutual TLS to endpoints with a proxy"
        return Step("destination rule", says, notes=tuple(_others(case, callee, rules)))
    owner = _owner(rules, subset)
    where = _subset_path(owner, subset)
    named = f"subset {subset} of {owner.title}" if subset else owner.title
    decided = _resolve(rules, subset, port)
    notes = [
        *_section_notes(case, decided, list(_levels(rules, subset, port)), balance, traffic),
        *_others(case, callee, rules),
    ]
    return Step("destination rule", named, case.places.at(owner, *where), tuple(notes))


def tls_ground(case: Case, callee: Callee, client: Client) -> tuple[str, Ground]:
    """The mode of ``trafficPolicy.tls`` that holds for a host, and where it is said."""
    rules = documents_for(case, callee, client)
    policy, _ = merge_rules(rules)
    if policy is None or policy.tls is None or policy.tls.mode is None:
        return "", NOWHERE
    owner = next(one for one in rules if one.read(DestinationRuleSpec).traffic_policy is policy)
    return str(policy.tls.mode), case.places.at(owner, "spec", "trafficPolicy", "tls", "mode")


def subset_ground(case: Case, callee: Callee, subset: str, client: Client) -> Ground:
    """Where a subset is defined."""
    for rule in documents_for(case, callee, client):
        for index, one in enumerate(rule.read(DestinationRuleSpec).subsets):
            if one.name == subset:
                return case.places.at(rule, "spec", "subsets", index)
    return NOWHERE


def _owner(rules: Sequence[Document], subset: str) -> Document:
    """The rule that has the subset, else the one with the traffic policy, else the first."""
    for rule in rules:
        if subset and any(one.name == subset for one in rule.read(DestinationRuleSpec).subsets):
            return rule
    return next((one for one in rules if one.read(DestinationRuleSpec).traffic_policy), rules[0])


def _subset_path(rule: Document, subset: str) -> Path:
    for index, one in enumerate(rule.read(DestinationRuleSpec).subsets):
        if one.name == subset:
            return ("spec", "subsets", index)
    return ("spec",)


def _resolve(rules: Sequence[Document], subset: str, port: int) -> Sections:
    """The sections in force, resolved as the compiler resolves them."""
    policy, subsets = merge_rules(rules)
    host = Sections().under(policy, "").at(port, policy, "")
    own = next((one.traffic_policy for one in subsets if one.name == subset), None)
    return host.under(own, "").at(port, own, "")


def _levels(rules: Sequence[Document], subset: str, port: int) -> Iterator[_Level]:
    for rule in rules:
        spec = rule.read(DestinationRuleSpec)
        for index, one in enumerate(spec.subsets):
            if one.name == subset:
                path: Path = ("spec", "subsets", index, "trafficPolicy")
                yield from _of_policy(rule, path, one.traffic_policy, f"subset {subset}", port)
        yield from _of_policy(rule, ("spec", "trafficPolicy"), spec.traffic_policy, "the rule", port)


def _of_policy(
    rule: Document, path: Path, policy: TrafficPolicy | None, name: str, port: int
) -> Iterator[_Level]:
    if policy is None:
        return
    for index, settings in enumerate(policy.port_level_settings):
        if settings.port is not None and settings.port.number == port:
            yield _Level(f"port {port} of {name}", rule, (*path, "portLevelSettings", index), settings)
    yield _Level(name, rule, path, policy)


def _section_notes(
    case: Case, decided: Sections, levels: list[_Level], balance: str, traffic: Compiled | None
) -> Iterator[Note]:
    for field, name in _SECTIONS.items():
        section = getattr(decided, name)
        says = {
            "loadBalancer": lambda: _spell_balance(balance, traffic),
            "connectionPool": lambda: _spell_limits(traffic.connections if traffic else None),
            "outlierDetection": lambda: _spell_outliers(traffic.outlier if traffic else None),
        }[field]()
        level = next(
            (one for one in levels if section is not None and getattr(one.settings, name) is section), None
        )
        if level is None:
            if field == "loadBalancer":
                yield Note(f"loadBalancer: {says} (default of the mesh)")
            continue
        path = (*level.path, field)
        ground = case.places.at(level.document, *path)
        yield Note(f"{field}: {says} (said by {level.name}: {show(path)})", ground)


def _spell_balance(balance: str, traffic: Compiled | None) -> str:
    said = [balance]
    if traffic is not None and traffic.hashing is not None:
        hashing = traffic.hashing
        said = [f"consistentHash by {hashing.kind.replace('_', ' ')} {hashing.name}".rstrip()]
    if traffic is not None and traffic.locality is not None:
        said.append("by locality")
    if traffic is not None and traffic.warmup is not None:
        said.append(f"warmup {traffic.warmup.duration_s:g} s")
    return ", ".join(said)


_LIMITS = {
    "max_connections": "maxConnections",
    "max_pending": "http1MaxPendingRequests",
    "max_requests": "http2MaxRequests",
    "max_requests_per_connection": "maxRequestsPerConnection",
    "max_retries": "maxRetries",
    "connect_timeout_s": "connectTimeout s",
    "idle_timeout_s": "idleTimeout s",
    "max_streams": "maxConcurrentStreams",
    "ping_interval_s": "http2KeepAlive.interval s",
    "ping_timeout_s": "http2KeepAlive.timeout s",
}


def _spell_limits(limits: ConnectionLimits | None) -> str:
    if limits is None:
        return "no limits"
    said = [f"{word} {getattr(limits, name):g}" for name, word in _LIMITS.items() if getattr(limits, name)]
    if limits.h2_upgrade:
        said.append(f"h2UpgradePolicy {limits.h2_upgrade}")
    if limits.uses_client_protocol:
        said.append("useClientProtocol")
    return ", ".join(said) or "no limits"


def _spell_outliers(outlier: OutlierDetection | None) -> str:
    if outlier is None:
        return "none"
    said = f"after {outlier.consecutive_5xx} 5xx in a row"
    if outlier.consecutive_gateway_errors:
        said += f" or {outlier.consecutive_gateway_errors} gateway errors"
    said += f" an endpoint is left out for {outlier.base_ejection_s:g} s"
    return f"{said}, {outlier.max_ejection_percent}% at most"


def _others(case: Case, callee: Callee, rules: Sequence[Document]) -> Iterator[Note]:
    """Rules that name the host and do not hold for it."""
    keys = {one.key for one in rules}
    for document in case.world.find("rule for", callee.host):
        if document.key not in keys:
            why = f"its namespace's rules hold, else {callee.namespace}'s, else the root's"
            says = f"not {document.title}: it is not for this caller ({why})"
            yield Note(says, case.places.at(document, "spec", "host"))
