"""What depends on the caller: exportTo, DestinationRules of client namespaces, workloadSelector."""

from __future__ import annotations

import pytest
from compile_world import document, gateway, ingress, routes, service, subsets, to, workload, world

from ray_mesh import snapshot
from ray_mesh.compile import (
    Grounds,
    LiveWorkload,
    World,
    admit,
    affected,
    compile_endpoints,
    compile_key,
)
from ray_mesh.errors import ConfigError, NotSupported
from ray_mesh.proxy.passing import Boundary
from ray_mesh.proxy.view import Client, client_of, rules_for, seen_by, why_unexported, why_unknown
from ray_mesh.resources import Document, load

REVIEWS = "reviews.default.svc.cluster.local"


def client(namespace: str = "default", **labels: str) -> Client:
    return Client(namespace, frozenset(labels.items()))


def compiled(of: World, key: str = "service.default.reviews") -> snapshot.Service:
    found = compile_key(of, key)
    assert isinstance(found, snapshot.Service)
    again = snapshot.decode(key, snapshot.encode(found))
    assert again == found
    return found


def subsets_seen(of: World, who: Client) -> list[str]:
    return [one.name for one in rules_for(compiled(of), who).subsets]


def routes_seen(of: World, who: Client) -> list[str]:
    return [one.name for one in seen_by(compiled(of), who).routes]


def named(name: str, at: str = "reviews", exports: str = "", match: str = "", when: float = 0.0) -> Document:
    """A VirtualService ``namespace/name`` whose one route has its name."""
    matched = f"match: [{match}], " if match else ""
    http = f"[{{name: {name.rpartition('/')[2]}, {matched}route: [{to(REVIEWS)}]}}]"
    extra = f", exportTo: [{exports}]" if exports else ""
    return routes(at, http, name=name, extra=extra, admitted_at=when)


def rule(name: str, host: str = REVIEWS, more: str = "", when: float = 0.0) -> Document:
    """A DestinationRule ``namespace/name`` whose one subset has its name."""
    spec = f"{{host: {host}, subsets: [{{name: {name.rpartition('/')[2]}, labels: {{a: b}}}}]{more}}}"
    return document("DestinationRule", name, spec, admitted_at=when)


def mesh_config(spec: str) -> Document:
    return document("MeshConfig", "mesh-system/mesh", spec)


# exportTo of hosts.


def exported(value: str) -> Document:
    text = (
        "apiVersion: v1\nkind: Service\nmetadata: {name: reviews, namespace: default, annotations: "
        f"{{networking.istio.io/exportTo: '{value}'}}}}\n"
        "spec: {selector: {app: reviews}, ports: [{name: http, port: 9080}]}\n"
    )
    return load(text, "service.yaml")[0]


@pytest.mark.parametrize(
    ("value", "knows"),
    [
        ("*", ["default", "prod", "test"]),
        (".", ["default"]),
        ("prod", ["prod"]),
        ("., prod", ["default", "prod"]),
        ("~", []),
    ],
)
def test_a_service_is_known_where_it_is_exported_to(value: str, knows: list[str]) -> None:
    found = compiled(world(exported(value)))
    told = {name: why_unexported(found, client(name)) for name in ("default", "prod", "test")}
    assert [name for name, reason in told.items() if not reason] == knows
    assert all("exportTo" in reason and name in reason for name, reason in told.items() if reason)


def test_the_default_is_that_of_the_mesh() -> None:
    default = mesh_config("{defaultServiceExportTo: ['.']}")
    assert why_unexported(compiled(world(service("reviews"), default)), client("prod"))
    assert not why_unexported(compiled(world(exported("*"), default)), client("prod"))
    assert not why_unexported(compiled(world(service("reviews"))), client("prod"))


def test_a_service_entry_is_exported_as_it_says() -> None:
    spec = "{hosts: [api.example.com], resolution: DNS, ports: [{number: 80, name: h, protocol: HTTP}]"
    for more, is_known in ((", exportTo: ['.']}", False), (", exportTo: [prod]}", True), ("}", True)):
        of = world(document("ServiceEntry", "api", spec + more))
        found = compiled(of, "service.-.api.example.com")
        assert (not why_unexported(found, client("prod"))) is is_known


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("*,prod", "stands alone"),
        ("~,.", "stands alone"),
        ("Prod", "is no namespace"),
        ("prod,prod", "twice"),
        (" ", "empty"),
    ],
)
def test_what_is_no_list_of_namespaces_is_refused(value: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        exported(value)


def test_the_annotation_is_for_services_only() -> None:
    text = (
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a, annotations: "
        "{networking.istio.io/exportTo: '.'}}\nspec: {host: a}\n"
    )
    with pytest.raises(ConfigError, match="exportTo"):
        load(text, "rule.yaml")


# VirtualServices.


def test_routes_hold_where_they_are_exported_to() -> None:
    of = world(service("reviews"), named("private", exports="'.'"), named("client/own", REVIEWS, "'.'"))
    assert routes_seen(of, client()) == ["private"]
    assert routes_seen(of, client("client")) == ["own"]
    assert routes_seen(of, client("other")) == ["default"]


def test_what_is_for_a_namespace_comes_before_what_is_for_all() -> None:
    public = named("public", when=1.0)
    shared = named("shared", exports="client", match="{uri: {exact: /s}}", when=2.0)
    own = named("client/own", REVIEWS, "'.'", "{uri: {exact: /o}}", when=3.0)
    of = world(service("reviews"), public, shared, own)
    assert routes_seen(of, client("client")) == ["own", "shared", "public"]
    assert routes_seen(of, client()) == ["public"]


def test_an_exact_host_of_another_namespace_hides_no_pattern() -> None:
    wide = named("wide", "'*.default.svc.cluster.local'")
    exact = named("prod/exact", REVIEWS, "prod")
    of = world(service("reviews"), wide, exact)
    assert routes_seen(of, client()) == ["wide"]
    assert routes_seen(of, client("prod")) == ["exact"]


def test_the_default_of_virtual_services_and_rules() -> None:
    default = mesh_config("{defaultVirtualServiceExportTo: ['.'], defaultDestinationRuleExportTo: ['.']}")
    of = world(service("reviews"), named("a"), rule("b"), default)
    assert (routes_seen(of, client()), subsets_seen(of, client())) == (["a"], ["b"])
    assert (routes_seen(of, client("prod")), subsets_seen(of, client("prod"))) == (["default"], [])


def test_a_delegate_has_to_be_exported_to_the_one_that_delegates() -> None:
    root = routes("reviews", "[{name: up, delegate: {name: low, namespace: prod}}]", name="root")
    for exports, expected in (("default", ["up-low"]), ("'.'", [])):
        spec = f"{{http: [{{name: low, route: [{to(REVIEWS)}]}}], exportTo: [{exports}]}}"
        of = world(service("reviews"), root, document("VirtualService", "prod/low", spec))
        assert routes_seen(of, client()) == expected


def test_gateways_serve_what_is_exported_to_their_ingress() -> None:
    for exports, expected in (("mesh-system", 1), ("'.'", 0), ("'*'", 1)):
        extra = f", gateways: [bookinfo-gateway], exportTo: [{exports}]"
        outside = routes("shop.example.com", f"[{{route: [{to(REVIEWS)}]}}]", name="shop", extra=extra)
        of = world(service("reviews"), ingress(), gateway(), outside)
        found = compile_key(of, "n1.gateway.mesh-system.ingress")
        assert isinstance(found, snapshot.Gateway)
        assert len(found.servers[0].virtual_hosts) == expected


# DestinationRules.


def test_rules_are_looked_up_with_the_client_the_service_and_the_root() -> None:
    root = rule("mesh-system/root", "'*.local'")
    owner = rule("default/owner")
    own = rule("client/own")
    assert subsets_seen(world(service("reviews"), root), client("other")) == ["root"]
    assert subsets_seen(world(service("reviews"), root, owner), client("other")) == ["owner"]
    everything = world(service("reviews"), root, owner, own)
    assert subsets_seen(everything, client("client")) == ["own"]
    assert subsets_seen(everything, client("other")) == ["owner"]
    assert subsets_seen(everything, client("mesh-system")) == ["owner"], "what root exports comes last"


def test_a_wide_rule_of_the_client_comes_before_an_exact_one_of_the_service() -> None:
    of = world(service("reviews"), rule("default/owner"), rule("client/wide", "'*.cluster.local'"))
    assert subsets_seen(of, client("client")) == ["wide"]


def test_rules_hold_where_they_are_exported_to() -> None:
    of = world(
        service("reviews"),
        rule("default/shared", more=", exportTo: [client]"),
        rule("mesh-system/hidden", more=", exportTo: ['.']"),
    )
    assert subsets_seen(of, client("client")) == ["shared"]
    assert subsets_seen(of, client("default")) == []
    assert subsets_seen(of, client("mesh-system")) == ["hidden"]


def test_a_selector_picks_callers_of_its_own_namespace() -> None:
    picking = ", workloadSelector: {matchLabels: {app: web}}"
    of = world(
        service("reviews"), rule("default/general", when=1.0), rule("default/web", more=picking, when=2.0)
    )
    assert subsets_seen(of, client(app="web", version="v1")) == ["general", "web"]
    assert subsets_seen(of, client(app="api")) == ["general"]
    assert subsets_seen(of, client("other", app="web")) == ["general"]


def test_what_a_selector_says_stands_for_what_holds_in_general() -> None:
    def policy(name: str, simple: str, more: str = "") -> Document:
        spec = f"{{host: {REVIEWS}, trafficPolicy: {{loadBalancer: {{simple: {simple}}}}}{more}}}"
        return document("DestinationRule", name, spec)

    picking = ", workloadSelector: {matchLabels: {app: web}}"
    of = compiled(world(service("reviews"), policy("a", "RANDOM"), policy("b", "ROUND_ROBIN", picking)))
    assert rules_for(of, client(app="web")).balance == "ROUND_ROBIN"
    assert rules_for(of, client()).balance == "RANDOM"


def test_of_two_selectors_the_more_specific_host_then_the_older_counts() -> None:
    def picking(label: str) -> str:
        return f", workloadSelector: {{matchLabels: {{{label}: x}}}}"

    wide = rule("default/wide", "'*.cluster.local'", picking("a"), when=1.0)
    exact = rule("default/exact", REVIEWS, picking("b"), when=2.0)
    late = rule("default/late", REVIEWS, picking("c"), when=3.0)
    of = world(service("reviews"), wide, exact, late)
    assert subsets_seen(of, client(a="x", b="x", c="x")) == ["exact"]
    assert subsets_seen(of, client(a="x", c="x")) == ["late"]
    assert subsets_seen(of, client(a="x")) == ["wide"]
    assert subsets_seen(of, client(d="x")) == []


def test_disable_of_a_client_namespace_holds_for_its_callers_only() -> None:
    entry = "{hosts: [db], location: MESH_INTERNAL, resolution: STATIC, endpoints: [{address: 10.9.9.9}],"
    entry += " ports: [{number: 80, name: h, protocol: HTTP}]}"
    disable = "{host: db.default.svc.cluster.local, trafficPolicy: {tls: {mode: DISABLE}}}"
    of = world(document("ServiceEntry", "db", entry), document("DestinationRule", "client/db", disable))
    found = compiled(of, "service.default.db")
    assert rules_for(found, client("client")).plaintext
    assert not rules_for(found, client("default")).plaintext
    assert not found.plaintext


def test_without_anything_of_clients_the_bytes_are_as_before() -> None:
    found = compiled(world(service("reviews"), subsets("reviews", "v1"), named("a")))
    raw = snapshot.encode(found)
    for word in (b"client_rules", b"routings", b"exported_to", b"owner\x00"):
        assert word not in raw


def test_a_rule_in_the_namespace_of_callers_is_admitted() -> None:
    assert (
        admit(world(service("reviews")), [document("DestinationRule", "client/x", f"{{host: {REVIEWS}}}")])
        == []
    )


# Sidecars.


def sidecar(name: str, hosts: str = "", more: str = "", when: float = 0.0) -> Document:
    """A Sidecar with one egress listener, unless there are no hosts."""
    egress = f"egress: [{{hosts: [{hosts}]}}]" if hosts else ""
    spec = ", ".join(part for part in (egress, more) if part)
    return document("Sidecar", name, f"{{{spec}}}", admitted_at=when)


def caller(of: World, name: str = "default/productpage-v1") -> Client:
    """A workload as its proxy knows it."""
    found = compile_key(of, f"n1.workload.{name.replace('/', '.')}")
    assert isinstance(found, snapshot.Workload)
    raw = snapshot.encode(found)
    again = snapshot.decode(f"workload.{name.replace('/', '.')}", raw)
    assert isinstance(again, snapshot.Workload)
    return client_of(again)


def knows(of: World, *hosts: str, name: str = "default/productpage-v1") -> list[str]:
    who = caller(of, name)
    found = [(host, compiled(of, snapshot.key_for("service", host))) for host in hosts]
    return [host for host, one in found if not why_unknown(one, who, host)]


RATINGS = "ratings.default.svc.cluster.local"
PAY = "pay.prod.svc.cluster.local"
API = "service.-.api.example.com"


def populated(*more: Document) -> World:
    api = "{hosts: [api.example.com], resolution: DNS, ports: [{number: 80, name: h, protocol: HTTP}]}"
    there = (service("reviews"), service("ratings"), service("prod/pay"), document("ServiceEntry", "a", api))
    return world(*there, workload("productpage", "v1"), *more)


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("'./*'", [REVIEWS, RATINGS, "api.example.com"]),
        ("'*/*'", [REVIEWS, RATINGS, PAY, "api.example.com"]),
        ("'~/*'", []),
        ("'prod/*'", [PAY]),
        (f"'./{REVIEWS}'", [REVIEWS]),
        ("'*/*.example.com'", ["api.example.com"]),
        ("'*/api.example.com'", ["api.example.com"]),
        ("'prod/api.example.com'", []),
        (f"'*/*', '~default/{REVIEWS}'", [RATINGS, PAY, "api.example.com"]),
        ("'*/*', '~prod/*'", [REVIEWS, RATINGS, "api.example.com"]),
    ],
)
def test_a_sidecar_names_the_hosts_that_are_known(hosts: str, expected: list[str]) -> None:
    of = populated(sidecar("default", hosts))
    assert knows(of, REVIEWS, RATINGS, PAY, "api.example.com") == expected
    reason = why_unknown(compiled(of, "service.prod.pay"), caller(of), PAY)
    assert bool(reason) is (PAY not in expected)
    assert not reason or "Sidecar default/default" in reason


def test_which_sidecar_holds() -> None:
    picking = "workloadSelector: {labels: {app: productpage}}"
    root, own = sidecar("mesh-system/all", "'prod/*'"), sidecar("default", "'./*'")
    first = sidecar("first", f"'./{REVIEWS}'", picking, when=1.0)
    second = sidecar("second", f"'./{RATINGS}'", picking, when=2.0)
    asked = (REVIEWS, RATINGS, PAY)
    assert knows(populated(), *asked) == list(asked)
    assert knows(populated(root), *asked) == [PAY]
    assert knows(populated(root, own), *asked) == [REVIEWS, RATINGS]
    assert knows(populated(root, own, second, first), *asked) == [REVIEWS]
    others = sidecar("others", "'~/*'", "workloadSelector: {labels: {app: reviews}}")
    assert knows(populated(others), *asked) == list(asked)
    foreign = sidecar("mesh-system/picks", "'~/*'", picking)
    assert knows(populated(foreign), *asked) == list(asked), "a selector is for its own namespace"


def test_a_sidecar_without_egress_narrows_nothing() -> None:
    of = populated(sidecar("default", more="outboundTrafficPolicy: {mode: ALLOW_ANY}"))
    assert knows(of, REVIEWS, PAY) == [REVIEWS, PAY]
    assert caller(of).policy("REGISTRY_ONLY") == "ALLOW_ANY"
    assert caller(populated(sidecar("default", "'./*'"))).policy("ALLOW_ANY") == "ALLOW_ANY"
    closed = sidecar("default", "'./*'", "outboundTrafficPolicy: {mode: REGISTRY_ONLY}")
    assert caller(populated(closed)).policy("ALLOW_ANY") == "REGISTRY_ONLY"


def test_routes_of_documents_that_a_sidecar_leaves_out_do_not_hold() -> None:
    theirs = named("prod/theirs", REVIEWS, match="{uri: {exact: /t}}")
    ours, wide = named("ours", when=1.0), named("wide", "'*.default.svc.cluster.local'")

    def seen(hosts: str, *documents: Document) -> list[str]:
        of = populated(*documents, sidecar("default", hosts))
        return [one.name for one in seen_by(compiled(of), caller(of)).routes]

    assert seen("'*/*'", theirs, ours, wide) == ["theirs", "ours"]
    assert seen("'./*'", theirs, ours, wide) == ["ours"]
    assert seen("'./*'", theirs, wide) == ["wide"], "a wider host takes the place of what is left out"
    assert seen("'./*'", theirs) == ["default"]
    assert seen(f"'./{REVIEWS}'", theirs, wide) == ["wide"], "its pattern is for a host that is known"
    assert seen("'prod/*'", theirs, ours) == ["theirs"]


def test_what_a_sidecar_says_that_is_not_honoured_is_refused_by_name() -> None:
    hosts = "hosts: ['./*']"
    for spec, told in (
        (f"{{egress: [{{port: {{number: 80, protocol: HTTP, name: h}}, {hosts}}}]}}", "egress[0].port"),
        (f"{{egress: [{{captureMode: IPTABLES, {hosts}}}]}}", "captureMode IPTABLES"),
        ("{ingress: [{port: {number: 80, protocol: HTTP, name: h}}]}", "spec.ingress"),
        ("{inboundConnectionPool: {tcp: {maxConnections: 1}}}", "inboundConnectionPool"),
    ):
        with pytest.raises(NotSupported, match="not supported yet") as caught:
            document("Sidecar", "a", spec)
        assert told in str(caught.value)


# The mesh, and hosts that are patterns.


def test_the_mesh_names_its_patterns_and_its_outbound_policy() -> None:
    wide = (
        "{hosts: ['*.example.com', a.org], resolution: NONE, ports: [{number: 80, name: h, protocol: HTTP}]}"
    )
    of = world(document("ServiceEntry", "w", wide), mesh_config("{outboundTrafficPolicy: {mode: ALLOW_ANY}}"))
    found = compile_key(of, snapshot.MESH_KEY)
    assert isinstance(found, snapshot.Mesh)
    assert (found.outbound_policy, found.wildcards) == ("ALLOW_ANY", ("*.example.com",))
    assert affected(world(), of, ["serviceentry.default.w"]) >= {snapshot.MESH_KEY, "service._.example.com"}
    assert compiled(of, "service._.example.com").is_dynamic
    exact = compiled(of, "service.-.a.org")
    assert not exact.is_dynamic
    endpoints = compile_endpoints(of, "endpoints.-.a.org", ())
    assert endpoints is not None
    assert [(one.address, one.port) for one in endpoints.endpoints] == [("a.org", 80)]


def test_a_key_of_a_pattern_has_no_star() -> None:
    key = snapshot.key_for("service", "*.example.com")
    assert key == "service._.example.com"
    assert snapshot.host_for(key) == "*.example.com"


def test_a_pattern_with_endpoints_has_these() -> None:
    wide = "{hosts: ['*.example.com'], resolution: STATIC, endpoints: [{address: 10.9.9.9}],"
    of = world(document("ServiceEntry", "w", wide + " ports: [{number: 80, name: h, protocol: HTTP}]}"))
    assert not compiled(of, "service._.example.com").is_dynamic
    endpoints = compile_endpoints(of, "endpoints._.example.com", ())
    assert endpoints is not None
    assert [one.address for one in endpoints.endpoints] == ["10.9.9.9"]


# Several ServiceEntries for one host, and identities.


def api_entry(name: str, address: str, when: float, number: int = 80, more: str = "") -> Document:
    ports = f"ports: [{{number: {number}, name: {name.rpartition('/')[2]}, protocol: HTTP}}]"
    there = f"hosts: [api.example.com], resolution: STATIC, endpoints: [{{address: {address}}}]"
    return document("ServiceEntry", name, f"{{{there}, {ports}{more}}}", admitted_at=when)


def test_entries_of_one_namespace_share_a_host() -> None:
    older, newer = api_entry("a", "192.0.2.1", 1.0), api_entry("b", "192.0.2.2", 2.0, 81)
    third = api_entry("c", "192.0.2.3", 3.0)
    of = world(older, newer, third)
    assert admit(world(older), [newer, third]) == []
    found = compiled(of, API)
    assert [(one.number, one.name) for one in found.ports] == [(80, "a"), (81, "b")]
    endpoints = compile_endpoints(of, "endpoints.-.api.example.com", ())
    assert endpoints is not None
    at = [(one.address, one.service_port) for one in endpoints.endpoints]
    assert at == [("192.0.2.1", 80), ("192.0.2.2", 81), ("192.0.2.3", 80)]
    assert [one.host for one in of.callees()] == ["api.example.com"]


@pytest.mark.parametrize(
    "other",
    [
        api_entry("prod/b", "192.0.2.2", 2.0),
        api_entry("b", "192.0.2.2", 2.0, more=", exportTo: ['.']"),
        api_entry("b", "192.0.2.2", 2.0, more=", location: MESH_INTERNAL"),
    ],
)
def test_other_entries_do_not(other: Document) -> None:
    older = api_entry("a", "192.0.2.1", 1.0)
    assert "RM0111" in [one.code for one in admit(world(older), [other])]
    endpoints = compile_endpoints(world(older, other), "endpoints.-.api.example.com", ())
    assert endpoints is not None
    assert [one.address for one in endpoints.endpoints] == ["192.0.2.1"], "the older one has it"


def test_what_an_entry_adds_is_looked_at_too() -> None:
    grounds = Grounds((("n1", "192.0.2.2"),), frozenset({80}))
    findings = admit(
        world(api_entry("a", "192.0.2.1", 1.0)), [api_entry("b", "192.0.2.2", 2.0)], grounds=grounds
    )
    assert [(one.code, one.path) for one in findings] == [("RM0112", "spec.endpoints[0].address")]


def test_endpoints_have_to_have_an_identity_that_the_entry_names() -> None:
    def served(names: str) -> list[str]:
        spec = (
            "{hosts: [db], location: MESH_INTERNAL, resolution: STATIC, workloadSelector: {labels: {app: "
            f"reviews}}}}, ports: [{{number: 80, name: h, protocol: HTTP}}]{names}}}"
        )
        there = document("WorkloadEntry", "w", "{address: 192.0.2.1, labels: {app: reviews}}")
        of = world(document("ServiceEntry", "db", spec), workload("reviews", "v1"), there)
        live = [LiveWorkload("workload.default.reviews-v1", "n1", "192.0.2.9", 1)]
        found = compile_endpoints(of, "endpoints.default.db", live)
        assert found is not None
        return [one.address for one in found.endpoints]

    account = "spiffe://mesh.local/ns/default/sa/bookinfo-reviews"
    assert served("") == ["192.0.2.9", "192.0.2.1"]
    assert served(f", subjectAltNames: ['{account}']") == ["192.0.2.9"], "what proves nothing is left out"
    assert served(", subjectAltNames: [other]") == []
    with pytest.raises(NotSupported, match="what has no proxy proves no name"):
        api_entry("a", "192.0.2.1", 1.0, more=", subjectAltNames: [api.example.com]")


def test_the_mesh_names_addresses_the_oldest_entry_first() -> None:
    def entry_at(name: str, host: str, listed: str, when: float) -> Document:
        ports = "ports: [{number: 27017, name: m, protocol: MONGO}]"
        spec = f"{{hosts: [{host}], addresses: [{listed}], resolution: NONE, {ports}}}"
        return document("ServiceEntry", name, spec, admitted_at=when)

    newer, older = (
        entry_at("a", "a.org", "10.0.0.0/8", 2.0),
        entry_at("b", "b.org", "10.1.0.0/16, '::5'", 1.0),
    )
    found = compile_key(world(newer, older), snapshot.MESH_KEY)
    assert isinstance(found, snapshot.Mesh)
    assert found.addresses == (("10.1.0.0/16", "b.org"), ("::5", "b.org"), ("10.0.0.0/8", "a.org"))
    assert compiled(world(older), "service.-.b.org").is_dynamic
    boundary = Boundary()
    boundary.take(found)
    assert boundary.beyond("10.1.2.3") == ("b.org", "a.org")
    assert boundary.beyond("[::5]") == ("b.org",)
    assert boundary.beyond("10.2.0.1") == ("a.org",)
    assert boundary.beyond("11.0.0.1") == ()


@pytest.mark.parametrize("resolution", ["NONE", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"])
def test_a_host_without_endpoints_is_its_own(resolution: str) -> None:
    ports = "ports: [{number: 80, name: h, protocol: HTTP, targetPort: 8080}]"
    spec = f"{{hosts: [api.example.com], resolution: {resolution}, {ports}}}"
    found = compile_endpoints(world(document("ServiceEntry", "a", spec)), "endpoints.-.api.example.com", ())
    assert found is not None
    assert [(one.address, one.port, one.service_port) for one in found.endpoints] == [
        ("api.example.com", 8080, 80)
    ]
