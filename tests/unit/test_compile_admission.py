"""Admission: what refuses a change, what is only told, and what a message says."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from compile_world import (
    binding,
    bookinfo,
    document,
    gateway,
    ingress,
    routes,
    service,
    subsets,
    to,
    workload,
    world,
)

from ray_mesh.compile import Finding, World, admit, has_errors
from ray_mesh.gateway.admission import is_small
from ray_mesh.resources import Document


def mesh(*extra: Document) -> World:
    return world(*bookinfo(), *extra)


def codes(findings: list[Finding]) -> list[str]:
    return [f"{one.severity} {one.code} {one.path}" for one in findings]


def judged(*documents: Document, of: World | None = None, delete: tuple[str, ...] = ()) -> list[str]:
    return codes(admit(of or mesh(), documents, delete))


def one(*documents: Document, of: World | None = None, delete: tuple[str, ...] = ()) -> Finding:
    [finding] = admit(of or mesh(), documents, delete)
    return finding


DESTINATION = "spec.http[0].route[0].destination"


def test_a_rule_and_its_subsets_may_arrive_together() -> None:
    rule = routes("reviews", f"[{{route: [{to('reviews', 'v1')}]}}]")
    assert judged(rule, subsets("reviews", "v1")) == []
    assert judged(rule) == [f"error IST0101 {DESTINATION}.subset"]
    assert judged(rule, of=mesh(subsets("reviews", "v2"))) == [f"error IST0101 {DESTINATION}.subset"]


@pytest.mark.parametrize(
    ("http", "expected"),
    [
        (f"[{{route: [{to('nowhere')}]}}]", [f"error IST0101 {DESTINATION}.host"]),
        (f"[{{route: [{to('reviews.prod')}]}}]", [f"error IST0101 {DESTINATION}.host"]),
        (f"[{{route: [{to('reviews', port=80)}]}}]", [f"error IST0101 {DESTINATION}.port.number"]),
        (f"[{{route: [{to('reviews', port=9080)}]}}]", []),
        (
            f"[{{route: [{to('reviews', 'v1', 1)}, {to('reviews', 'v2', 1)}]}}]",
            ["warning RM0104 spec.http[0].route"],
        ),
        (
            f"[{{route: [{to('reviews')}]}}, {{name: x, route: [{to('reviews')}]}}]",
            ["warning IST0130 spec.http[1]"],
        ),
        (
            f"[{{match: [{{uri: {{prefix: /}}}}], route: [{to('reviews')}]}}, {{route: [{to('reviews')}]}}]",
            ["warning IST0130 spec.http[1]"],
        ),
        (
            f"[{{fault: {{abort: {{httpStatus: 500}}}}, route: [{to('reviews')}]}}]",
            ["warning RM0105 spec.http[0].fault.abort"],
        ),
    ],
)
def test_routes(http: str, expected: list[str]) -> None:
    assert judged(routes("reviews", http), of=mesh(subsets("reviews", "v1", "v2"))) == expected


def test_a_subset_that_nobody_is_in_is_refused_with_the_labels_that_are_missing() -> None:
    of = mesh(subsets("ratings", "v1", "v2-mysql"))
    finding = one(routes("ratings", f"[{{route: [{to('ratings', 'v2-mysql')}]}}]"), of=of)
    assert (finding.severity, finding.code) == ("error", "IST0173")
    assert (
        "subset v2-mysql of ratings.default.svc.cluster.local selects no registered workload"
        in finding.message
    )
    assert "nobody behind Service default/ratings has labels version=v2-mysql" in finding.message
    assert finding.fix == (
        "attach a workload with version=v2-mysql first, or route to another subset; workloads have version=v1"
    )
    assert finding.where == "VirtualService.yaml:4:72"


def test_a_subset_without_traffic_may_be_empty() -> None:
    http = f"[{{route: [{to('ratings', 'v1', 100)}, {to('ratings', 'v2', 0)}]}}]"
    assert judged(routes("ratings", http), of=mesh(subsets("ratings", "v1", "v2"))) == []


def test_a_service_with_several_ports() -> None:
    of = mesh(service("two", 80, 81))
    assert judged(routes("reviews", f"[{{route: [{to('two')}]}}]"), of=of) == [f"error IST0112 {DESTINATION}"]
    assert judged(routes("two", f"[{{route: [{to('two')}]}}]"), of=of) == []
    assert judged(
        routes("two", f"[{{route: [{to('two')}]}}]", extra=", gateways: [mesh, g]"), gateway("g"), of=of
    ) == [f"error IST0112 {DESTINATION}"]


def test_hosts_that_are_no_service() -> None:
    assert judged(routes("nowhere", f"[{{route: [{to('reviews')}]}}]")) == ["error RM0106 spec.hosts[0]"]
    assert judged(routes("'*.b.svc.cluster.local'", f"[{{route: [{to('reviews')}]}}]", name="b")) == [
        "warning RM0106 spec.hosts[0]"
    ]


def test_merged_virtual_services_and_rules_are_told() -> None:
    http = f"[{{route: [{to('reviews')}]}}]"
    assert judged(routes("reviews", http, name="b"), of=mesh(routes("reviews", http))) == [
        "warning RM0102 spec.hosts[0]",  # that they are merged
        "warning RM0102 spec.hosts[0]",  # that the later catch-all is lost
    ]
    assert judged(subsets("reviews", "v1", name="b"), of=mesh(subsets("reviews", "v2"))) == [
        "warning RM0103 spec.host"
    ]


def test_gateways() -> None:
    rule = routes("a.org", f"[{{route: [{to('reviews')}]}}]", name="x", extra=", gateways: [g]")
    assert judged(rule, gateway("g")) == []
    assert judged(rule) == ["error IST0101 spec.gateways[0]"]
    assert judged(rule, gateway("g", hosts="['b.org']")) == ["warning IST0132 spec.gateways[0]"]
    finding = one(gateway("g", port=80))
    assert (finding.code, finding.path) == ("IST0162", "spec.servers[0].port.number")
    assert "mesh-system/ingress exposes 8080" in finding.message
    assert judged(gateway("g"), of=world(service("reviews"))) == ["error IST0101 spec.selector"]


def test_destination_rules() -> None:
    assert judged(subsets("nowhere", "v1")) == ["error IST0174 spec.host"]
    assert judged(subsets("reviews", "v1", "v9")) == ["warning IST0173 spec.subsets[1]"]
    client = document("DestinationRule", "client/x", "{host: reviews.default.svc.cluster.local}")
    assert judged(client) == []
    assert judged(document("DestinationRule", "mesh-system/all", "{host: '*.local'}")) == []
    assert judged(document("DestinationRule", "mesh-system/all", "{host: '*.org'}")) == [
        "warning IST0174 spec.host"
    ]


def test_policies_that_hold_for_nobody_are_told() -> None:
    for kind, rest in (
        ("AuthorizationPolicy", ""),
        ("PeerAuthentication", ""),
        ("RateLimit", "requests: 1, unit: SECOND,"),
    ):
        spec = f"{{{rest} selector: {{matchLabels: {{app: nobody}}}}}}"
        assert judged(document(kind, "x", spec)) == ["warning IST0127 spec.selector"]
        assert judged(document(kind, "x", spec.replace("nobody", "reviews"))) == []


def test_principals_of_other_trust_domains_are_told() -> None:
    values = "['other.org/ns/a/sa/b', 'mesh.local/ns/a/sa/b', 'cluster.local/ns/a/sa/b', '*/sa/b', 'x*']"
    spec = f"{{action: DENY, rules: [{{from: [{{source: {{notPrincipals: {values}}}}}]}}]}}"
    assert judged(document("AuthorizationPolicy", "x", spec)) == [
        "warning RM0109 spec.rules[0].from[0].source.notPrincipals[0]"
    ]


def test_a_workload_needs_a_binding_that_covers_its_node() -> None:
    joined = workload("thief", "v1")
    finding = one(joined)
    assert finding.code == "RM0101"
    assert "no WorkloadBinding lets service account default/bookinfo-thief run on node n1" in finding.message
    assert has_errors(admit(mesh(), [joined, binding("bookinfo-thief", nodes="[n2]")]))
    assert has_errors(admit(mesh(), [joined, binding("bookinfo-thief", "other")]))
    assert judged(joined, binding("bookinfo-thief", nodes="[n2, n1]")) == []


def test_a_set_holds_each_object_once() -> None:
    assert judged(service("new"), service("new")) == ["error RM0001 "]
    assert judged(service("reviews"), delete=("service.default.reviews",)) == ["error RM0001 "]
    assert judged(delete=("service.default.nothing",)) == ["warning RM0003 "]


def test_deleting_what_others_use_is_refused_and_names_them() -> None:
    rule = routes("reviews", f"[{{route: [{to('reviews', 'v1')}]}}]", name="mine")
    of = mesh(rule, subsets("reviews", "v1"))
    found = admit(of, [], ["service.default.reviews"])
    assert codes(found) == ["error RM0002 "] * 3
    assert {one.key for one in found} == {"service.default.reviews"}
    assert any("is still used by VirtualService default/mine" in one.message for one in found)
    assert any("is still used by DestinationRule default/reviews" in one.message for one in found)
    finding = one(of=of, delete=("destinationrule.default.reviews",))
    assert "VirtualService default/mine (spec.http[0].route[0].destination.subset)" in finding.message
    gone = ("service.default.reviews", "destinationrule.default.reviews", "virtualservice.default.mine")
    assert judged(of=of, delete=gone) == []


def test_a_change_that_breaks_another_document_is_refused() -> None:
    rule = routes("reviews", f"[{{route: [{to('reviews', 'v1')}]}}]", name="mine")
    finding = one(subsets("reviews", "v2"), of=mesh(rule, subsets("reviews", "v1")))
    assert (finding.code, finding.key) == ("IST0101", "virtualservice.default.mine")


def test_what_was_broken_before_does_not_count_against_a_change() -> None:
    broken = routes("reviews", f"[{{route: [{to('reviews', 'v9')}]}}]", name="broken")
    assert judged(subsets("reviews", "v1"), of=mesh(broken, subsets("reviews", "v2"))) == []


def test_bindings_and_gateways_in_use_stay() -> None:
    finding = one(delete=("workloadbinding.default.bookinfo-ratings",))
    assert "still used by Workload default/ratings-v1" in finding.message
    rule = routes("a.org", f"[{{route: [{to('reviews')}]}}]", name="x", extra=", gateways: [g]")
    assert one(of=mesh(gateway("g"), rule), delete=("gateway.default.g",)).code == "RM0002"


def test_a_workload_may_always_leave() -> None:
    rule = routes("ratings", f"[{{route: [{to('ratings', 'v1')}]}}]")
    assert judged(of=mesh(rule, subsets("ratings", "v1")), delete=("workload.default.ratings-v1",)) == []


def test_mesh_config() -> None:
    assert judged(document("MeshConfig", "mesh-system/mesh", "{}")) == []
    assert judged(document("MeshConfig", "default/mesh", "{}")) == ["error RM0110 metadata.name"]
    assert judged(document("MeshConfig", "mesh-system/mesh", "{trustDomain: a.b}")) == [
        "error RM0110 spec.trustDomain"
    ]
    assert judged(document("MeshConfig", "mesh-system/mesh", "{trustDomain: a.b}"), of=world()) == []


def test_an_ingress_in_any_namespace_counts() -> None:
    of = world(service("reviews"), ingress("own", namespace="default"))
    assert judged(gateway("g"), of=of) == []


@pytest.mark.parametrize(
    ("first", "second", "is_lost"),
    [
        ("", "{uri: {exact: /x}}", False),  # what takes all goes last, whichever is older
        ("", "", True),
        ("{uri: {prefix: /a}}", "{uri: {exact: /ab}}", True),
        ("{uri: {prefix: /a}}", "{uri: {prefix: /a}, method: {exact: GET}}", True),
        ("{uri: {prefix: /a}}", "{uri: {exact: /b}}", False),
        ("{uri: {prefix: /a}, method: {exact: GET}}", "{uri: {prefix: /a}}", False),
        ("{method: {exact: GET}}", "{uri: {exact: /b}, method: {exact: GET}}", True),
        ("{uri: {prefix: /a}}", "{uri: {prefix: /b}}, {uri: {prefix: /a}}", False),
        ("{uri: {regex: '/a.*'}}", "{uri: {exact: /ab}}", False),  # not judged
    ],
)
def test_rules_that_a_merge_leaves_nothing_to_are_told(first: str, second: str, is_lost: bool) -> None:
    def rule(name: str, match: str, at: float) -> Document:
        matches = f"match: [{match}], " if match else ""
        return routes("reviews", f"[{{{matches}route: [{to('reviews')}]}}]", name=name, admitted_at=at)

    of = world(service("reviews"), rule("a", first, 1.0))
    messages = [one.message for one in admit(of, [rule("b", second, 2.0)]) if one.code == "RM0102"]
    lost = "default/b spec.http[0] gets no request of"
    assert sorted(lost in one for one in messages) == [False, *[True] * is_lost]


def test_what_is_suppressed_is_not_told_and_never_let_in() -> None:
    def suppressing(codes: str, http: str) -> Document:
        note = f"[{{code: {codes}, reason: known}}]"
        rule = routes("reviews", http)
        return replace(rule, annotations={"mesh.ray.io/suppress": note})

    uneven = f"[{{route: [{to('reviews', weight=1)}, {to('ratings', weight=1)}]}}]"
    assert codes(admit(mesh(), [suppressing("RM0104", uneven)], now=0.0)) == []
    assert codes(admit(mesh(), [suppressing("RM0104", uneven)])) == ["warning RM0104 spec.http[0].route"]
    refused = admit(mesh(), [suppressing("'*'", f"[{{route: [{to('nowhere')}]}}]")], now=0.0)
    assert codes(refused) == [f"error IST0101 {DESTINATION}.host"]
    bare = replace(
        routes("reviews", f"[{{route: [{to('reviews')}]}}]"), annotations={"mesh.ray.io/suppress": "x"}
    )
    assert [one.code for one in admit(mesh(), [bare], now=0.0)] == ["RM0204"]


def test_many_matches_of_one_rule_are_compared_in_good_time() -> None:
    matches = ", ".join(
        f"{{uri: {{prefix: '{'/a' * (n % 50 + 1)}'}}, headers: {{h{n}: {{exact: '1'}}}}}}"
        for n in range(2000)
    )
    large = routes("reviews", f"[{{match: [{matches}], route: [{to('reviews')}]}}]")
    begun = time.process_time()
    assert not admit(world(service("reviews")), [large])
    assert time.process_time() - begun < 5, "it takes 1 s, and took 11 s when each was compared with each"


def test_what_is_large_is_not_analyzed_on_the_loop() -> None:
    small = routes("reviews", f"[{{route: [{to('reviews')}]}}]")
    assert is_small([small] * 100)
    assert not is_small([small] * 101)
    assert not is_small([replace(small, json="x" * (64 << 10)), small])
