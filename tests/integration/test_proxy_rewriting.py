"""What routes change of requests and responses on their way."""

from __future__ import annotations

from typing import Any

from proxy_mesh import mesh  # noqa: F401
from routing_mesh import Mesh, apply_routes, callee, client, fetch

# ruff: noqa: F811

TO_REVIEWS = "route: [{destination: {host: reviews}}]"


def seen(answer: Any) -> tuple[str, list[tuple[str, str]]]:
    """The target and the fields that the application got."""
    told = answer.json()
    return told["line"].split(" ")[1], [(name.lower(), value) for name, value in told["fields"]]


def values(fields: list[tuple[str, str]], name: str) -> list[str]:
    return [value for each, value in fields if each == name]


REWRITES = [
    ("{prefix: /old}", "{uri: /new}", "/old/x?q=1", "/new/x?q=1"),
    ("{prefix: /old/}", "{uri: /}", "/old/x", "/x"),
    ("{prefix: /OLD}, ignoreUriCase: true", "{uri: /new}", "/oLd/x", "/new/x"),
    ("{exact: /old}", "{uri: /new}", "/old?q", "/new?q"),
    ("{regex: '/old/.*'}", "{uri: /new}", "/old/x?q", "/new?q"),
    (
        "{prefix: /}",
        r"{uriRegexRewrite: {match: '^/v([0-9]+)/(.*)', rewrite: '/\2/version/\1'}}",
        "/v12/a?b",
        "/a/version/12?b",
    ),
    ("{prefix: /}", "{uriRegexRewrite: {match: 'a+', rewrite: x}}", "/aab/aa", "/xb/x"),
    ("{prefix: /}", "{uriRegexRewrite: {match: nothing, rewrite: x}}", "/aab", "/aab"),
]


async def test_paths(mesh: Mesh) -> None:
    port = await client(mesh)
    await callee(mesh)
    for uri, rewrite, asked, sent in REWRITES:
        apply_routes(mesh, f"[{{match: [{{uri: {uri}}}], rewrite: {rewrite}, {TO_REVIEWS}}}]")
        target, _ = seen(await fetch(port, asked, "reviews"))
        assert target == sent, rewrite
        assert mesh.planes["one"].access_records()[-1].path == asked
        assert mesh.planes["two"].access_records()[-1].path == sent


async def test_each_match_of_a_rule_has_its_own_prefix(mesh: Mesh) -> None:
    port = await client(mesh)
    await callee(mesh)
    match = "[{uri: {prefix: /one/}}, {uri: {exact: /two}}, {headers: {x: {}}}]"
    apply_routes(mesh, f"[{{match: {match}, rewrite: {{uri: /new/}}, {TO_REVIEWS}}}]")
    assert seen(await fetch(port, "/one/a", "reviews"))[0] == "/new/a"
    assert seen(await fetch(port, "/two", "reviews"))[0] == "/new/"
    assert seen(await fetch(port, "/three", "reviews", X="1"))[0] == "/new/three"
    assert (await fetch(port, "/three", "reviews")).status == 404


async def test_a_rewrite_cannot_leave_its_prefix(mesh: Mesh) -> None:
    port = await client(mesh)
    app = await callee(mesh)
    apply_routes(mesh, f"[{{match: [{{uri: {{prefix: /a}}}}], rewrite: {{uri: /public/}}, {TO_REVIEWS}}}]")
    answer = await fetch(port, "/a../secret", "reviews")
    assert (answer.status, answer.json()["error"]) == (400, "bad_rewrite")
    many = "{uriRegexRewrite: {match: a, rewrite: b}}"
    apply_routes(mesh, f"[{{rewrite: {many}, {TO_REVIEWS}}}]")
    answer = await fetch(port, "/" + "a" * 101, "reviews")
    assert (answer.status, answer.json()["error"]) == (400, "bad_rewrite")
    assert app.heads == []


async def test_authority(mesh: Mesh) -> None:
    port = await client(mesh)
    await callee(mesh)
    rules = (
        f"[{{match: [{{uri: {{exact: /a}}}}], rewrite: {{authority: 'other.example:81'}}, {TO_REVIEWS}}}, "
        f"{{headers: {{request: {{set: {{Host: b.example}}}}}}, {TO_REVIEWS}}}]"
    )
    apply_routes(mesh, rules)
    for target, host in (("/a", "other.example:81"), ("/b", "b.example")):
        _, fields = seen(await fetch(port, target, "reviews"))
        assert values(fields, "host") == [host]
    assert mesh.planes["one"].access_records()[-1].host == "reviews"


async def test_headers_of_requests(mesh: Mesh) -> None:
    port = await client(mesh)
    await callee(mesh)
    rules = """[{headers: {request: {set: {X-Set: route, x-both: route, x-forwarded-proto: https},
                                add: {x-add: route, x-percent: '100%%'}, remove: [X-Gone, x-of-destination]}},
                 route: [{destination: {host: reviews}, headers: {request: {
                     set: {x-both: destination}, add: {x-add: destination, x-of-destination: '1'}}}}]}]"""
    apply_routes(mesh, rules)
    for method, body in (("GET", b""), ("POST", b"hello")):
        answer = await fetch(
            port, "/", "reviews", method, body, x_set="mine", X_GONE="1", x_add="mine", x_kept="1"
        )
        _, fields = seen(answer)
        assert answer.json()["body"] == body.decode()
        assert values(fields, "x-set") == ["route"]
        assert values(fields, "x-both") == ["route"]
        assert values(fields, "x-add") == ["mine", "destination", "route"]
        assert values(fields, "x-percent") == ["100%"]
        assert values(fields, "x-forwarded-proto") == ["https"]
        assert values(fields, "x-kept") == ["1"]
        assert not values(fields, "x-gone")
        assert not values(fields, "x-of-destination")
        assert values(fields, "host") == ["reviews"]


async def test_headers_of_responses(mesh: Mesh) -> None:
    port = await client(mesh)

    async def answer(reader: Any, writer: Any) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            body = b"2\r\nok\r\n0\r\n\r\n" if b"chunked" in head else b"ok"
            framing = b"Transfer-Encoding: chunked" if b"chunked" in head else b"Content-Length: 2"
            writer.write(
                b"HTTP/1.1 200 OK\r\nServer: app\r\nX-Gone: 1\r\nX-Set: app\r\n"
                + framing
                + b"\r\n\r\n"
                + body
            )

    await callee(mesh, handler=answer)
    rules = """[{headers: {response: {set: {x-set: route}, add: {x-add: route}, remove: [x-gone]}},
                route: [{destination: {host: reviews}, headers: {response: {add: {x-add: destination}}}}]}]"""
    apply_routes(mesh, rules)
    for target in ("/", "/", "/chunked"):
        told = await fetch(port, target, "reviews")
        assert (told.status, told.body) == (200, b"ok")
        assert values(told.fields, "x-set") == ["route"]
        assert values(told.fields, "x-add") == ["destination", "route"]
        assert values(told.fields, "server") == ["app"]
        assert not values(told.fields, "x-gone")


async def test_answers_of_the_proxy_are_changed_too(mesh: Mesh) -> None:
    port = await client(mesh)
    await callee(mesh)
    rules = """[{headers: {response: {set: {x-set: route}, remove: [x-other]}},
                 fault: {abort: {httpStatus: 418, percentage: {value: 100}}},
                 route: [{destination: {host: reviews}}]}]"""
    apply_routes(mesh, rules)
    answer = await fetch(port, "/", "reviews")
    assert (answer.status, answer.field("x-set"), answer.field("x-mesh-flag")) == (418, "route", "FI")


async def test_a_route_to_two_destinations_changes_for_each(mesh: Mesh) -> None:
    port = await client(mesh)
    await callee(mesh)
    await callee(mesh, "ratings")
    rules = """[{route: [
        {destination: {host: reviews}, weight: 0, headers: {request: {set: {x-to: none}}}},
        {destination: {host: reviews}, weight: 75, headers: {request: {set: {x-to: reviews, host: r1}}}},
        {destination: {host: ratings}, weight: 25, headers: {request: {set: {x-to: ratings}}}}]}]"""
    apply_routes(mesh, rules, "ratings")
    counts = {"reviews": 0, "ratings": 0}
    for _ in range(200):
        answer = await fetch(port, "/", "reviews")
        _, fields = seen(answer)
        app = answer.json()["app"]
        assert values(fields, "x-to") == [app]
        assert values(fields, "host") == ["r1" if app == "reviews" else "reviews"]
        counts[app] += 1
    assert 110 < counts["reviews"] < 185, counts
