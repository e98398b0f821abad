"""The Gateway API: which routes attach where, in which order they are tried, and what they become."""

from __future__ import annotations

from typing import Any

import pytest
from compile_world import at, document, gateway, ingress, routes, service, to, workload, world

from ray_mesh.compile import Finding, World, admit, compile_key
from ray_mesh.compile.examine import examine
from ray_mesh.compile.finding import at_admission
from ray_mesh.proxy.cors import CrossOrigin
from ray_mesh.proxy.match import Scope
from ray_mesh.proxy.replies import Reply
from ray_mesh.proxy.routes import RouteTable
from ray_mesh.resources import Document
from ray_mesh.snapshot import (
    ConnectionMatch,
    Cors,
    Destination,
    DirectResponse,
    Gateway,
    GatewayServer,
    HeaderChanges,
    Mirror,
    Redirect,
    Retries,
    Rewrite,
    Route,
    ServerTls,
    Service,
    StringMatch,
)

KIND = "Gateway.gateway.networking.k8s.io"
REVIEWS = "reviews.default.svc.cluster.local"
TO_REVIEWS = "backendRefs: [{name: reviews, port: 9080}]"
HTTP = "{name: http, port: 8080, protocol: HTTP}"
MESH = "[{group: '', kind: Service, name: reviews}]"


def api_gateway(*listeners: str, name: str = "default/web", more: str = "") -> Document:
    spec = f"{{gatewayClassName: ray-mesh, listeners: [{', '.join(listeners or (HTTP,))}]{more}}}"
    return document(KIND, name, spec)


def route(
    rules: str = f"[{{{TO_REVIEWS}}}]",
    *,
    name: str = "default/one",
    parents: str = "[{name: web}]",
    hosts: str = "",
    kind: str = "HTTPRoute",
    admitted_at: float = 0.0,
) -> Document:
    spec = f"{{parentRefs: {parents}, rules: {rules}{f', hostnames: {hosts}' if hosts else ''}}}"
    return document(kind, name, spec, admitted_at=admitted_at)


def compiled(*documents: Document, entry: Document | None = None) -> tuple[GatewayServer, ...]:
    one = compile_key(
        world(service("reviews"), entry or ingress(), *documents), "n1.gateway.mesh-system.ingress"
    )
    assert isinstance(one, Gateway)
    return one.servers


def hosts(*documents: Document) -> dict[str, list[str]]:
    """The hosts of the only listener and the names of their routes."""
    [server] = compiled(*documents)
    return {host: [one.name for one in each.routes] for each in server.virtual_hosts for host in each.hosts}


def only_rule(rule: str, *more: Document) -> tuple[Route, ...]:
    [server] = compiled(api_gateway(), route(f"[{{{rule}}}]"), *more)
    [host] = server.virtual_hosts
    return host.routes


def mesh_service(*documents: Document, name: str = "reviews") -> Service:
    found = compile_key(world(service("reviews"), *documents), f"service.default.{name}")
    assert isinstance(found, Service)
    return found


def chosen(listed: tuple[Route, ...], method: str, target: str, **fields: str) -> str:
    """The name of the route that a request takes."""
    path, mark, query = target.partition("?")
    request = Asked(method.encode(), path.encode(), (mark + query).encode(), fields)
    slot = RouteTable(listed, Scope("default", frozenset(), 8080, is_gateway=True), b"").choose(request)
    return slot.name if slot is not None else ""


class Asked:
    """A request as matches see it."""

    scheme = b"http"
    host = b"a.example.com"

    def __init__(self, method: bytes, path: bytes, query: bytes, fields: dict[str, str]) -> None:
        self.method, self.path, self.query = method, path, query
        self._fields = {name.replace("_", "-").encode(): value.encode() for name, value in fields.items()}

    def header(self, name: bytes) -> bytes | None:
        return self._fields.get(name)

    def values(self, name: bytes) -> list[bytes]:
        return [self._fields[name]] if name in self._fields else []


def _judged(of: World, document: Document) -> list[Finding]:
    return sorted(at_admission(examine(of, document)), key=lambda one: (one.severity, one.path))


def findings(*documents: Document) -> list[tuple[str, str, str]]:
    one = world(service("reviews"), ingress(), *documents)
    found: list[Finding] = [each for item in documents for each in _judged(one, item)]
    return [(each.severity, each.code, each.path) for each in found]


def test_a_gateway_is_served_by_ingress_workloads_with_its_labels() -> None:
    labelled = api_gateway(more=", infrastructure: {labels: {istio: ingressgateway}}")
    assert hosts(labelled, route()) == {"*": ["default/one/0"]}
    assert compiled(api_gateway(more=", infrastructure: {labels: {istio: other}}"), route()) == ()


def test_an_ingress_that_names_a_gateway_serves_no_other() -> None:
    spec = ingress()
    named = document(
        "Workload",
        "default/ingress",
        "{serviceAccount: i, node: n1, port: 9000, outboundPort: 9002, gatewayPorts: {'8080': 1}, "
        f"tokenSha256: '{'cd' * 32}'}}",
        labels="{gateway.networking.k8s.io/gateway-name: web}",
    )
    for name, count in (("default/web", 1), ("default/other", 0), ("prod/web", 0)):
        one = compile_key(world(spec, named, api_gateway(name=name)), "n1.gateway.default.ingress")
        assert isinstance(one, Gateway)
        assert len(one.servers) == count, name


@pytest.mark.parametrize(
    ("listener", "written", "expected"),
    [
        ("", "", ["*"]),
        ("", "[a.example.com, '*.b.org']", ["*.b.org", "a.example.com"]),
        ("'*.example.com'", "", ["*.example.com"]),
        ("'*.example.com'", "[a.example.com, x.org]", ["a.example.com"]),
        ("a.example.com", "['*.example.com']", ["a.example.com"]),
        ("'*.example.com'", "['*.b.example.com', '*.com']", ["*.b.example.com", "*.example.com"]),
    ],
)
def test_hosts_are_what_listener_and_route_have_in_common(
    listener: str, written: str, expected: list[str]
) -> None:
    said = f", hostname: {listener}" if listener else ""
    entry = api_gateway(f"{{name: http, port: 8080, protocol: HTTP{said}}}")
    found = hosts(entry, route(hosts=written))
    assert sorted(host for host, names in found.items() if names) == expected


def test_a_route_without_common_hosts_is_detached() -> None:
    entry = api_gateway("{name: http, port: 8080, protocol: HTTP, hostname: a.org}")
    assert hosts(entry, route(hosts="[b.org]")) == {"a.org": []}
    assert ("warning", "IST0132", "spec.hostnames") in findings(entry, route(hosts="[b.org]"))


def test_a_host_belongs_to_the_closest_listener() -> None:
    wide = "{name: wide, port: 8080, protocol: HTTP}"
    close = "{name: close, port: 8080, protocol: HTTP, hostname: a.org}"
    documents = (
        api_gateway(wide, close),
        route(name="default/w", parents="[{name: web, sectionName: wide}]", hosts="[a.org, b.org]"),
        route(name="default/c", parents="[{name: web, sectionName: close}]"),
    )
    assert hosts(*documents) == {"a.org": ["default/c/0"], "b.org": ["default/w/0"]}


@pytest.mark.parametrize(
    ("allowed", "attached"),
    [
        ("{namespaces: {from: All}}", True),
        ("{namespaces: {from: Same}}", False),
        ("{namespaces: {from: Selector, selector: {matchLabels: {team: a}}}}", True),
        ("{namespaces: {from: Selector, selector: {matchLabels: {team: b}}}}", False),
        (
            "{namespaces: {from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: prod}}}}",
            True,
        ),
        (
            "{namespaces: {from: Selector, selector: "
            "{matchExpressions: [{key: team, operator: NotIn, values: [b]}]}}}",
            True,
        ),
        ("{namespaces: {from: All}, kinds: [{kind: GRPCRoute}]}", False),
    ],
)
def test_allowed_routes(allowed: str, attached: bool) -> None:
    entry = api_gateway(f"{{name: http, port: 8080, protocol: HTTP, allowedRoutes: {allowed}}}")
    one = route(
        "[{filters: [{type: RequestRedirect, requestRedirect: {hostname: a.org}}]}]",
        name="prod/one",
        parents="[{name: web, namespace: default}]",
    )
    team = document("Namespace", "prod/prod", "{}", labels="{team: a}")
    assert bool(hosts(entry, one, team)) is attached
    assert (("warning", "RM0142", "spec.parentRefs[0]") in findings(entry, one, team)) is not attached


def test_sections_and_ports_of_a_gateway() -> None:
    entry = api_gateway(HTTP, "{name: b, port: 8081, protocol: HTTP}")
    edge = ingress(ports="{'8080': 1, '8081': 2}")
    for parents, expected in (
        ("[{name: web}]", [1, 1]),
        ("[{name: web, sectionName: b}]", [0, 1]),
        ("[{name: web, port: 8080}]", [1, 0]),
        ("[{name: web, port: 8080, sectionName: b}]", [0, 0]),
    ):
        servers = compiled(entry, route(parents=parents), entry=edge)
        assert [len(one.virtual_hosts) for one in servers] == expected, parents
    assert ("error", "IST0101", "spec.parentRefs[0]") in findings(
        entry, route(parents="[{name: web, sectionName: none}]")
    )


@pytest.mark.parametrize(
    ("target", "matched"),
    [
        ("/foo", True),
        ("/foo/", True),
        ("/foo/bar", True),
        ("/foobar", False),
        ("/fo", False),
        ("/Foo", False),
    ],
)
@pytest.mark.parametrize("written", ["/foo", "/foo/"])
def test_a_prefix_is_one_of_path_elements(written: str, target: str, matched: bool) -> None:
    found = only_rule(f"matches: [{{path: {{value: {written}}}}}], {TO_REVIEWS}")
    assert bool(chosen(found, "GET", target)) is matched


def test_matches_are_tried_in_the_order_of_the_specification() -> None:
    entries = {
        "exact": "{path: {type: Exact, value: /a/b}}",
        "regex": "{path: {type: RegularExpression, value: '/a/c.*'}}",
        "long": "{path: {value: /a/b}}",
        "method": "{path: {value: /a}, method: GET}",
        "headers": "{path: {value: /a}, headers: [{name: X-One, value: '1'}]}",
        "query": "{path: {value: /a}, queryParams: [{name: q, value: '1'}]}",
        "short": "{path: {value: /a}}",
        "all": "{}",
    }
    rules = [f"{{name: {name}, matches: [{one}], {TO_REVIEWS}}}" for name, one in entries.items()]
    for written in (rules, rules[::-1]):
        [server] = compiled(api_gateway(), route(f"[{', '.join(written)}]"))
        [host] = server.virtual_hosts
        for method, target, fields, name in (
            ("POST", "/a/b", {"x_one": "1"}, "exact"),
            ("GET", "/a/cd", {}, "regex"),
            ("GET", "/a/b/c", {"x_one": "1"}, "long"),
            ("GET", "/a?q=1", {"x_one": "1"}, "method"),
            ("POST", "/a?q=1", {"x_one": "1"}, "headers"),
            ("POST", "/a?q=1", {}, "query"),
            ("POST", "/a", {}, "short"),
            ("GET", "/", {}, "all"),
        ):
            found = chosen(host.routes, method, target, **fields)
            assert found == f"default/one/{name}", (method, target, fields)


def test_of_equal_matches_the_oldest_route_wins_then_the_first_name() -> None:
    young = route(name="default/a", admitted_at=2.0)
    old = route(name="default/z", admitted_at=1.0)
    assert hosts(api_gateway(), young, old) == {"*": ["default/z/0", "default/a/0"]}
    assert hosts(api_gateway(), *at((young, old), 1.0)) == {"*": ["default/a/0", "default/z/0"]}


def test_of_equal_hosts_the_route_that_says_it_closest_goes_first() -> None:
    entry = api_gateway("{name: http, port: 8080, protocol: HTTP, hostname: a.org}")
    wide = route(f"[{{matches: [{{path: {{type: Exact, value: /x}}}}], {TO_REVIEWS}}}]", hosts="['*.org']")
    close = route(name="default/two", hosts="[a.org]")
    assert hosts(entry, wide, close) == {"a.org": ["default/two/0", "default/one/0"]}


@pytest.mark.parametrize(
    ("prefix", "new", "paths"),
    [
        ("/foo", "/xyz", {"/foo/bar": "/xyz/bar", "/foo": "/xyz", "/foo/": "/xyz/"}),
        ("/foo", "/xyz/", {"/foo/bar": "/xyz/bar"}),
        ("/foo/", "/xyz", {"/foo/bar": "/xyz/bar"}),
        ("/foo/", "/xyz/", {"/foo/bar": "/xyz/bar"}),
        ("/foo", "''", {"/foo/bar": "/bar", "/foo/": "/", "/foo": "/"}),
        ("/foo", "/", {"/foo/": "/", "/foo": "/", "/foo/bar": "/bar"}),
        ("/", "/xyz", {"/": "/xyz/", "/a": "/xyz/a"}),
    ],
)
def test_replaced_prefixes(prefix: str, new: str, paths: dict[str, str]) -> None:
    rewrite = (
        f"{{type: URLRewrite, urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: {new}}}}}}}"
    )
    found = only_rule(f"matches: [{{path: {{value: {prefix}}}}}], filters: [{rewrite}], {TO_REVIEWS}")
    for path, expected in paths.items():
        table = RouteTable(found, Scope("default", frozenset(), 8080, is_gateway=True), b"")
        entry = table.choose(Asked(b"GET", path.encode(), b"", {}))
        assert entry is not None
        assert entry.targets[0].change is not None
        asked: Any = Changed(path)
        entry.targets[0].change.apply(asked)
        assert asked.path == expected.encode(), path


class Changed:
    """A request as changes see it."""

    query = b""
    fields = b"\r\n"
    extra = b""

    def __init__(self, path: str) -> None:
        self.path = path.encode()


def test_filters_become_fields_of_the_route() -> None:
    [one] = only_rule(
        "filters: ["
        "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: '100%'}], "
        "add: [{name: x-b, value: b}], remove: [x-c]}}, "
        "{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [Server]}}, "
        "{type: URLRewrite, urlRewrite: {hostname: b.org, "
        "path: {type: ReplaceFullPath, replaceFullPath: /n}}}, "
        "{type: RequestMirror, requestMirror: {backendRef: {name: reviews, port: 9080}, "
        "fraction: {numerator: 1, denominator: 4}}}, "
        "{type: CORS, cors: {allowOrigins: ['https://*.a.org', 'https://b.org'], allowMethods: [GET]}}], "
        "timeouts: {request: 10s, backendRequest: 2s}, "
        f"retry: {{codes: [503, 500], attempts: 3, backoff: 100ms}}, {TO_REVIEWS}"
    )
    assert one.request_headers == HeaderChanges(("x-c",), (("x-a", "100%"),), (("x-b", "b"),))
    assert one.response_headers == HeaderChanges(("server",))
    assert (one.authority, one.rewrite) == ("b.org", Rewrite("/n"))
    assert one.mirrors == (Mirror(Destination(REVIEWS, port=9080), 25.0),)
    assert one.timeout_s == 10.0
    assert one.retries is not None
    assert (one.retries.attempts, one.retries.statuses) == (3, (500, 503))
    assert (one.retries.per_try_timeout_s, one.retries.backoff_s) == (2.0, 0.1)
    assert one.cors == Cors(
        (StringMatch("regex", r"https://[A-Za-z0-9.-]+\.a\.org"), StringMatch("exact", "https://b.org")),
        allow_methods="GET",
        max_age="5",
        forwards_unmatched=False,
    )
    assert one.destinations == (Destination(REVIEWS, port=9080, weight=1),)


def test_a_preflight_with_credentials_is_answered_what_it_asks_for() -> None:
    def answer(more: str) -> tuple[str, ...]:
        said = f"{{allowOrigins: [https://a.org], allowMethods: ['*'], allowHeaders: ['*']{more}}}"
        [one] = only_rule(f"filters: [{{type: CORS, cors: {said}}}], {TO_REVIEWS}")
        assert one.cors is not None
        asked = {"origin": "https://a.org", "access_control_request_method": "PUT"}
        reply = CrossOrigin(one.cors).meet(Asked(b"OPTIONS", b"/", b"", asked))
        assert isinstance(reply, Reply)
        return reply.fields

    assert "access-control-allow-methods: *" in answer("")
    assert "access-control-allow-methods: PUT" in answer(", allowCredentials: true")
    assert not any("allow-headers" in field for field in answer(", allowCredentials: true"))


def test_a_limit_for_one_try_needs_no_retries() -> None:
    [one] = only_rule(f"timeouts: {{backendRequest: 2s}}, {TO_REVIEWS}")
    assert (one.timeout_s, one.retries) == (0.0, Retries(0, per_try_timeout_s=2.0))
    [one] = only_rule(f"timeouts: {{request: 0s}}, {TO_REVIEWS}")
    assert (one.timeout_s, one.retries) == (0.0, None)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("hostname: b.org", Redirect(302, authority="b.org", port=8080)),
        ("scheme: https, statusCode: 301", Redirect(301, scheme="https", drops_port=True)),
        ("scheme: https, port: 8443", Redirect(302, scheme="https", port=8443)),
        ("scheme: https, port: 443", Redirect(302, scheme="https", drops_port=True)),
        ("port: 80", Redirect(302, drops_port=True)),
        ("path: {type: ReplaceFullPath, replaceFullPath: /n}", Redirect(302, path="/n")),
    ],
)
def test_redirects(said: str, expected: Redirect) -> None:
    [one] = only_rule(f"filters: [{{type: RequestRedirect, requestRedirect: {{{said}}}}}]")
    assert one.redirect == expected
    assert one.direct_response is None


def test_weights_and_filters_of_backends() -> None:
    own = "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x, value: y}]}}]"
    [one] = only_rule(
        f"backendRefs: [{{name: reviews, port: 9080, weight: 3, {own}}}, "
        "{name: reviews, port: 9080, weight: 0}, {name: gone, port: 80, weight: 1}]"
    )
    assert one.destinations == (
        Destination(REVIEWS, port=9080, weight=3, request_headers=HeaderChanges((), (("x", "y"),))),
        Destination("gone.default.svc.cluster.local", port=80, weight=1, status=500),
    )


@pytest.mark.parametrize("backends", ["[]", "[{name: reviews, port: 9080, weight: 0}]"])
def test_without_backends_requests_are_answered_500(backends: str) -> None:
    [one] = only_rule(f"backendRefs: {backends}")
    assert (one.destinations, one.direct_response) == ((), DirectResponse(500))
    rules = f"[{{backendRefs: {backends}}}]"
    assert ("warning", "RM0144", "spec.rules[0].backendRefs") in findings(api_gateway(), route(rules))


def test_other_namespaces_have_to_grant_their_backends() -> None:
    rules = "[{backendRefs: [{name: ratings, namespace: prod, port: 9080}]}]"
    there = service("prod/ratings")
    grant = (
        "{{from: [{{group: gateway.networking.k8s.io, kind: {kind}, namespace: default}}], "
        "to: [{{group: '', kind: Service{name}}}]}}"
    )
    for kind, name, status in (
        ("HTTPRoute", "", 0),
        ("HTTPRoute", ", name: ratings", 0),
        ("HTTPRoute", ", name: other", 500),
        ("TCPRoute", "", 500),
    ):
        given = document("ReferenceGrant", "prod/grant", grant.format(kind=kind, name=name))
        [server] = compiled(api_gateway(), route(rules), there, given)
        [one] = server.virtual_hosts[0].routes
        assert one.destinations[0].status == status, (kind, name)
        told = [code for _, code, _ in findings(api_gateway(), route(rules), there, given)]
        assert ("RM0141" in told) is bool(status)


def test_hosts_outside_are_backends_too() -> None:
    entry = document(
        "ServiceEntry",
        "default/api",
        "{hosts: [api.example.com], resolution: DNS, ports: [{number: 443, name: tls, protocol: HTTP}]}",
    )
    backend = "{kind: Hostname, group: networking.istio.io, name: api.example.com}"
    [one] = only_rule(f"backendRefs: [{backend}]", entry)
    assert one.destinations == (Destination("api.example.com", port=443, weight=1),)


def test_what_a_route_names_has_to_be_there() -> None:
    told = findings(
        route(
            "[{backendRefs: [{name: gone, port: 80}, {name: reviews, port: 1}]}]",
            parents="[{name: nowhere}, {group: '', kind: Service, name: none}]",
        )
    )
    assert told == [
        ("error", "IST0101", "spec.parentRefs[0]"),
        ("error", "IST0101", "spec.parentRefs[1]"),
        ("error", "IST0101", "spec.rules[0].backendRefs[0]"),
        ("error", "IST0101", "spec.rules[0].backendRefs[1]"),
    ]


def test_what_a_route_names_cannot_be_deleted() -> None:
    one = world(service("reviews"), ingress(), api_gateway(), route())
    for key in ("service.default.reviews", "k8sgateway.default.web"):
        [told] = admit(one, (), [key])
        assert (told.severity, told.code) == ("error", "RM0002")


def test_listeners_in_conflict() -> None:
    tcp = "{name: tcp, port: 8080, protocol: TCP}"
    other = api_gateway(tcp, name="default/other")
    assert ("error", "RM0118", "spec.listeners[0]") in findings(api_gateway(), other)
    assert ("error", "RM0118", "spec.listeners[0]") in findings(gateway(), other)
    assert ("error", "IST0162", "spec.listeners[0].port") in findings(
        api_gateway("{name: a, port: 1, protocol: HTTP}")
    )
    [server] = compiled(*at([api_gateway()], 1.0), *at([other], 2.0), route())
    assert not server.is_tcp
    assert findings(gateway(), api_gateway()) == []


def test_both_kinds_of_gateways_share_a_port() -> None:
    behind = routes(
        "'*'", f"[{{name: vs, route: [{to('reviews')}]}}]", name="vs", extra=", gateways: [bookinfo-gateway]"
    )
    assert hosts(api_gateway(), gateway(), behind, route(hosts="[a.org]")) == {
        "a.org": ["default/one/0"],
        "*": ["vs"],
    }
    assert hosts(api_gateway(), gateway(), behind, route()) == {"*": ["default/one/0", "vs"]}


def test_tls_listeners() -> None:
    options = "{mesh.ray.io/server-certificate: /c, mesh.ray.io/private-key: /k}"
    entry = api_gateway(
        f"{{name: https, port: 8080, protocol: HTTPS, hostname: a.org, tls: {{options: {options}}}}}",
        "{name: pass, port: 8080, protocol: TLS, hostname: '*.b.org', tls: {mode: Passthrough}}",
        "{name: end, port: 8080, protocol: TLS, hostname: c.org, "
        f"tls: {{mode: Terminate, options: {options}}}}}",
    )
    web = route()
    passed = route(kind="TLSRoute", name="default/pass", hosts="[x.b.org, '*.b.org', c.org]")
    ended = route(kind="TCPRoute", name="default/end", parents="[{name: web, sectionName: end}]")
    [server] = compiled(entry, web, passed, ended)
    https, through, end = server.secure
    assert (https.hosts, https.tls) == (("a.org",), ServerTls("SIMPLE", "/c", "/k"))
    assert https.virtual_hosts is not None
    assert [one.hosts for one in https.virtual_hosts] == [("a.org",)]
    assert (through.hosts, through.tls) == (("*.b.org",), ServerTls("PASSTHROUGH"))
    assert [one.matches for one in through.routes] == [
        (ConnectionMatch(("x.b.org",)),),
        (ConnectionMatch(("*.b.org",)),),
    ]
    assert [one.name for one in end.routes] == ["default/pass/0", "default/end/0"]


def test_tcp_listeners_take_the_oldest_route() -> None:
    entry = api_gateway("{name: tcp, port: 8080, protocol: TCP}")
    old = route(kind="TCPRoute", name="default/z", admitted_at=1.0)
    young = route(kind="TCPRoute", name="default/a", admitted_at=2.0)
    [server] = compiled(entry, young, old)
    assert [one.name for one in server.tcp_routes] == ["default/z/0", "default/a/0"]
    assert findings(entry, young, old) == [("warning", "IST0130", "spec.parentRefs[0]")]


def test_a_route_of_a_service_is_for_all_its_callers() -> None:
    found = mesh_service(route(parents=MESH))
    assert [one.name for one in found.routes] == ["default/one/0"]
    assert found.routes[0].matches[0].source_namespace == ""
    assert mesh_service(route(parents="[{name: web}]")).routes[0].name == "default"


def test_a_route_of_another_namespace_is_for_the_callers_of_its_own() -> None:
    away = route(
        "[{matches: [{path: {value: /x}}], filters: [{type: RequestRedirect, requestRedirect: {port: 1}}]}]",
        name="prod/one",
        parents="[{group: '', kind: Service, name: reviews, namespace: default}]",
    )
    found = mesh_service(away)
    assert [(one.name, one.matches[0].source_namespace if one.matches else "") for one in found.routes] == [
        ("prod/one/0", "prod"),
        ("no-route", "prod"),
        ("default", ""),
    ]
    assert found.routes[1].direct_response == DirectResponse(404)
    both = mesh_service(away, route(parents=MESH))
    assert [one.name for one in both.routes][1:] == ["no-route", "default/one/0"]


def test_a_route_of_one_port_leaves_the_others_alone() -> None:
    one = route(parents="[{group: '', kind: Service, name: reviews, port: 80}]")
    made = world(service("reviews", 80, 9080), one)
    found = compile_key(made, "service.default.reviews")
    assert isinstance(found, Service)
    assert [(each.name, each.matches[0].port if each.matches else 0) for each in found.routes] == [
        ("default/one/0", 80),
        ("no-route", 80),
        ("default", 0),
    ]
    assert [found.owners[each.owner].is_http for each in found.routes] == [True, True, False]


def test_http_routes_decide_before_virtual_services() -> None:
    virtual = routes("reviews", f"[{{name: vs, route: [{to('reviews')}]}}]")
    one = route(parents=MESH)
    assert [each.name for each in mesh_service(virtual, one).routes] == ["default/one/0"]
    told = [(code, path) for _, code, path in findings(virtual, one) if code == "RM0143"]
    assert told == [("RM0143", "spec.http"), ("RM0143", "spec.parentRefs[0]")]
    by_port = route(parents="[{group: '', kind: Service, name: reviews, port: 9080}]")
    found = mesh_service(virtual, by_port)
    assert [each.name for each in found.routes] == ["default/one/0", "no-route", "vs"]
    assert [found.owners[each.owner].host for each in found.routes] == [REVIEWS] * 3


def test_connections_to_a_service() -> None:
    db = document(
        "Service", "db", "{selector: {app: db}, ports: [{name: tcp, port: 1}, {name: tls, port: 2}]}"
    )
    parents = "[{group: '', kind: Service, name: db, port: 1}]"
    tcp = route(kind="TCPRoute", parents=parents)
    tls = route(kind="TLSRoute", parents="[{group: '', kind: Service, name: db}]", hosts="[a.org]")
    found = mesh_service(db, tcp, tls, name="db")
    assert [one.matches for one in found.tcp_routes] == [(ConnectionMatch(port=1),)]
    assert [one.matches for one in found.tls_routes] == [(ConnectionMatch(("a.org",)),)]
    assert [(one.namespace, one.is_http) for one in found.owners] == [("default", False)] * 2
    assert {found.tls_routes[0].owner, found.tcp_routes[0].owner} == {0, 1}


def test_hostnames_mean_nothing_in_the_mesh_and_that_is_told() -> None:
    assert findings(route(parents=MESH, hosts="[a.org]")) == [("warning", "RM0142", "spec.hostnames")]


def test_documents_in_any_order_compile_to_the_same() -> None:
    documents = [service("reviews"), ingress(), api_gateway(), gateway(), workload("reviews", "v1")]
    documents += [route(name=f"default/{name}", hosts="[a.org]") for name in "abc"]
    key = "n1.gateway.mesh-system.ingress"
    expected = compile_key(World({one.key: one for one in documents}), key)
    assert compile_key(World({one.key: one for one in reversed(documents)}), key) == expected
