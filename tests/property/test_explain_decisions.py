"""Explaining and the data plane agree: the same route, the same conditions, the same policies."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ray_mesh.explain.asked import Asked
from ray_mesh.explain.conditions import conditions, first_failure, fits, holds
from ray_mesh.explain.guarding import why_not
from ray_mesh.proxy.match import Scope, alternatives
from ray_mesh.proxy.routes import RouteTable
from ray_mesh.security.authorization import AuthorizationInput, compile_policies
from ray_mesh.snapshot import (
    Destination,
    NamedMatch,
    Operation,
    Policy,
    RequestMatch,
    Route,
    Rule,
    Source,
    StringMatch,
    ValueMatch,
)

PATHS = ("/", "/a", "/a/b", "/A", "/b")
WORDS = ("a", "b", "")
TEXTS = st.one_of(
    st.builds(StringMatch, st.sampled_from(("exact", "prefix")), st.sampled_from((*PATHS, *WORDS[:2]))),
    st.builds(StringMatch, st.just("regex"), st.sampled_from(("/a.*", "[ab]"))),
    st.just(StringMatch("present")),
)
NAMED = st.lists(st.builds(NamedMatch, st.sampled_from(("x", "y")), TEXTS), max_size=2).map(tuple)
MATCHES = st.builds(
    RequestMatch,
    uri=st.none() | TEXTS,
    method=st.none() | st.just(StringMatch("exact", "GET")),
    authority=st.none() | TEXTS,
    headers=NAMED,
    without_headers=NAMED,
    query_params=NAMED,
    ignore_uri_case=st.booleans(),
    port=st.sampled_from((0, 80, 81)),
    source_labels=st.sampled_from(((), (("app", "web"),), (("app", "other"),))),
    source_namespace=st.sampled_from(("", "default", "prod")),
    gateways=st.sampled_from(((), ("mesh",), ("default/edge",))),
)
FIELDS = st.lists(st.tuples(st.sampled_from((b"x", b"y")), st.sampled_from((b"a", b"b", b"/a"))), max_size=3)
ASKED = st.builds(
    Asked,
    scheme=st.just(b"http"),
    method=st.sampled_from((b"GET", b"POST")),
    path=st.sampled_from(PATHS).map(str.encode),
    query=st.sampled_from((b"", b"?x=a", b"?x=b&y=/a")),
    host=st.sampled_from((b"a", b"b")),
    fields=FIELDS.map(tuple),
)
SCOPE = Scope("default", frozenset({("app", "web")}), 80)


@given(MATCHES, ASKED)
def test_a_match_holds_when_all_its_conditions_do(match: RequestMatch, asked: Asked) -> None:
    parts = [holds(one.match, SCOPE, asked) for one in conditions(match)]
    assert holds(match, SCOPE, asked) == all(parts)
    assert (first_failure(match, SCOPE, asked) is None) == all(parts)


@given(st.lists(st.lists(MATCHES, max_size=2), max_size=5), ASKED)
def test_the_route_is_the_one_that_the_proxy_takes(listed: list[list[RequestMatch]], asked: Asked) -> None:
    routes = [
        Route(str(number), "", tuple(matches), (Destination("a"),)) for number, matches in enumerate(listed)
    ]
    taken = RouteTable(routes, SCOPE, b"").choose(asked)
    found = next((one for one in routes if fits(alternatives(one.matches, SCOPE), asked)), None)
    assert (found.name if found else None) == (taken.name if taken else None)


VALUES = st.lists(
    st.builds(ValueMatch, st.sampled_from(("exact", "prefix", "suffix", "present")), st.sampled_from(WORDS)),
    max_size=2,
).map(tuple)
RULES = st.builds(
    Rule,
    st.lists(st.builds(Source, VALUES, VALUES, VALUES, VALUES), max_size=2).map(tuple),
    st.lists(
        st.builds(
            Operation, hosts=VALUES, ports=st.sampled_from(((), (80,))), methods=VALUES, not_paths=VALUES
        ),
        max_size=2,
    ).map(tuple),
)
INPUTS = st.builds(
    AuthorizationInput,
    *(st.sampled_from(WORDS) for _ in range(3)),
    port=st.sampled_from((80, 81)),
    method=st.sampled_from(WORDS),
    path=st.sampled_from(WORDS),
)


@given(RULES, INPUTS)
def test_a_rule_that_does_not_match_has_a_reason(rule: Rule, asked: AuthorizationInput) -> None:
    allowed = compile_policies((Policy("p", "ALLOW", (rule,)),)).check(asked).allowed
    assert (why_not(rule, asked) == "") == allowed
