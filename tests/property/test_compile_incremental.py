"""Compiling what a change affects gives the same bytes as compiling everything, in any order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gateway_api_documents import SPECS as GATEWAY_API
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_mesh import snapshot
from ray_mesh.compile import (
    LiveWorkload,
    World,
    admit,
    affected,
    compile_endpoints,
    compile_key,
    stored_keys,
)
from ray_mesh.compile.client_rules import merge_rules
from ray_mesh.compile.exports import sees
from ray_mesh.compile.routings import virtual_services_for
from ray_mesh.compile.world import rule_hosts
from ray_mesh.proxy.view import Client, rules_for, seen_by
from ray_mesh.resources import KINDS, DestinationRuleSpec, Document, from_json
from ray_mesh.resources.hosts import pattern_covers, specificity

NAMES = st.sampled_from(["a", "b"])
NAMESPACES = st.sampled_from(["default", "default", "prod", "mesh-system"])
VERSIONS = st.sampled_from(["v1", "v2"])
PORTS = st.sampled_from([80, 81])
HOSTS = st.sampled_from(
    ["a", "a", "b", "a.default", "b.prod.svc.cluster.local", "nowhere", "api.example.com", "example.com"]
)
WIDE_HOSTS = st.sampled_from(
    ["*.svc.cluster.local", "*.default.svc.cluster.local", "*.prod.svc.cluster.local", "*.example.com"]
)
MATCHES = st.sampled_from(
    [
        {},
        {"uri": {"prefix": "/"}},
        {"uri": {"exact": "/x"}},
        {"gateways": ["mesh"]},
        {"gateways": ["a"]},
        {"sourceLabels": {"version": "v1"}},
        {"sourceNamespace": "prod", "name": "m"},
    ]
)


def maybe(name: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(st.just({}), values.map(lambda value: {name: value}))


def merged(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda maps: {key: value for one in maps for key, value in one.items()})


DESTINATIONS = merged(
    HOSTS.map(lambda host: {"host": host}),
    maybe("subset", VERSIONS),
    maybe("port", PORTS.map(lambda number: {"number": number})),
).map(lambda destination: {"destination": destination, "weight": 50})
DELEGATES = st.one_of(
    NAMES.map(lambda name: {"delegate": {"name": name}}),
    NAMESPACES.map(lambda namespace: {"delegate": {"name": "a", "namespace": namespace}}),
)
DELEGATING = merged(DELEGATES, maybe("match", MATCHES.map(lambda one: [one])))
RULES = merged(
    st.lists(DESTINATIONS, min_size=1, max_size=2).map(lambda route: {"route": route}),
    maybe("match", st.lists(MATCHES, min_size=1, max_size=2)),
)
CONNECTION = merged(
    maybe("port", PORTS),
    maybe("gateways", st.sampled_from([["mesh"], ["a"]])),
    maybe("sourceNamespace", st.just("prod")),
)
SHARES = st.lists(DESTINATIONS, min_size=1, max_size=2)
TCP_RULES = merged(
    SHARES.map(lambda route: {"route": route}), maybe("match", CONNECTION.map(lambda one: [one]))
)
CONNECTIONS = st.builds(
    lambda host, tcp, route, match: {
        "hosts": [host],
        **({"tcp": [tcp]} if tcp else {}),
        "tls": [{"route": route, "match": [{**match, "sniHosts": [host]}]}],
    },
    st.sampled_from(["api.example.com", "*.example.com", "example.com"]),
    st.one_of(st.none(), TCP_RULES),
    SHARES,
    CONNECTION,
)
SELECTORS = maybe("selector", st.fixed_dictionaries({"matchLabels": maybe("version", VERSIONS)}))
POLICIES = st.sampled_from(
    [
        {"loadBalancer": {"simple": "RANDOM"}},
        {"loadBalancer": {"simple": "ROUND_ROBIN"}},
        {"tls": {"mode": "DISABLE"}},
        {"tls": {"mode": "ISTIO_MUTUAL"}},
    ]
)
EXPORTS = maybe("exportTo", st.sampled_from([["*"], ["."], ["prod"], ["default", "prod"], [".", "test"]]))
PICKING = maybe("workloadSelector", VERSIONS.map(lambda version: {"matchLabels": {"version": version}}))
ENTRY_HOSTS = st.sampled_from(
    ["a", "b.prod", "a.default.svc.cluster.local", "api.example.com", "example.com", "com.default"]
)
FOUND_BY = st.one_of(
    NAMES.map(
        lambda app: {
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "workloadSelector": {"labels": {"app": app}},
        }
    ),
    NAMES.map(
        lambda app: {
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "workloadSelector": {"labels": {"app": app}},
            "subjectAltNames": ["spiffe://mesh.local/ns/default/sa/sa"],
        }
    ),
    VERSIONS.map(
        lambda version: {
            "resolution": "STATIC",
            "endpoints": [{"address": "10.9.9.9", "labels": {"version": version}}],
        }
    ),
    st.just({"resolution": "DNS", "endpoints": [{"address": "eu.example.com"}]}),
)
EGRESS = st.lists(
    st.sampled_from(["./*", "*/*", "~/*", "prod/*", "*/*.example.com", "~prod/*", "*/api.example.com"]),
    min_size=1,
    max_size=2,
).map(lambda hosts: {"egress": [{"hosts": hosts}]})
OUTBOUND = st.sampled_from(["REGISTRY_ONLY", "ALLOW_ANY"]).map(
    lambda mode: {"outboundTrafficPolicy": {"mode": mode}}
)

SPECS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "Service": st.builds(
        lambda app, ports, protocol: {
            "selector": {"app": app},
            "ports": [{"port": port, "name": f"{protocol}-{port}"} for port in ports],
        },
        NAMES,
        st.sets(PORTS, min_size=1).map(sorted),
        st.sampled_from(["http", "http", "tcp", "tls"]),
    ),
    "VirtualService": st.one_of(
        merged(
            st.one_of(HOSTS, WIDE_HOSTS).map(lambda host: {"hosts": [host]}),
            st.lists(st.one_of(RULES, RULES, DELEGATING), min_size=1, max_size=3).map(
                lambda http: {"http": http}
            ),
            maybe("gateways", st.sampled_from([["mesh"], ["a"], ["prod/a", "mesh"], ["a", "b"]])),
            EXPORTS,
        ),
        merged(
            st.one_of(
                CONNECTIONS,
                st.tuples(HOSTS, TCP_RULES).map(lambda two: {"hosts": [two[0]], "tcp": [two[1]]}),
            ),
            maybe("gateways", st.sampled_from([["mesh"], ["a"], ["a", "mesh"]])),
        ),
        merged(st.lists(RULES, min_size=1, max_size=2).map(lambda http: {"http": http}), EXPORTS),
    ),
    "DestinationRule": merged(
        st.one_of(HOSTS, WIDE_HOSTS).map(lambda host: {"host": host}),
        st.sets(VERSIONS).map(
            lambda names: {"subsets": [{"name": one, "labels": {"version": one}} for one in sorted(names)]}
        ),
        maybe("trafficPolicy", POLICIES),
        st.one_of(EXPORTS, PICKING),
    ),
    "ServiceEntry": merged(
        st.one_of(
            merged(
                st.sets(ENTRY_HOSTS, min_size=1, max_size=2).map(lambda hosts: {"hosts": sorted(hosts)}),
                FOUND_BY,
            ),
            st.sampled_from([["*.example.com"], ["*.example.com", "example.com"], ["api.example.com"]]).map(
                lambda hosts: {"hosts": hosts, "resolution": "NONE"}
            ),
        ),
        maybe("addresses", st.sampled_from([["192.0.2.1"], ["192.0.2.2"]])),
        EXPORTS,
        st.sets(PORTS, min_size=1).map(
            lambda ports: {
                "ports": [{"number": one, "name": f"http-{one}", "protocol": "HTTP"} for one in sorted(ports)]
            }
        ),
    ),
    "Sidecar": merged(
        st.one_of(EGRESS, OUTBOUND, merged(EGRESS, OUTBOUND)),
        maybe("workloadSelector", NAMES.map(lambda app: {"labels": {"app": app}})),
    ),
    "WorkloadEntry": merged(
        maybe("ports", PORTS.map(lambda port: {"http-80": port + 8000})),
        st.sampled_from(["10.0.0.1", "10.0.0.2"]).map(lambda address: {"address": address}),
        NAMES.map(lambda app: {"labels": {"app": app, "version": "v1"}}),
    ),
    "Gateway": st.builds(
        lambda port, version, server: {
            "selector": {"version": version},
            "servers": [
                {**server, "port": {"number": port, "name": "one", **server["port"]}, "hosts": ["*"]}
            ],
        },
        PORTS,
        VERSIONS,
        st.sampled_from(
            [
                {"port": {"protocol": "HTTP"}},
                {"port": {"protocol": "HTTP"}},
                {"port": {"protocol": "TCP"}},
                {"port": {"protocol": "TLS"}, "tls": {"mode": "PASSTHROUGH"}},
            ]
        ),
    ),
    "HealthCheck": merged(
        HOSTS.map(lambda host: {"host": host, "tcp": {}}), maybe("interval", st.sampled_from(["1s", "2s"]))
    ),
    "PeerAuthentication": st.sampled_from([{}, {"mtls": {"mode": "STRICT"}}]),
    "WorkloadBinding": st.just({"serviceAccount": "sa", "nodes": ["*"]}),
    "AuthorizationPolicy": merged(SELECTORS, maybe("rules", st.just([{}]))),
    "RateLimit": merged(SELECTORS, st.just({"requests": 1, "unit": "SECOND"})),
    "Workload": merged(
        st.sampled_from(["n1", "n2"]).map(lambda node: {"node": node}),
        maybe("gatewayPorts", st.just({"80": 1080})),
        st.just({"serviceAccount": "sa", "port": 1, "outboundPort": 2, "tokenSha256": "0" * 64}),
    ),
    **GATEWAY_API,
    "MeshConfig": merged(
        st.sampled_from(["mesh.local", "example.org"]).map(lambda name: {"trustDomain": name}),
        *(
            maybe(f"default{kind}ExportTo", st.sampled_from([["."], ["*"]]))
            for kind in ("Service", "VirtualService", "DestinationRule")
        ),
        st.one_of(st.just({}), OUTBOUND),
    ),
}


@st.composite
def documents(draw: st.DrawFn) -> Document:
    kind = draw(
        st.sampled_from(
            [*sorted(SPECS), "VirtualService", "VirtualService", "DestinationRule", "ServiceEntry"]
        )
    )
    metadata: dict[str, Any] = {"name": draw(NAMES), "namespace": draw(NAMESPACES)}
    if kind == "MeshConfig":
        metadata = {"name": "mesh", "namespace": "mesh-system"}
    if kind == "Namespace":
        metadata["name"] = metadata["namespace"]
    if kind == "Workload":
        metadata["labels"] = {"app": draw(NAMES), "version": draw(VERSIONS)}
    if kind == "Service" and (exports := draw(st.sampled_from(["", ".", "prod", "~"]))):
        metadata["annotations"] = {"networking.istio.io/exportTo": exports}
    plain = {
        "apiVersion": KINDS[kind].api_versions[0],
        "kind": kind.partition(".")[0],
        "metadata": metadata,
        "spec": draw(SPECS[kind]),
    }
    return from_json(json.dumps(plain), draw(st.sampled_from([1.0, 2.0])))


def base() -> list[Document]:
    """Two services, a workload behind each, and one of them an ingress: something to change."""
    found = []
    for name in ("a", "b"):
        selector = {"selector": {"app": name}, "ports": [{"port": 80, "name": "http"}]}
        workload = {
            "serviceAccount": "sa",
            "node": "n1",
            "port": 1,
            "outboundPort": 2,
            "tokenSha256": "0" * 64,
        }
        ports = {"gatewayPorts": {"80": 1080}} if name == "a" else {}
        server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
        specs = {
            "Service": selector,
            "Workload": workload | ports,
            "Gateway": {"selector": {"version": "v1"}, "servers": [server]},
        }
        for kind, spec in specs.items():
            metadata = {"name": name, "namespace": "default", "labels": {"app": name, "version": "v1"}}
            plain = {
                "apiVersion": KINDS[kind].api_versions[0],
                "kind": kind,
                "metadata": metadata,
                "spec": spec,
            }
            found.append(from_json(json.dumps(plain), 1.0))
    return found


STARTS = st.lists(documents(), min_size=4, max_size=14).map(lambda more: [*base(), *more])
CHANGES = st.lists(
    st.tuples(documents(), st.booleans()).map(lambda pair: (pair[0].key, pair[0] if pair[1] else None)),
    min_size=1,
    max_size=4,
).map(dict)


def compiled(world: World, key: str) -> bytes:
    if key.startswith("endpoints."):
        live = [LiveWorkload(one.key, "n1", "10.0.0.1", 1) for one in world.find("kind", "Workload")]
        resource: snapshot.Resource | None = compile_endpoints(world, key, live)
    else:
        resource = compile_key(world, key)
    return b"" if resource is None else snapshot.encode(resource)


def everything(world: World) -> dict[str, bytes]:
    return {key: raw for key in stored_keys(world) if (raw := compiled(world, key))}


def test_every_kind_that_is_honoured_is_edited() -> None:
    assert {name for name, kind in KINDS.items() if not kind.later} <= set(SPECS)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(start=STARTS, edits=st.lists(CHANGES, min_size=1, max_size=4))
def test_what_is_affected_is_enough(start: list[Document], edits: list[dict[str, Document | None]]) -> None:
    world = World({one.key: one for one in start})
    kept = everything(world)
    for changes in edits:
        after = world.replace(changes)
        for key in affected(world, after, changes):
            raw = compiled(after, key)
            if raw:
                kept[key] = raw
            else:
                kept.pop(key, None)
        world = after
        assert kept == everything(world)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(start=STARTS, shuffled=st.randoms())
def test_the_order_of_documents_does_not_matter(start: list[Document], shuffled: Any) -> None:
    by_key = {one.key: one for one in start}
    items = list(by_key.items())
    shuffled.shuffle(items)
    stepwise = World({})
    for key, document in items:
        stepwise = stepwise.replace({key: document})
    expected = everything(World(by_key))
    assert everything(World(dict(items))) == expected
    assert everything(stepwise) == expected


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(start=STARTS, changes=CHANGES)
def test_a_world_is_not_changed_by_what_is_made_from_it(
    start: list[Document], changes: Mapping[str, Document | None]
) -> None:
    world = World({one.key: one for one in start})
    before = everything(world)
    after = world.replace(changes)
    applied = [one for one in changes.values() if one is not None]
    findings = admit(world, applied, [key for key, one in changes.items() if one is None])
    assert findings == admit(world, applied, [key for key, one in changes.items() if one is None])
    assert everything(world) == before
    assert everything(after) == everything(World(after.documents))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(start=STARTS, changes=CHANGES)
def test_every_resource_survives_the_wire(
    start: list[Document], changes: Mapping[str, Document | None]
) -> None:
    world = World({one.key: one for one in start}).replace(changes)
    for key, raw in everything(world).items():
        shared = key.partition(".")[0] in snapshot.SHARED_KINDS
        plain = key if shared else key.partition(".")[2]
        assert snapshot.encode(snapshot.decode(plain, raw)) == raw


CLIENTS = st.builds(
    lambda namespace, labels: Client(namespace, frozenset(labels.items())),
    st.sampled_from(["default", "prod", "mesh-system", "other"]),
    st.fixed_dictionaries({"app": NAMES, "version": VERSIONS}),
)


def rules_as_istio_looks_them_up(world: World, host: str, owner: str, client: Client) -> list[Document]:
    """Without any variants: all rules that a caller may use, by namespace, then by host, then by age."""

    def exports(rule: Document) -> set[str]:
        spec = rule.read(DestinationRuleSpec)
        said = spec.export_to or world.config.default_destination_rule_export_to or ("*",)
        return {rule.namespace if one == "." else one for one in said}

    def rank(rule: Document) -> tuple[bool, int]:
        patterns = rule_hosts(rule)
        return max((specificity(one) for one in patterns if pattern_covers(one, host)), default=(False, 0))

    def picks(rule: Document) -> bool:
        selector = rule.read(DestinationRuleSpec).workload_selector
        return selector is None or selector.match_labels.items() <= dict(client.labels).items()

    rules = [one for one in world.oldest("kind", "DestinationRule") if rank(one) != (False, 0)]
    own = [one for one in rules if one.namespace == client.namespace and picks(one)]
    own = [one for one in own if exports(one) & {"*", client.namespace}]
    if client.namespace == "mesh-system":
        selected = [one for one in own if one.read(DestinationRuleSpec).workload_selector is not None]
        own = [one for one in own if one in selected or exports(one) == {"mesh-system"}]
    groups = [own]
    for namespace in (owner, "mesh-system"):
        there = [one for one in rules if one.namespace == namespace and exports(one) != {namespace}]
        there = [one for one in there if one.read(DestinationRuleSpec).workload_selector is None]
        groups.append([one for one in there if exports(one) & {"*", client.namespace}])
    group = next((one for one in groups if one), [])
    best = max((rank(one) for one in group), default=None)
    group = [one for one in group if rank(one) == best]
    selectors = [one.read(DestinationRuleSpec).workload_selector for one in group]
    first = next((one for one in selectors if one is not None), None)
    picked = [one for one, selector in zip(group, selectors, strict=True) if selector and selector == first]
    return picked + [one for one, selector in zip(group, selectors, strict=True) if selector is None]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(start=STARTS, client=CLIENTS)
def test_a_proxy_finds_the_rules_that_are_for_its_workload(start: list[Document], client: Client) -> None:
    world = World({one.key: one for one in start})
    for callee in world.callees():
        compiled_ = compile_key(world, snapshot.key_for("service", callee.host))
        assert isinstance(compiled_, snapshot.Service)
        expected = rules_as_istio_looks_them_up(world, callee.host, callee.namespace, client)
        policy, subsets = merge_rules(expected)
        found = rules_for(compiled_, client)
        assert [one.name for one in found.subsets] == sorted(one.name for one in subsets)
        simple = policy.load_balancer.simple if policy and policy.load_balancer else "LEAST_REQUEST"
        assert found.balance == simple


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(start=STARTS, client=CLIENTS)
def test_a_proxy_finds_the_routes_that_are_exported_to_its_workload(
    start: list[Document], client: Client
) -> None:
    world = World({one.key: one for one in start})
    for callee in world.callees():
        compiled_ = compile_key(world, snapshot.key_for("service", callee.host))
        assert isinstance(compiled_, snapshot.Service)
        merged_ = virtual_services_for(world, callee.host, client.namespace)
        assert all(sees(world.config, client.namespace, one) for one in merged_)
        owners = [one.namespace for one in seen_by(compiled_, client).owners]
        assert owners[: len(merged_)] == [one.namespace for one in merged_], "HTTPRoutes follow"
