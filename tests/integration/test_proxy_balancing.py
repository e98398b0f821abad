"""Consistent hashing, weights and warm-up with real traffic."""

from __future__ import annotations

from collections import Counter

import pytest
from proxy_mesh import Client, Mesh, fetch, host_of, mesh, request_bytes, until  # noqa: F401
from routing_mesh import client
from rule_mesh import apply_rule

from ray_mesh.snapshot import Endpoint, Endpoints

# ruff: noqa: F811


async def plain_apps(mesh: Mesh, policy: str, *weights: int) -> int:
    """The client's port, and applications without proxy, with these weights, behind ``reviews``."""
    port = await client(mesh)
    apps = [await mesh.app(f"v{number}") for number in range(len(weights))]
    listed = tuple(
        Endpoint(app.name, "127.0.0.1", app.port, "", "", (), "", "plaintext", weight=weight)
        for app, weight in zip(apps, weights, strict=True)
    )
    mesh.service("reviews", [])
    apply_rule(mesh, f"{{tls: {{mode: DISABLE}}, loadBalancer: {policy}}}")
    for plane in mesh.planes.values():
        plane.apply("endpoints.default.reviews", Endpoints(host_of("reviews"), listed))
    return port


async def who(port: int, target: str = "/", user: str = "") -> str:
    return str((await fetch(port, target, "reviews", X_User=user)).json()["app"])


@pytest.mark.parametrize("table", ["", ", ringHash: {minimumRingSize: 64}", ", maglev: {tableSize: 1021}"])
async def test_a_header_picks_the_endpoint(mesh: Mesh, table: str) -> None:
    port = await plain_apps(mesh, f"{{consistentHash: {{httpHeaderName: X-User{table}}}}}", 1, 1, 1)
    found = [await who(port, user=f"u{number}") for number in range(20)]
    assert len(set(found)) > 1
    assert [await who(port, user=f"u{number}") for number in range(20)] == found


async def test_a_query_parameter_and_the_source_pick_the_endpoint(mesh: Mesh) -> None:
    port = await plain_apps(mesh, "{consistentHash: {httpQueryParameterName: user}}", 1, 1, 1)
    found = [await who(port, f"/?user={number}") for number in range(20)]
    assert len(set(found)) > 1
    assert [await who(port, f"/?x=y&user={number}") for number in range(20)] == found
    apply_rule(mesh, "{tls: {mode: DISABLE}, loadBalancer: {consistentHash: {useSourceIp: true}}}")
    assert len({await who(port) for _ in range(10)}) == 1


async def test_a_client_without_cookie_gets_one_and_stays(mesh: Mesh) -> None:
    policy = (
        "{consistentHash: {httpCookie: {name: session, path: /, ttl: 60s, attributes: [{name: Secure}]}}}"
    )
    port = await plain_apps(mesh, policy, 1, 1, 1)
    met: Counter[str] = Counter()
    for _ in range(15):
        first = await fetch(port, "/", "reviews")
        given = first.field("set-cookie")
        assert given is not None
        assert given.endswith('"; Max-Age=60; Path=/; Secure; HttpOnly')
        app = first.json()["app"]
        met[app] += 1
        again = await fetch(port, "/", "reviews", Cookie=given.partition(";")[0])
        assert (again.json()["app"], again.field("set-cookie")) == (app, None)
    assert len(met) > 1


@pytest.mark.parametrize("simple", ["LEAST_REQUEST", "ROUND_ROBIN", "RANDOM"])
async def test_endpoints_have_weights(mesh: Mesh, simple: str) -> None:
    port = await plain_apps(mesh, f"{{simple: {simple}}}", 1, 9)
    one, seen = await Client.connect(port), Counter[str]()
    for _ in range(200):
        await one.send(request_bytes("GET", "/", "reviews"))
        seen[(await one.answer()).json()["app"]] += 1
    await one.close()
    assert 150 <= seen["v1"] < 200


async def test_a_new_endpoint_gets_little_at_first(mesh: Mesh) -> None:
    policy = "{simple: ROUND_ROBIN, warmup: {duration: 1h, minimumPercent: 5}}"
    port = await plain_apps(mesh, policy, 1, 1)
    destination = mesh.planes["one"]._registry.find(host_of("reviews"))
    assert destination is not None
    assert destination.members is not None
    old, _ = destination.members.values()
    old.born_at -= 7200
    one, seen = await Client.connect(port), Counter[str]()
    for _ in range(84):
        await one.send(request_bytes("GET", "/", "reviews"))
        seen[(await one.answer()).json()["app"]] += 1
    await one.close()
    assert seen == {"v0": 80, "v1": 4}


async def test_a_new_endpoint_is_connected_to_before_a_request_goes_to_it(mesh: Mesh) -> None:
    port = await client(mesh)
    for name in ("one", "two", "three"):
        app = await mesh.app(name)
        await mesh.workload(name, app.port, services=(host_of("reviews"),))
    first, second = mesh.endpoint("one", weight=100_000), mesh.endpoint("two", weight=1)
    mesh.service("reviews", [first, second])
    plane = mesh.planes["one"]
    pools = plane._hosting.locals["workload.default.client"].source.pools
    assert (await fetch(port, "/", "reviews")).json()["app"] == "one"
    assert [member.workload for member in pools] == ["default/one"], "nobody has joined yet"
    joined = Endpoints(host_of("reviews"), (first, second, mesh.endpoint("three", weight=1)))
    plane.apply("endpoints.default.reviews", joined)
    assert len(pools) == 1, "nobody has asked since"
    assert (await fetch(port, "/", "reviews")).json()["app"] == "one"
    await until(lambda: all(pool.idle for pool in pools.values()), "all pools have a connection")
    assert sorted(member.workload for member in pools) == ["default/one", "default/three"]
