"""ServiceEntries and WorkloadEntries: what they compile to, what admission says of them."""

from __future__ import annotations

import pytest
from compile_world import binding, document, routes, service, subsets, to, workload, world

from ray_mesh import snapshot
from ray_mesh.compile import (
    Finding,
    Grounds,
    LiveWorkload,
    World,
    admit,
    affected,
    compile_endpoints,
    compile_key,
    grounds_of,
)
from ray_mesh.resources import Document

API = "api.example.com"
HTTP = "ports: [{number: 80, name: http, protocol: HTTP}]"
LOOPBACK = Grounds((("n1", "127.0.0.1"),))
FAR = grounds_of([("n1", "10.0.0.1", 15000)], (4222,))


def entry(spec: str, name: str = "ext", admitted_at: float = 0.0) -> Document:
    return document("ServiceEntry", name, f"{{{spec}}}", admitted_at=admitted_at)


def external(host: str = API, name: str = "ext", admitted_at: float = 0.0) -> Document:
    spec = f"hosts: [{host}], {HTTP}, resolution: STATIC, endpoints: [{{address: 192.0.2.1}}]"
    return entry(spec, name, admitted_at)


def database(spec: str = "", name: str = "db-1") -> Document:
    return document("WorkloadEntry", name, f"{{address: 10.0.0.9, labels: {{app: db, version: v1}}{spec}}}")


def internal(host: str = "db") -> Document:
    selector = "workloadSelector: {labels: {app: db}}"
    return entry(f"hosts: [{host}], {HTTP}, location: MESH_INTERNAL, resolution: STATIC, {selector}", "db")


def disable(host: str, name: str = "plain") -> Document:
    return document("DestinationRule", name, f"{{host: {host}, trafficPolicy: {{tls: {{mode: DISABLE}}}}}}")


def compiled_service(of: World, host: str) -> snapshot.Service:
    found = compile_key(of, snapshot.key_for("service", host))
    assert isinstance(found, snapshot.Service)
    return found


def endpoints(of: World, host: str, *live: LiveWorkload) -> tuple[snapshot.Endpoint, ...]:
    found = compile_endpoints(of, snapshot.key_for("endpoints", host), live)
    assert found is not None
    return found.endpoints


def codes(findings: list[Finding], severity: str = "error") -> list[str]:
    return [one.code for one in findings if one.severity == severity]


def test_keys_of_hosts() -> None:
    for host, key in {
        "reviews.default.svc.cluster.local": "service.default.reviews",
        API: "service.-.api.example.com",
        "example.com": "service.-.example.com",
        "a.b.c.svc.cluster.local": "service.-.a.b.c.svc.cluster.local",
    }.items():
        assert snapshot.key_for("service", host) == key
        assert snapshot.host_for(key) == host


def test_an_external_host_is_plaintext_and_has_an_endpoint_for_each_port() -> None:
    ports = "ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}, "
    ports += "{number: 81, name: admin, protocol: HTTP}]"
    listed = "endpoints: [{address: 192.0.2.1, labels: {version: v1}}, "
    listed += "{address: 192.0.2.2, ports: {admin: 9999}}]"
    of = world(entry(f"hosts: [{API}], {ports}, resolution: STATIC, {listed}"))
    assert compiled_service(of, API).plaintext
    assert compiled_service(of, API).ports == (snapshot.Port(80, "http"), snapshot.Port(81, "admin"))
    found = endpoints(of, API)
    assert {(one.address, one.service_port, one.port) for one in found} == {
        ("192.0.2.1", 80, 8080),
        ("192.0.2.1", 81, 81),
        ("192.0.2.2", 80, 8080),
        ("192.0.2.2", 81, 9999),
    }
    assert {(one.transport, one.identity, one.sni) for one in found} == {("plaintext", "", "")}


def test_a_name_to_resolve_is_its_own_endpoint() -> None:
    of = world(entry(f"hosts: [{API}], {HTTP}, resolution: DNS"))
    assert [(one.address, one.port) for one in endpoints(of, API)] == [(API, 80)]


def test_workload_entries_and_workloads_stand_behind_one_host() -> None:
    of = world(internal(), database(", ports: {http: 3306}"), workload("db", "v2"))
    host = "db.default.svc.cluster.local"
    live = LiveWorkload("workload.default.db-v2", "n1", "10.0.0.1", 15000)
    attached, plain = endpoints(of, host, live)
    assert (attached.transport, attached.port) == ("mutual_tls", 15000)
    assert (plain.transport, plain.workload, plain.port) == (
        "plaintext",
        "workloadentry.default.db-1",
        3306,
    )
    assert dict(plain.labels) == {"app": "db", "version": "v1"}
    assert of.endpoints_of("workload.default.db-v2") == ["endpoints.default.db"]


def test_a_service_selects_workload_entries_too() -> None:
    of = world(service("db", 80), database())
    assert [one.workload for one in endpoints(of, "db.default.svc.cluster.local")] == [
        "workloadentry.default.db-1"
    ]


def test_inside_the_mesh_plaintext_has_to_be_said() -> None:
    host = "db.default.svc.cluster.local"
    assert not compiled_service(world(internal(), database()), host).plaintext
    assert compiled_service(world(internal(), database(), disable("db")), host).plaintext
    silent = admit(world(internal()), [database()])
    assert codes(silent) == []
    assert codes(silent, "warning") == ["RM0113"]
    assert "tls.mode: DISABLE" in silent[0].fix
    assert codes(admit(world(internal()), [database(), disable("db")]), "warning") == []


def test_mutual_tls_with_the_outside_is_refused_and_never_weakened() -> None:
    rule = document(
        "DestinationRule", "r", f"{{host: {API}, trafficPolicy: {{tls: {{mode: ISTIO_MUTUAL}}}}}}"
    )
    assert codes(admit(world(external()), [rule])) == ["RM0114"]
    assert not compiled_service(world(external(), rule), API).plaintext


def test_disable_is_refused_where_everybody_has_a_proxy() -> None:
    of = world(service("reviews"), workload("reviews", "v1"))
    findings = admit(of, [disable("reviews")])
    assert codes(findings) == ["RM0114"]
    assert "not supported yet: DISABLE for reviews.default" in findings[0].message


def test_disable_does_not_weaken_workloads_that_have_a_proxy() -> None:
    of = world(internal(), database(), workload("db", "v2"), disable("db"))
    live = LiveWorkload("workload.default.db-v2", "n1", "10.0.0.1", 15000)
    found = endpoints(of, "db.default.svc.cluster.local", live)
    assert {one.workload: one.transport for one in found} == {
        "workload.default.db-v2": "mutual_tls",
        "workloadentry.default.db-1": "plaintext",
    }
    assert codes(admit(world(internal(), database(), workload("db", "v2")), [disable("db")]), "warning") == [
        "RM0114"
    ]


@pytest.mark.parametrize("host", [API, "example.com"])
def test_routes_and_rules_hold_for_external_hosts(host: str) -> None:
    one, two = (f"{{address: 192.0.2.{n}, labels: {{version: v{n}}}}}" for n in (1, 2))
    listed = f"endpoints: [{one}, {two}]"
    of = world(entry(f"hosts: [{host}], {HTTP}, resolution: STATIC, {listed}"))
    split = f"[{{timeout: 2s, route: [{to(host, 'v1', 90)}, {to(host, 'v2', 10)}]}}]"
    applied = [subsets(host, "v1", "v2", name="ext"), routes(host, split, name="ext")]
    assert admit(of, applied) == []
    service = compiled_service(of.replace({one.key: one for one in applied}), host)
    assert [one.name for one in service.subsets] == ["v1", "v2"]
    assert [(one.host, one.subset, one.port, one.weight) for one in service.routes[0].destinations] == [
        (host, "v1", 80, 90),
        (host, "v2", 80, 10),
    ]
    assert service.routes[0].timeout_s == 2.0


def test_a_service_of_the_mesh_may_route_to_an_external_host() -> None:
    of = world(service("reviews"), external())
    route = routes("reviews", f"[{{route: [{to(API)}]}}]")
    assert admit(of, [route]) == []
    found = compiled_service(of.replace({route.key: route}), "reviews.default.svc.cluster.local")
    assert found.routes[0].destinations == (snapshot.Destination(API, "", 80, 100),)


def test_a_serviceentry_in_use_is_not_deleted() -> None:
    of = world(service("reviews"), external(), routes("reviews", f"[{{route: [{to(API)}]}}]"))
    assert codes(admit(of, [], ["serviceentry.default.ext"])) == ["RM0002"]


@pytest.mark.parametrize(
    ("host", "because"),
    [
        ("reviews", "that of Service default/reviews"),
        ("reviews.default", "that of Service default/reviews"),
        ("reviews.default.svc.cluster.local", "that of Service default/reviews"),
        ("ratings.prod.svc.cluster.local", "of namespace prod"),
        ("ratings.prod.svc", "of namespace prod"),
        ("anything.prod", "service anything of namespace prod, which is in use"),
        ("taken.example.com", "that of ServiceEntry other/first"),
        ("TAKEN.example.com", "that of ServiceEntry other/first"),
    ],
)
def test_a_serviceentry_takes_no_host_over(host: str, because: str) -> None:
    first = external("taken.example.com", "other/first")
    of = world(service("reviews"), service("prod/ratings"), first)
    applied = external(host, "default/thief")
    findings = admit(of, [applied])
    assert codes(findings) == ["RM0111"]
    assert because in findings[0].message
    after = of.replace({applied.key: applied})
    for known in ("reviews.default", "ratings.prod"):
        full = f"{known}.svc.cluster.local"
        assert compiled_service(after, full) == compiled_service(of, full)
        assert endpoints(after, full) == endpoints(of, full), "and if it got in, it would change nothing"


@pytest.mark.parametrize(("host", "name"), [("db", "db"), ("db.prod", "prod/db")])
def test_a_service_does_not_take_the_host_of_a_serviceentry(host: str, name: str) -> None:
    findings = admit(world(external(host)), [service(name)])
    assert codes(findings) == ["RM0111"]


def test_the_oldest_of_two_serviceentries_has_the_host() -> None:
    first, second = external(name="b/one", admitted_at=1.0), external(name="a/two", admitted_at=2.0)
    assert compiled_service(world(second, first), API).namespace == "b"


@pytest.mark.parametrize(
    ("address", "port", "grounds", "because"),
    [
        ("127.0.0.1", 8080, Grounds(), "is loopback"),
        ("::1", 8080, FAR, "is loopback"),
        ("localhost", 8080, FAR, "is loopback"),
        ("127.0.0.1", 8080, grounds_of([("n1", "127.0.0.1", 1), ("n2", "10.0.0.1", 1)], ()), "is loopback"),
        ("127.0.0.1", 15000, grounds_of([("n1", "127.0.0.1", 15000)], ()), "is a port of the mesh itself"),
        ("10.0.0.1", 15000, FAR, "is a port of the mesh itself"),
        ("10.0.0.1", 4222, FAR, "is a port of the mesh itself"),
        ("::ffff:10.0.0.1", 4222, FAR, "is a port of the mesh itself"),
        ("::ffff:10.0.0.1", 9000, FAR, "is a port of Workload default/reviews-v1"),
        ("127.0.0.1", 9000, LOOPBACK, "is a port of Workload default/reviews-v1"),
        ("127.0.0.1", 9001, LOOPBACK, "is a port of Workload default/reviews-v1"),
        (
            "10.0.0.1",
            9000,
            FAR,
            "is a port of Workload default/reviews-v1",
        ),
    ],
)
def test_endpoints_are_not_where_the_mesh_is(address: str, port: int, grounds: Grounds, because: str) -> None:
    of = world(workload("reviews", "v1"), binding("bookinfo-reviews"))
    listed = f"endpoints: [{{address: '{address}', ports: {{http: {port}}}}}]"
    outside = entry(f"hosts: [{API}], {HTTP}, resolution: DNS, {listed}")
    findings = admit(of, [outside], grounds=grounds)
    assert codes(findings) == ["RM0112"]
    assert because in findings[0].message
    assert findings[0].path == "spec.endpoints[0].address"
    if "Workload" in because:
        attached = admit(
            world(outside, binding("bookinfo-reviews")), [workload("reviews", "v1")], (), grounds
        )
        assert codes(attached) == ["RM0112"], "nor may a workload come where an endpoint is"


@pytest.mark.parametrize(
    ("address", "port", "grounds"),
    [
        ("127.0.0.1", 8080, grounds_of([("n1", "127.0.0.1", 15000)], (4222,))),
        ("10.0.0.1", 8080, FAR),
        ("192.0.2.1", 9000, FAR),
        ("192.0.2.1", 15000, Grounds()),
    ],
)
def test_other_endpoints_are_admitted(address: str, port: int, grounds: Grounds) -> None:
    of = world(workload("reviews", "v1"))
    listed = f"endpoints: [{{address: '{address}', ports: {{http: {port}}}}}]"
    assert admit(of, [entry(f"hosts: [{API}], {HTTP}, resolution: STATIC, {listed}")], grounds=grounds) == []


def test_a_mesh_that_leaves_loopback_goes_on_attaching() -> None:
    listed = "endpoints: [{address: 127.0.0.1, ports: {http: 8080}}]"
    of = world(entry(f"hosts: [{API}], {HTTP}, resolution: STATIC, {listed}"), binding("bookinfo-reviews"))
    assert admit(of, [workload("reviews", "v1")], (), FAR) == []


def test_a_workload_entry_that_nobody_selects() -> None:
    assert codes(admit(world(), [database()]), "warning") == ["RM0115"]


def test_a_workload_that_a_selector_lets_go_is_affected() -> None:
    before = world(internal(), workload("db", "v1"), workload("cache", "v1"))
    selector = "workloadSelector: {labels: {app: cache}}"
    moved = entry(f"hosts: [db], {HTTP}, location: MESH_INTERNAL, resolution: STATIC, {selector}", "db")
    keys = affected(before, before.replace({moved.key: moved}), [moved.key])
    assert {"n1.workload.default.db-v1", "n1.workload.default.cache-v1", "endpoints.default.db"} <= keys
