"""Workloads, nodes, endpoints and the mesh."""

from __future__ import annotations

import pytest
from compile_world import binding, bookinfo, document, ingress, service, workload, world

from ray_mesh.compile import LiveWorkload, admit, compile_endpoints, compile_key, stored_keys
from ray_mesh.compile.world import World
from ray_mesh.errors import ConfigError, PeerError
from ray_mesh.snapshot import (
    Endpoints,
    Mesh,
    Node,
    Operation,
    Policy,
    Probe,
    RateLimit,
    Rule,
    Service,
    Source,
    ValueMatch,
    Workload,
    decode,
    encode,
)


def compiled(of: World, key: str = "n1.workload.default.reviews-v1") -> Workload:
    resource = compile_key(of, key)
    assert isinstance(resource, Workload)
    return resource


def policies(*documents_: str) -> tuple[Policy, ...]:
    found = [
        document("AuthorizationPolicy", f"p{number}", spec) for number, spec in enumerate(documents_, start=1)
    ]
    return compiled(world(workload("reviews", "v1"), *found)).policies


def test_a_workload() -> None:
    assert compiled(world(service("reviews"), service("ratings"), workload("reviews", "v1"))) == Workload(
        namespace="default",
        name="reviews-v1",
        node="n1",
        service_account="bookinfo-reviews",
        identity="spiffe://mesh.local/ns/default/sa/bookinfo-reviews",
        sni="reviews-v1.default.workload.mesh",
        labels=(("app", "reviews"), ("version", "v1")),
        app_address="127.0.0.1",
        app_port=9000,
        outbound_port=9001,
        token_sha256=bytes.fromhex("ab" * 32),
        services=("reviews.default.svc.cluster.local",),
    )


def test_a_workload_is_compiled_for_its_node_only() -> None:
    one = world(workload("reviews", "v1", node="n2"))
    assert compile_key(one, "n1.workload.default.reviews-v1") is None
    assert compile_key(one, "n1.node.mesh.n1") is None
    assert compile_key(one, "n2.node.mesh.n2") == Node("n2", ("workload.default.reviews-v1",))
    assert compile_key(one, "n2.node.mesh.n1") is None


def test_keys() -> None:
    one = world(service("reviews"), workload("reviews", "v1"), ingress())
    assert stored_keys(one) == {
        "mesh.mesh.mesh",
        "service.default.reviews",
        "endpoints.default.reviews",
        "n1.workload.default.reviews-v1",
        "n1.workload.mesh-system.ingress",
        "n1.gateway.mesh-system.ingress",
        "n1.node.mesh.n1",
    }
    node = compile_key(one, "n1.node.mesh.n1")
    assert isinstance(node, Node)
    assert node.gateways == ("gateway.mesh-system.ingress",)


@pytest.mark.parametrize(
    "key", ["endpoints.default.a", "n1.service.default.a", "n1.what.a.b", "workload.a.b"]
)
def test_other_keys_are_not_compiled(key: str) -> None:
    with pytest.raises(PeerError):
        compile_key(world(), key)


def test_the_mesh_and_its_trust_domain() -> None:
    assert compile_key(world(), "mesh.mesh.mesh") == Mesh("mesh.local", "mesh-system")
    config = document("MeshConfig", "mesh-system/mesh", "{trustDomain: example.org}")
    one = world(config, workload("reviews", "v1"))
    assert compile_key(one, "mesh.mesh.mesh") == Mesh("example.org", "mesh-system")
    assert compiled(one).identity == "spiffe://example.org/ns/default/sa/bookinfo-reviews"


@pytest.mark.parametrize(
    ("spec", "explains"),
    [("{}", False), ("{explain: {}}", False), ("{explain: {gateways: true}}", True)],
)
def test_the_outside_is_told_nothing_unless_the_mesh_says_so(spec: str, explains: bool) -> None:
    config = document("MeshConfig", "mesh-system/mesh", spec)
    compiled_mesh = compile_key(world(config), "mesh.mesh.mesh")
    assert isinstance(compiled_mesh, Mesh)
    assert compiled_mesh.explains_to_outside is explains


def test_allow_nothing_and_allow_everything() -> None:
    assert policies("{}") == (Policy("default/p1", "ALLOW", ()),)
    assert policies("{rules: [{}]}") == (Policy("default/p1", "ALLOW", (Rule(),)),)


def exact(value: str) -> ValueMatch:
    return ValueMatch("exact", value)


def prefix(value: str) -> ValueMatch:
    return ValueMatch("prefix", value)


def suffix(value: str) -> ValueMatch:
    return ValueMatch("suffix", value)


def test_every_field_of_a_policy() -> None:
    spec = """{action: DENY, rules: [{from: [
      {source: {principals: ["cluster.local/ns/a/sa/b", "cluster.local/ns/c/*", "*/sa/d", "*", "other/x"],
                notPrincipals: ["cluster.local/ns/a/sa/z"], namespaces: ["a*"], notNamespaces: ["*b"]}},
      {source: {serviceAccounts: ["x", "ns2/y"], notServiceAccounts: ["z"]}}],
     to: [{operation: {hosts: ["Reviews.*"], notHosts: ["*.EVIL"], ports: ["80"], notPorts: ["81"],
                       methods: ["GET"], notMethods: ["P*"], paths: ["/a*"], notPaths: ["*.php"]}}]}]}"""
    first = Source(
        principals=(
            exact("mesh.local/ns/a/sa/b"),
            prefix("mesh.local/ns/c/"),
            suffix("/sa/d"),
            ValueMatch("present"),
            exact("other/x"),
        ),
        not_principals=(exact("mesh.local/ns/a/sa/z"),),
        namespaces=(prefix("a"),),
        not_namespaces=(suffix("b"),),
    )
    second = Source(
        principals=(suffix("/ns/default/sa/x"), suffix("/ns/ns2/sa/y")),
        not_principals=(suffix("/ns/default/sa/z"),),
    )
    operation = Operation(
        hosts=(prefix("reviews."),),
        not_hosts=(suffix(".evil"),),
        ports=(80,),
        not_ports=(81,),
        methods=(exact("GET"),),
        not_methods=(prefix("P"),),
        paths=(prefix("/a"),),
        not_paths=(suffix(".php"),),
    )
    assert policies(spec) == (Policy("default/p1", "DENY", (Rule((first, second), (operation,)),)),)


def test_policies_hold_for_their_namespace_and_selector_and_the_roots_for_all() -> None:
    mine = '{selector: {matchLabels: {version: "v1"}}, rules: [{}]}'
    documents = [
        document("AuthorizationPolicy", "b", mine),
        document("AuthorizationPolicy", "a", "{selector: {matchLabels: {version: v2}}}"),
        document("AuthorizationPolicy", "c", "{selector: {}}"),
        document("AuthorizationPolicy", "other/d", "{}"),
        document("AuthorizationPolicy", "mesh-system/z", "{}"),
        document("AuthorizationPolicy", "mesh-system/y", "{selector: {matchLabels: {app: nobody}}}"),
    ]
    resource = compiled(world(workload("reviews", "v1"), *documents))
    assert [policy.name for policy in resource.policies] == ["mesh-system/z", "default/b", "default/c"]


def test_rate_limits() -> None:
    documents = [
        document("RateLimit", "mesh-system/all", "{requests: 5, unit: MINUTE, failMode: OPEN}"),
        document("RateLimit", "one", "{requests: 7, unit: SECOND, selector: {matchLabels: {app: reviews}}}"),
        document("RateLimit", "two", "{requests: 7, unit: SECOND, selector: {matchLabels: {app: ratings}}}"),
    ]
    assert compiled(world(workload("reviews", "v1"), *documents)).rate_limits == (
        RateLimit("mesh-system/all", 5, 60, "OPEN"),
        RateLimit("default/one", 7, 1, "CLOSED"),
    )


def test_endpoints_are_live_registered_workloads_behind_the_service() -> None:
    one = world(*bookinfo(), workload("reviews", "v9", namespace="other"))
    live = [
        LiveWorkload("workload.default.reviews-v2", "n1", "10.0.0.1", 15008),
        LiveWorkload("workload.default.reviews-v1", "n1", "10.0.0.2", 15008),
        LiveWorkload("workload.default.reviews-v1", "n1", "10.0.0.1", 15008),
        LiveWorkload("workload.default.reviews-v3", "n2", "10.0.0.9", 15008),
        LiveWorkload("workload.default.ratings-v1", "n1", "10.0.0.1", 15008),
        LiveWorkload("workload.other.reviews-v9", "n1", "10.0.0.1", 15008),
        LiveWorkload("workload.default.nobody", "n1", "10.0.0.1", 15008),
        LiveWorkload("service.default.reviews", "n1", "10.0.0.1", 15008),
    ]
    found = compile_endpoints(one, "endpoints.default.reviews", live)
    assert found == compile_endpoints(one, "endpoints.default.reviews", reversed(live))
    assert isinstance(found, Endpoints)
    assert [(each.workload, each.address, each.sni) for each in found.endpoints] == [
        ("workload.default.reviews-v1", "10.0.0.1", "reviews-v1.default.workload.mesh"),
        ("workload.default.reviews-v2", "10.0.0.1", "reviews-v2.default.workload.mesh"),
    ]
    assert found.endpoints[0].identity == "spiffe://mesh.local/ns/default/sa/bookinfo-reviews"
    assert compile_endpoints(one, "endpoints.default.nothing", live) is None
    assert one.endpoints_of("workload.default.reviews-v1") == ["endpoints.default.reviews"]
    assert one.endpoints_of("workload.default.nobody") == []


@pytest.mark.parametrize(
    ("port", "protocol", "tcp_only"),
    [
        ("{name: http-x, port: 1}", "http", False),
        ("{name: mysql, port: 1}", "tcp", True),
        ("{name: tcp-x, port: 1}", "tcp", True),
        ("{name: https, port: 1}", "tls", True),
        ("{name: http, appProtocol: tls, port: 1}", "tls", True),
        ("{name: web, port: 1}", "auto", False),
        ("{port: 1}", "auto", False),
    ],
)
def test_what_a_port_speaks(port: str, protocol: str, tcp_only: bool) -> None:
    named = document("Service", "reviews", f"{{selector: {{app: reviews}}, ports: [{port}]}}")
    here = world(named, workload("reviews", "v1"))
    one = compiled(here)
    host = "reviews.default.svc.cluster.local"
    assert one.tcp_ports == (() if protocol == "http" else ((host, 1),))
    assert one.is_tcp_only is tcp_only
    called = compile_key(here, "service.default.reviews")
    assert isinstance(called, Service)
    assert [each.protocol for each in called.ports] == [protocol]


@pytest.mark.parametrize(
    ("ports", "protocol"),
    [
        ("{port: 80, name: http}", "http1"),
        ("{port: 80, name: grpc}", "http2"),
        ("{port: 80, name: x, appProtocol: kubernetes.io/h2c}", "http2"),
        ("{port: 80, name: x}", "client"),
        ("{port: 80, name: grpc}, {port: 81, name: http2-x}, {port: 82, name: tcp}", "http2"),
        ("{port: 80, name: grpc}, {port: 81, name: http}", "client"),
        ("{port: 80, name: tcp}", "http1"),
    ],
)
def test_what_an_application_speaks(ports: str, protocol: str) -> None:
    reviews = document("Service", "reviews", f"{{selector: {{app: reviews}}, ports: [{ports}]}}")
    assert compiled(world(reviews, workload("reviews", "v1"))).app_protocol == protocol


@pytest.mark.parametrize(("said", "protocol"), [("grpc", "http2"), ("http2", "http2"), ("http", "http1")])
def test_a_workload_may_say_itself_what_it_speaks(said: str, protocol: str) -> None:
    one = document("Service", "one", "{selector: {app: reviews}, ports: [{port: 80, name: http}]}")
    two = document("Service", "two", "{selector: {version: v1}, ports: [{port: 80, name: grpc}]}")
    app = workload("reviews", "v1", protocol=said)
    assert compiled(world(one, two, app)).app_protocol == protocol
    assert admit(world(one, app, binding("bookinfo-reviews")), [two]) == []


def test_what_was_the_only_protocol_before_takes_no_field() -> None:
    plain = compiled(world(service("reviews"), workload("reviews", "v1")))
    assert b"app_protocol" not in encode(plain)
    assert decode("workload.default.reviews-v1", encode(plain)) == plain


def test_services_of_one_application_that_do_not_agree_are_told() -> None:
    one = document("Service", "one", "{selector: {app: reviews}, ports: [{port: 80, name: http}]}")
    two = document("Service", "two", "{selector: {version: v1}, ports: [{port: 80, name: grpc}]}")
    assert admit(world(one), [two]) == []
    [found] = admit(world(one, workload("reviews", "v1"), binding("bookinfo-reviews")), [two])
    assert (found.code, found.key) == ("RM0120", "service.default.two")
    assert found.message.startswith("its ports and those of Service default/one say both")


def test_a_probe_of_the_health_service_is_made_at_the_port_of_the_workload_unless_it_says_one() -> None:
    def probe(said: str) -> Probe | None:
        app = workload("reviews", "v1", probe=f"{{grpc: {said}, timeoutSeconds: 2}}")
        return compiled(world(app)).probe

    assert probe("{}") == Probe("grpc", "127.0.0.1", 9000, timeout_s=2)
    assert probe("{port: 81, service: a.B}") == Probe("grpc", "127.0.0.1", 81, timeout_s=2, service="a.B")


def test_a_probe_of_the_health_service_needs_a_port() -> None:
    spec = (
        f"{{serviceAccount: a, node: n1, outboundPort: 1, tokenSha256: '{'ab' * 32}', probe: {{grpc: {{}}}}}}"
    )
    with pytest.raises(ConfigError, match=r"probe\.grpc\.port: required"):
        document("Workload", "a", spec)
