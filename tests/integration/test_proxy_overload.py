"""A plane that has too much answers some requests 503 and keeps the others going."""

from __future__ import annotations

import asyncio
import gc

from proxy_mesh import Client, Mesh, fetch, host_of, mesh, request_bytes, until  # noqa: F401

from ray_mesh import snapshot
from ray_mesh.proxy.overload import Level, OverloadLimits
from ray_mesh.proxy.vitals import freeze

# ruff: noqa: F811

THRESHOLD = gc.get_threshold()


def press(mesh: Mesh, node: str, pressure: float) -> None:
    """Give a plane limits of which this share is used now."""
    plane = mesh.planes[node]
    plane._overload.limits = OverloadLimits(10_000, 0, 0.0)
    plane._vitals.on_deadline(0.0)
    memory_bytes = int(plane.stats().memory_bytes / pressure)
    plane._overload.limits = OverloadLimits(10_000, memory_bytes, 0.0)
    plane._vitals.on_deadline(0.0)


async def test_inbound_requests_are_served_longest(mesh: Mesh) -> None:
    port, app = await mesh.pair()
    press(mesh, "one", 0.91)
    press(mesh, "two", 0.955)
    assert (await fetch(port, "/", "reviews")).status == 200
    press(mesh, "two", 0.985)
    answer = await fetch(port, "/", "reviews")
    assert (answer.status, answer.json()["flag"]) == (503, "OM")
    assert (answer.field("x-mesh-flag"), answer.field("retry-after")) == ("OM", "1")
    press(mesh, "one", 0.955)
    answer = await fetch(port, "/", "reviews")
    assert (answer.status, answer.json()["error"], answer.field("connection")) == (503, "overloaded", "close")
    (record,) = [one for one in mesh.planes["one"].access_records() if one.reason == "overloaded"]
    assert (record.flags, record.attempts) == ("OM", 0)
    assert len(app.heads) == 1
    assert mesh.planes["two"].stats().events["overload"] == 2
    assert "MiB of memory" in next(text for reason, text in mesh.events if reason == "overload")


async def test_connections_end_after_their_response_before_requests_are_refused(mesh: Mesh) -> None:
    port, _ = await mesh.pair()
    press(mesh, "one", 0.86)
    client = await Client.connect(port)
    await client.send(request_bytes("GET", "/", "reviews"))
    answer = await client.answer()
    assert (answer.status, answer.field("connection")) == (200, "close")
    assert await client.is_closed()
    await client.close()


async def test_at_last_no_connection_is_taken(mesh: Mesh) -> None:
    port, _ = await mesh.pair()
    press(mesh, "one", 1.1)
    assert mesh.planes["one"].stats().overload_level == Level.NO_CONNECTIONS
    answer = await fetch(mesh.planes["one"].admin_port, "/readyz", "localhost", token="")
    assert (answer.status, answer.body) == (503, b"not ready: it is overloaded\n")
    client = await Client.connect(port)
    assert await client.is_closed()
    await client.close()


async def test_more_connections_than_the_limit_are_not_taken_even_between_samples(mesh: Mesh) -> None:
    port, _ = await mesh.pair()
    plane = mesh.planes["one"]
    plane._overload.limits = OverloadLimits(3, 0, 0.0)
    clients = [await Client.connect(port) for _ in range(3)]
    await until(lambda: plane.stats().connections == 3, "three are open")
    one_more = await Client.connect(port)
    assert await one_more.is_closed()
    await clients[0].close()
    await until(lambda: plane.stats().connections == 2, "one is closed")
    for client in (*clients, one_more):
        await client.close()


async def test_the_figures_of_the_process_are_known(mesh: Mesh) -> None:
    gc.collect()
    stats = mesh.planes["one"].stats()
    assert stats.memory_bytes > 10 << 20
    assert stats.gc_pauses >= 1
    assert 0 < stats.gc_pause_max_s <= stats.gc_pause_total_s < 10
    assert stats.overload_level == Level.NORMAL


async def test_routes_retry_no_more_before_anything_is_refused(mesh: Mesh) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await app.read(reader)
            status = b"503 No" if len(app.heads) % 2 else b"200 OK"
            writer.write(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status)
            await writer.drain()

    port, app = await mesh.pair(serve)
    host = host_of("reviews")
    retries = snapshot.Retries(attempts=1, on=("5xx",))
    route = snapshot.Route("default", "test", (), (snapshot.Destination(host),), retries=retries)
    mesh.service("reviews", [mesh.endpoint("reviews")], routes=(route,))
    assert (await fetch(port, "/", "reviews")).status == 200
    press(mesh, "one", 0.82)
    assert (await fetch(port, "/", "reviews")).status == 503


async def test_the_pause_of_freezing_is_not_counted_as_one_under_traffic(mesh: Mesh) -> None:
    before = mesh.planes["one"].stats().gc_pauses
    freeze()
    assert mesh.planes["one"].stats().gc_pauses == before
    gc.unfreeze()
    gc.set_threshold(*THRESHOLD)
    gc.collect()
    assert mesh.planes["one"].stats().gc_pauses > before
