"""Active health checks with real endpoints."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from proxy_mesh import Client, Mesh, fetch, host_of, mesh, request_bytes, until  # noqa: F401
from routing_mesh import client
from rule_mesh import answer, apply_rule
from test_proxy_tcp import DB, echo

from ray_mesh import snapshot
from ray_mesh.proxy.cluster import Member
from ray_mesh.snapshot import Endpoint, Endpoints

# ruff: noqa: F811

CHECK = """
apiVersion: mesh.ray.io/v1
kind: HealthCheck
metadata: {{name: reviews, namespace: default}}
spec: {{host: reviews, {kind}, interval: 100ms, timeout: 2s, unhealthyThreshold: 2, healthyThreshold: 2}}
---
"""


class Patient:
    """An application that answers checks with the status it is given, and all else with its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.status = 200
        self.checks = 0

    def handler(self, read: Callable[[asyncio.StreamReader], Awaitable[tuple[bytes, bytes]]]) -> object:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                head, _ = await read(reader)
                is_check = head.startswith(b"GET /healthz ")
                self.checks += is_check
                writer.write(answer(self.status if is_check else 200, self.name.encode()))
                await writer.drain()

        return serve


def members_of(mesh: Mesh, service: str = "reviews") -> dict[str, Member]:
    destination = mesh.planes["one"]._registry.find(host_of(service))
    assert destination is not None
    return {each.endpoint.workload: each for each in (destination.members or {}).values()}


async def seen(port: int, count: int) -> Counter[str]:
    one, found = await Client.connect(port), Counter[str]()
    for _ in range(count):
        await one.send(request_bytes("GET", "/", "reviews"))
        found[(await one.answer()).body.decode()] += 1
    await one.close()
    return found


@pytest.mark.parametrize("has_proxy", [True, False])
async def test_an_endpoint_that_is_not_well_is_left_out(mesh: Mesh, has_proxy: bool) -> None:
    port = await client(mesh)
    patients, listed = [Patient("v0"), Patient("v1")], []
    for patient in patients:
        app = await mesh.app(patient.name)
        app._handler = patient.handler(app.read)  # type: ignore[assignment]
        if has_proxy:
            await mesh.workload(patient.name, app.port, services=(host_of("reviews"),))
            listed.append(mesh.endpoint(patient.name))
        else:
            listed.append(Endpoint(patient.name, "127.0.0.1", app.port, "", "", (), "", "plaintext"))
    mesh.service("reviews", [])
    check = CHECK.format(kind="http: {path: /healthz}")
    apply_rule(mesh, "{}" if has_proxy else "{tls: {mode: DISABLE}}", also=check)
    for plane in mesh.planes.values():
        plane.apply("endpoints.default.reviews", Endpoints(host_of("reviews"), tuple(listed)))
    assert len(await seen(port, 30)) == 2
    patients[1].status = 500
    sick = members_of(mesh)[listed[1].workload]
    await until(lambda: sick.is_sick, "the second counts as sick")
    assert await seen(port, 20) == {"v0": 20}
    patients[1].status = 301
    await until(lambda: not sick.is_sick, "the second is well again")
    assert len(await seen(port, 30)) == 2
    patients[0].status = patients[1].status = 503
    await until(lambda: all(each.is_sick for each in members_of(mesh).values()), "all are sick")
    assert len(await seen(port, 30)) == 2, "then all are tried"
    apply_rule(mesh, "{}" if has_proxy else "{tls: {mode: DISABLE}}")
    await until(lambda: not any(each.is_sick for each in members_of(mesh).values()), "nobody asks any more")


async def test_a_check_by_tcp(mesh: Mesh) -> None:
    await client(mesh)
    apps = [await mesh.app("db", echo), await mesh.app("cache", echo)]
    for app in apps:
        await mesh.workload(app.name, app.port, services=(DB,), tcp_ports=((DB, 3306),), is_tcp_only=True)
    plain = Endpoint("plain", "127.0.0.1", (await mesh.app("plain", echo)).port, "", "", (), "", "plaintext")
    health = snapshot.HealthCheck("check", interval_s=0.1, unhealthy_threshold=2)
    mesh.service(
        "db",
        [mesh.endpoint("db"), mesh.endpoint("cache"), plain],
        ports=(snapshot.Port(3306, "mysql", "tcp"),),
        plaintext=True,
        health=health,
    )
    await apps[1].stop()
    await mesh.apps[-1].stop()
    members = members_of(mesh, "db")
    await until(lambda: members["default/cache"].is_sick and members["plain"].is_sick, "two are sick")
    assert not members["default/db"].is_sick


async def test_policies_hold_for_checks(mesh: Mesh) -> None:
    deny = snapshot.Policy("default/nobody", "DENY", (snapshot.Rule(),))
    port, _ = await mesh.pair(policies=(deny,))
    health = snapshot.HealthCheck("check", "/", interval_s=0.1, unhealthy_threshold=1)
    mesh.service("reviews", [mesh.endpoint("reviews")], health=health)
    await until(lambda: members_of(mesh)["default/reviews"].is_sick, "an endpoint that refuses is not well")
    assert (await fetch(port, "/", "reviews")).status == 403
    gone = replace(mesh.endpoint("reviews"), address="127.0.0.9")
    mesh.service("reviews", [gone], health=replace(health, path=""))
    await until(lambda: members_of(mesh)["default/reviews"].is_sick, "nor is one that is not there")
