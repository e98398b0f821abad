"""Configuration that comes, changes and goes; reservations; limits; draining."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import time
import weakref
from dataclasses import replace

import pytest
from proxy_mesh import (  # noqa: F401
    Client,
    Mesh,
    fetch,
    free_port,
    host_of,
    mesh,
    request_bytes,
    until,
)

from ray_mesh import snapshot
from ray_mesh.errors import ConfigError, PeerError
from ray_mesh.proxy.plane import DataPlane, PlaneConfig
from ray_mesh.snapshot import RateLimit

# ruff: noqa: F811


async def test_the_first_request_for_a_host_waits_for_its_configuration(mesh: Mesh) -> None:
    port, _ = await mesh.pair()
    plane = mesh.planes["one"]
    service = replace(_service(plane, "reviews"), host=host_of("ratings"), name="ratings")
    asked: list[str] = []

    def answer_later(host: str) -> None:
        asked.append(host)
        loop = asyncio.get_running_loop()
        loop.call_later(0.05, plane.apply, snapshot.key_for("service", host), service)
        endpoints = snapshot.Endpoints(host, (mesh.endpoint("reviews"),))
        loop.call_later(0.1, plane.apply, snapshot.key_for("endpoints", host), endpoints)

    plane.on_unknown_host = answer_later
    answers = await asyncio.gather(*[fetch(port, "/", "ratings") for _ in range(5)])
    assert [answer.status for answer in answers] == [200] * 5
    assert asked == [host_of("ratings")]


def _service(plane: DataPlane, name: str) -> snapshot.Service:
    destination = plane._registry.find(host_of(name))
    assert destination is not None
    assert destination.service is not None
    return destination.service


async def test_a_host_that_is_not_in_the_mesh(mesh: Mesh) -> None:
    port, _ = await mesh.pair()
    plane = mesh.planes["one"]
    asked: list[str] = []

    def unknown(host: str) -> None:
        asked.append(host)
        plane.unknown(host)

    plane.on_unknown_host = unknown
    for host in ("nothing", "nothing", "www.example.com", "169.254.169.254", "[::1]:80", "localhost"):
        answer = await fetch(port, "/", host)
        assert (answer.status, answer.json()["flag"]) == (502, "NR"), host
        assert "not in the mesh" in answer.json()["message"]
    assert asked == [host_of("nothing"), "www.example.com", host_of("localhost")]
    answer = await fetch(port, "/", "reviews:81")
    assert (answer.status, answer.json()["error"]) == (502, "no_such_port")
    assert (await fetch(port, "/", "bad_host,x")).status == 400


async def test_a_silent_control_plane_is_not_waited_for_forever(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray_mesh.proxy.registry.WAIT_S", 0.2)
    port, _ = await mesh.pair()
    answer = await fetch(port, "/", "ratings")
    assert (answer.status, answer.json()["error"]) == (503, "host_unknown_yet")


async def test_what_cannot_be_applied_changes_nothing(mesh: Mesh) -> None:
    port, _ = await mesh.pair()
    plane = mesh.planes["one"]
    workload = mesh.workloads["client"]
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    bad: list[tuple[str, snapshot.Resource, type[Exception]]] = [
        ("workload.default.client", replace(workload, node="two"), PeerError),
        ("workload.default.other", workload, PeerError),
        ("workload.default.x", replace(workload, name="x"), PeerError),
        ("workload.default.client", replace(workload, outbound_port=taken.getsockname()[1]), ConfigError),
        ("workload.default.client", replace(workload, app_port=workload.outbound_port), ConfigError),
        ("workload.default.client", replace(workload, app_port=plane.inbound_port), ConfigError),
        ("mesh.mesh.mesh", snapshot.Mesh("other.domain", "mesh-system"), PeerError),
        ("service.default.other", _service(plane, "reviews"), PeerError),
        ("endpoints.default.other", snapshot.Endpoints(host_of("reviews"), ()), PeerError),
        ("node.mesh.one", workload, PeerError),
    ]
    for key, resource, error in bad:
        with pytest.raises(error):
            plane.apply(key, resource)
    with pytest.raises(PeerError):
        plane.apply("nonsense.a.b", None)
    taken.close()
    assert (await fetch(port, "/", "reviews")).status == 200
    plane.apply("mesh.mesh.mesh", snapshot.Mesh("mesh.local", "mesh-system"))
    plane.apply("node.mesh.one", snapshot.Node("one", ("workload.default.client",)))


async def test_a_changed_workload_is_followed_by_open_connections(mesh: Mesh) -> None:
    port, _ = await mesh.pair()
    client = await Client.connect(port)
    await client.send(request_bytes("GET", "/", "reviews"))
    assert (await client.answer()).status == 200
    deny = snapshot.Policy("default/deny", "DENY", (snapshot.Rule(),))
    mesh.planes["two"].apply("workload.default.reviews", replace(mesh.workloads["reviews"], policies=(deny,)))
    await client.send(request_bytes("GET", "/", "reviews"))
    assert (await client.answer()).status == 403
    moved = replace(
        mesh.workloads["client"], token_sha256=hashlib.sha256(b"new").digest(), outbound_port=free_port()
    )
    plane = mesh.planes["one"]
    plane.apply("workload.default.client", moved)
    await client.send(request_bytes("GET", "/", "reviews"))
    assert (await client.answer()).status == 407
    await until(lambda: "workload.default.client" in plane.ready(), "it listens on its new port")
    assert (await fetch(moved.outbound_port, "/", "reviews", token="new")).status == 403
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(port)
    await client.close()


async def test_a_removed_workload_finishes_its_requests(mesh: Mesh) -> None:
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await app.read(reader)
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
        await writer.drain()

    port, app = await mesh.pair(serve)
    client = await Client.connect(port)
    await client.send(request_bytes("GET", "/", "reviews"))
    await until(lambda: app.heads, "the request reached the application")
    mesh.planes["one"].apply("workload.default.client", None)
    mesh.planes["two"].apply("workload.default.reviews", None)
    assert mesh.planes["one"].ready() == mesh.planes["two"].ready() == ()
    release.set()
    answer = await client.answer()
    assert (answer.status, answer.body) == (200, b"done")
    assert await client.is_closed()
    await client.close()
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(port)


async def test_drain_finishes_what_is_in_flight_and_refuses_the_rest(mesh: Mesh) -> None:
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await app.read(reader)
            await release.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
            await writer.drain()

    port, app = await mesh.pair(serve)
    busy, idle = await Client.connect(port), await Client.connect(port)
    await busy.send(request_bytes("GET", "/", "reviews"))
    await until(lambda: app.heads, "the request reached the application")
    await until(lambda: mesh.planes["one"].stats().connections == 2, "both are connected")
    assert mesh.planes["one"].stats().in_flight == 1
    assert not await mesh.planes["one"].drain(0.05)
    draining = asyncio.create_task(mesh.planes["one"].drain(10.0))
    assert await idle.is_closed()
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(port)
    release.set()
    answer = await busy.answer()
    assert (answer.status, answer.field("connection")) == (200, "close")
    assert await busy.is_closed()
    assert await draining
    for client in (busy, idle):
        await client.close()


async def test_reserved_ports_are_kept_for_their_workload(mesh: Mesh) -> None:
    plane = mesh.planes["one"]
    wanted = free_port()
    outbound, gateways = plane.reserve(0, ((80, 0), (443, wanted)))
    assert outbound
    assert gateways[0][0] == 80
    assert gateways[1] == (443, wanted)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", outbound))
    with pytest.raises(ConfigError, match="in use"):
        plane.reserve(outbound)
    await mesh.workload("edge", 1, node="one", outbound_port=outbound, gateway_ports=gateways)
    assert plane.ready() == ("workload.default.edge",)


async def test_planes_of_one_node_share_their_ports(mesh: Mesh) -> None:
    port, app = await mesh.pair()
    first = mesh.planes["two"]
    second = DataPlane(PlaneConfig("two-1", "two", "mesh.local", inbound_port=first.inbound_port))
    await second.start()
    second.set_bundles(mesh.bundles)
    second.apply("workload.default.reviews", mesh.workloads["reviews"])
    second.set_identity("workload.default.reviews", mesh.svid("reviews"))
    try:
        await until(second.ready, "the second plane is ready")

        async def spread() -> bool:
            for plane in mesh.planes.values():
                plane.set_bundles(mesh.bundles)  # gives up pooled connections
            assert (await fetch(port, "/", "reviews")).status == 200
            return bool(second.series.totals() and first.series.totals())

        end = time.monotonic() + 10
        while not await spread():
            assert time.monotonic() < end, "one of the planes got nothing"
        await first.drain(5.0)
        assert (await fetch(port, "/", "reviews")).status == 200
    finally:
        await second.stop()
    assert app.heads


async def test_rate_limits(mesh: Mesh) -> None:
    limit = RateLimit("default/few", 2, 1, "CLOSED")
    port, app = await mesh.pair(rate_limits=(limit,))
    plane = mesh.planes["two"]

    async def lease() -> None:
        await until(plane.quota_demand, "tokens are asked for")
        assert plane.quota_demand().keys() == {"default/few"}
        plane.grant("default/few", 2, time.monotonic() + 1.0)

    first, _ = await asyncio.gather(fetch(port, "/", "reviews"), lease())
    assert first.status == 200, "the first request waits for the first lease"
    answers = [await fetch(port, "/", "reviews") for _ in range(3)]
    assert answers[0].status == 200
    assert answers[-1].status == 429
    assert answers[-1].json()["flag"] == "RL"
    assert answers[-1].field("retry-after") == "1"
    assert len(app.heads) == 2
    assert any(series[:2] == (429, "RL") for series in mesh.series("two"))


async def test_without_anybody_to_ask_the_fail_mode_decides(mesh: Mesh) -> None:
    port, _ = await mesh.pair(rate_limits=(RateLimit("default/open", 1, 1, "OPEN"),))
    assert (await fetch(port, "/", "reviews")).status == 200
    closed = replace(mesh.workloads["reviews"], rate_limits=(RateLimit("default/closed", 1, 1, "CLOSED"),))
    mesh.planes["two"].apply("workload.default.reviews", closed)
    assert (await fetch(port, "/", "reviews")).status == 429


async def test_a_closed_connection_is_not_held_until_its_next_deadline(mesh: Mesh) -> None:
    port, _ = await mesh.pair()
    plane = mesh.planes["one"]
    client = await Client.connect(port)
    await client.send(request_bytes("GET", "/", "reviews"))
    assert (await client.answer()).status == 200
    (connection,) = plane.connections
    gone = weakref.ref(connection._transport)  # type: ignore[attr-defined]
    del connection
    await client.close()
    await until(lambda: not len(plane.connections), "it is closed")
    await until(lambda: gone() is None, "nothing holds its transport")


@pytest.mark.parametrize("shares_load", [False, True])
async def test_a_successor_takes_the_sockets_over_under_load(mesh: Mesh, shares_load: bool) -> None:
    app = await mesh.app("reviews")
    inbound = free_port()

    async def plane(name: str, sockets: list[socket.socket]) -> DataPlane:
        config = PlaneConfig(name, "three", "mesh.local", inbound_port=inbound, shares_load=shares_load)
        one = DataPlane(config)
        one.adopt(sockets)
        one.bind()
        one.set_bundles(mesh.bundles)
        return one

    old = mesh.planes["three"] = await plane("old", [])
    port = await mesh.workload("client", free_port(), node="three")
    await mesh.workload("reviews", app.port, node="three", services=(host_of("reviews"),))
    await old.accept()
    endpoints = [mesh.endpoint("reviews", node="three")]
    mesh.service("reviews", endpoints)
    answered, is_over = 0, False

    async def call() -> None:
        nonlocal answered
        while not is_over:
            assert (await fetch(port, "/", "reviews", method="POST", body=b"x")).status == 200
            answered += 1

    calling = [asyncio.create_task(call()) for _ in range(4)]
    for number in range(3):
        enough = answered + 20
        await until(lambda enough=enough: answered >= enough, "requests are answered")  # type: ignore[misc]
        new = mesh.planes["three"] = await plane(f"new-{number}", old.sockets())
        for name in ("client", "reviews"):
            new.apply(f"workload.default.{name}", mesh.workloads[name])
            new.set_identity(f"workload.default.{name}", mesh.svid(name))
        mesh.service("reviews", endpoints)
        await new.accept()
        await until(lambda new=new: len(new.ready()) == 2, "the successor is ready")  # type: ignore[misc]
        await old.retire(5.0)
        assert await old.drain(5.0)
        await old.stop()
        old = new
    is_over = True
    await asyncio.gather(*calling)
    assert old.series.totals(), "the last one carried traffic"
