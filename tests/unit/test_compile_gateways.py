"""Gateways: which hosts and routes an ingress workload serves."""

from __future__ import annotations

import pytest
from compile_world import document, gateway, ingress, routes, service, to, workload, world

from ray_mesh.compile import admit, compile_key
from ray_mesh.errors import MeshError
from ray_mesh.resources import Document
from ray_mesh.snapshot import ConnectionMatch, Gateway, GatewayServer, Mesh, ServerTls

HTTP = f"[{{route: [{to('reviews')}]}}]"
SERVER = "{port: {number: 8082, name: x, protocol: HTTP}, hosts: ['*']}"
KEY = "n1.gateway.mesh-system.ingress"


def servers(*documents: Document, entry: Document | None = None) -> tuple[GatewayServer, ...]:
    one = world(service("reviews"), entry or ingress(), *documents)
    resource = compile_key(one, KEY)
    assert isinstance(resource, Gateway)
    return resource.servers


def hosts(*documents: Document) -> list[tuple[tuple[str, ...], list[str]]]:
    [server] = servers(*documents)
    return [(one.hosts, [route.name for route in one.routes]) for one in server.virtual_hosts]


def behind(host: str, name: str, http: str = HTTP, gateways: str = "[bookinfo-gateway]") -> Document:
    return routes(host, http, name=name, extra=f", gateways: {gateways}")


def test_an_ingress_without_gateways_serves_nothing_and_others_have_no_key() -> None:
    assert servers() == ()
    assert compile_key(world(workload("reviews", "v1")), "n1.gateway.default.reviews-v1") is None


def test_a_gateway_without_routes_still_listens() -> None:
    assert servers(gateway()) == (GatewayServer(8080, ()),)


@pytest.mark.parametrize("protocol", ["http2", "GRPC"])
def test_clients_choose_the_version_of_http_at_a_server_of_any_of_them(protocol: str) -> None:
    server = f"{{port: {{number: 8080, name: x, protocol: {protocol}}}, hosts: ['*']}}"
    spec = f"{{selector: {{istio: ingressgateway}}, servers: [{server}]}}"
    entry = document("Gateway", "bookinfo-gateway", spec)
    assert servers(entry, behind("'*'", "all")) == servers(gateway(), behind("'*'", "all"))


def test_a_port_that_is_not_exposed_is_left_out() -> None:
    assert servers(gateway(port=80)) == ()


def test_routes_are_those_of_the_virtual_services_behind_it() -> None:
    assert hosts(gateway(), behind("'*'", "all"), behind("reviews", "mesh-only", gateways="[mesh]")) == [
        (("*",), ["default/all/0"])
    ]


def test_destinations_get_the_only_port() -> None:
    [server] = servers(gateway(), behind("'*'", "all"))
    assert server.virtual_hosts[0].routes[0].destinations[0].port == 9080


def test_hosts_are_what_both_have_in_common() -> None:
    entry = gateway(hosts="['*.example.com', 'default/a.org', 'other/b.org', './c.org']")
    assert hosts(entry, behind("'*'", "all")) == [
        (("a.org", "c.org", "*.example.com"), ["default/all/0"]),
    ]
    assert hosts(entry, behind("shop.example.com", "shop")) == [(("shop.example.com",), ["default/shop/0"])]
    assert hosts(entry, behind("b.org", "b")) == []


def test_the_most_specific_host_comes_first_and_hosts_are_merged_oldest_first() -> None:
    match = f"[{{match: [{{uri: {{exact: /x}}}}], route: [{to('reviews')}]}}]"
    assert hosts(
        gateway(),
        behind("'*'", "all"),
        behind("a.org", "one"),
        behind("a.org", "two", match),
    ) == [(("a.org",), ["default/two/0", "default/one/0"]), (("*",), ["default/all/0"])]


def test_gateways_are_named_in_other_namespaces_too() -> None:
    assert hosts(gateway("infra/g"), behind("'*'", "all", gateways="[infra/g]")) == [
        (("*",), ["default/all/0"])
    ]
    assert hosts(gateway("g"), behind("'*'", "all", gateways="[./g]")) == [(("*",), ["default/all/0"])]


def test_what_depends_on_the_caller_is_decided_for_the_ingress_itself() -> None:
    matches = {
        "mesh": "gateways: [mesh]",
        "labels": "sourceLabels: {istio: ingressgateway}, uri: {exact: /a}",
        "others": "sourceLabels: {app: x}",
        "here": "sourceNamespace: mesh-system, gateways: [bookinfo-gateway]",
    }
    rules = [
        f"{{name: {name}, match: [{{{match}}}], route: [{to('reviews')}]}}" for name, match in matches.items()
    ]
    http = f"[{', '.join(rules)}]"
    [server] = servers(gateway(), behind("'*'", "all", http, "[bookinfo-gateway, mesh-too]"))
    [virtual_host] = server.virtual_hosts
    assert [route.name for route in virtual_host.routes] == ["labels", "here"]
    assert virtual_host.routes[0].matches[0].source_labels == ()
    assert virtual_host.routes[1].matches[0].source_namespace == ""


def test_two_gateways_and_two_ports() -> None:
    entry = ingress(ports="{'8080': 1, '8081': 2, '8082': 3}")
    found = servers(
        gateway("a"),
        gateway("b"),
        gateway("c", port=8081),
        document("Gateway", "elsewhere", f"{{selector: {{istio: other}}, servers: [{SERVER}]}}"),
        behind("'*'", "all", gateways="[a, b, c]"),
        entry=entry,
    )
    assert [(one.port, [len(each.routes) for each in one.virtual_hosts]) for one in found] == [
        (8080, [1]),
        (8081, [1]),
    ]


CERTIFICATE = "serverCertificate: /c.pem, privateKey: /k.pem"


def entrance(*servers_: str, name: str = "bookinfo-gateway") -> Document:
    listed = [f"{{name: s{index}, {one}}}" for index, one in enumerate(servers_)]
    text = ", ".join(f"{{port: {one.replace(' | ', '}, ', 1)}" for one in listed)
    return document("Gateway", name, f"{{selector: {{istio: ingressgateway}}, servers: [{text}]}}")


def secured(protocol: str, tls: str, hosts: str = "['*']") -> str:
    return f"number: 8080, protocol: {protocol} | hosts: {hosts}, tls: {{{tls}}}"


def connections(name: str, extra: str) -> Document:
    return document("VirtualService", name, f"{{hosts: ['*'], gateways: [bookinfo-gateway], {extra}}}")


def test_https_servers_have_their_own_hosts() -> None:
    mutual = f"mode: MUTUAL, {CERTIFICATE}, caCertificates: /ca.pem, subjectAltNames: [p]"
    entry = entrance(
        secured("HTTPS", f"mode: SIMPLE, {CERTIFICATE}, minProtocolVersion: TLSV1_3", "[a.org]"),
        secured("HTTPS", mutual, "['*/*.B.org']"),
    )
    [server] = servers(entry, behind("'*'", "all"))
    assert server.virtual_hosts == ()
    first, second = server.secure
    assert first.hosts == ("a.org",)
    assert first.tls == ServerTls("SIMPLE", "/c.pem", "/k.pem", versions=("TLSV1_3", ""))
    assert first.virtual_hosts is not None
    assert [one.hosts for one in first.virtual_hosts] == [("a.org",)]
    assert second.hosts == ("*.b.org",)
    assert second.tls == ServerTls("MUTUAL", "/c.pem", "/k.pem", "/ca.pem", names=("p",))


def test_tls_that_passes_goes_by_name_and_tls_that_ends_as_tcp() -> None:
    routed = connections(
        "c",
        f"tls: [{{match: [{{sniHosts: [a.org], port: 8080}}], route: [{to('reviews')}]}}], "
        f"tcp: [{{route: [{to('reviews')}]}}]",
    )
    entry = entrance(secured("TLS", "mode: PASSTHROUGH"), secured("TLS", f"mode: SIMPLE, {CERTIFICATE}"))
    [server] = servers(entry, routed)
    passes, ends = server.secure
    assert [one.name for one in passes.routes] == ["default/c/tls/0"]
    assert passes.routes[0].matches == (ConnectionMatch(sni_hosts=("a.org",), port=8080),)
    assert [one.name for one in ends.routes] == ["default/c/tcp/0"]
    assert passes.virtual_hosts is ends.virtual_hosts is None


def test_tcp_and_redirects() -> None:
    routed = connections("c", f"tcp: [{{route: [{to('reviews')}]}}]")
    [server] = servers(entrance("number: 8080, protocol: MYSQL | hosts: ['*']"), routed)
    assert server.is_tcp
    assert [one.name for one in server.tcp_routes] == ["default/c/tcp/0"]
    [server] = servers(
        entrance(
            secured("HTTP", "httpsRedirect: true", "[a.org, b.org]"),
            "number: 8080, protocol: HTTP | hosts: [c.org]",
        ),
        behind("'*'", "all"),
    )
    assert [(one.hosts, one.to_https) for one in server.virtual_hosts] == [
        (("c.org",), False),
        (("a.org", "b.org"), True),
    ]


@pytest.mark.parametrize(
    ("server", "problem"),
    [
        ("number: 8080, protocol: HTTPS | hosts: ['*']", "must have TLS settings"),
        (secured("TCP", "mode: SIMPLE"), "cannot have TLS settings"),
        (secured("HTTP", "mode: SIMPLE"), "cannot have TLS settings for plain text"),
        (secured("HTTPS", "httpsRedirect: true"), "whose protocol is not HTTP"),
        (secured("HTTPS", "mode: SIMPLE"), "serverCertificate: is missing"),
        (secured("HTTPS", f"mode: MUTUAL, {CERTIFICATE}"), "caCertificates: is missing"),
        (secured("HTTPS", "mode: SIMPLE, serverCertificate: c, privateKey: /k"), "not an absolute path"),
        (secured("TLS", f"mode: PASSTHROUGH, {CERTIFICATE}"), "beside PASSTHROUGH, which uses none"),
        (secured("HTTPS", f"mode: SIMPLE, {CERTIFICATE}, subjectAltNames: [a]"), "asks callers for no cert"),
        (
            secured("HTTPS", f"mode: SIMPLE, {CERTIFICATE}, cipherSuites: [NONE-SUCH]"),
            "which is none of TLS 1.2",
        ),
        (secured("HTTPS", f"mode: SIMPLE, {CERTIFICATE}, minProtocolVersion: TLSV1_0"), "1.1 are broken"),
        (
            secured("TLS", "mode: PASSTHROUGH, minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_2"),
            "lower than",
        ),
        (secured("TLS", "mode: AUTO_PASSTHROUGH"), "not supported yet: spec.servers[0].tls.mode AUTO_PASS"),
        (secured("HTTPS", f"mode: OPTIONAL_MUTUAL, {CERTIFICATE}"), "spec.servers[0].tls.mode OPTIONAL_MUT"),
        (secured("HTTPS", "mode: SIMPLE, credentialName: a"), "spec.servers[0].tls.credentialName"),
        (secured("HTTPS", f"mode: SIMPLE, {CERTIFICATE}, caCrl: /a"), "spec.servers[0].tls.caCrl"),
    ],
)
def test_what_a_server_cannot_be(server: str, problem: str) -> None:
    with pytest.raises(MeshError) as caught:
        entrance(server)
    assert problem in str(caught.value)


def test_a_port_speaks_one_protocol() -> None:
    http = "number: 8080, protocol: HTTP | hosts: ['*']"
    with pytest.raises(MeshError, match="beside HTTP on port 8080, in a server above"):
        entrance(http, secured("TLS", "mode: PASSTHROUGH"))
    before = world(service("reviews"), ingress(), entrance(http, name="older"))
    found = admit(before, [entrance(secured("TLS", "mode: PASSTHROUGH"), name="newer")])
    assert [one.code for one in found if one.severity == "error"] == ["RM0118"]


def test_the_proxy_protocol_in_front_of_gateways() -> None:
    for spec, expected in (("{}", False), ("{defaultConfig: {gatewayTopology: {proxyProtocol: {}}}}", True)):
        config = document("MeshConfig", "mesh-system/mesh", spec)
        compiled = compile_key(world(config), "mesh.mesh.mesh")
        assert isinstance(compiled, Mesh)
        assert compiled.proxy_protocol is expected
