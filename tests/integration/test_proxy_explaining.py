"""What the proxy says of its own replies, to whom, and what it remembers of each request."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from proxy_mesh import Client, Mesh, fetch, free_port, host_of, mesh, until  # noqa: F401

from ray_mesh import snapshot
from ray_mesh.snapshot import Destination, Gateway, GatewayServer, Route, VirtualHost

# ruff: noqa: F811

NOBODY = snapshot.Policy("default/nobody", "DENY", (snapshot.Rule(),))
ANYBODY = snapshot.Policy("default/anybody", "ALLOW", (snapshot.Rule(),))


async def edge(mesh: Mesh) -> int:
    """``edge`` on node one is a gateway for everything to ``reviews`` on node two."""
    bound = free_port()
    app = await mesh.app("reviews")
    await mesh.workload("edge", free_port(), node="one", gateway_ports=((80, bound),))
    await mesh.workload("reviews", app.port, services=(host_of("reviews"),))
    mesh.service("reviews", [mesh.endpoint("reviews")])
    routes = (Route("all", "", (), (Destination(host_of("reviews")),)),)
    servers = (GatewayServer(80, (VirtualHost(("shop.example.com",), routes),)),)
    mesh.planes["one"].apply("gateway.default.edge", Gateway("default", "edge", servers))
    return bound


def explain(mesh: Mesh, gateways: bool) -> None:
    for plane in mesh.planes.values():
        config = snapshot.Mesh("mesh.local", "mesh-system", explains_to_outside=gateways)
        plane.apply("mesh.mesh.mesh", config)


async def test_the_outside_learns_nothing_of_the_inside_unless_configured(mesh: Mesh) -> None:
    port = await edge(mesh)
    plane = mesh.planes["one"]
    answer = await fetch(port, "/", "elsewhere.example.com")
    assert answer.status == 404
    said = answer.json()
    (record,) = plane.access_records()
    assert said == {"error": "no_virtual_host", "flag": "NR", "request_id": record.request_id}
    assert answer.field("x-mesh-flag") == "NR"
    assert "no Gateway and VirtualService serve host 'elsewhere.example.com'" in record.message
    explain(mesh, True)
    answer = await fetch(port, "/", "elsewhere.example.com")
    assert answer.json()["message"] == record.message
    explain(mesh, False)
    assert "message" not in (await fetch(port, "/", "elsewhere.example.com")).json()


async def test_what_another_proxy_refuses_is_not_explained_to_the_outside_either(mesh: Mesh) -> None:
    port = await edge(mesh)
    mesh.planes["two"].apply(
        "workload.default.reviews", replace(mesh.workloads["reviews"], policies=(NOBODY,))
    )
    answer = await fetch(port, "/", "shop.example.com")
    assert (answer.status, answer.json()["flag"]) == (403, "UAEX")
    assert b"default/nobody" not in answer.raw + answer.body
    assert answer.field("x-mesh-policy") is None
    (record,) = mesh.planes["two"].access_records()
    assert (record.policy, record.reason, record.status) == ("default/nobody", "denied", 403)
    assert "default/nobody" in record.message
    assert answer.json()["request_id"] == record.request_id
    explain(mesh, True)
    answer = await fetch(port, "/", "shop.example.com")
    assert "default/nobody" in answer.json()["message"]
    assert answer.field("x-mesh-policy") == "default/nobody"


async def test_a_client_is_told_what_is_wrong_with_its_own_message(mesh: Mesh) -> None:
    port = await edge(mesh)
    answer = await fetch(port, "/", "a_b,c")
    assert (answer.status, answer.json()["flag"]) == (400, "DPE")
    assert "Host" in answer.json()["message"]


async def test_what_is_no_request_is_recorded_but_does_not_push_requests_out(mesh: Mesh) -> None:
    port = await edge(mesh)
    plane = mesh.planes["one"]
    assert (await fetch(port, "/", "elsewhere.example.com")).status == 404
    for number in range(60):
        client = await Client.connect(port)
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        assert (await client.answer()).status == 400, number
        await client.close()
    assert plane.stats().flaws == 60
    first, *flaws = plane.access_records()
    assert first.status == 404
    assert 20 <= len(flaws) < 60
    (kind,) = {(one.status, one.flags, one.reason, one.path, one.upstream) for one in flaws}
    assert kind == (400, "DPE", "bad_request", "", "")
    assert "two Host fields" in flaws[0].message
    assert [(each.edge.code, each.edge.flags) for each in plane.series.totals() if each.edge.flags == "DPE"]


async def test_a_record_has_where_a_request_went_and_when(mesh: Mesh) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await app.read(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfour")
            await writer.drain()
            await release.wait()
            writer.write(b"more")
            await writer.drain()

    release = asyncio.Event()
    port, app = await mesh.pair(serve, policies=(ANYBODY,))
    fetching = asyncio.create_task(fetch(port, "/x?y", "reviews", method="POST", body=b"12345"))
    await until(lambda: app.heads, "the request reached the application")
    release.set()
    assert (await fetching).status == 200
    await until(lambda: mesh.planes["two"].access_records(), "both are done")
    (out,), (inside,) = mesh.planes["one"].access_records(), mesh.planes["two"].access_records()
    assert (out.method, out.path, out.host, out.route) == ("POST", "/x?y", "reviews", "default")
    assert out.cluster == f"{host_of('reviews')}||80"
    assert out.upstream == f"127.0.0.1:{mesh.planes['two'].inbound_port}"
    assert (out.attempts, out.status, out.flags, out.reason) == (1, 200, "", "")
    assert (out.request_bytes, out.response_bytes) == (5, 8)
    assert (inside.principal, inside.policy) == ("mesh.local/ns/default/sa/client", "default/anybody")
    assert out.request_id == inside.request_id
    assert len(out.trace_id) == 32
    assert out.trace_id == inside.trace_id
    for record in (out, inside):
        assert record.decided_s is not None
        assert record.connected_s is not None
        assert record.first_byte_s is not None
        assert 0 <= record.decided_s <= record.connected_s <= record.first_byte_s <= record.duration_s


async def test_a_record_of_a_pooled_connection_has_no_time_of_connecting(mesh: Mesh) -> None:
    port, _ = await mesh.pair()
    for _ in range(2):
        assert (await fetch(port, "/", "reviews")).status == 200
    first, second = mesh.planes["one"].access_records()
    assert first.connected_s is not None
    assert second.connected_s is None
    assert second.first_byte_s == second.duration_s
    assert second.decided_s is not None


async def test_records_say_why(mesh: Mesh) -> None:
    port, app = await mesh.pair()
    await fetch(port, "/", "reviews", token="wrong")
    await app.stop()
    answer = await fetch(port, "/", "reviews")
    (unknown, failed), (inside,) = mesh.planes["one"].access_records(), mesh.planes["two"].access_records()
    assert (unknown.status, unknown.reason, unknown.attempts) == (407, "token_required", 0)
    assert (inside.status, inside.flags, inside.reason) == (503, "UF", "upstream_connect_failed")
    assert inside.message == answer.json()["message"]
    assert inside.first_byte_s is None
    assert (failed.status, failed.reason) == (503, "")
