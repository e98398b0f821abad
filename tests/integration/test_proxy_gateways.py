"""Gateways and VirtualServices behind them, from documents to requests from outside."""

from __future__ import annotations

import pytest
from proxy_mesh import free_port, mesh  # noqa: F401
from routing_mesh import Mesh, apply_gateway, apply_routes, callee, client, fetch

from ray_mesh import snapshot
from ray_mesh.errors import PeerError
from ray_mesh.snapshot import RequestMatch, Rewrite, Route, Service, StringMatch

# ruff: noqa: F811

GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{app: edge}}
  servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: {hosts}}}]
---
"""
ROUTES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{hosts: {hosts}, gateways: {gateways}, http: {http}}}
---
"""


def answering(text: str, match: str = "") -> str:
    """A rule that tells its name."""
    matching = f"match: [{match}], " if match else ""
    return f"{{{matching}directResponse: {{status: 200, body: {{string: {text}}}}}}}"


async def test_hosts_namespaces_and_names_of_gateways(mesh: Mesh) -> None:
    port = free_port()
    await mesh.workload("edge", free_port(), node="one", gateway_ports=((80, port),))
    documents = [
        GATEWAY.format(name="wide", namespace="default", hosts="['*/*.example.com', './own.org']"),
        GATEWAY.format(name="open", namespace="default", hosts="['other/*.net']"),
        ROUTES.format(
            name="shop",
            namespace="default",
            hosts="[shop.example.com, shop.net, own.org]",
            gateways="[wide, open]",
            http=f"[{answering('by-open', '{gateways: [open]}')}, "
            f"{answering('labels', '{sourceLabels: {app: edge}, uri: {exact: /l}}')}, "
            f"{answering('never', '{sourceLabels: {app: else}}')}, {answering('shop')}]",
        ),
        ROUTES.format(
            name="rest",
            namespace="other",
            hosts="['*.example.com', '*.net', own.org]",
            gateways="[default/wide, default/open]",
            http=f"[{answering('open', '{gateways: [default/open]}')}, {answering('rest')}]",
        ),
    ]
    apply_gateway(mesh, "".join(documents))
    for host, target, expected in (
        ("shop.example.com", "/", "shop"),
        ("SHOP.example.com:80", "/l", "labels"),
        ("other.example.com", "/", "rest"),
        ("own.org", "/", "shop"),
        ("a.net", "/", "open"),
    ):
        answer = await fetch(port, target, host, token="")
        assert (answer.status, answer.body.decode()) == (200, expected), host
    for host in ("example.com", "else.org"):
        assert (await fetch(port, "/", host, token="")).status == 404
    assert (await fetch(port, "/", "shop.net", token="")).body == b"open"


async def test_rules_at_a_gateway_change_requests_too(mesh: Mesh) -> None:
    port = free_port()
    await mesh.workload("edge", free_port(), node="one", gateway_ports=((80, port),))
    await callee(mesh)
    rule = """[{match: [{uri: {prefix: /api/}}], rewrite: {uri: /, authority: reviews},
                headers: {request: {set: {x-forwarded-for: hidden}, add: {x-a: b}}},
                route: [{destination: {host: reviews}}]}]"""
    documents = GATEWAY.format(name="g", namespace="default", hosts="['*']") + ROUTES.format(
        name="r", namespace="default", hosts="['*']", gateways="[g]", http=rule
    )
    apply_gateway(mesh, documents, "reviews")
    answer = await fetch(port, "/api/x", "shop.example.com", token="")
    told = answer.json()
    fields = {name.lower(): value for name, value in told["fields"]}
    assert told["line"] == "GET /x HTTP/1.1"
    assert (fields["host"], fields["x-a"]) == ("reviews", "b")
    assert fields["x-forwarded-for"].startswith("hidden")


async def test_routes_that_cannot_be_used_are_not_taken(mesh: Mesh) -> None:
    port = await client(mesh)
    await callee(mesh)
    apply_routes(mesh, "[{name: good, route: [{destination: {host: reviews}}]}]")
    host = "reviews.default.svc.cluster.local"
    for route, cause in (
        (Route("bad", "", (RequestMatch(uri=StringMatch("regex", "(")),), ()), "route bad: not a regular"),
        (Route("bad", "", (), (), rewrite=Rewrite(pattern="a", template="\\2")), "refers to a group"),
    ):
        service = Service(host, "default", "reviews", (), (), (route,))
        with pytest.raises(PeerError, match=cause):
            mesh.planes["one"].apply(snapshot.key_for("service", host), service)
    assert (await fetch(port, "/", "reviews")).status == 200
