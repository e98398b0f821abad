"""What rules of a VirtualService become."""

from __future__ import annotations

from compile_world import document, routes, service, to, world

from ray_mesh import snapshot
from ray_mesh.compile import compile_key
from ray_mesh.snapshot import Destination, Mirror, RequestMatch, Rewrite, Route, StringMatch

HOST = "reviews.default.svc.cluster.local"


def compiled(http: str, *others: object) -> tuple[Route, ...]:
    made = world(service("reviews"), service("ratings"), routes("reviews", http), *others)  # type: ignore[arg-type]
    found = compile_key(made, snapshot.key_for("service", HOST))
    assert isinstance(found, snapshot.Service)
    return found.routes


def test_what_is_not_used_takes_no_bytes() -> None:
    (route,) = compiled(f"[{{route: [{to('reviews')}]}}]")
    plain = Route(route.name, route.origin, (), (Destination(HOST, "", 9080),))
    assert route == plain
    assert b"rewrite" not in snapshot.codec.pack(route)


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
