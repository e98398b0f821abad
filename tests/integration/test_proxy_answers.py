"""Answers that routes give themselves: redirects, direct responses, preflights; and CORS on responses."""

from __future__ import annotations

from proxy_mesh import mesh  # noqa: F401
from routing_mesh import Client, Mesh, apply_routes, callee, client, fetch, request_bytes

# ruff: noqa: F811

TO_REVIEWS = "route: [{destination: {host: reviews}}]"

REDIRECTS = [
    ("{uri: /new}", "/old/x?q=1", "reviews", 301, "http://reviews/new?q=1"),
    ("{uri: '/new?a=b'}", "/old/x?q=1", "reviews", 301, "http://reviews/new?a=b"),
    ("{authority: new.example, redirectCode: 302}", "/old?q", "reviews:80", 302, "http://new.example/old?q"),
    ("{scheme: https, redirectCode: 307}", "/old", "reviews:80", 307, "https://reviews/old"),
    ("{scheme: https, port: 8443}", "/old", "reviews:80", 301, "https://reviews:8443/old"),
    ("{port: 8080, redirectCode: 308}", "/old", "reviews", 308, "http://reviews:8080/old"),
    ("{derivePort: FROM_REQUEST_PORT, uri: /}", "/old", "reviews", 301, "http://reviews:80/"),
    ("{derivePort: FROM_PROTOCOL_DEFAULT, scheme: https}", "/old", "reviews:80", 301, "https://reviews/old"),
    ("{uri: /new, redirectCode: 303}", "/old", "reviews:80", 303, "http://reviews:80/new"),
    ("{prefixRewrite: /new}", "/old/x?q", "reviews", 301, "http://reviews/new/x?q"),
]


async def test_redirects(mesh: Mesh) -> None:
    port = await client(mesh)
    app = await callee(mesh)
    for redirect, target, host, status, location in REDIRECTS:
        apply_routes(mesh, f"[{{match: [{{uri: {{prefix: /old}}}}], redirect: {redirect}}}]")
        answer = await fetch(port, target, host)
        assert (answer.status, answer.field("location"), answer.body) == (status, location, b""), redirect
    record = mesh.planes["one"].access_records()[-1]
    assert (record.status, record.flags, record.reason) == (301, "", "redirect")
    assert app.heads == []


async def test_direct_responses(mesh: Mesh) -> None:
    port = await client(mesh)
    rules = """[{match: [{uri: {exact: /text}}], directResponse: {status: 503, body: {string: 'back soon'}}},
                {match: [{uri: {exact: /bytes}}], directResponse: {status: 200, body: {bytes: AAH/}},
                 headers: {response: {set: {content-type: application/x, x-a: b}}}},
                {directResponse: {status: 204}}]"""
    await callee(mesh)
    apply_routes(mesh, rules)
    connection = await Client.connect(port)
    for method, target, status, kind, body in (
        ("GET", "/text", 503, "text/plain", b"back soon"),
        ("HEAD", "/text", 503, "text/plain", b""),
        ("POST", "/bytes", 200, "application/x", b"\x00\x01\xff"),
        ("GET", "/", 204, None, b""),
        ("GET", "/text", 503, "text/plain", b"back soon"),
    ):
        await connection.send(request_bytes(method, target, "reviews"))
        answer = await connection.answer(method)
        assert (answer.status, answer.field("content-type"), answer.body) == (status, kind, body)
        assert answer.field("x-mesh-flag") is None
    await connection.close()
    answer = await fetch(port, "/bytes", "reviews", "POST", b"x" * 1000)
    assert (answer.status, answer.field("x-a")) == (200, "b")


POLICY = """{allowOrigins: [{exact: 'https://a.example'}, {prefix: 'https://b.'}, {regex: 'https://c[0-9]'}],
             allowMethods: [GET, PUT], allowHeaders: [x-a, x-b], exposeHeaders: [x-c], maxAge: 24h,
             allowCredentials: true%s}"""


async def test_preflights(mesh: Mesh) -> None:
    port = await client(mesh)
    app = await callee(mesh)
    apply_routes(mesh, f"[{{corsPolicy: {POLICY % ''}, {TO_REVIEWS}}}]")
    for origin in ("https://a.example", "https://b.example", "https://c1"):
        answer = await fetch(
            port, "/", "reviews", "OPTIONS", origin=origin, access_control_request_method="PUT"
        )
        assert answer.status == 200
        assert {name: value for name, value in answer.fields if name.startswith("access-")} == {
            "access-control-allow-origin": origin,
            "access-control-allow-credentials": "true",
            "access-control-allow-methods": "GET,PUT",
            "access-control-allow-headers": "x-a,x-b",
            "access-control-max-age": "86400",
        }
    assert app.heads == []
    foreign = {"origin": "https://c12", "access_control_request_method": "PUT"}
    answer = await fetch(port, "/", "reviews", "OPTIONS", **foreign)  # type: ignore[arg-type]
    assert answer.json()["app"] == "reviews"
    apply_routes(mesh, f"[{{corsPolicy: {POLICY % ', unmatchedPreflights: IGNORE'}, {TO_REVIEWS}}}]")
    answer = await fetch(port, "/", "reviews", "OPTIONS", **foreign)  # type: ignore[arg-type]
    assert (answer.status, answer.field("access-control-allow-origin"), answer.body) == (200, None, b"")
    assert len(app.heads) == 1


async def test_cross_origin_responses(mesh: Mesh) -> None:
    port = await client(mesh)
    await callee(mesh)
    apply_routes(
        mesh, f"[{{corsPolicy: {POLICY % ''}, headers: {{response: {{add: {{x-r: '1'}}}}}}, {TO_REVIEWS}}}]"
    )
    answer = await fetch(port, "/", "reviews", origin="https://a.example")
    assert answer.field("access-control-allow-origin") == "https://a.example"
    assert answer.field("access-control-allow-credentials") == "true"
    assert answer.field("access-control-expose-headers") == "x-c"
    assert answer.field("x-r") == "1"
    for name in ("origin", "x-other"):
        answer = await fetch(port, "/", "reviews", **{name: "https://evil.example"})  # type: ignore[arg-type]
        assert answer.status == 200
        assert answer.field("access-control-allow-origin") is None
    apply_routes(mesh, f"[{{corsPolicy: {{allowOrigin: ['*']}}, {TO_REVIEWS}}}]")
    answer = await fetch(port, "/", "reviews", origin="null")
    assert answer.field("access-control-allow-origin") == "null"
