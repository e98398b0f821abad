"""Routes of connections: TCP by weight and subset, TLS by server name, hosts outside the mesh."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Literal

import pytest
from certificates import Issuer
from proxy_mesh import DEADLINE_S, Client, Mesh, credential, free_port, host_of, mesh, until  # noqa: F401

from ray_mesh import snapshot
from ray_mesh.proxy.proxy_protocol import Version, write_header
from ray_mesh.snapshot import ConnectionMatch, ConnectionRoute, Destination, Endpoint, Port

MYSQL = (Port(3306, "mysql", "tcp"),)
TLS = (Port(443, "tls", "tls"),)


async def name_it(mesh: Mesh, name: str, service: str, port: int, **labels: str) -> Endpoint:  # noqa: F811
    """A workload of a service whose application says the workload's name and ends."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(name.encode())

    app = await mesh.app(name, say)
    full = host_of(service)
    await mesh.workload(
        name,
        app.port,
        labels={"app": service, **labels},
        services=(full,),
        tcp_ports=((full, port),),
        is_tcp_only=True,
    )
    return mesh.endpoint(name)


async def tunnel(port: int, target: str) -> tuple[bytes, Client]:
    """The head of the answer to CONNECT, and the tunnel."""
    client = await Client.connect(port)
    await client.send(
        f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: {credential()}\r\n\r\n".encode()
    )
    async with asyncio.timeout(DEADLINE_S):
        return await client.reader.readuntil(b"\r\n\r\n"), client


async def answer(port: int, target: str) -> str:
    """All that the application behind a tunnel says."""
    head, client = await tunnel(port, target)
    assert head.startswith(b"HTTP/1.1 200 "), head
    async with asyncio.timeout(DEADLINE_S):
        said = await client.reader.read()
    await client.close()
    return said.decode()


def route(*destinations: Destination, matches: tuple[ConnectionMatch, ...] = ()) -> ConnectionRoute:
    return ConnectionRoute("r", "test", matches, destinations)


async def test_weights_subsets_ports_and_source_labels(mesh: Mesh) -> None:  # noqa: F811
    port = await mesh.workload("client", free_port(), node="one", labels={"app": "client", "tier": "gold"})
    endpoints = [await name_it(mesh, f"db-{one}", "db", 3306, version=one) for one in ("v1", "v2")]
    db = host_of("db")
    subsets = tuple(snapshot.Subset(one, (("version", one),)) for one in ("v1", "v2"))

    def routed(*routes: ConnectionRoute) -> None:
        mesh.service("db", endpoints, ports=MYSQL, subsets=subsets, tcp_routes=routes)

    routed(route(Destination(db, "v1", weight=1), Destination(db, "v2", weight=0)))
    assert {await answer(port, "db:3306") for _ in range(8)} == {"db-v1"}
    routed(route(Destination(db, "v1", weight=50), Destination(db, "v2", weight=50)))
    assert {await answer(port, "db:3306") for _ in range(40)} == {"db-v1", "db-v2"}
    gold = ConnectionMatch(source_labels=(("tier", "gold"),), port=3306)
    lead = ConnectionMatch(source_labels=(("tier", "lead"),))
    other = ConnectionMatch(port=1)
    elsewhere = ConnectionMatch(source_namespace="elsewhere")
    gateway = ConnectionMatch(gateways=("default/gateway",))
    routed(
        *(route(Destination(db, "v1"), matches=(each,)) for each in (lead, other, elsewhere, gateway)),
        route(Destination(db, "v2"), matches=(gold,)),
        route(Destination(db, "v1")),
    )
    assert {await answer(port, "db:3306") for _ in range(8)} == {"db-v2"}
    routed(route(Destination(db, "v1"), matches=(lead,)))  # none matches: the service itself
    assert {await answer(port, "db:3306") for _ in range(40)} == {"db-v1", "db-v2"}
    routed(route(Destination(db, "v3")))
    head, client = await tunnel(port, "db:3306")
    assert head.startswith(b"HTTP/1.1 503 ")
    await client.close()


async def call_tls(port: int, target: str, context: ssl.SSLContext, name: str) -> bytes:
    """What a TLS server behind a tunnel says; raises when the tunnel breaks."""
    head, client = await tunnel(port, target)
    assert head.startswith(b"HTTP/1.1 200 "), head
    try:
        async with asyncio.timeout(DEADLINE_S):
            await client.writer.start_tls(context, server_hostname=name)
            client.writer.write(b"hello\n")
            return await client.reader.readline()
    finally:
        client.writer.transport.abort()


async def tls_server(mesh: Mesh, issuer: Issuer, name: str, *hosts: str) -> int:  # noqa: F811
    """A TLS server that says its name; its port."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(f"{name}\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0, ssl=issuer.server(*hosts))
    asyncio.get_running_loop().call_later(60, server.close)
    return int(server.sockets[0].getsockname()[1])


async def test_server_names_decide(mesh: Mesh, tmp_path: Path) -> None:  # noqa: F811
    issuer = Issuer(tmp_path)
    port = await mesh.workload("client", free_port(), node="one")
    web = host_of("web")
    endpoints = []
    for one in ("a", "b"):
        app_port = await tls_server(mesh, issuer, one, "a.example", "x.b.example", "c.example")
        name = f"web-{one}"
        await mesh.workload(
            name, app_port, labels={"v": one}, services=(web,), tcp_ports=((web, 443),), is_tcp_only=True
        )
        endpoints.append(mesh.endpoint(name))
    mesh.service(
        "web",
        endpoints,
        ports=TLS,
        subsets=(snapshot.Subset("a", (("v", "a"),)), snapshot.Subset("b", (("v", "b"),))),
        tls_routes=(
            route(Destination(web, "a"), matches=(ConnectionMatch(sni_hosts=("a.example",), port=443),)),
            route(Destination(web, "b"), matches=(ConnectionMatch(sni_hosts=("*.b.example",)),)),
        ),
    )
    client = issuer.client()
    assert await call_tls(port, "web:443", client, "a.example") == b"a\n"
    assert await call_tls(port, "web:443", client, "x.b.example") == b"b\n"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await call_tls(port, "web:443", client, "c.example")
    for no_hello in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff", b"\x16\x03\x01\x00\x05\x02\0\0\1\0"):
        _, raw = await tunnel(port, "web:443")
        await raw.send(no_hello)
        assert await raw.is_closed()
        await raw.close()
    await until(lambda: not len(mesh.planes["one"].connections), "all are closed")
    reasons = {one.reason for one in mesh.planes["one"].access_records()}
    assert {"no_route", "bad_client_hello"} <= reasons


def outside(mesh: Mesh, host: str, port: int, app_port: int, protocol: Literal["tcp", "tls"]) -> None:  # noqa: F811
    """A ServiceEntry of one port, outside the mesh."""
    endpoint = Endpoint(
        workload="serviceentry.default.site",
        address="127.0.0.1",
        port=app_port,
        sni="",
        identity="",
        labels=(),
        node="",
        transport="plaintext",
        service_port=port,
    )
    service = snapshot.Service(
        host,
        "default",
        "site",
        (Port(port, "p", protocol),),
        (),
        (),
        plaintext=True,
    )
    for plane in mesh.planes.values():
        plane.apply(snapshot.key_for("service", host), service)
        plane.apply(snapshot.key_for("endpoints", host), snapshot.Endpoints(host, (endpoint,)))


async def test_https_to_a_host_outside_is_for_that_host(mesh: Mesh, tmp_path: Path) -> None:  # noqa: F811
    issuer = Issuer(tmp_path)
    port = await mesh.workload("client", free_port(), node="one")
    app_port = await tls_server(mesh, issuer, "site", "site.example.com", "other.example.com")
    outside(mesh, "site.example.com", 443, app_port, "tls")
    client = issuer.client()
    assert await call_tls(port, "site.example.com:443", client, "site.example.com") == b"site\n"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await call_tls(port, "site.example.com:443", client, "other.example.com")
    await until(lambda: not len(mesh.planes["one"].connections), "all are closed")
    series = {(one.edge.flags, one.edge.security) for one in mesh.planes["one"].series.totals()}
    assert series == {("", "none"), ("UAEX", "none")}


async def test_tcp_to_a_host_outside(mesh: Mesh) -> None:  # noqa: F811
    port = await mesh.workload("client", free_port(), node="one")

    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())

    app = await mesh.app("site", upper)
    outside(mesh, "db.example.com", 5432, app.port, "tcp")
    _, client = await tunnel(port, "db.example.com:5432")
    await client.send(b"x" * 300_000)
    client.writer.write_eof()
    async with asyncio.timeout(DEADLINE_S):
        assert await client.reader.read() == b"X" * 300_000
    await client.close()


async def test_the_mesh_s_own_ports_are_no_hosts_outside(mesh: Mesh) -> None:  # noqa: F811
    port = await mesh.workload("client", free_port(), node="one")
    outside(mesh, "db.example.com", 5432, mesh.planes["one"].inbound_port, "tcp")
    head, client = await tunnel(port, "db.example.com:5432")
    assert head.startswith(b"HTTP/1.1 503 ")
    await client.close()


@pytest.mark.parametrize("version", ["V1", "V2"])
async def test_the_proxy_protocol_goes_before_the_bytes(mesh: Mesh, version: Version) -> None:  # noqa: F811
    async def answer_with_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())

    port = await mesh.workload("client", free_port(), node="one")
    app = await mesh.app("db", answer_with_all)
    db = host_of("db")
    await mesh.workload("db", app.port, services=(db,), tcp_ports=((db, 3306),), is_tcp_only=True)
    traffic = snapshot.TrafficPolicy("test", proxy_protocol=version)
    mesh.service("db", [mesh.endpoint("db")], ports=MYSQL, traffic=traffic)
    _, client = await tunnel(port, "db:3306")
    own = client.writer.get_extra_info("sockname")
    await client.send(b"hello")
    client.writer.write_eof()
    async with asyncio.timeout(DEADLINE_S):
        found = await client.reader.read()
    assert found == write_header(version, own, ("127.0.0.1", port)) + b"hello"
    await client.close()
