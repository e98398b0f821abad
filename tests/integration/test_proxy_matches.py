"""Every condition of an HTTPMatchRequest, from the document to the request."""

from __future__ import annotations

from typing import Any

import pytest
from proxy_mesh import mesh  # noqa: F401
from routing_mesh import Mesh, apply_routes, callee, client, fetch

# ruff: noqa: F811

TO_REVIEWS = "route: [{destination: {host: reviews}}]"

CASES: list[tuple[str, str | None, str | None, dict[str, Any], dict[str, Any]]] = [
    ("uri: {regex: '/api/v[12]/.*'}", "/api/v2/x", "/api/v3/x", {}, {}),
    ("uri: {regex: '/api'}", "/api?x=/", "/api/", {}, {}),
    ("uri: {exact: /Api}, ignoreUriCase: true", "/aPI", "/api/", {}, {}),
    ("uri: {prefix: /Api}, ignoreUriCase: true", "/aPI/x", "/ap", {}, {}),
    ("uri: {regex: /Api}, ignoreUriCase: true", "/Api", "/api", {}, {}),
    ("headers: {end-user: {regex: '(jason|amy)'}}", "/", "/", {"End_User": "amy"}, {"End_User": "amy2"}),
    ("headers: {end-user: {}}", "/", "/", {"End_User": ""}, {}),
    ("headers: {end-user: {prefix: 'x'}}", "/", "/", {"End_User": "xy"}, {}),
    ("withoutHeaders: {end-user: {}}", "/", "/", {}, {"End_User": ""}),
    ("withoutHeaders: {end-user: {regex: 'a.*'}}", "/", "/", {"End_User": "b"}, {"End_User": "a"}),
    ("withoutHeaders: {end-user: {regex: 'a*'}}", "/", "/", {"End_User": "b"}, {}),
    ("queryParams: {v: {regex: '[0-9]+'}}", "/?v=12", "/?v=1x", {}, {}),
    ("queryParams: {v: {exact: a%20b}}", "/?x=1&v=a%20b&v=c", "/?v=c&v=a%20b", {}, {}),
    ("queryParams: {v: {prefix: a}, w: {}}", "/?v=ab&w", "/?v=ab", {}, {}),
    ("method: {regex: 'GET|HEAD'}, scheme: {exact: http}", "/", None, {}, {}),
    ("scheme: {regex: 'https?'}, port: 80", "/", None, {}, {}),
    ("scheme: {exact: https}", None, "/", {}, {}),
    ("port: 81", None, "/", {}, {}),
    ("sourceLabels: {app: client}, sourceNamespace: default", "/", None, {}, {}),
    ("sourceLabels: {app: other}", None, "/", {}, {}),
    ("gateways: [mesh]", "/", None, {}, {}),
    ("gateways: [edge]", None, "/", {}, {}),
    ("authority: {exact: Reviews}", "/", None, {}, {}),
    ("authority: {regex: 'rev.*s'}", "/", None, {}, {}),
    ("authority: {prefix: ratings}", None, "/", {}, {}),
]


async def test_every_condition(mesh: Mesh) -> None:
    port = await client(mesh)
    await callee(mesh)
    for match, taken, refused, with_fields, without_fields in CASES:
        apply_routes(mesh, f"[{{match: [{{{match}}}], {TO_REVIEWS}}}]")
        if taken is not None:
            answer = await fetch(port, taken, "reviews", **with_fields)
            assert answer.status == 200, (match, answer.body)
        if refused is not None:
            answer = await fetch(port, refused, "reviews", **without_fields)
            assert answer.status == 404, match
            assert answer.json()["error"] == "no_route"


async def test_the_first_rule_that_matches_decides(mesh: Mesh) -> None:
    port = await client(mesh)
    await callee(mesh)
    await callee(mesh, "ratings")
    rules = (
        "[{name: a, match: [{uri: {prefix: /a}, headers: {x: {exact: '1'}}}, {uri: {exact: /both}}], "
        "route: [{destination: {host: ratings}}]}, "
        f"{{name: b, match: [{{uri: {{regex: '/(a|both).*'}}}}], {TO_REVIEWS}}}]"
    )
    apply_routes(mesh, rules, "ratings")
    for target, x, app in (
        ("/a", "1", "ratings"),
        ("/a", "2", "reviews"),
        ("/both", "", "ratings"),
        ("/both/", "", "reviews"),
    ):
        assert (await fetch(port, target, "reviews", X=x)).json()["app"] == app
    assert [record.edge.route for record in mesh.planes["one"].access_records()] == ["a", "b", "a", "b"]


@pytest.mark.parametrize("length", [50_000])
async def test_a_hostile_path_costs_a_regex_little(mesh: Mesh, length: int) -> None:
    port = await client(mesh)
    await callee(mesh)
    apply_routes(mesh, f"[{{match: [{{uri: {{regex: '/(a+)+b'}}}}], {TO_REVIEWS}}}]")
    answer = await fetch(port, "/" + "a" * length, "reviews")
    assert answer.status == 404
