"""Calls from outside the mesh through a gateway workload."""

from __future__ import annotations

from dataclasses import replace

from proxy_mesh import TRUST_DOMAIN, Mesh, fetch, free_port, host_of, mesh, until  # noqa: F401

from ray_mesh import snapshot
from ray_mesh.snapshot import (
    Destination,
    Gateway,
    GatewayServer,
    NamedMatch,
    Redirect,
    RequestMatch,
    Route,
    StringMatch,
    Subset,
    ValueMatch,
    VirtualHost,
)

# ruff: noqa: F811


async def gateway(mesh: Mesh) -> int:
    """``edge`` on node one is a gateway to ``reviews`` on node two; the port it listens on."""
    bound = free_port()
    app = await mesh.app("reviews")
    await mesh.workload("edge", free_port(), node="one", gateway_ports=((80, bound),))
    await mesh.workload("reviews", app.port, services=(host_of("reviews"),))
    mesh.service("reviews", [mesh.endpoint("reviews")])
    api = RequestMatch(uri=StringMatch("prefix", "/api"), gateways=("default/edge",))
    inside = RequestMatch(gateways=("mesh",))
    routes = (
        Route("inside", "", (inside,), (Destination("nowhere.default.svc.cluster.local"),)),
        Route("api", "", (api,), (Destination(host_of("reviews")),)),
    )
    servers = (GatewayServer(80, (VirtualHost(("shop.example.com", "*.shop.example.com"), routes),)),)
    mesh.planes["one"].apply("gateway.default.edge", Gateway("default", "edge", servers))
    return bound


async def test_a_call_from_outside(mesh: Mesh) -> None:
    port = await gateway(mesh)
    answer = await fetch(
        port,
        "/api/x",
        "www.SHOP.example.com:8080",
        X_Forwarded_For="6.6.6.6",
        X_Forwarded_Host="evil",
        X_Request_Id="mine",
        Traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    assert answer.status == 200, answer.body
    fields: dict[str, str] = {name.lower(): value for name, value in answer.json()["fields"]}
    assert fields["x-forwarded-for"] == "127.0.0.1, 127.0.0.1"
    assert fields["x-request-id"] != "mine"
    assert fields["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c-")
    assert fields["host"] == "www.SHOP.example.com:8080"
    assert not {"x-forwarded-host", "proxy-authorization"} & fields.keys()
    (series,) = mesh.planes["two"].series.totals()
    assert series.edge.source_principal == "mesh.local/ns/default/sa/edge"
    assert series.edge.destination_service == host_of("reviews")


async def test_a_redirect_keeps_the_scheme_that_a_trusted_proxy_tells(mesh: Mesh) -> None:
    port = await gateway(mesh)
    elsewhere = Route("to", "", (), (), redirect=Redirect(path="/new"))
    host = VirtualHost(("shop.example.com",), (elsewhere,))
    mesh.planes["one"].apply(
        "gateway.default.edge", Gateway("default", "edge", (GatewayServer(80, (host,)),))
    )
    for trusted, scheme in ((0, "http"), (1, "https")):
        topology = snapshot.Mesh(TRUST_DOMAIN, "mesh-system", trusted_proxies=trusted)
        mesh.planes["one"].apply("mesh.mesh.mesh", topology)
        answer = await fetch(port, "/x", "shop.example.com", X_Forwarded_Proto="https")
        assert answer.field("location") == f"{scheme}://shop.example.com/new"


async def test_only_what_a_gateway_serves_is_answered(mesh: Mesh) -> None:
    port = await gateway(mesh)
    for target, host, reason in (
        ("/api", "other.example.com", "no_virtual_host"),
        ("/api", "reviews", "no_virtual_host"),
        ("/private", "shop.example.com", "no_route"),
    ):
        answer = await fetch(port, target, host, token="")
        assert (answer.status, answer.json()["error"]) == (404, reason)
    assert (await fetch(port, "/api", "shop.example.com", token="")).status == 200
    mesh.planes["one"].apply("gateway.default.edge", None)
    assert (await fetch(port, "/api", "shop.example.com", token="")).status == 404


async def test_a_gateway_that_is_configured_before_its_workload_works(mesh: Mesh) -> None:
    host = VirtualHost(("*",), (Route("all", "", (), (Destination(host_of("reviews")),)),))
    mesh.planes["one"].apply(
        "gateway.default.edge", Gateway("default", "edge", (GatewayServer(80, (host,)),))
    )
    bound = free_port()
    app = await mesh.app("reviews")
    await mesh.workload("edge", free_port(), node="one", gateway_ports=((80, bound),))
    await mesh.workload("reviews", app.port)
    mesh.service("reviews", [mesh.endpoint("reviews")])
    assert (await fetch(bound, "/", "anything", token="")).status == 200


async def test_a_service_that_changes_is_seen_at_once(mesh: Mesh) -> None:
    bound = free_port()
    await mesh.workload("edge", free_port(), node="one", gateway_ports=((80, bound),))
    for version in ("v1", "v2"):
        app = await mesh.app(version)
        await mesh.workload(version, app.port, labels={"version": version}, services=(host_of("reviews"),))
    endpoints = [mesh.endpoint("v1"), mesh.endpoint("v2")]
    route = Route("all", "", (), (Destination(host_of("reviews"), "chosen"),))
    host = VirtualHost(("*",), (route,))
    mesh.planes["one"].apply(
        "gateway.default.edge", Gateway("default", "edge", (GatewayServer(80, (host,)),))
    )
    for version in ("v1", "v2", "v1"):
        mesh.service("reviews", endpoints, subsets=(Subset("chosen", (("version", version),)),))
        for _ in range(3):
            assert (await fetch(bound, "/", "anything", token="")).json()["app"] == version
    mesh.service("reviews", endpoints)
    assert (await fetch(bound, "/", "anything", token="")).json()["error"] == "no_such_subset"


async def test_what_the_outside_says_of_its_way_chooses_no_route(mesh: Mesh) -> None:
    port = await gateway(mesh)

    def says(name: str, value: str) -> tuple[RequestMatch, ...]:
        return (RequestMatch(headers=(NamedMatch(name, StringMatch("exact", value)),)),)

    inside = Route("inside", "", says("x-mesh-source", "default/a;;"), (Destination(host_of("reviews")),))
    secure = Route("s", "", says("x-forwarded-proto", "https"), (Destination(host_of("reviews")),))
    plain = Route("p", "", says("x-forwarded-proto", "http"), (), redirect=Redirect(scheme="https"))
    host = VirtualHost(("shop.example.com",), (inside, secure, plain))
    mesh.planes["one"].apply(
        "gateway.default.edge", Gateway("default", "edge", (GatewayServer(80, (host,)),))
    )
    answer = await fetch(
        port, "/", "shop.example.com", X_Forwarded_Proto="https", X_Mesh_Source="default/a;;"
    )
    assert answer.status == 301, answer.body


async def test_a_dot_at_the_end_of_a_host_evades_no_policy(mesh: Mesh) -> None:
    port = await gateway(mesh)
    hosts = (ValueMatch("exact", "shop.example.com"), ValueMatch("prefix", "shop.example.com:"))
    deny = snapshot.Policy("default/p", "DENY", (snapshot.Rule((), (snapshot.Operation(hosts=hosts),)),))
    edge = mesh.planes["one"].resources()["workload.default.edge"]
    assert isinstance(edge, snapshot.Workload)
    mesh.planes["one"].apply("workload.default.edge", replace(edge, policies=(deny,)))
    for name, status in (
        ("www.shop.example.com", 200),
        ("shop.example.com", 403),
        ("shop.example.com.", 403),
        ("Shop.example.com.:80", 403),
    ):
        assert (await fetch(port, "/api", name)).status == status, name
