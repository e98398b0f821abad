"""Circuit breakers with real traffic: every field of connectionPool."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest
from proxy_mesh import Client, Mesh, fetch, mesh, request_bytes, until  # noqa: F401
from routing_mesh import callee, client, host_of
from rule_mesh import Gate, apply_rule, ask, statuses
from test_proxy_tcp import connect, tcp_pair, tunnel

from ray_mesh import snapshot
from ray_mesh.proxy import tcp_relay
from ray_mesh.proxy.breaker import Breaker
from ray_mesh.proxy.limited import LimitedPool
from ray_mesh.snapshot import ConnectionLimits, TrafficPolicy

# ruff: noqa: F811


def pool_of(mesh: Mesh) -> LimitedPool:
    """The counted pool of client to reviews."""
    pool, *_ = mesh.planes["one"]._hosting.locals["workload.default.client"].source._limited.values()
    return pool


def breaker_of(mesh: Mesh) -> Breaker:
    return pool_of(mesh).breaker


async def test_more_requests_than_may_be_under_way_are_refused_at_once(mesh: Mesh) -> None:
    port, gate = await client(mesh), Gate()
    await callee(mesh, handler=gate)
    apply_rule(mesh, "{connectionPool: {http: {http2MaxRequests: 2}}}")
    held = [await ask(port), await ask(port)]
    await until(lambda: gate.arrived == 2, "two requests at the application")
    refused = await fetch(port, "/", "reviews")
    assert (refused.status, refused.field("x-mesh-flag")) == (503, "UO")
    assert refused.field("x-mesh-overloaded") == "true"
    assert "http2MaxRequests 2 of DestinationRule default/reviews" in refused.json()["message"]
    gate.open.set()
    assert await statuses(held) == [200, 200]
    assert (await fetch(port, "/", "reviews")).status == 200
    assert breaker_of(mesh).requests == 0
    assert gate.arrived == 3


async def test_requests_wait_for_a_connection_and_only_so_many(mesh: Mesh) -> None:
    port, gate = await client(mesh), Gate()
    await callee(mesh, handler=gate)
    apply_rule(mesh, "{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 3}}}")
    held = [await ask(port)]
    await until(lambda: gate.arrived == 1, "one request at the application")
    held += [await ask(port) for _ in range(3)]
    await until(lambda: breaker_of(mesh).pending == 3, "three requests wait")
    refused = await fetch(port, "/", "reviews")
    assert (refused.status, refused.field("x-mesh-flag")) == (503, "UO")
    assert "http1MaxPendingRequests 3 of" in refused.json()["message"]
    gate.open.set()
    assert await statuses(held) == [200] * 4
    assert gate.most == 1
    breaker = breaker_of(mesh)
    assert (breaker.requests, breaker.pending, breaker.connections) == (0, 0, 1)


async def test_who_leaves_while_waiting_is_counted_no_more(mesh: Mesh) -> None:
    port, gate = await client(mesh), Gate()
    await callee(mesh, handler=gate)
    apply_rule(mesh, "{connectionPool: {tcp: {maxConnections: 1}}}")
    held = await ask(port)
    await until(lambda: gate.arrived == 1, "one request at the application")
    leaving = await ask(port)
    await until(lambda: breaker_of(mesh).pending == 1, "one request waits")
    await leaving.close()
    await until(lambda: breaker_of(mesh).pending == 0, "it waits no more")
    assert not breaker_of(mesh).waiting
    gate.open.set()
    assert await statuses([held]) == [200]
    assert gate.arrived == 1


async def test_a_connection_that_ends_makes_room_for_who_waits(mesh: Mesh) -> None:
    port, gate = await client(mesh), Gate()
    await callee(mesh, handler=gate)
    apply_rule(mesh, "{connectionPool: {tcp: {maxConnections: 1}}}")
    gone = await ask(port)
    await until(lambda: gate.arrived == 1, "one request at the application")
    waiting = await ask(port)
    await until(lambda: breaker_of(mesh).pending == 1, "one request waits")
    await gone.close()
    gate.open.set()
    assert await statuses([waiting]) == [200]


async def test_limits_hold_for_a_subset_and_change_under_traffic(mesh: Mesh) -> None:
    port, gate = await client(mesh), Gate()
    await callee(mesh, handler=gate)
    subset = "subsets: [{name: all, labels: {app: reviews}, trafficPolicy: {connectionPool: {http: %s}}}]"
    routes = (
        "[{match: [{headers: {to: {exact: subset}}}], route: [{destination: {host: reviews, subset: all}}]}, \
              {route: [{destination: {host: reviews}}]}]"
    )
    apply_rule(mesh, "{}", subset % "{http2MaxRequests: 1}", routes)
    held = [await ask(port, to="subset")]
    await until(lambda: gate.arrived == 1, "a request at the application")
    held += [await ask(port), await ask(port)]
    assert (await fetch(port, "/", "reviews", to="subset")).status == 503
    apply_rule(mesh, "{}", subset % "{http2MaxRequests: 2}", routes)
    held.append(await ask(port, to="subset"))
    await until(lambda: gate.arrived == 4, "all requests at the application")
    assert (await fetch(port, "/", "reviews", to="subset")).status == 503
    gate.open.set()
    assert await statuses(held) == [200] * 4


async def test_a_port_has_its_own_limits(mesh: Mesh) -> None:
    port, gate = await client(mesh), Gate()
    await callee(mesh, handler=gate)
    ports = "portLevelSettings: [{port: {number: 80}, connectionPool: {http: {http2MaxRequests: 1}}}]"
    apply_rule(mesh, f"{{connectionPool: {{http: {{http2MaxRequests: 5}}}}, {ports}}}")
    held = await ask(port)
    await until(lambda: gate.arrived == 1, "a request at the application")
    assert "http2MaxRequests 1 of" in (await fetch(port, "/", "reviews")).json()["message"]
    gate.open.set()
    assert await statuses([held]) == [200]


async def test_a_connection_carries_so_many_requests_and_lives_so_long(mesh: Mesh) -> None:
    port, app = await client(mesh), await callee(mesh)
    apply_rule(mesh, "{connectionPool: {http: {maxRequestsPerConnection: 2}}}")
    one = await Client.connect(port)
    before = mesh.planes["two"].stats().connections

    async def three() -> None:
        for _ in range(3):
            await one.send(request_bytes("GET", "/", "reviews"))
            assert (await one.answer()).status == 200

    await three()
    pool = pool_of(mesh)
    (kept,) = pool.idle
    assert (before, kept.served) == (0, 1)
    apply_rule(mesh, "{connectionPool: {tcp: {maxConnectionDuration: 30s}, http: {idleTimeout: 20s}}}")
    pool.retire()
    await three()
    (kept,) = pool.idle
    assert 0 < kept.expires_at - time.monotonic() <= 30
    assert (pool.idle_s, pool.take(time.monotonic() + 21, _Any())) == (20.0, None)
    assert len(app.heads) == 6
    await one.close()


class _Any:
    is_replayable = True


async def test_keepalive_is_set_on_the_socket(mesh: Mesh) -> None:
    port, _ = await client(mesh), await callee(mesh)
    apply_rule(
        mesh,
        "{connectionPool: {tcp: {tcpKeepalive: {probes: 3, time: 40s, interval: 7s}, connectTimeout: 2s}}}",
    )
    assert (await fetch(port, "/", "reviews")).status == 200
    pool = pool_of(mesh)
    (kept,) = pool.idle
    sock = kept.transport.get_extra_info("socket")  # type: ignore[attr-defined]
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    options = (socket.TCP_KEEPCNT, socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)
    assert [sock.getsockopt(socket.IPPROTO_TCP, one) for one in options] == [3, 40, 7]
    assert pool.connect_timeout_s == 2.0


async def test_a_connect_that_takes_too_long_is_given_up(mesh: Mesh) -> None:
    port, _ = await client(mesh), await callee(mesh)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(1)  # accepts TCP, never answers TLS
        mesh.service("reviews", [mesh.endpoint("reviews", port=deaf.getsockname()[1])])
        apply_rule(mesh, "{connectionPool: {tcp: {connectTimeout: 150ms}}}")
        began = time.monotonic()
        refused = await fetch(port, "/", "reviews")
    assert (refused.status, refused.field("x-mesh-flag")) == (503, "UF")
    assert "no connection within 0.15 s" in refused.json()["message"]
    assert time.monotonic() - began < 3.0
    assert breaker_of(mesh).connections == 0


@pytest.mark.parametrize("limit", [1, 3])
async def test_a_crowd_never_has_more_connections_than_allowed(mesh: Mesh, limit: int) -> None:
    port, gate = await client(mesh), Gate()
    await callee(mesh, handler=gate)
    gate.open.set()
    apply_rule(mesh, f"{{connectionPool: {{tcp: {{maxConnections: {limit}}}}}}}")
    for _ in range(3):
        assert await statuses([await ask(port) for _ in range(12)]) == [200] * 12
    assert mesh.planes["two"].stats().connections <= limit
    breaker = breaker_of(mesh)
    assert (breaker.requests, breaker.pending) == (0, 0)
    assert breaker.connections <= limit


async def test_tcp_connections_have_limits_too(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    port, _ = await tcp_pair(mesh)
    monkeypatch.setattr(tcp_relay, "TICK_S", 0.05)

    def limit(**limits: float | bool) -> None:
        traffic = TrafficPolicy("DestinationRule default/db", ConnectionLimits(**limits))  # type: ignore[arg-type]
        mesh.service(
            "db", [mesh.endpoint("db")], ports=(snapshot.Port(3306, "mysql", "tcp"),), traffic=traffic
        )

    limit(max_connections=1, keepalive=True, keepalive_probes=2)
    first = await tunnel(port)
    refused = await (await connect(port)).answer()
    assert (refused.status, refused.field("x-mesh-flag")) == (503, "UO")
    assert "maxConnections 1 of DestinationRule default/db" in refused.json()["message"]
    await first.close()
    await until(lambda: breaker_of(mesh).connections == 0, "the connection is counted no more")
    limit(tcp_idle_timeout_s=0.2)
    idle = await tunnel(port)
    assert await idle.is_closed()
    limit(max_duration_s=0.3)
    busy = await tunnel(port)
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        async with asyncio.timeout(5):
            while True:
                await busy.send(b"x")
                await busy.reader.readexactly(1)
    await until(lambda: breaker_of(mesh).connections == 0, "it was cut")
    flags = {each.edge.flags for each in mesh.planes["one"].series.totals()}
    assert {"UO", "SI", "DT"} <= flags


@pytest.mark.parametrize("balancer", ["{simple: RANDOM}", "{consistentHash: {httpHeaderName: x-user}}"])
async def test_one_connection_serves_several_endpoints_in_turn(mesh: Mesh, balancer: str) -> None:
    port = await client(mesh)
    gates = [Gate(), Gate()]
    for number, gate in enumerate(gates):
        gate.open.set()
        app = await mesh.app(f"v{number}", gate)
        await mesh.workload(f"reviews-v{number}", app.port, services=(host_of("reviews"),))
    mesh.service("reviews", [mesh.endpoint("reviews-v0"), mesh.endpoint("reviews-v1")])
    apply_rule(mesh, f"{{loadBalancer: {balancer}, connectionPool: {{tcp: {{maxConnections: 1}}}}}}")
    waiting = [await ask(port, x_user=f"u{number}") for number in range(16)]
    assert await statuses(waiting) == [200] * 16
    assert sum(gate.arrived for gate in gates) == 16
    if "consistentHash" in balancer:
        assert all(gate.arrived for gate in gates), "a key keeps its endpoint, which needs a connection"
    source = mesh.planes["one"]._hosting.locals["workload.default.client"].source
    _, breaker, _ = next(iter(source._limited))
    assert (breaker.requests, breaker.pending, len(breaker.waiting)) == (0, 0, 0)
    assert breaker.connections <= 1
