"""TLS and TCP routes of VirtualServices."""

from __future__ import annotations

import pytest
from compile_world import binding, document, subsets, workload, world

from ray_mesh import snapshot
from ray_mesh.compile import admit, compile_key
from ray_mesh.errors import MeshError
from ray_mesh.resources import Document

DB = "db.default.svc.cluster.local"


def database(*routes: Document) -> snapshot.Service:
    ports = "ports: [{name: mysql, port: 3306}, {name: tls, port: 443}, {name: http, port: 80}]"
    service = document("Service", "db", f"{{selector: {{app: db}}, {ports}}}")
    found = compile_key(world(service, workload("db", "v1"), *routes), "service.default.db")
    assert isinstance(found, snapshot.Service)
    return found


def test_a_service_without_routes_has_none_for_connections() -> None:
    found = database()
    assert found.tcp_routes == found.tls_routes == ()
    assert [one.name for one in found.routes] == ["default"]


def test_tcp_and_tls_routes() -> None:
    spec = """{hosts: [db], tcp: [
      {match: [{port: 3306, sourceLabels: {app: web}}, {sourceNamespace: prod, gateways: [mesh]}],
       route: [{destination: {host: db, subset: v1, port: {number: 3306}}, weight: 3},
               {destination: {host: db, subset: v2, port: {number: 3306}}, weight: 1},
               {destination: {host: db, subset: v3, port: {number: 3306}}, weight: 0}]},
      {route: [{destination: {host: db, port: {number: 3306}}}]}],
      tls: [{match: [{sniHosts: [db], gateways: [other]}], route: [{destination: {host: db}}]},
            {match: [{sniHosts: [db], port: 443}],
             route: [{destination: {host: db, port: {number: 443}}}]}]}"""
    found = database(document("VirtualService", "db", spec))
    first, last = found.tcp_routes
    assert first.matches == (
        snapshot.ConnectionMatch(port=3306, source_labels=(("app", "web"),)),
        snapshot.ConnectionMatch(source_namespace="prod", gateways=("mesh",)),
    )
    assert first.destinations == (
        snapshot.Destination(DB, "v1", 3306, 3),
        snapshot.Destination(DB, "v2", 3306, 1),
    )
    assert last.matches == ()
    assert last.destinations == (snapshot.Destination(DB, "", 3306),)
    (tls,) = found.tls_routes
    assert tls.matches == (snapshot.ConnectionMatch(sni_hosts=("db",), port=443),)
    assert tls.origin == "VirtualService default/db spec.tls[1]"
    assert [one.name for one in found.routes] == ["default"]  # nothing was said of HTTP


def routed(spec: str) -> Document:
    return document("VirtualService", "db", f"{{hosts: [db, '*.example.com'], {spec}}}")


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("tcp: [{}]", "spec.tcp[0].route"),
        ("tcp: [{route: []}]", "spec.tcp[0].route"),
        ("tls: [{route: [{destination: {host: db}}]}]", "spec.tls[0].match"),
        ("tls: [{match: [{sniHosts: []}], route: [{destination: {host: db}}]}]", "sniHosts"),
        ("tls: [{match: [{sniHosts: [a.org]}], route: [{destination: {host: db}}]}]", "compatible subset"),
        ("tcp: [{match: [{port: 0}], route: [{destination: {host: db}}]}]", "port"),
        ("tcp: [{match: [{gateways: ['a b']}], route: [{destination: {host: db}}]}]", "names no gateway"),
        (
            "tcp: [{match: [{destinationSubnets: [10.0.0.0/8]}], route: [{destination: {host: db}}]}]",
            "not supported yet: spec.tcp[0].match[0].destinationSubnets",
        ),
        (
            "tcp: [{match: [{sourceSubnet: 10.0.0.0/8}], route: [{destination: {host: db}}]}]",
            "not supported yet: spec.tcp[0].match[0].sourceSubnet",
        ),
        ("tcp: [{route: [{destination: {host: db}}, {destination: {host: db}}]}]", "need weights"),
    ],
)
def test_what_is_wrong(spec: str, problem: str) -> None:
    with pytest.raises(MeshError) as caught:
        routed(spec)
    assert problem in str(caught.value)


def test_destinations_must_be_there() -> None:
    before = world(binding("bookinfo-db"), workload("db", "v1"))
    service = document("Service", "db", "{selector: {app: db}, ports: [{name: mysql, port: 3306}]}")
    wrong = routed(
        "tcp: [{route: [{destination: {host: nowhere}}]}, {route: [{destination: {host: db, subset: v9}}]}]"
    )
    found = [
        one.message for one in admit(before, [service, subsets("db", "v1"), wrong]) if one.severity == "error"
    ]
    assert any('host not found: "nowhere"' in one for one in found), found
    assert any("db.default.svc.cluster.local+v9" in one for one in found), found


def test_the_proxy_protocol_towards_a_service() -> None:
    mysql = document("Service", "db", "{selector: {app: db}, ports: [{name: mysql, port: 3306}]}")
    web = document("Service", "db", "{selector: {app: db}, ports: [{name: http, port: 80}]}")
    spec = (
        "{host: db, trafficPolicy: {proxyProtocol: {version: V2}}, "
        "subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {proxyProtocol: {}}}]}"
    )
    rule = document("DestinationRule", "db", spec)
    one = world(binding("bookinfo-db"), workload("db", "v1"))
    assert [str(each) for each in admit(one, [mysql, rule]) if each.severity == "error"] == []
    found = compile_key(world(mysql, rule, workload("db", "v1")), "service.default.db")
    assert isinstance(found, snapshot.Service)
    assert found.traffic is not None
    assert found.traffic.proxy_protocol == "V2"
    assert found.subsets[0].traffic is not None
    assert found.subsets[0].traffic.proxy_protocol == "V1"
    assert {each.code for each in admit(one, [web, rule]) if each.severity == "error"} == {"RM0119"}
