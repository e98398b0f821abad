"""GRPCRoutes: which calls they take, in which order, beside which HTTPRoutes, and what they become."""

from __future__ import annotations

import pytest
from compile_world import document, ingress, routes, service, to, world

from ray_mesh.compile import compile_key
from ray_mesh.compile.examine import examine
from ray_mesh.compile.finding import at_admission
from ray_mesh.proxy.match import Scope
from ray_mesh.proxy.routes import RouteTable
from ray_mesh.resources import Document
from ray_mesh.snapshot import (
    Destination,
    DirectResponse,
    Gateway,
    HeaderChanges,
    Mirror,
    NamedMatch,
    RequestMatch,
    Route,
    Service,
    StringMatch,
)

STOCK = "stock.default.svc.cluster.local"
BACKEND = "{name: stock, port: 50051}"
TO_STOCK = f"backendRefs: [{BACKEND}]"
MESH = "{group: '', kind: Service, name: stock}"


def stock(ports: str = "{name: grpc, port: 50051}", name: str = "stock") -> Document:
    return document("Service", name, f"{{selector: {{app: stock}}, ports: [{ports}]}}")


def entry(*listeners: str) -> Document:
    listed = ", ".join(listeners or ("{name: web, port: 8080, protocol: HTTP}",))
    spec = f"{{gatewayClassName: ray-mesh, listeners: [{listed}]}}"
    return document("Gateway.gateway.networking.k8s.io", "web", spec)


def route(
    rules: str = f"{{{TO_STOCK}}}",
    *,
    name: str = "calls",
    parent: str = "{name: web}",
    hosts: str = "",
    kind: str = "GRPCRoute",
    at: float = 0.0,
) -> Document:
    said = f", hostnames: {hosts}" if hosts else ""
    return document(kind, name, f"{{parentRefs: [{parent}], rules: [{rules}]{said}}}", admitted_at=at)


def http(name: str = "pages", **fields: object) -> Document:
    return route(kind="HTTPRoute", name=name, **fields)  # type: ignore[arg-type]


def at_gateway(*documents: Document) -> dict[str, tuple[Route, ...]]:
    """The hosts of an ingress and their routes."""
    made = world(stock(), service("reviews"), ingress(), entry(), *documents)
    compiled = compile_key(made, "n1.gateway.mesh-system.ingress")
    assert isinstance(compiled, Gateway)
    [server] = compiled.servers
    return {host: each.routes for each in server.virtual_hosts for host in each.hosts}


def in_mesh(*documents: Document) -> Service:
    found = compile_key(world(stock(), *documents), "service.default.stock")
    assert isinstance(found, Service)
    return found


def told(*documents: Document) -> list[tuple[str, str, str]]:
    made = world(stock(), service("reviews"), ingress(), entry(), *documents)
    found = [(one, each) for one in documents for each in at_admission(examine(made, one))]
    return [(one.name, each.code, each.path) for one, each in found]


class Call:
    """A request as matches see it."""

    scheme, host, method, query = b"http", b"a.org", b"POST", b""

    def __init__(self, path: str, **fields: str) -> None:
        self.path = path.encode()
        self._fields = {name.encode(): value.encode() for name, value in fields.items()}

    def header(self, name: bytes) -> bytes | None:
        return self._fields.get(name)

    def values(self, name: bytes) -> list[bytes]:
        return [self._fields[name]] if name in self._fields else []


def taken(listed: tuple[Route, ...], call: Call, port: int = 8080, namespace: str = "default") -> str:
    """The name of the route that a call takes."""
    scope = Scope(namespace, frozenset(), port, is_gateway=port == 8080)
    slot = RouteTable(listed, scope, b"").choose(call)
    return slot.name if slot is not None else ""


@pytest.mark.parametrize(
    ("method", "takes", "leaves"),
    [
        ("{service: a.B, method: Get}", ["/a.B/Get"], ["/a.B/Gets", "/a.b/Get", "/x/a.B/Get", "/a.B/Get/"]),
        ("{service: a.B}", ["/a.B/Get", "/a.B/Set"], ["/a.B", "/a.BC/Get", "/a/Get"]),
        ("{method: Get}", ["/a.B/Get", "/c/Get"], ["/Get", "/a/b/Get", "/a.B/Gets", "//Get"]),
        (
            "{type: RegularExpression, service: 'a\\..+|b', method: '[GS]et'}",
            ["/a.B/Get", "/b/Set"],
            ["/a/Get", "/b/Let", "/xb/Set", "/b/Sets"],
        ),
        ("{type: RegularExpression, method: 'Get.*'}", ["/a/Get", "/a/GetAll"], ["/a/b/Get", "/a/Set"]),
        ("{type: RegularExpression, service: 'a|b'}", ["/a/Get", "/b/Set"], ["/c/Get", "/ab/Get", "/a"]),
    ],
)
def test_methods(method: str, takes: list[str], leaves: list[str]) -> None:
    listed = at_gateway(route(f"{{matches: [{{method: {method}}}], {TO_STOCK}}}"))["*"]
    assert [path for path in (*takes, *leaves) if taken(listed, Call(path))] == takes


def test_a_rule_without_matches_takes_every_call() -> None:
    [one] = at_gateway(route())["*"]
    assert one == Route(
        "default/calls/0",
        "GRPCRoute default/calls spec.rules[0]",
        (RequestMatch(),),
        (Destination(STOCK, port=50051, weight=1),),
    )
    bare = document("GRPCRoute", "bare", "{parentRefs: [{name: web}]}")
    [one] = at_gateway(bare)["*"]
    assert one.direct_response == DirectResponse(503)
    assert told(bare) == [("bare", "RM0144", "spec.rules[0].backendRefs")]


def test_the_longest_service_goes_first_then_the_longest_method_then_headers_then_age() -> None:
    rules = ", ".join(
        f"{{name: {name}, matches: [{{{match}}}], {TO_STOCK}}}"
        for name, match in (
            ("all", ""),
            ("headers", "headers: [{name: x, value: y}, {name: z, value: y}]"),
            ("method", "method: {method: GetEverything}"),
            ("service", "method: {service: a.B}"),
            ("both", "method: {service: a.B, method: Get}"),
            ("header", "method: {service: a.B}, headers: [{name: x, value: y}]"),
        )
    )
    young = route(f"{{name: all, {TO_STOCK}}}", name="b", at=2.0)
    listed = at_gateway(route(rules, name="c", at=1.0), young)["*"]
    assert [one.name.removeprefix("default/") for one in listed] == [
        *("c/both", "c/header", "c/service", "c/method", "c/headers", "c/all", "b/all"),
    ]
    assert taken(listed, Call("/a.B/Set", x="y")) == "default/c/header"


def test_what_a_rule_does() -> None:
    changes = "set: [{name: host, value: a.org}, {name: x, value: y}]"
    filters = (
        f"{{type: RequestHeaderModifier, requestHeaderModifier: {{{changes}}}}}, "
        "{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [X-A]}}, "
        f"{{type: RequestMirror, requestMirror: {{backendRef: {BACKEND}, percent: 25}}}}"
    )
    own = "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: v, value: '2'}]}}]"
    match = "headers: [{name: X-B, value: 'a.*', type: RegularExpression}, {name: x-a, value: b}]"
    rule = (
        f"{{name: all, matches: [{{{match}}}], filters: [{filters}], backendRefs: "
        f"[{{name: stock, port: 50051, weight: 3, {own}}}, {{name: stock, port: 50051, weight: 0}}]}}"
    )
    [one] = at_gateway(route(rule))["*"]
    assert one.matches[0].headers == (
        NamedMatch("x-a", StringMatch("exact", "b")),
        NamedMatch("x-b", StringMatch("regex", "a.*")),
    )
    assert one.destinations == (
        Destination(STOCK, port=50051, weight=3, request_headers=HeaderChanges((), (), (("v", "2"),))),
    )
    assert (one.authority, one.request_headers) == ("a.org", HeaderChanges((), (("x", "y"),)))
    assert one.response_headers == HeaderChanges(("x-a",))
    assert one.mirrors == (Mirror(Destination(STOCK, port=50051), 25.0),)


def test_a_backend_of_another_namespace_needs_a_grant_for_grpc_routes() -> None:
    away = stock(name="prod/stock")
    one = route("{backendRefs: [{name: stock, namespace: prod, port: 50051}]}")
    host = "stock.prod.svc.cluster.local"

    def grant(kind: str) -> Document:
        said = f"{{group: gateway.networking.k8s.io, kind: {kind}, namespace: default}}"
        return document("ReferenceGrant", "prod/g", f"{{from: [{said}], to: [{{group: '', kind: Service}}]}}")

    for others in ((), (grant("HTTPRoute"),)):
        [found] = at_gateway(away, one, *others)["*"]
        assert found.destinations == (Destination(host, port=50051, weight=1, status=503),)
    assert told(one, away)[0] == ("calls", "RM0141", "spec.rules[0].backendRefs[0]")
    [found] = at_gateway(away, one, grant("GRPCRoute"))["*"]
    assert found.destinations == (Destination(host, port=50051, weight=1),)


@pytest.mark.parametrize(
    ("pages", "calls", "taken_by"),
    [
        (("[a.org]", 1.0), ("[a.org]", 2.0), "pages"),
        (("[a.org]", 2.0), ("[a.org]", 1.0), "calls"),
        (("[a.org]", 1.0), ("[a.org]", 1.0), "calls"),
        (("['*.org']", 1.0), ("[a.org]", 2.0), "pages"),
        (("", 2.0), ("[a.org]", 1.0), "calls"),
        (("[a.org]", 1.0), ("[b.org]", 2.0), "pages calls"),
    ],
)
def test_of_two_kinds_for_one_host_the_older_attaches(
    pages: tuple[str, float], calls: tuple[str, float], taken_by: str
) -> None:
    one = http(hosts=pages[0], at=pages[1], rules="{backendRefs: [{name: reviews, port: 9080}]}")
    two = route(hosts=calls[0], at=calls[1])
    attached = {each.name.split("/")[1] for listed in at_gateway(one, two).values() for each in listed}
    assert attached == set(taken_by.split())
    detached = {"pages", "calls"} - attached
    assert told(one, two) == [(name, "RM0142", "spec.parentRefs[0]") for name in sorted(detached)]


def test_a_rejected_route_takes_no_host_away() -> None:
    documents = [
        http(name="a", hosts="[a.org]", at=1.0, rules="{backendRefs: [{name: reviews, port: 9080}]}"),
        route(name="b", hosts="[a.org, b.org]", at=2.0),
        http(name="c", hosts="[b.org]", at=3.0, rules="{backendRefs: [{name: reviews, port: 9080}]}"),
    ]
    found = at_gateway(*documents)
    assert {host: [one.name for one in listed] for host, listed in found.items()} == {
        "a.org": ["default/a/0"],
        "b.org": ["default/c/0"],
    }


def test_listeners_say_which_kinds_they_take() -> None:
    kinds = "allowedRoutes: {kinds: [{kind: GRPCRoute}]}"
    only = entry(f"{{name: web, port: 8080, protocol: HTTP, {kinds}}}")
    pages = http(rules="{backendRefs: [{name: reviews, port: 9080}]}")
    assert [one.name for one in at_gateway(only, pages, route())["*"]] == ["default/calls/0"]
    assert told(only, pages, route()) == [("pages", "RM0142", "spec.parentRefs[0]")]


def test_callers_in_the_mesh_follow_it() -> None:
    found = in_mesh(route(f"{{matches: [{{method: {{method: Get}}}}], {TO_STOCK}}}", parent=MESH))
    assert [one.name for one in found.routes] == ["default/calls/0"]
    assert taken(found.routes, Call("/a/Get"), 50051) == "default/calls/0"
    assert taken(found.routes, Call("/a/Set"), 50051) == ""


def test_in_the_mesh_grpc_routes_decide_before_http_routes_and_virtual_services() -> None:
    virtual = routes("stock", f"[{{name: vs, route: [{to('stock')}]}}]")
    everywhere, calls = http(parent=MESH), route(parent=MESH, at=1.0)
    assert [one.name for one in in_mesh(virtual, everywhere, calls).routes] == ["default/calls/0"]
    assert [(code, path) for _, code, path in told(virtual, everywhere, calls)] == [
        ("RM0143", "spec.http"),
        ("RM0143", "spec.parentRefs[0]"),
        ("RM0143", "spec.parentRefs[0]"),
        ("RM0143", "spec.parentRefs[0]"),
    ]


def test_at_the_ports_of_a_service_each_kind_decides_for_its_own() -> None:
    two = stock("{name: grpc, port: 50051}, {name: http, port: 80}")
    calls = route(
        f"{{matches: [{{method: {{method: Get}}}}], {TO_STOCK}}}",
        parent="{group: '', kind: Service, name: stock, port: 50051}",
    )
    pages = http(parent=MESH)
    found = in_mesh(two, calls, pages).routes
    assert [(one.name, one.matches[0].port) for one in found] == [
        ("default/calls/0", 50051),
        ("no-route", 50051),
        ("default/pages/0", 0),
    ]
    assert [taken(found, Call(path), port) for path, port in (("/a/Get", 50051), ("/a/Set", 50051))] == [
        "default/calls/0",
        "no-route",
    ]
    assert taken(found, Call("/a/Set"), 80) == "default/pages/0"
    same = http(parent="{group: '', kind: Service, name: stock, port: 50051}")
    assert [one.name for one in in_mesh(two, calls, same).routes] == [
        "default/calls/0",
        "no-route",
        "default",
    ]


def test_callers_of_a_namespace_follow_its_own_kind() -> None:
    parent = "{group: '', kind: Service, name: stock, namespace: default}"
    backend = "{backendRefs: [{name: stock, namespace: default, port: 50051}]}"
    found = in_mesh(route(parent=MESH), http(name="prod/pages", parent=parent, rules=backend)).routes
    assert taken(found, Call("/a/Get"), 50051, "prod") == "prod/pages/0"
    assert taken(found, Call("/a/Get"), 50051) == "default/calls/0"


def test_ports_that_do_not_speak_http2_are_told() -> None:
    plain = stock("{name: http, port: 50051}")
    assert told(plain, route(), route(name="mesh", parent=MESH)) == [
        ("calls", "RM0120", "spec.rules[0].backendRefs[0]"),
        ("mesh", "RM0142", "spec.parentRefs[0]"),
        ("mesh", "RM0120", "spec.rules[0].backendRefs[0]"),
    ]
    assert told(stock("{name: x, port: 50051}"), route(), route(name="mesh", parent=MESH))[1:] == []
