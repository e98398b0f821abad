"""Routes, and requests that tell them apart."""

from __future__ import annotations

from dataclasses import replace

from oracle_sides import DEAD, TO_APP

from ray_mesh.snapshot import (
    Destination,
    DirectResponse,
    HeaderChanges,
    NamedMatch,
    Redirect,
    RequestMatch,
    Rewrite,
    Route,
    StringMatch,
)


def route(name: str, *matches: RequestMatch, to: tuple[Destination, ...] = TO_APP) -> Route:
    """A route whose name the application sees."""
    return Route(name, "", matches, to, request_headers=HeaderChanges(set=(("x-route", name),)))


def uri(kind: str, value: str, **more: object) -> RequestMatch:
    """A match on the path."""
    return replace(RequestMatch(uri=StringMatch(kind, value)), **more)  # type: ignore[arg-type]


def named(name: str, kind: str, value: str = "") -> tuple[NamedMatch, ...]:
    """A match on one header or parameter."""
    return (NamedMatch(name, StringMatch(kind, value)),)  # type: ignore[arg-type]


_CHANGES = HeaderChanges(
    remove=("x-gone", "cookie"), set=(("x-set", "new"), ("user-agent", "mesh")), add=(("x-add", "more"),)
)
_ANSWERED = HeaderChanges(remove=("x-app",), set=(("x-kind", "set"),), add=(("x-multi", "three"),))

ROUTES = (
    route("exact", uri("exact", "/exact")),
    route("first", uri("prefix", "/order")),
    route("second", uri("prefix", "/order/deeper")),
    route("any of two", uri("exact", "/one"), uri("exact", "/two")),
    route("no case", uri("prefix", "/NoCase", ignore_uri_case=True)),
    route("regex", uri("regex", "/re/[a-z]+/(x|y)?")),
    route("header", uri("prefix", "/h", headers=named("end-user", "exact", "jason"))),
    route("header prefix", uri("prefix", "/h", headers=named("end-user", "prefix", "ja"))),
    route("header regex", uri("prefix", "/h", headers=named("end-user", "regex", "[0-9]+"))),
    route("header present", uri("prefix", "/h", headers=named("x-beta", "present"))),
    route("two headers", uri("prefix", "/h", headers=named("a", "exact", "1") + named("b", "exact", "2"))),
    route("without", uri("prefix", "/w", without_headers=named("x-beta", "present"))),
    route("method", uri("prefix", "/m", method=StringMatch("exact", "POST"))),
    route("authority", uri("prefix", "/a", authority=StringMatch("exact", "shop.example"))),
    route("query", uri("prefix", "/q", query_params=named("v", "exact", "2"))),
    route("query regex", uri("prefix", "/q", query_params=named("v", "regex", "[3-5]"))),
    replace(route("rewrite", uri("prefix", "/old")), rewrite=Rewrite("/new", 4)),
    replace(route("rewrite whole", uri("exact", "/whole")), rewrite=Rewrite("/other")),
    replace(
        route("rewrite regex", uri("prefix", "/items/")),
        rewrite=Rewrite(pattern="/items/([0-9]+)/", template="/goods/\\1/"),
    ),
    replace(route("host", uri("prefix", "/host")), authority="other.example"),
    replace(
        route("changes", uri("prefix", "/changes")), request_headers=_CHANGES, response_headers=_ANSWERED
    ),
    replace(
        route("changes of a destination", uri("prefix", "/to")),
        destinations=(replace(TO_APP[0], request_headers=_CHANGES, response_headers=_ANSWERED),),
        request_headers=HeaderChanges(set=(("x-set", "by the route"),)),
    ),
    Route("redirect", "", (uri("exact", "/moved"),), (), redirect=Redirect(path="/there")),
    Route("redirect prefix", "", (uri("prefix", "/was"),), (), redirect=Redirect(302, path="/is", length=4)),
    Route(
        "redirect host",
        "",
        (uri("prefix", "/away"),),
        (),
        redirect=Redirect(307, "https", "example.com"),
    ),
    Route("redirect port", "", (uri("exact", "/port"),), (), redirect=Redirect(308, port=8443)),
    Route("direct", "", (uri("exact", "/teapot"),), (), direct_response=DirectResponse(418, b"short")),
    Route("slow", "", (uri("prefix", "/slow"),), TO_APP, timeout_s=0.3),
    Route("dead", "", (uri("prefix", "/dead"),), (Destination(DEAD),)),
    route("rest", uri("prefix", "/rest")),
)


def get(target: str, *fields: str, host: str = "shop", method: str = "GET", body: bytes = b"") -> bytes:
    """A request."""
    length = [f"Content-Length: {len(body)}"] if body else []
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields, *length]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


REQUESTS: dict[str, bytes] = {
    **{
        f"path {target}": get(target)
        for target in (
            "/exact",
            "/exact/",
            "/exact?x=1",
            "/Exact",
            "/exactly",
            "/order",
            "/order/deeper",
            "/order/deeper/x",
            "/orderly",
            "/one",
            "/two",
            "/nocase/X",
            "/NOCASE",
            "/re/abc/x",
            "/re/abc/",
            "/re/abc/z",
            "/re/ABC/x",
            "/re/abc/x?y",
            "/old",
            "/old/a/b?c=d",
            "/oldish",
            "/whole",
            "/whole?a=b",
            "/items/42/x?y=z",
            "/items/x/42/",
            "/host",
            "/moved",
            "/moved?a=b",
            "/was/a?b",
            "/away/x?y",
            "/port",
            "/teapot",
            "/slow",
            "/dead",
            "/rest",
            "/rest?",
            "/rest?a&b=%20",
            "/nothing",
            "/rest/./a/../b",
            "/rest/%2e%2e/exact",
            "/rest/%41",
            "/q?v=2",
            "/q?v=4",
            "/q?v=9",
            "/q?x=1&v=2",
            "/q?v=1&v=2",
            "/q",
        )
    },
    "header exact": get("/h", "End-User: jason"),
    "header prefix": get("/h", "end-user: jane"),
    "header regex": get("/h", "end-user: 42"),
    "header regex, only part": get("/h", "end-user: 42a"),
    "header regex, repeated": get("/h", "end-user: 4", "end-user: 2"),
    "header present": get("/h", "x-beta:"),
    "header absent": get("/h"),
    "header case of value": get("/h", "end-user: Jason"),
    "two headers": get("/h", "a: 1", "b: 2"),
    "one of two headers": get("/h", "a: 1"),
    "without": get("/w"),
    "with": get("/w", "x-beta: 1"),
    "method": get("/m", method="POST", body=b"x"),
    "other method": get("/m", method="PUT", body=b"x"),
    "authority": get("/a", host="shop.example"),
    "authority with a port": get("/a", host="shop.example:80"),
    "authority in capitals": get("/a", host="Shop.Example"),
    "changes": get("/changes", "X-Gone: 1", "x-set: old", "x-add: one", "cookie: a=b"),
    "changes, nothing there": get("/changes"),
    "changes of a destination": get("/to", "x-set: old", "x-add: one"),
    "redirect with another host": get("/moved", host="other.example:8080"),
    "hop by hop": get("/rest", "Connection: x-hop", "X-Hop: 1", "Keep-Alive: 5"),
    "repeated fields": get("/rest", "x-a: 1", "x-b: 2", "X-A: 3", "x-a: 1"),
    "accept-encoding": get("/rest", "Accept-Encoding: gzip, br", "Accept: */*"),
    "cookies": get("/rest", "Cookie: a=b", "Cookie: c=d"),
    "method of one's own": get("/rest", method="BREW"),
    "options": get("/rest", method="OPTIONS"),
    "delete with a body": get("/rest", method="DELETE", body=b"because"),
    "a body of a kilobyte": get("/rest", method="POST", body=b"x" * 1024),
    "a long query": get("/rest?" + "a" * 2000),
    "no host known to the world": get("/rest", host="unknown.example"),
}
