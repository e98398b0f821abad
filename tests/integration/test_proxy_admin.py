"""The admin endpoint of a plane: its pages, who may read them, and that they hold no secret."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace

import pytest
from proxy_mesh import TOKEN, Answer, Client, Mesh, fetch, host_of, mesh, request_bytes, until  # noqa: F401

from ray_mesh import snapshot
from ray_mesh.proxy.pages import HIDDEN, plain
from ray_mesh.proxy.plane import DataPlane, PlaneConfig

# ruff: noqa: F811


async def read(plane: DataPlane, path: str, host: str = "localhost", method: str = "GET") -> Answer:
    return await fetch(plane.admin_port, path, host, method, token="")


async def test_health_and_readiness(mesh: Mesh) -> None:
    plane = mesh.planes["one"]
    assert (await read(plane, "/healthz")).body == b"ok\n"
    await until(lambda: plane.why_unready() == "", "it is ready")
    assert (await read(plane, "/readyz")).status == 200
    fresh = DataPlane(PlaneConfig("three-0", "three", "mesh.local"))
    fresh.bind()
    try:
        answer = await read(fresh, "/readyz")
        assert (answer.status, answer.body) == (503, b"not ready: it has no trust bundle yet\n")
        fresh.set_bundles(mesh.bundles)
        answer = await read(fresh, "/readyz")
        assert (answer.status, answer.body) == (503, b"not ready: it has no complete configuration yet\n")
        await fresh.accept()
        assert (await read(fresh, "/readyz")).status == 200
        assert await fresh.drain(1.0)
        answer = await read(fresh, "/readyz")
        assert (answer.status, answer.body) == (503, b"not ready: it drains\n")
        assert (await read(fresh, "/healthz")).status == 200
    finally:
        await fresh.stop()
    with pytest.raises(ConnectionRefusedError):
        await Client.connect(fresh.admin_port)


async def test_figures(mesh: Mesh) -> None:
    port, _ = await mesh.pair()
    assert (await fetch(port, "/", "reviews")).status == 200
    plane = mesh.planes["one"]
    stats = dict(line.split(": ") for line in (await read(plane, "/stats")).body.decode().splitlines())
    assert stats["workloads"] == "1"
    assert int(float(stats["memory_bytes"])) > 1 << 20
    scraped = (await read(plane, "/stats/prometheus")).body.decode()
    assert "# TYPE istio_requests_total counter" in scraped
    assert "ray_mesh_proxy_gc_pause_max_seconds" in scraped
    requests = [line for line in scraped.splitlines() if line.startswith("istio_requests_total{")]
    assert len(requests) == 1
    assert requests[0].endswith(" 1.0")


async def test_configuration_clusters_and_records_without_secrets(mesh: Mesh) -> None:
    port, _ = await mesh.pair()
    assert (await fetch(port, "/x?password=hunter2", "reviews")).status == 200
    plane = mesh.planes["one"]
    dump = await read(plane, "/config_dump")
    config = dump.json()
    assert config.keys() == {
        "workload.default.client",
        "service.default.reviews",
        "endpoints.default.reviews",
    }
    assert config["workload.default.client"]["token_sha256"] == HIDDEN
    (cluster,) = (await read(plane, "/clusters")).json()
    assert (cluster["host"], cluster["subset"], cluster["port"]) == (host_of("reviews"), "", 80)
    assert cluster["members"][0]["workload"] == "default/reviews"
    (record,) = (await read(plane, "/records")).json()
    assert (record["path"], record["status"], record["attempts"]) == ("/x", 200, 1)
    everything = b""
    for path in ("/stats", "/stats/prometheus", "/config_dump", "/clusters", "/records"):
        everything += (await read(plane, path)).body
    assert TOKEN.encode() not in everything
    assert hashlib.sha256(TOKEN.encode()).hexdigest().encode() not in everything
    assert b"hunter2" not in everything
    assert b"PRIVATE" not in everything


def test_what_looks_like_a_secret_is_hidden_wherever_it_is() -> None:
    deep = {"a": [("Authorization", "Bearer x"), ("accept", "y")], "client_key": "z", "raw": b"bytes"}
    assert plain(deep) == {
        "a": [["Authorization", HIDDEN], ["accept", "y"]],
        "client_key": HIDDEN,
        "raw": HIDDEN,
    }
    assert plain("-----BEGIN PRIVATE KEY-----") == HIDDEN
    wanted = snapshot.NamedMatch("x-api-key", snapshot.StringMatch("exact", "s3cret"))
    assert plain((wanted,)) == [{"name": "x-api-key", "match": HIDDEN}]
    service = snapshot.Service("h", "n", "s", (snapshot.Port(80, "http"),), (), ())
    assert plain(replace(service, name="t"))["ports"][0]["number"] == 80


@pytest.mark.parametrize(
    ("method", "path", "host", "status"),
    [
        ("GET", "/healthz", "127.0.0.1", 200),
        ("HEAD", "/healthz", "[::1]:8080", 200),
        ("GET", "/healthz", "evil.example.com", 421),
        ("GET", "/healthz", "10.0.0.1", 421),
        ("GET", "/healthz", "127.0.0.1.evil.example.com", 421),
        ("POST", "/healthz", "localhost", 405),
        ("DELETE", "/config_dump", "localhost", 405),
        ("GET", "/quitquitquit", "localhost", 404),
        ("GET", "/../healthz", "localhost", 200),
    ],
)
async def test_it_is_read_only_and_for_this_machine(
    mesh: Mesh, method: str, path: str, host: str, status: int
) -> None:
    plane = mesh.planes["one"]
    assert (await read(plane, path, host, method)).status == status
    assert not plane.series.totals()


async def test_it_takes_few_connections_and_does_not_keep_a_plane_from_draining(mesh: Mesh) -> None:
    plane = mesh.planes["one"]
    clients = [await Client.connect(plane.admin_port) for _ in range(16)]
    for client in clients:
        await client.send(request_bytes("GET", "/healthz", "localhost", token=""))
        assert (await client.answer()).status == 200
    one_more = await Client.connect(plane.admin_port)
    assert await one_more.is_closed()
    assert plane.stats().connections == 0
    async with asyncio.timeout(5.0):
        assert await plane.drain(5.0)
    for client in (*clients, one_more):
        await client.close()
