"""Gateways: which hosts and routes an ingress workload serves."""

from __future__ import annotations

from compile_world import document, gateway, ingress, routes, service, to, workload, world

from ray_mesh.compile import compile_key
from ray_mesh.resources import Document
from ray_mesh.snapshot import Gateway, GatewayServer

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
