"""Rules that are delegated to another VirtualService, with real requests."""

from __future__ import annotations

from proxy_mesh import mesh  # noqa: F401
from routing_mesh import Mesh, apply_routes, callee, client, fetch

# ruff: noqa: F811

DELEGATE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: team, namespace: default}
spec:
  http:
  - name: new
    match: [{uri: {prefix: /team/new/}}]
    rewrite: {uri: /}
    route: [{destination: {host: ratings}}]
  - name: rest
    route: [{destination: {host: reviews}}]
---
"""


async def test_rules_of_a_delegate(mesh: Mesh) -> None:
    port = await client(mesh)
    await callee(mesh)
    await callee(mesh, "ratings")
    rules = """[{name: team, match: [{uri: {prefix: /team/}, headers: {x-in: {}}}], delegate: {name: team},
                 headers: {request: {set: {x-by: root}}}},
                {name: other, route: [{destination: {host: reviews}}]}]"""
    apply_routes(mesh, rules, "ratings", more=DELEGATE)
    for target, inside, app, line, route in (
        ("/team/new/x", "1", "ratings", "/x", "team-new"),
        ("/team/old", "1", "reviews", "/team/old", "team-rest"),
        ("/else", "1", "reviews", "/else", "other"),
    ):
        told = (await fetch(port, target, "reviews", x_in=inside)).json()
        assert (told["app"], told["line"].split(" ")[1]) == (app, line)
        assert mesh.planes["one"].access_records()[-1].route == route
        assert (["x-by", "root"] in told["fields"]) == (route != "other")
    told = (await fetch(port, "/team/new/x", "reviews")).json()
    assert (told["app"], told["line"].split(" ")[1]) == ("reviews", "/team/new/x")
