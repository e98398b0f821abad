"""Which version of HTTP an application gets, whichever its client speaks, as documents say it."""

from __future__ import annotations

import asyncio

import h2.config
import h2.connection
import h2.events
import pytest
from proxy_mesh import DEADLINE_S, Mesh, credential, fetch, free_port, host_of, mesh  # noqa: F401

from ray_mesh import snapshot
from ray_mesh.compile import World, compile_key
from ray_mesh.proxy.http2_codec import PREFACE
from ray_mesh.resources import load

# ruff: noqa: F811

HOST = host_of("reviews")
DOCUMENTS = """
apiVersion: v1
kind: Service
metadata: {{name: reviews, namespace: default}}
spec: {{selector: {{app: reviews}}, ports: [{{port: 80, name: {name}}}]}}
---
apiVersion: mesh.ray.io/v1
kind: Workload
metadata: {{name: reviews, namespace: default, labels: {{app: reviews}}}}
spec: {{serviceAccount: a, node: two, port: 9000, outboundPort: 9001, tokenSha256: '{token}'}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: reviews, namespace: default}}
spec: {{host: reviews, trafficPolicy: {{tls: {{mode: DISABLE}}, connectionPool: {{http: {{{pool}}}}}}}}}
"""


async def answers_in_both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request with the version that it came by."""
    first = await reader.readexactly(len(PREFACE))
    if first != PREFACE:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")
            await writer.drain()
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    connection.initiate_connection()
    raw = first
    while raw:
        for event in connection.receive_data(raw):
            if isinstance(event, h2.events.RequestReceived):
                connection.send_headers(event.stream_id, [(":status", "200"), ("content-length", "1")])
                connection.send_data(event.stream_id, b"2", end_stream=True)
        writer.write(connection.data_to_send())
        await writer.drain()
        raw = await reader.read(65536)


async def fetch_by_http2(port: int, content_type: str = "text/plain") -> bytes:
    """The body that a request by HTTP/2 with prior knowledge gets."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    connection.initiate_connection()
    fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "reviews"),
        (":path", "/a-path-that-is-longer-than-the-preface"),
        ("content-type", content_type),
        ("proxy-authorization", credential()),
    ]
    connection.send_headers(1, fields, end_stream=True)
    body = b""
    try:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                writer.write(connection.data_to_send())
                for event in connection.receive_data(await reader.read(65536)):
                    if isinstance(event, h2.events.DataReceived):
                        body += event.data or b""
                    if isinstance(event, h2.events.StreamEnded):
                        return body
                    assert not isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated)
    finally:
        writer.close()
        await writer.wait_closed()


async def callee(mesh: Mesh, name: str, pool: str, *, has_proxy: bool) -> None:
    """An application behind a port of that name, and what a DestinationRule says of it."""
    text = DOCUMENTS.format(name=name, pool=pool, token="ab" * 32)
    made = World({one.key: one for one in load(text, "versions.yaml")})
    service = compile_key(made, "service.default.reviews")
    workload = compile_key(made, "two.workload.default.reviews")
    assert isinstance(service, snapshot.Service)
    assert isinstance(workload, snapshot.Workload)
    app = await mesh.app("reviews", answers_in_both)
    await mesh.workload("reviews", app.port, services=(HOST,), app_protocol=workload.app_protocol)
    endpoint = mesh.endpoint("reviews")
    if not has_proxy:
        endpoint = snapshot.Endpoint("", "127.0.0.1", app.port, "", "", (), "", "plaintext")
    for plane in mesh.planes.values():
        plane.apply("service.default.reviews", service)
        plane.apply("endpoints.default.reviews", snapshot.Endpoints(HOST, (endpoint,)))


async def versions(mesh: Mesh, name: str, pool: str = "", *, has_proxy: bool) -> tuple[bytes, bytes]:
    """What the application gets from clients of HTTP/1.1 and of HTTP/2 over a port of that name."""
    await callee(mesh, name, pool, has_proxy=has_proxy)
    port = await mesh.workload("client", free_port(), node="one")
    first = await fetch(port, "/a-path-that-is-longer-than-the-preface", "reviews")
    return first.body, await fetch_by_http2(port)


@pytest.mark.parametrize("has_proxy", [True, False])
@pytest.mark.parametrize(
    ("name", "expected"), [("http", (b"1", b"1")), ("grpc", (b"2", b"2")), ("x", (b"1", b"2"))]
)
async def test_an_application_gets_what_its_port_is_declared_to_speak(
    mesh: Mesh, name: str, expected: tuple[bytes, bytes], has_proxy: bool
) -> None:
    assert await versions(mesh, name, "maxRetries: 1", has_proxy=has_proxy) == expected


@pytest.mark.parametrize(
    ("name", "pool", "expected"),
    [
        ("http", "h2UpgradePolicy: UPGRADE", (b"2", b"2")),
        ("http", "h2UpgradePolicy: DO_NOT_UPGRADE", (b"1", b"1")),
        ("grpc", "useClientProtocol: true", (b"1", b"2")),
        ("http", "useClientProtocol: true", (b"1", b"2")),
    ],
)
async def test_a_destination_rule_says_otherwise(
    mesh: Mesh, name: str, pool: str, expected: tuple[bytes, bytes]
) -> None:
    assert await versions(mesh, name, pool, has_proxy=False) == expected


async def test_between_proxies_it_changes_the_way_and_not_what_the_application_gets(mesh: Mesh) -> None:
    assert await versions(mesh, "http", "h2UpgradePolicy: UPGRADE", has_proxy=True) == (b"1", b"1")


@pytest.mark.parametrize(
    ("name", "pool", "expected"),
    [
        ("http", "maxRetries: 1", (b"1", b"1")),
        ("x", "maxRetries: 1", (b"1", b"2")),
        ("x", "useClientProtocol: true", (b"2", b"2")),
        ("x", "h2UpgradePolicy: UPGRADE", (b"2", b"2")),
        ("grpc", "maxRetries: 1", (b"2", b"2")),
    ],
)
@pytest.mark.parametrize("has_proxy", [True, False])
async def test_a_gateway_offers_http2_whatever_applications_understand(
    mesh: Mesh, name: str, pool: str, expected: tuple[bytes, bytes], has_proxy: bool
) -> None:
    """To a port of which nothing is declared it goes on by HTTP/1.1, but for calls of gRPC."""
    await callee(mesh, name, pool, has_proxy=has_proxy)
    port = free_port()
    await mesh.workload("edge", free_port(), node="one", gateway_ports=((80, port),))
    routes = (snapshot.Route("all", "", (), (snapshot.Destination(HOST, port=80),)),)
    servers = (snapshot.GatewayServer(80, (snapshot.VirtualHost(("*",), routes),)),)
    mesh.planes["one"].apply("gateway.default.edge", snapshot.Gateway("default", "edge", servers))
    assert (await fetch_by_http2(port), await fetch_by_http2(port, "application/grpc")) == expected
