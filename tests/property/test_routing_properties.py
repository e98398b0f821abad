"""Routing agrees with a reference that is too simple to be wrong."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_mesh.proxy.change import edit_of, rewriter
from ray_mesh.proxy.match import Scope, alternatives, text_test
from ray_mesh.proxy.path import BASE
from ray_mesh.proxy.route_index import RouteIndex
from ray_mesh.snapshot import HeaderChanges, NamedMatch, RequestMatch, Rewrite, Route, StringMatch

SCOPE = Scope("default", frozenset({("app", "client")}), 80)
TEXTS = st.text("/aAb", max_size=4)
PATHS = TEXTS.map(lambda text: "/" + text)


@dataclass
class Asked:
    """A request as predicates see it."""

    path: bytes
    scheme: bytes = b"http"
    method: bytes = b"GET"
    query: bytes = b""
    host: bytes = b"reviews"
    headers: dict[bytes, bytes] = field(default_factory=dict)

    def header(self, name: bytes) -> bytes | None:
        return self.headers.get(name)

    def values(self, name: bytes) -> list[bytes]:
        return [self.headers[name]] if name in self.headers else []


def string_matches(values: st.SearchStrategy[str]) -> st.SearchStrategy[StringMatch]:
    regexes = values.map(lambda value: StringMatch("regex", re.escape(value) + "(/|a)*"))
    plain = st.builds(StringMatch, st.sampled_from(["exact", "prefix"]), values)
    return st.one_of(plain, regexes)


NAMED = st.lists(st.builds(NamedMatch, st.sampled_from(["x", "y"]), string_matches(TEXTS)), max_size=2).map(
    tuple
)
MATCHES = st.builds(
    RequestMatch,
    uri=st.none() | string_matches(PATHS),
    method=st.none() | string_matches(st.sampled_from(["GET", "P"])),
    headers=NAMED,
    without_headers=NAMED,
    query_params=NAMED,
    ignore_uri_case=st.booleans(),
    port=st.sampled_from([0, 80, 81]),
    source_labels=st.sampled_from([(), (("app", "client"),), (("app", "x"),)]),
    scheme=st.sampled_from([None, StringMatch("exact", "http"), StringMatch("prefix", "https")]),
)
ROUTES = st.lists(st.lists(MATCHES, max_size=3), max_size=25).map(
    lambda lists: [Route(str(number), "", tuple(matches), ()) for number, matches in enumerate(lists)]
)
REQUESTS = st.builds(
    Asked,
    path=PATHS.map(str.encode),
    method=st.sampled_from([b"GET", b"POST"]),
    query=st.sampled_from([b"", b"?x=a", b"?y=/a&x=", b"?x"]),
    headers=st.dictionaries(st.sampled_from([b"x", b"y"]), TEXTS.map(str.encode), max_size=2),
)


def says(match: StringMatch, text: str | None) -> bool:
    if text is None:
        return False
    if match.kind == "regex":
        return re.fullmatch(match.value, text) is not None
    return text == match.value if match.kind == "exact" else text.startswith(match.value)


def holds(match: RequestMatch, request: Asked) -> bool:
    headers = {name.decode(): value.decode() for name, value in request.headers.items()}
    pairs = [pair.partition("=") for pair in request.query[1:].decode().split("&")]
    path = request.path.decode()
    uri = match.uri
    if uri is not None and match.ignore_uri_case and uri.kind != "regex":
        uri, path = StringMatch(uri.kind, uri.value.lower()), path.lower()
    conditions = [
        uri is None or says(uri, path),
        match.method is None or says(match.method, request.method.decode()),
        match.scheme is None or says(match.scheme, "http"),
        match.port in (0, 80),
        match.source_labels in ((), (("app", "client"),)),
        all(says(one.match, headers.get(one.name)) for one in match.headers),
        not any(says(one.match, headers.get(one.name, "")) for one in match.without_headers),
        all(
            says(one.match, next((value for name, _, value in pairs if name == one.name), None))
            for one in match.query_params
        ),
    ]
    return all(conditions)


@settings(deadline=None, max_examples=60)
@given(ROUTES, st.lists(REQUESTS, min_size=1, max_size=4))
def test_the_first_route_that_matches_is_chosen(routes: list[Route], requests: list[Asked]) -> None:
    index = RouteIndex([(alternatives(route.matches, SCOPE), route) for route in routes])
    for request in requests:
        chosen = index.find(request)
        expected = next(
            (
                route
                for route in routes
                if not route.matches or any(holds(match, request) for match in route.matches)
            ),
            None,
        )
        assert chosen is expected


PAIRS = st.lists(st.tuples(st.sampled_from(["x-a", "x-b", "x-c"]), TEXTS), max_size=3).map(tuple)
BLOCKS = st.lists(
    st.tuples(st.sampled_from(["X-A", "x-b", "x-ab", "Host", "x-c"]), st.text("a: ", max_size=4)), max_size=6
)


@settings(deadline=None)
@given(BLOCKS, PAIRS, st.lists(st.sampled_from(["x-a", "x-b"]), max_size=2).map(tuple), PAIRS)
def test_header_operations(
    lines: list[tuple[str, str]],
    put: tuple[tuple[str, str], ...],
    remove: tuple[str, ...],
    add: tuple[tuple[str, str], ...],
) -> None:
    block = "\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines)
    once = edit_of(HeaderChanges(remove, put), "host.example")
    assert once is not None
    edited = once(block.encode())
    assert once(edited) == edited
    gone = {*remove, "host", *(name for name, _ in put)}
    kept = [f"{name}: {value}" for name, value in lines if name.lower() not in gone]
    expected = ["host: host.example", *kept, *(f"{name}: {value}" for name, value in put)]
    assert edited.decode() == "\r\n" + "".join(f"{line}\r\n" for line in expected)
    adding = edit_of(HeaderChanges(add=add))
    added = "".join(f"{name}: {value}\r\n" for name, value in add).encode()
    assert (adding(edited) if adding else edited) == edited + added


@settings(deadline=None)
@given(
    st.text("/ab.%2e?", max_size=12).map(lambda text: ("/" + text).encode()),
    st.builds(
        Rewrite,
        path=st.sampled_from(["/", "/new", "/new/"]),
        length=st.integers(-1, 6),
        pattern=st.sampled_from(["", "", "a*", "/", "(a)(b)?", "^/"]),
        template=st.sampled_from(["", "/", r"\0x", r"/\\"]),
    ),
)
def test_what_a_rewrite_makes_is_a_normal_path(target: bytes, rewrite: Rewrite) -> None:
    try:
        path, _ = BASE.split(target)
        made = rewriter(rewrite)(path)
    except ValueError:
        return
    assert BASE.split(made) == (made, b"")


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", "(.*)(.*)(.*)(.*)b", "a{0,50}a{0,50}b"])
def test_matching_takes_linear_time(pattern: str) -> None:
    """Against backtracking, which would take longer than the universe has; not a measurement."""
    test = text_test(StringMatch("regex", pattern))
    assert not test(b"a" * 50_000)
    with contextlib.suppress(ValueError):
        rewriter(Rewrite(pattern=pattern, template="x"))(b"/" + b"a" * 5_000)
