"""What an explanation says, case by case, over a small Bookinfo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from compile_world import (
    binding,
    document,
    gateway,
    ingress,
    routes,
    service,
    subsets,
    to,
    workload,
)

from ray_mesh.compile import LiveWorkload, World
from ray_mesh.errors import ConfigError, NotFound
from ray_mesh.explain.answer import Explanation, Share, Step
from ray_mesh.explain.explaining import explain
from ray_mesh.explain.places import as_printed
from ray_mesh.explain.question import Caller, ask
from ray_mesh.resources import Document

PRODUCTPAGE = Caller(workload="default/productpage-v1")
OUTSIDE = Caller(gateway="default/bookinfo-gateway")
BASE = [
    *(service(name) for name in ("productpage", "reviews", "ratings")),
    workload("productpage", "v1"),
    *(workload("reviews", version) for version in ("v1", "v2", "v3")),
    workload("ratings", "v1"),
    subsets("reviews", "v1", "v2", "v3"),
]
JASON = (
    f"[{{match: [{{headers: {{end-user: {{exact: jason}}}}}}], route: [{to('reviews', 'v2')}]}}, "
    f"{{route: [{to('reviews', 'v1')}]}}]"
)


def told(
    more: Sequence[Document],
    url: str = "http://reviews:9080/reviews/0",
    method: str = "GET",
    caller: Caller = PRODUCTPAGE,
    live: Sequence[LiveWorkload] | None = None,
    sni: str = "",
    **headers: str,
) -> Explanation:
    world = World({one.key: one for one in [*BASE, *more]})
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return explain(world, ask(caller, url, method, pairs, sni=sni), live=live)


def step(explanation: Explanation | Share, stage: str) -> Step:
    return next(one for one in explanation.steps if one.stage == stage)


def notes(one: Step) -> list[str]:
    return [note.says for note in one.notes]


def allow(name: str, spec: str) -> Document:
    return document("AuthorizationPolicy", name, spec)


def test_without_a_route_a_host_goes_to_itself() -> None:
    found = told([])
    assert found.verdict.outcome == "forwarded"
    assert step(found, "host").ground.document == "service.default.reviews"
    assert step(found, "route").ground.document == "service.default.reviews"
    (share,) = found.shares
    assert (share.host, share.subset, share.port, share.percent) == (
        "reviews.default.svc.cluster.local",
        "",
        9080,
        100.0,
    )
    assert share.endpoints == ("default/reviews-v1", "default/reviews-v2", "default/reviews-v3")
    assert "no AuthorizationPolicy" in step(share, "authorization").says


def test_the_route_says_why_those_before_it_did_not_match() -> None:
    found = told([routes("reviews", JASON)], end_user="bob")
    route = step(found, "route")
    assert (route.ground.document, route.ground.path) == ("virtualservice.default.reviews", "spec.http[1]")
    assert route.ground.where.startswith("VirtualService.yaml:4:")
    assert notes(route) == [
        "not VirtualService default/reviews spec.http[0] (default/reviews/0): "
        "header end-user is 'bob', not exact 'jason'"
    ]
    assert route.notes[0].ground.path == "spec.http[0].match[0].headers.end-user"
    assert [one.subset for one in found.shares] == ["v1"]
    assert [one.subset for one in told([routes("reviews", JASON)], end_user="jason").shares] == ["v2"]


def test_a_condition_is_found_beside_a_rewrite_of_the_same_field() -> None:
    first = f"{{match: [{{uri: {{prefix: /api}}}}], rewrite: {{uri: /}}, route: [{to('reviews', 'v2')}]}}"
    found = told([routes("reviews", f"[{first}, {{route: [{to('reviews', 'v1')}]}}]")])
    assert step(found, "route").notes[0].ground.path == "spec.http[0].match[0].uri"


@pytest.mark.parametrize(
    ("match", "reason"),
    [
        ("{uri: {prefix: /api}}", "uri is '/reviews/0', not prefix '/api'"),
        ("{uri: {exact: /REVIEWS/1}, ignoreUriCase: true}", "not exact '/REVIEWS/1' (without case)"),
        ("{method: {exact: POST}}", "method is 'GET', not exact 'POST'"),
        ("{authority: {exact: other}}", "authority is 'reviews:9080', not exact 'other'"),
        ("{scheme: {exact: https}}", "scheme is 'http', not exact 'https'"),
        ("{port: 80}", "port is 9080, not 80"),
        ("{sourceNamespace: prod}", "sourceNamespace is default, not prod"),
        ("{sourceLabels: {app: web}}", "sourceLabels: the caller has app=productpage, not app=web"),
        ("{sourceLabels: {tier: a}}", "sourceLabels: the caller has no label tier, not tier=a"),
        ("{headers: {x-a: {regex: a+}}}", "header x-a is not there, regex 'a+' is wanted"),
        ("{withoutHeaders: {x-b: {exact: c}}}", "withoutHeaders: x-b is 'c', and exact 'c' is excluded"),
        ("{queryParams: {q: {exact: '1'}}}", "query parameter q is '2', not exact '1'"),
        ("{gateways: [default/edge]}", "no match of it is for the mesh"),
    ],
)
def test_the_first_condition_that_fails_is_named(match: str, reason: str) -> None:
    http = f"[{{match: [{match}], route: [{to('reviews', 'v2')}]}}, {{route: [{to('reviews', 'v1')}]}}]"
    found = told([routes("reviews", http)], "http://reviews:9080/reviews/0?q=2", x_b="c")
    assert [one.subset for one in found.shares] == ["v1"]
    assert reason in notes(step(found, "route"))[0]


def test_no_route_that_matches_is_404() -> None:
    http = f"[{{match: [{{uri: {{prefix: /api}}}}], route: [{to('reviews', 'v2')}]}}]"
    verdict = told([routes("reviews", http)]).verdict
    assert (verdict.outcome, verdict.status, verdict.flag, verdict.reason) == (
        "refused",
        404,
        "NR",
        "no_route",
    )


def test_weights_become_percentages_of_what_is_drawn() -> None:
    shares = ", ".join((to("reviews", "v1", 30), to("reviews", "v2", 10), to("reviews", "v3", 0)))
    found = told([routes("reviews", f"[{{route: [{shares}]}}]")])
    assert [(one.subset, one.percent) for one in found.shares] == [("v1", 75.0), ("v2", 25.0)]


def test_a_host_that_nothing_has_is_502_with_hints() -> None:
    found = told([routes("details", f"[{{route: [{to('details')}]}}]")], "http://details/")
    assert (found.verdict.status, found.verdict.flag) == (502, "NR")
    assert (
        "VirtualService default/details routes details.default.svc.cluster.local"
        in notes(step(found, "host"))[0]
    )
    elsewhere = told([service("prod/billing")], "http://billing/")
    assert "called billing.prod" in notes(step(elsewhere, "host"))[0]


def test_a_host_that_a_sidecar_hides_is_not_said_to_have_no_service() -> None:
    hidden = document("Sidecar", "default", "{egress: [{hosts: [prod/*]}]}")
    found = told([hidden, routes("reviews", f"[{{route: [{to('reviews')}]}}]")])
    assert (found.verdict.status, found.verdict.flag) == (502, "NR")
    assert [one.partition(": ")[0] for one in notes(step(found, "host"))] == ["not Service default/reviews"]


def test_ports_that_are_not_there_or_not_http() -> None:
    assert told([], "http://reviews:1/").verdict.reason == "no_such_port"
    mysql = document("Service", "mysql", "{selector: {app: mysql}, ports: [{name: tcp, port: 3306}]}")
    assert told([mysql], "http://mysql:3306/").verdict.reason == "port_is_not_http"
    assert told([mysql], "reviews:9080", "CONNECT").verdict.reason == "port_is_http"
    calls = document("Service", "calls", "{selector: {app: reviews}, ports: [{name: grpc, port: 90}]}")
    assert "the port is HTTP/2" in notes(step(told([calls], "calls:90", "CONNECT"), "route"))[0]


def test_a_subset_without_endpoints_says_which_labels_are_missing() -> None:
    rule = subsets("reviews", "v1", "v9")
    found = told([rule, routes("reviews", f"[{{route: [{to('reviews', 'v9')}]}}]")])
    assert (found.verdict.status, found.verdict.flag) == (503, "UH")
    endpoints = step(found.shares[0], "endpoints")
    assert endpoints.ground.path == "spec.subsets[1]"
    assert "not default/reviews-v1: it has version=v1, subset v9 wants v9" in notes(endpoints)


def test_a_subset_that_no_rule_has() -> None:
    found = told([routes("reviews", f"[{{route: [{to('reviews', 'v8')}]}}]")])
    assert (found.verdict.status, found.verdict.flag, found.verdict.reason) == (503, "NC", "no_such_subset")


def test_only_what_proxies_serve_is_an_endpoint() -> None:
    live = [LiveWorkload("workload.default.reviews-v1", "n1", "127.0.0.1", 1)]
    found = told([], live=live)
    assert found.shares[0].endpoints == ("default/reviews-v1",)
    assert "not default/reviews-v2: no live proxy serves it" in notes(step(found.shares[0], "endpoints"))
    assert told([], live=[]).verdict.flag == "UH"


def test_each_section_of_a_rule_says_which_level_decides() -> None:
    spec = (
        "{host: reviews, trafficPolicy: {loadBalancer: {simple: RANDOM}, "
        "connectionPool: {tcp: {maxConnections: 5}}, "
        "portLevelSettings: [{port: {number: 9080}, outlierDetection: {consecutive5xxErrors: 3}}]}, "
        "subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}, "
        "{name: v2, labels: {version: v2}}]}"
    )
    more = [document("DestinationRule", "reviews", spec), routes("reviews", JASON)]
    rule = step(told(more).shares[0], "destination rule")
    assert rule.ground.path == "spec.subsets[0]"
    assert notes(rule) == [
        "loadBalancer: ROUND_ROBIN (said by subset v1: spec.subsets[0].trafficPolicy.loadBalancer)",
        "outlierDetection: after 3 5xx in a row an endpoint is left out for 30 s, 10% at most "
        "(said by port 9080 of the rule: spec.trafficPolicy.portLevelSettings[0].outlierDetection)",
    ]
    rule = step(told(more, end_user="jason").shares[0], "destination rule")
    assert notes(rule)[0] == "loadBalancer: LEAST_REQUEST (default of the mesh)"


def test_a_hash_key_picks_its_endpoint() -> None:
    spec = "{host: reviews, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}}"
    rule = document("DestinationRule", "reviews", spec)
    said = notes(step(told([rule], x_user="a").shares[0], "endpoints"))[0]
    assert said.startswith("consistentHash by header x-user: this request goes to default/reviews-v")
    assert "has no header x-user" in notes(step(told([rule]).shares[0], "endpoints"))[0]


def test_what_a_route_does_is_told() -> None:
    http = (
        f"[{{match: [{{uri: {{prefix: /reviews}}}}], rewrite: {{uri: /api}}, timeout: 2s, "
        f"retries: {{attempts: 3, perTryTimeout: 1s, retryOn: 5xx}}, "
        f"headers: {{request: {{set: {{x-a: b}}}}}}, "
        f"fault: {{delay: {{percentage: {{value: 50}}, fixedDelay: 1s}}}}, mirror: {{host: ratings}}, "
        f"route: [{to('reviews', 'v1')}]}}]"
    )
    found = told([routes("reviews", http)])
    said = {one.stage: one.says for one in found.steps}
    assert said["rewrite"] == "path /reviews/0 becomes /api/0"
    assert said["timeout"] == "2 s for the complete response, else 504 UT"
    assert said["retries"] == "up to 3 more tries, on 5xx, 1 s for each"
    assert said["headers"] == "request: set x-a: b"
    assert said["fault"] == "50% are delayed by 1 s"
    assert said["mirror"].startswith("100% of requests are copied to ratings.default.svc.cluster.local")
    assert step(found, "timeout").ground.path == "spec.http[0].timeout"
    assert found.verdict.outcome == "forwarded"


def test_a_fault_that_aborts_all_refuses_and_one_that_aborts_some_does_not() -> None:
    def fault(percent: int, status: str = "httpStatus: 418") -> Document:
        abort = f"{{{status}, percentage: {{value: {percent}}}}}"
        return routes("reviews", f"[{{fault: {{abort: {abort}}}, route: [{to('reviews', 'v1')}]}}]")

    verdict = told([fault(100)]).verdict
    assert (verdict.outcome, verdict.status, verdict.flag) == ("refused", 418, "FI")
    assert verdict.ground.path == "spec.http[0].fault"
    some = told([fault(99)]).verdict
    assert some.outcome == "forwarded"
    assert some.message.endswith("; before that 99% are aborted with 418 by the route's fault")
    call = told([fault(100, "grpcStatus: NOT_FOUND")])
    assert (call.verdict.outcome, call.verdict.status, call.verdict.flag) == ("refused", 404, "FI")
    assert step(call, "fault").says == "100% are aborted with NOT_FOUND"


def test_a_route_may_answer_itself() -> None:
    moved = told([routes("reviews", "[{redirect: {uri: /new}}]")])
    assert (moved.verdict.outcome, moved.verdict.status) == ("answered", 301)
    assert "location: http://reviews:9080/new" in moved.verdict.message
    fixed = told([routes("reviews", "[{directResponse: {status: 204}}]")])
    assert (fixed.verdict.outcome, fixed.verdict.status) == ("answered", 204)
    assert fixed.verdict.ground.path == "spec.http[0].directResponse"


def test_the_policy_and_rule_that_decide_are_named_with_why_others_do_not() -> None:
    spec = (
        "{selector: {matchLabels: {app: reviews}}, action: ALLOW, rules: ["
        "{from: [{source: {principals: [cluster.local/ns/default/sa/web]}}]}, "
        "{to: [{operation: {methods: [GET], paths: [/reviews/*]}}]}]}"
    )
    found = told([allow("viewers", spec)])
    authorization = step(found.shares[0], "authorization")
    assert authorization.says == "allowed by AuthorizationPolicy default/viewers rules[1] (ALLOW)"
    assert authorization.ground.path == "spec.rules[1]"
    refused = told([allow("viewers", spec)], "http://reviews:9080/other", "POST")
    assert (refused.verdict.outcome, refused.verdict.status, refused.verdict.flag) == ("refused", 403, "UAEX")
    assert notes(step(refused.shares[0], "authorization")) == [
        "not AuthorizationPolicy default/viewers rules[0] (ALLOW): caller's principal is "
        "'mesh.local/ns/default/sa/bookinfo-productpage', not mesh.local/ns/default/sa/web",
        "not AuthorizationPolicy default/viewers rules[1] (ALLOW): method is 'POST', not GET",
    ]


def test_a_denial_names_its_rule() -> None:
    spec = "{action: DENY, rules: [{from: [{source: {namespaces: [default]}}]}]}"
    verdict = told([allow("mesh-system/no-default", spec)]).verdict
    assert (verdict.status, verdict.ground.document, verdict.ground.path) == (
        403,
        "authorizationpolicy.mesh-system.no-default",
        "spec.rules[0]",
    )


def test_endpoints_whose_policies_differ_are_told_apart() -> None:
    spec = "{selector: {matchLabels: {version: v2}}, action: ALLOW, rules: []}"
    found = told([allow("closed", spec)])
    assert found.verdict.outcome == "partly_refused"
    assert found.is_refused
    said = [one.says for one in found.shares[0].steps if one.stage == "authorization"]
    assert any(one.startswith("at default/reviews-v2: denied") for one in said)


def test_the_policies_see_the_rewritten_path_and_host() -> None:
    http = f"[{{rewrite: {{uri: /new, authority: other}}, route: [{to('reviews', 'v1')}]}}]"
    rule = "{to: [{operation: {paths: [/new*], hosts: [other]}}]}"
    found = told(
        [routes("reviews", http), allow("new", f"{{action: ALLOW, rules: [{rule}]}}")], "http://reviews:9080/"
    )
    assert found.verdict.outcome == "forwarded"


def test_peer_authentication_and_rate_limits_are_told() -> None:
    more = [
        document("PeerAuthentication", "mesh-system/default", "{mtls: {mode: STRICT}}"),
        document(
            "PeerAuthentication", "own", "{selector: {matchLabels: {app: reviews}}, mtls: {mode: STRICT}}"
        ),
        document("RateLimit", "few", "{requests: 10, unit: MINUTE}"),
    ]
    share = told(more).shares[0]
    assert step(share, "peer authentication").says == "PeerAuthentication default/own: STRICT"
    assert step(share, "rate limit").says.startswith("RateLimit default/few: 10 per minute over the mesh")


EDGE = [
    ingress(),
    binding("ingressgateway", "mesh-system"),
    gateway(),
    routes(
        "bookinfo.com",
        f"[{{match: [{{uri: {{exact: /productpage}}}}], route: [{to('productpage', port=9080)}]}}]",
        name="bookinfo",
        extra=", gateways: [bookinfo-gateway]",
    ),
]


def test_a_gateway_is_explained_from_its_port_on() -> None:
    found = told(EDGE, "http://bookinfo.com:8080/productpage", caller=OUTSIDE)
    assert found.source == "outside, through gateway mesh-system/ingress"
    assert step(found, "listener").ground.path == "spec.servers[0]"
    assert step(found, "route").ground.document == "virtualservice.default.bookinfo"
    assert found.shares[0].endpoints == ("default/productpage-v1",)
    named = Caller(gateway="mesh-system/ingress")
    assert told(EDGE, "http://bookinfo.com:8080/productpage", caller=named).verdict == found.verdict


@pytest.mark.parametrize(
    ("url", "status", "reason"),
    [
        ("http://bookinfo.com:8080/nothing", 404, "no_route"),
        ("http://other.com:8080/productpage", 404, "no_virtual_host"),
        ("http://bookinfo.com:81/productpage", 0, "no_listener"),
        ("https://bookinfo.com:8080/productpage", 400, "bad_request"),
    ],
)
def test_a_gateway_refuses(url: str, status: int, reason: str) -> None:
    verdict = told(EDGE, url, caller=OUTSIDE).verdict
    assert (verdict.outcome, verdict.status, verdict.reason) == ("refused", status, reason)


def test_the_host_header_counts_at_a_gateway() -> None:
    found = told(EDGE, "http://127.0.0.1:8080/productpage", caller=OUTSIDE, host="bookinfo.com")
    assert found.verdict.outcome == "forwarded"
    with pytest.raises(ConfigError, match="write the host in the URL"):
        told([], "http://reviews:9080/", host="other")


def test_policies_of_the_gateway_come_first_and_see_no_identity() -> None:
    policy = allow("mesh-system/closed", "{selector: {matchLabels: {istio: ingressgateway}}}")
    verdict = told([*EDGE, policy], "http://other.com:8080/", caller=OUTSIDE).verdict
    assert (verdict.status, verdict.flag) == (403, "UAEX")
    assert "a caller without identity" in verdict.message


MYSQL = [
    document("Service", "mysql", "{selector: {app: mysql}, ports: [{name: tcp, port: 3306}]}"),
    workload("mysql", "v1"),
]


def test_a_connection_has_its_route_and_the_policies_for_connections() -> None:
    found = told(MYSQL, "mysql:3306", "CONNECT")
    assert found.request == "CONNECT mysql:3306"
    assert found.shares[0].endpoints == ("default/mysql-v1",)
    only_get = allow("get", "{action: ALLOW, rules: [{to: [{operation: {methods: [GET]}}]}]}")
    refused = told([*MYSQL, only_get], "mysql:3306", "CONNECT")
    assert refused.verdict.status == 403
    (note,) = notes(step(refused.shares[0], "authorization"))
    assert note.endswith("rules[0] (ALLOW): it asks about requests, and this is a connection")
    rules = "[{to: [{operation: {methods: [GET]}}]}, {from: [{source: {namespaces: [default]}}]}]"
    second = told([*MYSQL, allow("both", f"{{action: ALLOW, rules: {rules}}}")], "mysql:3306", "CONNECT")
    assert step(second.shares[0], "authorization").ground.path == "spec.rules[1]"


def test_tls_routes_are_chosen_by_server_name() -> None:
    entry = document(
        "ServiceEntry",
        "google",
        "{hosts: [www.google.com], location: MESH_EXTERNAL, resolution: DNS, "
        "ports: [{number: 443, name: tls, protocol: TLS}]}",
    )
    spec = (
        "{hosts: [www.google.com], tls: [{match: [{port: 443, sniHosts: [www.google.com]}], "
        "route: [{destination: {host: www.google.com, port: {number: 443}}}]}]}"
    )
    more = [entry, document("VirtualService", "google", spec)]
    found = told(more, "https://www.google.com/")
    assert found.verdict.outcome == "forwarded"
    assert step(found, "route").ground.path == "spec.tls[0]"
    other = told(more, "www.google.com:443", "CONNECT", sni="example.com")
    assert other.verdict.reason == "no_route"
    assert "server name is 'example.com', not www.google.com" in notes(step(other, "route"))[0]


def test_endpoints_without_a_proxy_need_leave() -> None:
    entry = document("WorkloadEntry", "old", "{address: 192.0.2.7, labels: {app: billing}}")
    more = [service("billing"), entry]
    found = told(more, "http://billing:9080/")
    assert (found.verdict.flag, found.verdict.reason) == ("UH", "endpoint_without_proxy")
    assert "DISABLE" in notes(step(found.shares[0], "endpoints"))[0]
    rule = document("DestinationRule", "billing", "{host: billing, trafficPolicy: {tls: {mode: DISABLE}}}")
    allowed = told([*more, rule], "http://billing:9080/")
    assert allowed.verdict.outcome == "forwarded"
    assert step(allowed.shares[0], "tls").ground.path == "spec.trafficPolicy.tls.mode"


def test_a_path_that_would_be_refused() -> None:
    verdict = told([], "http://reviews:9080/%zz").verdict
    assert (verdict.status, verdict.flag) == (400, "DPE")


def test_a_caller_that_nothing_knows() -> None:
    with pytest.raises(
        NotFound, match=r"default/nobody does not exist; workloads here: default/productpage-v1"
    ):
        told([], caller=Caller(workload="nobody"))
    with pytest.raises(NotFound, match="no Gateway and no ingress workload"):
        told([], caller=Caller(gateway="nobody"))
    with pytest.raises(ConfigError, match="who calls is not said"):
        told([], caller=Caller())


def test_a_caller_may_be_described() -> None:
    caller = Caller(labels=(("app", "web"),), namespace="prod", account="web")
    found = told([], "http://reviews.default:9080/", caller=caller)
    assert found.principal == "mesh.local/ns/prod/sa/web"
    assert found.verdict.outcome == "forwarded"


def test_lines_of_a_stored_document_are_those_that_get_prints() -> None:
    world = World({one.key: one for one in [*BASE, routes("reviews", JASON)]})
    found = explain(world, ask(PRODUCTPAGE, "http://reviews:9080/"), locate=as_printed)
    ground = step(found, "route").ground
    assert ground.where.startswith("VirtualService default/reviews:")
    assert ground.path == "spec.http[1]"


@pytest.mark.parametrize(
    "url", ["", "http://", "ftp://reviews/", "http://user@reviews/", "http://reviews:x/"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        ask(PRODUCTPAGE, url)


def test_what_is_not_exported_to_the_caller_is_told() -> None:
    entry = document(
        "ServiceEntry",
        "prod/api",
        "{hosts: [api.example.com], exportTo: ['.'], resolution: DNS, "
        "ports: [{number: 80, name: http, protocol: HTTP}]}",
    )
    hidden = told([entry], "http://api.example.com/")
    assert (hidden.verdict.status, hidden.verdict.flag) == (502, "NR")
    host = step(hidden, "host")
    assert "not exported to namespace default" in notes(host)[0]
    assert host.notes[0].ground.path == "spec.exportTo"
    route = document(
        "VirtualService",
        "prod/reviews",
        "{hosts: [reviews.default.svc.cluster.local], exportTo: ['.'], "
        f"http: [{{route: [{to('ratings')}]}}]}}",
    )
    assert "not exported to namespace default" in notes(step(told([route]), "route"))[0]


def test_the_rules_of_the_callers_namespace_hold() -> None:
    host = "reviews.default.svc.cluster.local"
    spec = f"{{host: {host}, trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 7}}}}}}}}"
    caller = Caller(labels=(("app", "web"),), namespace="prod")
    rule = document("DestinationRule", "prod/reviews", spec)
    share = told([rule], f"http://{host}:9080/", caller=caller).shares[0]
    assert step(share, "destination rule").ground.document == "destinationrule.prod.reviews"
    assert "connectionPool: maxConnections 7" in notes(step(share, "destination rule"))[1]
    other = step(told([rule]).shares[0], "destination rule")
    assert other.ground.document == "destinationrule.default.reviews"
    assert "it is not for this caller" in notes(other)[-1]


API_EDGE = [
    ingress(),
    document(
        "Gateway.gateway.networking.k8s.io",
        "api",
        "{gatewayClassName: ray-mesh, listeners: "
        "[{name: web, port: 8080, protocol: HTTP, hostname: '*.example.com'}]}",
    ),
    document(
        "HTTPRoute",
        "web",
        "{parentRefs: [{name: api}], hostnames: [shop.example.com], rules: ["
        "{matches: [{path: {type: PathPrefix, value: /reviews}, headers: [{name: x-a, value: b}]}], "
        "backendRefs: [{name: reviews, port: 9080}]}, "
        "{matches: [{path: {type: PathPrefix, value: /}}], backendRefs: [{name: nowhere, port: 80}]}]}",
    ),
]


def test_a_gateway_of_the_gateway_api() -> None:
    caller = Caller(gateway="default/api")
    found = told(API_EDGE, "http://shop.example.com:8080/reviews/1", caller=caller, x_a="b")
    assert found.verdict.outcome == "forwarded"
    assert step(found, "listener").ground.path == "spec.listeners[0]"
    assert step(found, "route").ground.document == "httproute.default.web"
    assert step(found, "route").ground.path == "spec.rules[0]"
    other = told(API_EDGE, "http://shop.example.com:8080/reviews/1", caller=caller)
    assert "(default/web/0): header x-a is not there, exact 'b' is wanted;" in notes(step(other, "route"))[0]
    assert (other.verdict.status, other.verdict.reason) == (500, "invalid_backend")
    absent = told(API_EDGE, "http://www.example.com:8080/", caller=caller)
    assert absent.verdict.status == 404


def test_a_route_of_a_service_in_the_mesh_goes_before_virtual_services() -> None:
    spec = (
        "{parentRefs: [{group: '', kind: Service, name: reviews}], "
        "rules: [{matches: [{path: {type: PathPrefix, value: /v}}], "
        "backendRefs: [{name: ratings, port: 9080}]}]}"
    )
    more = [document("HTTPRoute", "reviews", spec), routes("reviews", JASON)]
    found = told(more, "http://reviews:9080/v/1")
    assert step(found, "route").ground.document == "httproute.default.reviews"
    assert found.shares[0].host.startswith("ratings.")
    assert told(more).verdict.status == 404


@pytest.mark.parametrize(("trusted", "subset"), [(0, "v1"), (1, "v2")])
def test_only_trusted_proxies_are_believed_about_the_client(trusted: int, subset: str) -> None:
    config = document(
        "MeshConfig",
        "mesh-system/mesh",
        f"{{defaultConfig: {{gatewayTopology: {{numTrustedProxies: {trusted}}}}}}}",
    )
    http = (
        f"[{{match: [{{scheme: {{exact: https}}, headers: {{x-forwarded-for: {{prefix: '198.'}}}}}}], "
        f"route: [{to('reviews', 'v2', port=9080)}]}}, {{route: [{to('reviews', 'v1', port=9080)}]}}]"
    )
    edge = [*EDGE[:3], routes("shop.com", http, extra=", gateways: [bookinfo-gateway]"), config]
    address, proto = "198.51.100.1", "https"
    found = told(
        edge, "http://shop.com:8080/", caller=OUTSIDE, x_forwarded_for=address, x_forwarded_proto=proto
    )
    assert [one.subset for one in found.shares] == [subset]


def test_a_connection_to_a_port_of_requests_is_refused_by_the_callee() -> None:
    spec = "{hosts: [mysql], tcp: [{route: [{destination: {host: reviews, port: {number: 9080}}}]}]}"
    verdict = told([*MYSQL, document("VirtualService", "mysql", spec)], "mysql:3306", "CONNECT").verdict
    assert (verdict.status, verdict.reason) == (502, "no_such_port")


def sidecar(spec: str, name: str = "own") -> Document:
    return document("Sidecar", name, spec)


def test_unknown_hosts_are_passed_on_where_the_policy_says_so() -> None:
    config = document("MeshConfig", "mesh-system/mesh", "{outboundTrafficPolicy: {mode: ALLOW_ANY}}")
    for url, method in (("http://other.example.com:8080/", "GET"), ("other.example.com:8080", "CONNECT")):
        found = told([config], url, method)
        assert found.verdict.outcome == "forwarded"
        assert found.shares[0].endpoints == ("other.example.com:8080",)
        assert step(found, "host").ground.path == "spec.outboundTrafficPolicy"
    assert told([config], "http://127.0.0.1/").verdict.reason == "host_not_in_mesh"
    only = sidecar("{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}")
    refused = told([config, only], "http://other.example.com/")
    assert refused.verdict.status == 502
    assert step(refused, "host").ground.document == "sidecar.default.own"


def test_a_sidecar_hides_hosts_and_routes() -> None:
    hidden = told([sidecar("{egress: [{hosts: ['./ratings.default.svc.cluster.local']}]}")])
    assert hidden.verdict.status == 502
    host = step(hidden, "host")
    assert "not among the egress hosts of Sidecar default/own" in notes(host)[0]
    assert host.notes[0].ground.document == "sidecar.default.own"
    elsewhere = document(
        "VirtualService",
        "prod/reviews",
        f"{{hosts: [reviews.default.svc.cluster.local], http: [{{route: [{to('ratings.default')}]}}]}}",
    )
    found = told([elsewhere, sidecar("{egress: [{hosts: ['./*']}]}")])
    assert found.shares[0].host.startswith("reviews.")
    assert (
        "not VirtualService prod/reviews: it is not among the egress hosts" in notes(step(found, "route"))[0]
    )


def test_a_pattern_is_called_by_the_host_that_was_asked_for() -> None:
    entry = document(
        "ServiceEntry",
        "wild",
        "{hosts: ['*.example.com'], location: MESH_EXTERNAL, resolution: DYNAMIC_DNS, "
        "ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]}",
    )
    found = told([entry], "http://a.example.com/")
    assert step(found, "host").ground.document == "serviceentry.default.wild"
    assert found.shares[0].endpoints == ("a.example.com:80",)
    assert told([entry], "https://a.example.com/").verdict.outcome == "forwarded"
    other = told([entry], "a.example.com:443", "CONNECT", sni="b.example.com")
    assert (other.verdict.status, other.verdict.reason) == (403, "other_server_name")


TLS_EDGE = [
    ingress(ports="{'80': 18080, '443': 18443}"),
    document(
        "Gateway",
        "bookinfo-gateway",
        "{selector: {istio: ingressgateway}, servers: ["
        "{port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.com], tls: {httpsRedirect: true}}, "
        "{port: {number: 443, name: https, protocol: HTTPS}, hosts: [shop.com], "
        "tls: {mode: SIMPLE, serverCertificate: /c.pem, privateKey: /k.pem}}, "
        "{port: {number: 443, name: other, protocol: HTTPS}, hosts: [other.com], "
        "tls: {mode: MUTUAL, serverCertificate: /c.pem, privateKey: /k.pem, caCertificates: /a.pem}}, "
        "{port: {number: 443, name: tls, protocol: TLS}, hosts: [raw.com], tls: {mode: PASSTHROUGH}}]}",
    ),
    document(
        "VirtualService",
        "all",
        "{hosts: [shop.com, other.com, raw.com], gateways: [bookinfo-gateway], "
        f"http: [{{route: [{to('reviews', port=9080)}]}}], "
        f"tls: [{{match: [{{sniHosts: [raw.com]}}], route: [{to('mysql')}]}}]}}",
    ),
    *MYSQL,
]


@pytest.mark.parametrize(
    ("url", "sni", "outcome", "reason"),
    [
        ("https://shop.com/", "", "forwarded", ""),
        ("https://other.com/", "", "forwarded", ""),
        ("https://other.com/", "shop.com", "refused", "misdirected"),
        ("https://nobody.com/", "", "refused", "unrecognized_name"),
        ("https://raw.com/", "", "forwarded", ""),
        ("http://shop.com:443/", "", "refused", "bad_client_hello"),
        ("http://shop.com/x?y", "", "answered", "https_only"),
    ],
)
def test_tls_at_a_gateway(url: str, sni: str, outcome: str, reason: str) -> None:
    verdict = told(TLS_EDGE, url, caller=OUTSIDE, sni=sni).verdict
    assert (verdict.outcome, verdict.reason) == (outcome, reason), verdict


def test_a_gateway_opens_no_tunnels() -> None:
    assert told(EDGE, "bookinfo.com:8080", "CONNECT", caller=OUTSIDE).verdict.reason == "no_tunnels"


def test_localities_share_out_what_the_proxy_shares_out() -> None:
    def placed(version: str, zone: str) -> Document:
        one = workload("ratings", version)
        return replace(one, labels={**one.labels, "istio-locality": f"west.{zone}"})

    spec = (
        "{host: ratings, trafficPolicy: {loadBalancer: {localityLbSetting: {enabled: true, "
        "distribute: [{from: 'west/*', to: {'west/a/*': 80, 'west/b/*': 20}}]}}}}"
    )
    more = [placed("v1", "a"), placed("v2", "b"), document("DestinationRule", "ratings", spec)]
    caller = Caller(labels=(("app", "web"), ("istio-locality", "west.a")))
    said = notes(step(told(more, "http://ratings:9080/", caller=caller).shares[0], "endpoints"))
    assert said == ["by locality 80% go to default/ratings-v1", "by locality 20% go to default/ratings-v2"]


def test_a_share_that_is_refused_is_named() -> None:
    shares = f"{to('reviews', 'v1', 90)}, {to('reviews', 'v9', 10)}"
    found = told([subsets("reviews", "v1", "v9"), routes("reviews", f"[{{route: [{shares}]}}]")])
    assert (found.verdict.outcome, found.verdict.flag) == ("partly_refused", "UH")
    assert found.verdict.message.startswith(
        "10%, those to reviews.default.svc.cluster.local subset v9: subset v9"
    )


def test_the_version_of_http_where_it_is_not_the_callers_choice() -> None:
    assert all(one.stage != "version" for one in told([]).shares[0].steps)
    calls = document("Service", "reviews", "{selector: {app: reviews}, ports: [{name: grpc, port: 9080}]}")
    (share,) = told([calls]).shares
    assert step(share, "version").says == (
        "HTTP/2 to the endpoints, whatever the caller speaks (port 9080 is grpc)"
    )
    assert step(share, "version").ground.path == "spec.ports[0]"
    pool = "{http: {h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 9}}"
    rule = document(
        "DestinationRule", "reviews", f"{{host: reviews, trafficPolicy: {{connectionPool: {pool}}}}}"
    )
    (share,) = told([rule]).shares
    assert "h2UpgradePolicy UPGRADE" in step(share, "version").says
    limits = "connectionPool: maxConcurrentStreams 9, h2UpgradePolicy UPGRADE"
    assert any(one.startswith(limits) for one in notes(step(share, "destination rule")))


def test_a_grpc_route_decides_for_calls_inside_the_mesh() -> None:
    calls = document("Service", "reviews", "{selector: {app: reviews}, ports: [{name: grpc, port: 9080}]}")
    rule = "{matches: [{method: {service: a.B}}], backendRefs: [{name: reviews, port: 9080}]}"
    parent = "{group: '', kind: Service, name: reviews}"
    route = document("GRPCRoute", "calls", f"{{parentRefs: [{parent}], rules: [{rule}]}}")
    found = told([calls, route], "http://reviews:9080/a.B/Get", "POST")
    assert found.verdict.outcome == "forwarded"
    assert step(found, "route").ground.path == "spec.rules[0]"
    assert step(found, "route").ground.document == "grpcroute.default.calls"
    missed = told([calls, route], "http://reviews:9080/a.C/Get", "POST")
    assert (missed.verdict.outcome, missed.verdict.status) == ("refused", 404)
