"""Localities with real traffic."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from proxy_mesh import Client, Mesh, fetch, free_port, host_of, mesh, request_bytes  # noqa: F401
from routing_mesh import client
from rule_mesh import answer, apply_rule

from ray_mesh.snapshot import Endpoint, Endpoints

# ruff: noqa: F811

HERE, BESIDE, FAR = "r1.z1.s1", "r1.z2.s1", "r2.z1.s1"


async def spread(mesh: Mesh, policy: str, http: str = "", sick: str = "") -> tuple[int, list[Endpoint]]:
    """The client at HERE, and one application in each place, named by it."""
    port = await client(mesh, labels={"app": "client", "istio-locality": HERE, "net": "n1"})
    listed = []
    for place in (HERE, BESIDE, FAR):
        app = await mesh.app(place)
        if place == sick:

            async def serve(reader: object, writer: object, app: object = app) -> None:
                await app.read(reader)  # type: ignore[attr-defined]
                writer.write(answer(503, b"sick"))  # type: ignore[attr-defined]

            app._handler = serve
        labels = (("net", "n1" if place == FAR else "n2"),)
        locality = place.replace(".", "/")
        listed.append(
            Endpoint(place, "127.0.0.1", app.port, "", "", labels, "", "plaintext", locality=locality)
        )
    mesh.service("reviews", [])
    rule = f"{{tls: {{mode: DISABLE}}, loadBalancer: {{localityLbSetting: {policy}}}}}"
    apply_rule(mesh, rule, http=http or "[{route: [{destination: {host: reviews}}]}]")
    apply_endpoints(mesh, listed)
    return port, listed


def apply_endpoints(mesh: Mesh, listed: list[Endpoint]) -> None:
    for plane in mesh.planes.values():
        plane.apply("endpoints.default.reviews", Endpoints(host_of("reviews"), tuple(listed)))


async def seen(port: int, count: int) -> Counter[str]:
    one, found = await Client.connect(port), Counter[str]()
    for _ in range(count):
        await one.send(request_bytes("GET", "/", "reviews"))
        found[(await one.answer()).json()["app"]] += 1
    await one.close()
    return found


async def test_the_nearest_serve_and_others_when_they_fail(mesh: Mesh) -> None:
    port, listed = await spread(mesh, "{}")
    assert await seen(port, 20) == {HERE: 20}
    listed[0] = replace(listed[0], port=free_port())
    apply_endpoints(mesh, listed)
    assert await seen(port, 20) == {BESIDE: 20}
    apply_endpoints(mesh, [listed[0], listed[2]])
    assert await seen(port, 20) == {FAR: 20}


async def test_shares(mesh: Mesh) -> None:
    port, _ = await spread(mesh, "{distribute: [{from: r1/*, to: {r1/z1/*: 70, r2: 30}}]}")
    found = await seen(port, 200)
    assert found.keys() == {HERE, FAR}
    assert 100 <= found[HERE] <= 175


async def test_a_region_to_fail_over_to(mesh: Mesh) -> None:
    port, listed = await spread(mesh, "{failover: [{from: r1, to: r3}]}")
    third = replace(listed[1], locality="r3/z/s")
    apply_endpoints(mesh, [replace(listed[0], port=free_port()), third, listed[2]])
    assert await seen(port, 20) == {BESIDE: 20}, "which is in r3 now"


async def test_labels_instead_of_localities(mesh: Mesh) -> None:
    port, _ = await spread(mesh, "{failoverPriority: [net]}")
    assert await seen(port, 20) == {FAR: 20}


async def test_it_can_be_said_not_to_matter(mesh: Mesh) -> None:
    port, _ = await spread(mesh, "{enabled: false}")
    assert len(await seen(port, 60)) == 3


async def test_a_retry_may_go_elsewhere(mesh: Mesh) -> None:
    retries = "retries: {attempts: 1, retryOn: 5xx, retryRemoteLocalities: %s}"
    http = f"[{{{retries}, route: [{{destination: {{host: reviews}}}}]}}]"
    port, listed = await spread(mesh, "{}", http % "true", sick=HERE)
    twin = replace(listed[0], workload="twin")
    apply_endpoints(mesh, [*listed, twin])
    for _ in range(10):
        assert (await fetch(port, "/", "reviews")).json()["app"] in (BESIDE, FAR)
