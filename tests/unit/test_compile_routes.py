"""What rules of a VirtualService become."""

from __future__ import annotations

import pytest
from compile_world import document, routes, service, to, world

from ray_mesh import codec, snapshot
from ray_mesh.compile import admit, compile_key
from ray_mesh.errors import ConfigError
from ray_mesh.resources import Document
from ray_mesh.snapshot import Destination, Mirror, RequestMatch, Rewrite, Route, StringMatch

HOST = "reviews.default.svc.cluster.local"


def compiled(http: str, *others: Document) -> tuple[Route, ...]:
    made = world(service("reviews"), service("ratings"), routes("reviews", http), *others)
    found = compile_key(made, snapshot.key_for("service", HOST))
    assert isinstance(found, snapshot.Service)
    return found.routes


def test_what_is_not_used_takes_no_bytes() -> None:
    (route,) = compiled(f"[{{route: [{to('reviews')}]}}]")
    plain = Route(route.name, route.origin, (), (Destination(HOST, "", 9080),))
    assert route == plain
    assert b"rewrite" not in codec.pack(route)


def test_a_mirror_of_nothing_is_none() -> None:
    (route,) = compiled(f"[{{route: [{to('reviews')}], mirror: {{host: ratings}}, mirrorPercentage: {{}}}}]")
    assert route.mirrors == ()
    (route,) = compiled(f"[{{route: [{to('reviews')}], mirror: {{host: ratings}}}}]")
    assert route.mirrors == (Mirror(Destination("ratings.default.svc.cluster.local", "", 9080), 100.0),)


def test_a_rewrite_knows_the_prefix_of_each_match() -> None:
    found = compiled(
        "[{match: [{uri: {prefix: /é}}, {uri: {regex: /x}}, {method: {exact: GET}}], "
        f"rewrite: {{uri: /new}}, route: [{to('reviews')}]}}]"
    )
    assert [route.rewrite for route in found] == [
        Rewrite("/new", 3),
        Rewrite("/new", -1),
        Rewrite("/new", 1),
    ]
    assert found[0].matches == (RequestMatch(uri=StringMatch("prefix", "/é")),)
    assert len({route.name for route in found}) == 1


def test_gateways_are_matched_by_name() -> None:
    found = compiled(
        f"[{{match: [{{gateways: [edge]}}], name: edge, route: [{to('reviews')}]}}, "
        f"{{match: [{{gateways: [mesh, edge]}}], name: both, route: [{to('reviews')}]}}]",
        document(
            "Gateway", "edge", "{servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: ['*']}]}"
        ),
    )
    assert [route.name for route in found] == ["both"]


def delegate(http: str, name: str = "team") -> Document:
    return document("VirtualService", name, f"{{http: {http}}}")


def findings(root_match: str, below_match: str) -> list[str]:
    """The errors when a rule delegates to one of that match."""
    below = f"[{{match: [{below_match}], route: [{to('reviews')}]}}]"
    root = routes("reviews", f"[{{match: [{root_match}], delegate: {{name: team}}}}]")
    found = admit(world(service("reviews")), [root, delegate(below)])
    return [one.code for one in found if one.severity == "error"]


WITHIN = [
    ("{uri: {prefix: /a}}", "{uri: {prefix: /a/b}}"),
    ("{uri: {prefix: /a}}", "{uri: {exact: /a}}"),
    ("{uri: {exact: /a}}", "{uri: {exact: /a}}"),
    ("{uri: {prefix: /a}}", "{headers: {x: {regex: y}}}"),
    ("{headers: {x: {}}}", "{headers: {x: {exact: y}}}"),
    ("{gateways: [mesh]}", "{port: 80}"),
    ("{sourceLabels: {a: b}}", "{sourceLabels: {a: b, c: d}}"),
    ("{uri: {regex: a}}", "{uri: {regex: a}}"),
]
OUTSIDE = [
    ("{uri: {prefix: /a/b}}", "{uri: {prefix: /a}}"),
    ("{uri: {exact: /a}}", "{uri: {prefix: /a}}"),
    ("{uri: {exact: /a}}", "{uri: {exact: /b}}"),
    ("{uri: {prefix: /a}}", "{uri: {regex: /a.*}}"),
    ("{uri: {prefix: /a}}", "{uri: {prefix: /a}, ignoreUriCase: true}"),
    ("{headers: {x: {exact: a}}}", "{headers: {x: {exact: b}}}"),
    ("{queryParams: {x: {exact: a}}}", "{queryParams: {x: {}}}"),
    ("{port: 80}", "{port: 81}"),
    ("{sourceNamespace: a}", "{sourceNamespace: b}"),
    ("{sourceLabels: {a: b}}", "{sourceLabels: {a: c}}"),
    ("{gateways: [mesh]}", "{gateways: [edge]}"),
]


@pytest.mark.parametrize(("root", "below"), WITHIN)
def test_a_match_within_the_root_is_accepted(root: str, below: str) -> None:
    assert findings(root, below) == []


@pytest.mark.parametrize(("root", "below"), OUTSIDE)
def test_a_match_outside_of_the_root_is_refused(root: str, below: str) -> None:
    assert findings(root, below) == ["RM0116"]


@pytest.mark.parametrize(
    ("root", "below", "ignores"),
    [
        ("{uri: {exact: /a}}", "{headers: {x: {}}, ignoreUriCase: true}", False),
        ("{uri: {exact: /a}, ignoreUriCase: true}", "{headers: {x: {}}}", True),
        ("{headers: {x: {}}}", "{uri: {exact: /a}, ignoreUriCase: true}", True),
        ("{headers: {x: {}}, ignoreUriCase: true}", "{uri: {exact: /a}}", False),
    ],
)
def test_the_case_of_a_uri_is_ignored_where_the_uri_is_written(root: str, below: str, ignores: bool) -> None:
    (route,) = compiled(
        f"[{{match: [{root}], delegate: {{name: team}}}}]",
        delegate(f"[{{match: [{below}], route: [{to('reviews')}]}}]"),
    )
    assert [match.ignore_uri_case for match in route.matches] == [ignores]


def test_a_delegate_is_needed_and_used() -> None:
    root = routes("reviews", "[{delegate: {name: team}}]")
    below = delegate(f"[{{route: [{to('reviews')}]}}]")
    base = world(service("reviews"))
    assert [one.code for one in admit(base, [root])] == ["IST0101"]
    assert [one.code for one in admit(base, [below])] == ["RM0117"]
    assert admit(base, [root, below]) == []
    both = world(service("reviews"), root, below)
    assert [one.code for one in admit(both, [], [below.key])] == ["RM0002"]


def test_a_delegate_inherits_what_it_does_not_say() -> None:
    below = delegate(
        f"[{{name: own, timeout: 1s, route: [{to('reviews')}]}}, "
        f"{{match: [{{name: m}}], route: [{to('ratings')}]}}]"
    )
    found = compiled(
        "[{name: root, timeout: 9s, match: [{name: a, uri: {prefix: /a}}, {uri: {exact: /b}}], "
        "delegate: {name: team}, mirror: {host: ratings}}]",
        below,
    )
    assert [(route.name, route.timeout_s, len(route.matches), len(route.mirrors)) for route in found] == [
        ("root-own.a", 1.0, 1, 1),
        ("root-own", 1.0, 1, 1),
        ("root.a-m", 9.0, 1, 1),
        ("root.m", 9.0, 1, 1),
    ]
    assert found[0].origin == "VirtualService default/team spec.http[0]"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{gateways: [a], http: [{route: [{destination: {host: a}}]}]}", "it has no gateways"),
        ("{http: [{delegate: {name: b}}]}", "cannot delegate in turn"),
        ("{hosts: [a], http: [{delegate: {}}]}", "the name of the VirtualService is missing"),
        ("{hosts: [a], http: [{delegate: {name: b}, redirect: {uri: /a}}]}", "set one of route, redirect"),
    ],
)
def test_delegates_that_cannot_be(spec: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        document("VirtualService", "a", spec)
    assert expected in str(caught.value)
