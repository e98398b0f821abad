"""Services: routes, subsets, balance, merging."""

from __future__ import annotations

import pytest
from compile_world import at, document, routes, service, subsets, to, workload, world

from ray_mesh.compile import World, compile_key
from ray_mesh.resources import load
from ray_mesh.snapshot import (
    Destination,
    Fault,
    NamedMatch,
    Port,
    RequestMatch,
    Route,
    Service,
    StringMatch,
    Subset,
    decode,
    encode,
)

REVIEWS = "reviews.default.svc.cluster.local"
RATINGS = "ratings.default.svc.cluster.local"


def compiled(of: World, name: str = "reviews", namespace: str = "default") -> Service:
    resource = compile_key(of, f"service.{namespace}.{name}")
    assert isinstance(resource, Service)
    return resource


def names(of: World, name: str = "reviews") -> list[str]:
    return [route.name for route in compiled(of, name).routes]


def test_a_service_without_virtual_service_routes_to_itself() -> None:
    assert compiled(world(service("reviews"))) == Service(
        host=REVIEWS,
        namespace="default",
        name="reviews",
        ports=(Port(9080, "http-9080"),),
        subsets=(),
        routes=(Route("default", "Service default/reviews", (), (Destination(REVIEWS),)),),
    )
    assert compile_key(world(), "service.default.reviews") is None


def test_everything_a_route_can_say() -> None:
    text = """
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - name: canary
    match:
    - uri: {prefix: /a}
      ignoreUriCase: true
      method: {exact: GET}
      authority: {prefix: rev}
      headers: {End-User: {exact: jason}, x-any: {}, x-empty: {exact: ""}}
      withoutHeaders: {X-No: {}}
      queryParams: {q: {exact: ""}}
      port: 9080
      sourceLabels: {version: v2, app: productpage}
      sourceNamespace: default
    fault:
      delay: {fixedDelay: 1h1m1s100ms, percentage: {value: 0.5}}
      abort: {httpStatus: 503, percentage: {value: 10}}
    timeout: 1.5s
    route:
    - destination: {host: reviews, subset: v1}
      weight: 1
    - destination: {host: ratings.default}
      weight: 3
    - destination: {host: ratings.default.svc.cluster.local, port: {number: 80}}
"""
    [document_] = load(text, "f")
    assert compiled(world(service("reviews"), service("ratings", 80, 81), document_)).routes == (
        Route(
            name="canary",
            origin="VirtualService default/reviews spec.http[0]",
            matches=(
                RequestMatch(
                    uri=StringMatch("prefix", "/a"),
                    method=StringMatch("exact", "GET"),
                    authority=StringMatch("prefix", "rev"),
                    headers=(
                        NamedMatch("end-user", StringMatch("exact", "jason")),
                        NamedMatch("x-any", StringMatch("present")),
                        NamedMatch("x-empty", StringMatch("present")),
                    ),
                    without_headers=(NamedMatch("x-no", StringMatch("present")),),
                    query_params=(NamedMatch("q", StringMatch("exact", "")),),
                    ignore_uri_case=True,
                    port=9080,
                    source_labels=(("app", "productpage"), ("version", "v2")),
                    source_namespace="default",
                ),
            ),
            destinations=(Destination(REVIEWS, "v1", 9080, 1), Destination(RATINGS, "", 0, 3)),
            fault=Fault(3661.1, 0.5, 503, 10.0),
            timeout_s=1.5,
        ),
    )


@pytest.mark.parametrize(("weight", "expected"), [(None, 100), (0, 100), (7, 100)])
def test_one_destination_takes_all_whatever_its_weight(weight: int | None, expected: int) -> None:
    rule = routes("reviews", f"[{{route: [{to('reviews', weight=weight)}]}}]")
    assert compiled(world(service("reviews"), rule)).routes[0].destinations[0].weight == expected


def test_the_older_percent_and_no_percentage() -> None:
    old = routes(
        "reviews", f"[{{fault: {{delay: {{fixedDelay: 1s, percent: 7}}}}, route: [{to('reviews')}]}}]"
    )
    assert compiled(world(service("reviews"), old)).routes[0].fault == Fault(1.0, 7.0)
    none = routes("reviews", f"[{{fault: {{abort: {{httpStatus: 500}}}}, route: [{to('reviews')}]}}]")
    assert compiled(world(service("reviews"), none)).routes[0].fault == Fault(abort_status=500)


def test_an_abort_by_a_status_of_grpc() -> None:
    abort = "{grpcStatus: UNAVAILABLE, percentage: {value: 5}}"
    rule = routes("reviews", f"[{{fault: {{abort: {abort}}}, route: [{to('reviews')}]}}]")
    made = compiled(world(service("reviews"), rule))
    assert made.routes[0].fault == Fault(abort_percent=5.0, abort_grpc_status=14)
    assert decode("service.default.reviews", encode(made)) == made


def test_names_of_matches_are_appended_and_split_the_route() -> None:
    matches = "{name: a, uri: {exact: /a}}, {uri: {exact: /b}}"
    http = f"[{{name: r, match: [{matches}], route: [{to('reviews')}]}}]"
    assert names(world(service("reviews"), routes("reviews", http))) == ["r.a", "r"]


def test_only_what_is_for_the_mesh_is_compiled_for_services() -> None:
    http = (
        f"[{{name: gw, match: [{{gateways: [g]}}], route: [{to('reviews')}]}},"
        f"{{name: both, match: [{{gateways: [g, mesh]}}], route: [{to('reviews')}]}}]"
    )
    both = routes("reviews", http, extra=", gateways: [g, mesh]")
    assert names(world(service("reviews"), both)) == ["both"]
    outside = routes("reviews", f"[{{name: x, route: [{to('reviews')}]}}]", extra=", gateways: [g]")
    assert names(world(service("reviews"), outside)) == ["default"]


def test_rules_behind_one_that_takes_all_are_left_out() -> None:
    http = (
        f"[{{name: a, match: [{{uri: {{prefix: /}}}}], route: [{to('reviews')}]}},"
        f"{{name: b, match: [{{uri: {{exact: /b}}}}], route: [{to('reviews')}]}}]"
    )
    assert names(world(service("reviews"), routes("reviews", http))) == ["a"]


def test_virtual_services_of_one_host_are_merged_oldest_first_with_catch_alls_last() -> None:
    def two(name: str, admitted_at: float) -> list[str]:
        http = (
            f"[{{name: {name}1, match: [{{uri: {{exact: /{name}}}}}], route: [{to('reviews')}]}},"
            f"{{name: {name}2, route: [{to('reviews')}]}}]"
        )
        return [http, str(admitted_at)]

    def merged(a_at: float, b_at: float) -> list[str]:
        a = routes("reviews", two("a", a_at)[0], name="a", admitted_at=a_at)
        b = routes(REVIEWS, two("b", b_at)[0], name="b", admitted_at=b_at)
        return names(world(service("reviews"), b, a))

    assert merged(1.0, 2.0) == ["a1", "b1", "a2", "b2"]
    assert merged(2.0, 1.0) == ["b1", "a1", "b2", "a2"]
    assert merged(1.0, 1.0) == ["a1", "b1", "a2", "b2"]


def test_the_most_specific_host_wins() -> None:
    def named(host: str, name: str) -> str:
        return f"[{{name: {name}, route: [{to('reviews.default')}]}}]"

    wide = routes("'*.svc.cluster.local'", named("", "wide"), name="mesh-system/wide")
    near = routes("'*.default.svc.cluster.local'", named("", "near"), name="near")
    exact = routes("reviews", named("", "exact"), name="exact")
    assert names(world(service("reviews"), wide)) == ["wide"]
    assert names(world(service("reviews"), wide, near)) == ["near"]
    assert names(world(service("reviews"), wide, near, exact)) == ["exact"]


def test_short_names_are_those_of_the_namespace_of_the_document() -> None:
    other = routes("reviews", f"[{{name: x, route: [{to('reviews')}]}}]", name="prod/reviews")
    both = world(service("reviews"), service("prod/reviews"), other)
    assert names(both) == ["default"]
    [route] = compiled(both, namespace="prod").routes
    assert route.destinations == (Destination("reviews.prod.svc.cluster.local", "", 9080),)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("LEAST_CONN", "LEAST_REQUEST"),
        ("UNSPECIFIED", "LEAST_REQUEST"),
        ("ROUND_ROBIN", "ROUND_ROBIN"),
        ("RANDOM", "RANDOM"),
    ],
)
def test_balance(written: str, expected: str) -> None:
    policy = f"{{loadBalancer: {{simple: {written}}}, tls: {{mode: ISTIO_MUTUAL}}}}"
    own = "{name: v2, labels: {version: v2}, trafficPolicy: {loadBalancer: {simple: RANDOM}}}"
    spec = f"{{host: reviews, trafficPolicy: {policy}, subsets: [{own}, {{name: all}}]}}"
    resource = compiled(world(service("reviews"), document("DestinationRule", "reviews", spec)))
    assert resource.balance == expected
    assert resource.subsets == (Subset("all", ()), Subset("v2", (("version", "v2"),), "RANDOM"))


def test_rules_come_from_the_services_namespace_then_from_the_root_namespace() -> None:
    def rule(name: str, host: str, balance: str) -> str:
        return f"{{host: '{host}', trafficPolicy: {{loadBalancer: {{simple: {balance}}}}}}}"

    root = document("DestinationRule", "mesh-system/all", rule("", "*.svc.cluster.local", "RANDOM"))
    client = document("DestinationRule", "client/reviews", rule("", "reviews.default", "ROUND_ROBIN"))
    own = document("DestinationRule", "reviews", rule("", "reviews", "ROUND_ROBIN"))
    assert compiled(world(service("reviews"), client)).balance == "LEAST_REQUEST"
    assert compiled(world(service("reviews"), client, root)).balance == "RANDOM"
    assert compiled(world(service("reviews"), client, root, own)).balance == "ROUND_ROBIN"


def test_rules_of_one_host_are_merged_and_the_oldest_defines_a_subset() -> None:
    old = subsets("reviews", "v1", name="old", admitted_at=1.0)
    spec = (
        "{host: reviews, subsets: [{name: v1, labels: {version: other}}, {name: v2, labels: {version: v2}}]}"
    )
    new = document("DestinationRule", "new", spec, admitted_at=2.0)
    resource = compiled(world(service("reviews"), new, old))
    assert resource.subsets == (Subset("v1", (("version", "v1"),)), Subset("v2", (("version", "v2"),)))


def test_equal_documents_give_equal_bytes_in_any_order() -> None:
    documents = [
        service("reviews"),
        service("ratings"),
        workload("reviews", "v1"),
        subsets("reviews", "v2", "v1"),
    ]
    one, two = world(*documents), world(*reversed(at(documents, 9.0)))
    assert encode(compiled(one)) == encode(compiled(two))
