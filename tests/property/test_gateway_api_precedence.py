"""Which rule a request takes at a Gateway, compared with a reading of the specification rule by rule."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ray_mesh import snapshot
from ray_mesh.compile import World, compile_key
from ray_mesh.proxy.match import Scope
from ray_mesh.proxy.routes import RouteTable
from ray_mesh.proxy.virtual_hosts import VirtualHosts
from ray_mesh.resources import Document, from_json

PATHS = ["/", "/a", "/a/", "/a/b", "/ab", "/a/b/c", "/b"]
HOSTS = ["a.org", "b.a.org", "c.b.a.org", "b.org", "x.net"]
PATTERNS = ["a.org", "b.a.org", "*.a.org", "*.b.a.org", "*.org", "b.org"]


@dataclass(frozen=True)
class Written:
    """An HTTPRoute: its hosts, the matches of its rules, its age, and the listener it names."""

    hosts: list[str]
    rules: list[list[Any]]
    age: int
    section: str


@dataclass(frozen=True)
class Asked:
    """A request as matches see it."""

    method: bytes
    path: bytes
    query: bytes
    names: frozenset[bytes]
    host: bytes = b""
    scheme: bytes = b"http"

    def header(self, name: bytes) -> bytes | None:
        return b"1" if name in self.names else None

    def values(self, name: bytes) -> list[bytes]:
        return [b"1"] if name in self.names else []


def maybe(name: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.one_of(st.just({}), values.map(lambda value: {name: value}))


def merged(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(*parts).map(lambda maps: {key: value for one in maps for key, value in one.items()})


def named(names: list[str]) -> st.SearchStrategy[list[dict[str, str]]]:
    chosen = st.sets(st.sampled_from(names), min_size=1).map(sorted)
    return chosen.map(lambda found: [{"name": one, "value": "1"} for one in found])


MATCHES = merged(
    maybe(
        "path",
        st.builds(
            lambda kind, value: {"type": kind, "value": value},
            st.sampled_from(["Exact", "PathPrefix", "PathPrefix", "RegularExpression"]),
            st.sampled_from(PATHS),
        ),
    ),
    maybe("method", st.sampled_from(["GET", "POST"])),
    maybe("headers", named(["x-a", "X-B"])),
    maybe("queryParams", named(["q", "r"])),
)
HOSTNAMES = st.lists(st.sampled_from(PATTERNS), max_size=2, unique=True)
ROUTES = st.lists(
    st.builds(
        Written,
        HOSTNAMES,
        st.lists(st.lists(MATCHES, max_size=2), min_size=1, max_size=3),
        st.integers(1, 2),
        st.sampled_from(["", "l0", "l1"]),
    ),
    min_size=1,
    max_size=4,
)
LISTENERS = st.lists(st.sampled_from(["", *PATTERNS]), min_size=1, max_size=3, unique=True)
REQUESTS = st.tuples(
    st.builds(
        Asked,
        st.sampled_from([b"GET", b"POST"]),
        st.sampled_from([path.encode() for path in [*PATHS, "/a/b/", "/abc"]]),
        st.sampled_from([b"", b"?q=1", b"?q=1&r=1", b"?r=2"]),
        st.frozensets(st.sampled_from([b"x-a", b"x-b"])),
    ),
    st.sampled_from(HOSTS),
)


def document(kind: str, name: str, spec: dict[str, Any], admitted_at: float = 0.0) -> Document:
    version = "mesh.ray.io/v1" if kind == "Workload" else "gateway.networking.k8s.io/v1"
    plain = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}
    return from_json(json.dumps(plain), admitted_at)


def documents(listeners: list[str], routes: list[Written]) -> list[Document]:
    ingress = {"serviceAccount": "a", "node": "n1", "outboundPort": 2, "tokenSha256": "0" * 64}
    listed = [
        {"name": f"l{index}", "port": 80, "protocol": "HTTP", **({"hostname": host} if host else {})}
        for index, host in enumerate(listeners)
    ]
    found = [
        document("Workload", "edge", ingress | {"gatewayPorts": {"80": 1080}}),
        document("Gateway", "web", {"gatewayClassName": "ray-mesh", "listeners": listed}),
    ]
    for index, one in enumerate(routes):
        spec = {
            "parentRefs": [{"name": "web", **({"sectionName": one.section} if one.section else {})}],
            "hostnames": one.hosts,
            "rules": [{"matches": matches} for matches in one.rules],
        }
        found.append(document("HTTPRoute", f"r{index}", spec, float(one.age)))
    return found


def covers(pattern: str, host: str) -> bool:
    return pattern in ("", host) or (pattern.startswith("*.") and host.endswith(pattern[1:]))


def closeness(pattern: str) -> tuple[bool, int]:
    return not pattern.startswith("*") and bool(pattern), len(pattern)


def common(one: str, other: str) -> str | None:
    """What two patterns have in common."""
    if covers(one, other) and other:
        return other
    return one if not other or covers(other, one) else None


def holds(match: dict[str, Any], asked: Asked) -> bool:
    path, kind = match.get("path", {}), match.get("path", {}).get("type", "PathPrefix")
    value, real = path.get("value", "/"), asked.path.decode()
    elements = value.removesuffix("/")
    fits = real == value if kind != "PathPrefix" else real == elements or real.startswith(f"{elements}/")
    query = asked.query.decode().removeprefix("?").split("&")
    return (
        fits
        and match.get("method", asked.method.decode()) == asked.method.decode()
        and all(one["name"].lower().encode() in asked.names for one in match.get("headers", []))
        and all(f"{one['name']}=1" in query for one in match.get("queryParams", []))
    )


def precedence(match: dict[str, Any]) -> tuple[Any, ...]:
    path = match.get("path", {"type": "PathPrefix", "value": "/"})
    kinds = ["Exact", "RegularExpression", "PathPrefix"]
    value = path["value"].removesuffix("/") if path["type"] == "PathPrefix" else path["value"]
    listed = (len(match.get("headers", [])), len(match.get("queryParams", [])))
    return (kinds.index(path["type"]), -len(value), "method" not in match, *(-count for count in listed))


def expected(listeners: list[str], routes: list[Written], asked: Asked, host: str) -> str:
    """The rule by the letter: the closest listener, the closest host, then the precedence of matches."""
    open_to = [one for one in listeners if covers(one, host)]
    if not open_to:
        return ""
    listener = max(open_to, key=closeness)
    ranks: dict[int, tuple[tuple[bool, int], tuple[bool, int]]] = {}
    for index, route in enumerate(routes):
        if route.section not in ("", f"l{listeners.index(listener)}"):
            continue
        for one in route.hosts or [""]:
            both = common(listener, one)
            if both is not None and covers(both, host):
                rank = (closeness(both), closeness(one))
                ranks[index] = max(rank, ranks.get(index, rank))
    closest = max((rank[0] for rank in ranks.values()), default=None)
    candidates = [
        (
            (not rank[1][0], -rank[1][1], *precedence(match), routes[index].age, index, number, place),
            f"{index}/{number}",
        )
        for index, rank in ranks.items()
        if rank[0] == closest
        for number, matches in enumerate(routes[index].rules)
        for place, match in enumerate(matches or [{}])
        if holds(match, asked)
    ]
    return min(candidates)[1] if candidates else ""


@settings(max_examples=60, deadline=None)
@given(listeners=LISTENERS, routes=ROUTES, requests=st.lists(REQUESTS, min_size=1, max_size=6))
def test_a_request_takes_the_rule_that_the_specification_says(
    listeners: list[str],
    routes: list[Written],
    requests: list[tuple[Asked, str]],
) -> None:
    world = World({one.key: one for one in documents(listeners, routes)})
    compiled = compile_key(world, "n1.gateway.default.edge")
    assert isinstance(compiled, snapshot.Gateway)
    [server] = compiled.servers
    hosts = VirtualHosts(server.virtual_hosts)
    for asked, host in requests:
        virtual = hosts.find(host)
        slot = None
        if virtual is not None:
            scope = Scope("default", frozenset(), 80, is_gateway=True)
            slot = RouteTable(virtual.routes, scope, b"").choose(asked)
        name = slot.name.removeprefix("default/r") if slot is not None else ""
        assert name == expected(listeners, routes, asked, host), (asked, host)
