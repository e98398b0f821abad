"""What depends on the caller: exportTo, DestinationRules of client namespaces, workloadSelector."""

from __future__ import annotations

import pytest
from compile_world import document, routes, service, subsets, to, world

from ray_mesh import snapshot
from ray_mesh.compile import World, admit, compile_key
from ray_mesh.errors import ConfigError
from ray_mesh.proxy.view import Client, rules_for, seen_by, why_unknown
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
    told = {name: why_unknown(found, client(name)) for name in ("default", "prod", "test")}
    assert [name for name, reason in told.items() if not reason] == knows
    assert all("exportTo" in reason and name in reason for name, reason in told.items() if reason)


def test_the_default_is_that_of_the_mesh() -> None:
    default = mesh_config("{defaultServiceExportTo: ['.']}")
    assert why_unknown(compiled(world(service("reviews"), default)), client("prod"))
    assert not why_unknown(compiled(world(exported("*"), default)), client("prod"))
    assert not why_unknown(compiled(world(service("reviews"))), client("prod"))


def test_a_service_entry_is_exported_as_it_says() -> None:
    spec = "{hosts: [api.example.com], resolution: DNS, ports: [{number: 80, name: h, protocol: HTTP}]"
    for more, is_known in ((", exportTo: ['.']}", False), (", exportTo: [prod]}", True), ("}", True)):
        of = world(document("ServiceEntry", "api", spec + more))
        found = compiled(of, "service.-.api.example.com")
        assert (not why_unknown(found, client("prod"))) is is_known


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
    from compile_world import gateway, ingress

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
