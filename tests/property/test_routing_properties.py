"""Routing agrees with a reference that is too simple to be wrong."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from ray_mesh.proxy.match import Scope, matching_routes
from ray_mesh.snapshot import NamedMatch, RequestMatch, Route, StringMatch

SCOPE = Scope("default", frozenset({("app", "client")}), 80)
TEXTS = st.text("/aAb", max_size=4)
PATHS = TEXTS.map(lambda text: "/" + text)


@dataclass
class Asked:
    """A request as predicates see it."""

    path: bytes
    method: bytes = b"GET"
    query: bytes = b""
    host: bytes = b"reviews"
    headers: dict[bytes, bytes] = field(default_factory=dict)

    def header(self, name: bytes) -> bytes | None:
        return self.headers.get(name)


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


@given(ROUTES, st.lists(REQUESTS, min_size=1, max_size=4))
def test_the_first_route_that_matches_is_chosen(routes: list[Route], requests: list[Asked]) -> None:
    kept = matching_routes(routes, SCOPE)
    for request in requests:
        chosen = next((route for test, route in kept if test is None or test(request)), None)
        expected = next(
            (
                route
                for route in routes
                if not route.matches or any(holds(match, request) for match in route.matches)
            ),
            None,
        )
        assert chosen is expected
