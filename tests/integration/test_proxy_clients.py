"""What depends on the caller, over real sockets: from documents to what each of two workloads gets."""

from __future__ import annotations

import pytest
from proxy_mesh import App, Mesh, fetch, free_port, mesh  # noqa: F401
from test_proxy_outside import NETWORKING, at, configure, entry

# ruff: noqa: F811

API = "api.example.com"


@pytest.fixture
async def callers(mesh: Mesh) -> tuple[int, int]:
    """Outbound ports of ``web`` and ``batch``, on one plane, which knows at once what hosts there are."""
    ports = [await mesh.workload(name, free_port(), node="one") for name in ("web", "batch")]
    mesh.planes["one"].on_unknown_host = mesh.planes["one"].unknown
    return ports[0], ports[1]


@pytest.fixture
async def two(mesh: Mesh) -> tuple[App, App]:
    """Two applications outside."""
    return await mesh.app("one"), await mesh.app("two")


def both(two: tuple[App, App], more: str = "resolution: STATIC") -> str:
    listed = (at(app, more=f", labels: {{version: v{n}}}") for n, app in enumerate(two, 1))
    return entry(*listed, more=more)


def rule(name: str, version: str, more: str = "", subset: str = "chosen") -> str:
    spec = f"{{host: {API}, subsets: [{{name: {subset}, labels: {{version: {version}}}}}]{more}}}"
    return f"{NETWORKING}: DestinationRule\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n"


def routes(name: str, subset: str, more: str = "") -> str:
    route = f"route: [{{destination: {{host: {API}, subset: {subset}, port: {{number: 80}}}}}}]"
    return (
        f"{NETWORKING}: VirtualService\nmetadata: {{{name}}}\n"
        f"spec: {{hosts: [{API}], http: [{{{route}}}]{more}}}\n---\n"
    )


async def test_a_selector_picks_the_callers_that_a_rule_is_for(
    mesh: Mesh, callers: tuple[int, int], two: tuple[App, App]
) -> None:
    picking = ", workloadSelector: {matchLabels: {app: batch}}"
    rules = rule("general", "v1") + rule("for-batch", "v2", picking)
    configure(mesh, both(two) + rules + routes("name: a", "chosen"))
    for port, expected in zip(callers, ("one", "two"), strict=True):
        for _ in range(4):
            assert (await fetch(port, "/", API)).json()["app"] == expected


async def test_limits_of_one_callers_rule_are_its_own(
    mesh: Mesh, callers: tuple[int, int], two: tuple[App, App]
) -> None:
    pool = "trafficPolicy: {connectionPool: {http: {http2MaxRequests: 1}}}"
    picking = f", {pool}, workloadSelector: {{matchLabels: {{app: batch}}}}"
    configure(mesh, both(two) + rule("general", "v1") + rule("for-batch", "v1", picking))
    for port in callers:
        assert (await fetch(port, "/", API)).status == 200
    [destination] = [one for one in mesh.planes["one"].destinations() if one.host == API]
    assert sorted(cluster.breaker is not None for cluster in destination.clusters) == [False, True]


async def test_what_is_not_exported_to_a_caller_is_unknown_to_it(
    mesh: Mesh, callers: tuple[int, int], two: tuple[App, App]
) -> None:
    configure(mesh, both(two, "exportTo: [prod], resolution: STATIC"))
    answer = await fetch(callers[0], "/", API)
    assert (answer.status, answer.json()["error"]) == (502, "host_not_in_mesh")
    assert "not exported to namespace default" in answer.json()["message"]
    configure(mesh, both(two, "exportTo: [default], resolution: STATIC"))
    assert (await fetch(callers[0], "/", API)).status == 200, "the next version holds at once"


async def test_routes_of_another_namespace_do_not_hold(
    mesh: Mesh, callers: tuple[int, int], two: tuple[App, App]
) -> None:
    rules = rule("a", "v1", subset="one") + rule("b", "v2", subset="two")
    own = routes("name: own", "one", ", exportTo: ['.']")
    theirs = routes("name: theirs, namespace: prod", "two", ", exportTo: ['.']")
    configure(mesh, both(two) + rules + theirs + own)
    for _ in range(4):
        assert (await fetch(callers[0], "/", API)).json()["app"] == "one"


async def test_a_route_to_what_the_caller_may_not_know_is_no_way_around(
    mesh: Mesh, callers: tuple[int, int], two: tuple[App, App]
) -> None:
    hidden = entry(at(two[0]), host="hidden.example.com", more="exportTo: [prod], resolution: STATIC")
    hidden = hidden.replace("name: ext", "name: hidden")
    way = (
        f"{NETWORKING}: VirtualService\nmetadata: {{name: way}}\nspec: {{hosts: [{API}], "
        "http: [{route: [{destination: {host: hidden.example.com, port: {number: 80}}}]}]}\n---\n"
    )
    configure(mesh, both(two) + hidden + way)
    answer = await fetch(callers[0], "/", API)
    assert (answer.status, answer.json()["error"]) == (503, "no_such_destination")
    assert "exportTo" in answer.json()["message"]
    assert two[0].connections == 0
