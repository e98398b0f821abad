"""Which rule a call takes, compared with a reading of GRPCRoute's specification match by match."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ray_mesh import snapshot
from ray_mesh.compile import World, compile_key
from ray_mesh.proxy.match import Scope
from ray_mesh.proxy.routes import RouteTable
from ray_mesh.resources import Document, from_json

SERVICES = ["a.B", "a.BC", "b"]
METHODS = ["Get", "GetAll", "Set"]
PATTERNS = {"service": ["a\\.B.?", "[a-z]|a\\.B", "b"], "method": ["Get.*", "Get|Set", "G"]}


@dataclass(frozen=True)
class Call:
    """A request as matches see it."""

    service: str
    name: str
    names: frozenset[bytes]
    method: bytes = b"POST"
    query: bytes = b""
    host: bytes = b""
    scheme: bytes = b"http"

    @property
    def path(self) -> bytes:
        return f"/{self.service}/{self.name}".encode()

    def header(self, name: bytes) -> bytes | None:
        return b"1" if name in self.names else None

    def values(self, name: bytes) -> list[bytes]:
        return [b"1"] if name in self.names else []


def _methods(kind: str, services: list[str], methods: list[str]) -> st.SearchStrategy[dict[str, str]]:
    some = st.fixed_dictionaries(
        {}, optional={"service": st.sampled_from(services), "method": st.sampled_from(methods)}
    )
    return some.filter(bool).map(lambda said: {"type": kind, **said})


MATCHES = st.fixed_dictionaries(
    {},
    optional={
        "method": st.one_of(
            _methods("Exact", SERVICES, METHODS),
            _methods("RegularExpression", PATTERNS["service"], PATTERNS["method"]),
        ),
        "headers": st.sets(st.sampled_from(["x-a", "X-B"]), min_size=1).map(
            lambda names: [{"name": name, "value": "1"} for name in sorted(names)]
        ),
    },
)
ROUTES = st.lists(
    st.tuples(st.lists(st.lists(MATCHES, max_size=2), min_size=1, max_size=3), st.integers(1, 2)),
    min_size=1,
    max_size=4,
)
CALLS = st.builds(
    Call,
    st.sampled_from([*SERVICES, "c"]),
    st.sampled_from([*METHODS, "G"]),
    st.frozensets(st.sampled_from([b"x-a", b"x-b"])),
)


def documents(routes: list[tuple[list[list[Any]], int]]) -> list[Document]:
    def made(kind: str, name: str, spec: dict[str, Any], age: int = 0) -> Document:
        plain = {
            "apiVersion": "v1" if kind == "Service" else "gateway.networking.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": spec,
        }
        return from_json(json.dumps(plain), float(age))

    found = [made("Service", "calls", {"selector": {"app": "x"}, "ports": [{"name": "grpc", "port": 80}]})]
    for index, (rules, age) in enumerate(routes):
        spec = {
            "parentRefs": [{"group": "", "kind": "Service", "name": "calls"}],
            "rules": [{"matches": matches} for matches in rules],
        }
        found.append(made("GRPCRoute", f"r{index}", spec, age))
    return found


def holds(match: dict[str, Any], call: Call) -> bool:
    method = match.get("method", {})
    is_exact = method.get("type", "Exact") == "Exact"
    for said, real in ((method.get("service"), call.service), (method.get("method"), call.name)):
        if said and not (said == real if is_exact else re.fullmatch(said, real)):
            return False
    return all(one["name"].lower().encode() in call.names for one in match.get("headers", []))


def precedence(match: dict[str, Any]) -> tuple[int, int, int]:
    method = match.get("method", {})
    return (
        -len(method.get("service", "")),
        -len(method.get("method", "")),
        -len(match.get("headers", [])),
    )


def expected(routes: list[tuple[list[list[Any]], int]], call: Call) -> str:
    candidates = [
        (*precedence(match), age, index, number, place)
        for index, (rules, age) in enumerate(routes)
        for number, matches in enumerate(rules)
        for place, match in enumerate(matches or [{}])
        if holds(match, call)
    ]
    if not candidates:
        return ""
    *_, index, number, _ = min(candidates)
    return f"{index}/{number}"


@settings(max_examples=100, deadline=None)
@given(routes=ROUTES, calls=st.lists(CALLS, min_size=1, max_size=8))
def test_a_call_takes_the_rule_that_the_specification_says(
    routes: list[tuple[list[list[Any]], int]], calls: list[Call]
) -> None:
    world = World({one.key: one for one in documents(routes)})
    service = compile_key(world, "service.default.calls")
    assert isinstance(service, snapshot.Service)
    table = RouteTable(service.routes, Scope("default", frozenset(), 80), b"")
    for call in calls:
        slot = table.choose(call)
        assert (slot.name.removeprefix("default/r") if slot is not None else "") == expected(routes, call)
