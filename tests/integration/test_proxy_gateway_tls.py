"""Gateways that end TLS, let it through by server name, redirect to it, and relay TCP."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from certificates import Issuer
from proxy_mesh import DEADLINE_S, Answer, Client, Mesh, fetch, free_port, host_of, mesh, until  # noqa: F401

from ray_mesh import snapshot
from ray_mesh.proxy.overload import OverloadLimits
from ray_mesh.proxy.proxy_protocol import Version, write_header
from ray_mesh.proxy.tls import Identity
from ray_mesh.security.ca import Authority
from ray_mesh.security.identity import for_workload
from ray_mesh.security.svid import Svid, csr, new_key
from ray_mesh.snapshot import (
    ConnectionMatch,
    ConnectionRoute,
    Destination,
    Gateway,
    GatewayServer,
    Route,
    SecureServer,
    ServerTls,
    VirtualHost,
)

# ruff: noqa: F811

REVIEWS, DB = host_of("reviews"), host_of("db")
FAILURES = (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)


async def edge(mesh: Mesh, *servers: GatewayServer, **changes: Any) -> dict[int, int]:
    """``edge`` on node one serves these; what its ports are bound to. ``reviews`` runs on node two."""
    ports = {server.port: free_port() for server in servers}
    bound = tuple(ports.items())
    await mesh.workload("edge", free_port(), node="one", gateway_ports=bound, **changes)
    app = await mesh.app("reviews")
    await mesh.workload("reviews", app.port, services=(REVIEWS,))
    mesh.service("reviews", [mesh.endpoint("reviews")])
    serve(mesh, *servers)
    return ports


def serve(mesh: Mesh, *servers: GatewayServer) -> None:
    mesh.planes["one"].apply("gateway.default.edge", Gateway("default", "edge", servers))


def files(issuer: Issuer, *names: str, mode: str = "SIMPLE", **changes: object) -> ServerTls:
    certificate, key = issuer.issue(*names)
    tls = ServerTls(mode, str(certificate), str(key))  # type: ignore[arg-type]
    return replace(tls, **changes)  # type: ignore[arg-type]


def https(tls: ServerTls, *hosts: str) -> SecureServer:
    routes = (Route("all", "", (), (Destination(REVIEWS),)),)
    return SecureServer(hosts, tls, (VirtualHost(hosts, routes),))


async def secure(port: int, context: ssl.SSLContext, name: str | None) -> Client:
    async with asyncio.timeout(DEADLINE_S):
        streams = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name or "")
    return Client(*streams)


async def get(port: int, context: ssl.SSLContext, name: str, host: str = "") -> Answer:
    client = await secure(port, context, name)
    try:
        await client.send(f"GET /x HTTP/1.1\r\nHost: {host or name}\r\n\r\n".encode())
        return await client.answer()
    finally:
        client.writer.transport.abort()


async def test_servers_by_name(mesh: Mesh, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    one = https(files(issuer, "a.example.com"), "a.example.com")
    many = https(files(issuer, "*.b.example.com"), "*.b.example.com")
    ports = await edge(mesh, GatewayServer(443, (), (one, many)))
    client = issuer.client()
    answer = await get(ports[443], client, "a.example.com")
    assert answer.status == 200
    fields = {name.lower(): value for name, value in answer.json()["fields"]}
    assert fields["x-forwarded-proto"] == "https"
    assert fields["x-forwarded-for"] == "127.0.0.1, 127.0.0.1"
    assert (await get(ports[443], client, "x.b.example.com")).status == 200
    # What one server serves is nothing to a connection to another one, which is told to connect anew.
    assert (await get(ports[443], client, "a.example.com", host="x.b.example.com")).status == 421
    assert (await get(ports[443], client, "a.example.com", host="c.example.com")).status == 404
    context = issuer.client()
    context.check_hostname = False
    for name in ("c.example.com", None):
        with pytest.raises(FAILURES):
            await secure(ports[443], context, name)
    everybody = https(files(issuer, "any.example.com"), "*")
    serve(mesh, GatewayServer(443, (), (one, many, everybody)))
    assert (await get(ports[443], client, "any.example.com")).status == 200
    assert (await secure(ports[443], context, None)).writer.get_extra_info("cipher")


async def test_who_says_nothing_counts_as_a_connection(mesh: Mesh, tmp_path: Path) -> None:
    tls = files(Issuer(tmp_path), "a.example.com")
    ports = await edge(mesh, GatewayServer(443, (), (https(tls, "a.example.com"),)))
    mesh.planes["one"]._overload.limits = OverloadLimits(3, 0, 0.0)
    silent = [await Client.connect(ports[443]) for _ in range(6)]
    closed = [asyncio.create_task(each.reader.read()) for each in silent]
    await until(lambda: sum(each.done() for each in closed) == 3, "three are too many")
    for client in silent:
        client.writer.transport.abort()
    await asyncio.gather(*closed, return_exceptions=True)


async def test_a_new_certificate_holds_from_then_on(mesh: Mesh, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    tls = files(issuer, "a.example.com")
    ports = await edge(mesh, GatewayServer(443, (), (https(tls, "a.example.com"),)))
    old = await secure(ports[443], issuer.client(), "a.example.com")
    certificate = old.writer.get_extra_info("ssl_object").getpeercert()
    issuer.issue("a.example.com")

    async def is_new() -> bool:
        fresh = await secure(ports[443], issuer.client(), "a.example.com")
        found = fresh.writer.get_extra_info("ssl_object").getpeercert()
        fresh.writer.transport.abort()
        return bool(found["serialNumber"] != certificate["serialNumber"])

    async with asyncio.timeout(DEADLINE_S):
        while not await is_new():
            await asyncio.sleep(0.05)
    await old.send(b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n")
    assert (await old.answer()).status == 200
    # Files that cannot be used change nothing.
    (tmp_path / "a.example.com.pem").write_text("nonsense")
    async with asyncio.timeout(DEADLINE_S):
        while "gateway_certificate" not in {reason for reason, _ in mesh.events}:
            assert (await get(ports[443], issuer.client(), "a.example.com")).status == 200
            await asyncio.sleep(0.05)
    assert (await get(ports[443], issuer.client(), "a.example.com")).status == 200


async def test_without_its_files_a_server_refuses(mesh: Mesh, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    tls = ServerTls("SIMPLE", f"{tmp_path}/a.example.com.pem", f"{tmp_path}/a.example.com.key")
    ports = await edge(mesh, GatewayServer(443, (), (https(tls, "a.example.com"),)))
    with pytest.raises(FAILURES):
        await secure(ports[443], issuer.client(), "a.example.com")
    (event,) = [text for reason, text in mesh.events if reason == "gateway_certificate"]
    assert "handshakes are refused" in event
    issuer.issue("a.example.com")
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                assert (await get(ports[443], issuer.client(), "a.example.com")).status == 200
                break
            except FAILURES:
                await asyncio.sleep(0.05)


async def test_mutual(mesh: Mesh, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    (tmp_path / "other").mkdir()
    stranger = Issuer(tmp_path / "other")
    tls = files(issuer, "a.example.com", mode="MUTUAL", authorities=str(issuer.ca), names=("partner",))
    ports = await edge(mesh, GatewayServer(443, (), (https(tls, "a.example.com"),)))
    assert (await get(ports[443], issuer.client("partner"), "a.example.com")).status == 200
    forged = issuer.client()
    forged.load_cert_chain(*stranger.issue("partner"))
    for context in (issuer.client(), issuer.client("somebody"), forged):
        with pytest.raises(FAILURES):
            await get(ports[443], context, "a.example.com")


async def test_istio_mutual_proves_a_principal(mesh: Mesh, tmp_path: Path) -> None:
    partner = snapshot.Source(principals=(snapshot.ValueMatch("exact", "mesh.local/ns/default/sa/partner"),))
    policy = snapshot.Policy("default/p", "ALLOW", (snapshot.Rule((partner,)),))
    ports = await edge(
        mesh, GatewayServer(443, (), (https(ServerTls("ISTIO_MUTUAL"), "*"),)), policies=(policy,)
    )
    for account, status in (("partner", 200), ("other", 403)):
        await mesh.workload(account, free_port(), node="one")
        identity = mesh.planes["one"]._hosting.locals[f"workload.default.{account}"].identity
        assert identity is not None
        assert (await get(ports[443], identity.client, "a.example.com")).status == status
    with pytest.raises(FAILURES):
        await get(ports[443], Issuer(tmp_path).client(), "a.example.com")


async def test_versions_and_ciphers(mesh: Mesh, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    suite = "ECDHE-ECDSA-AES256-GCM-SHA384"
    old = files(issuer, "old.example.com", versions=("", "TLSV1_2"), ciphers=(suite,))
    new = files(issuer, "new.example.com", versions=("TLSV1_3", ""))
    servers = (https(old, "old.example.com"), https(new, "new.example.com"))
    ports = await edge(mesh, GatewayServer(443, (), servers))
    client = await secure(ports[443], issuer.client(), "old.example.com")
    assert client.writer.get_extra_info("cipher")[:2] == (suite, "TLSv1.2")
    client = await secure(ports[443], issuer.client(), "new.example.com")
    assert client.writer.get_extra_info("ssl_object").version() == "TLSv1.3"
    twelve = issuer.client()
    twelve.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(FAILURES):
        await secure(ports[443], twelve, "new.example.com")


async def database(mesh: Mesh, context: ssl.SSLContext | None = None) -> None:
    """``db`` on node two answers with what it hears, in upper case; ``:5432`` of its service."""

    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data.upper())
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(upper, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    await mesh.workload("db", port, services=(DB,), tcp_ports=((DB, 5432),), is_tcp_only=True)
    mesh.service("db", [mesh.endpoint("db")], ports=(snapshot.Port(5432, "tcp", "tcp"),))


TO_DB = ConnectionRoute("db", "", (), (Destination(DB, "", 5432),))


def named(route: ConnectionRoute, *names: str) -> ConnectionRoute:
    return replace(route, matches=(ConnectionMatch(sni_hosts=names),))


async def test_tls_passes_through_by_name_beside_tls_that_ends(mesh: Mesh, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    await database(mesh, issuer.server("db.example.com", "other.example.com"))
    through = SecureServer(
        ("*.example.com",), ServerTls("PASSTHROUGH"), None, (named(TO_DB, "db.example.com"),)
    )
    ends = https(files(issuer, "a.example.com"), "a.example.com")
    ports = await edge(mesh, GatewayServer(443, (), (through, ends)))
    assert (await get(ports[443], issuer.client(), "a.example.com")).status == 200
    client = await secure(ports[443], issuer.client(), "db.example.com")
    await client.send(b"x" * 300_000)
    async with asyncio.timeout(DEADLINE_S):
        assert await client.reader.readexactly(300_000) == b"X" * 300_000
    await client.close()
    with pytest.raises(FAILURES):
        await secure(ports[443], issuer.client(), "other.example.com")
    await until(lambda: not len(mesh.planes["one"].connections), "all are closed")
    edges = {one.edge.flags for one in mesh.planes["one"].series.totals() if one.edge.protocol == "tcp"}
    assert edges == {"", "NR"}


async def test_tls_ends_and_tcp_goes_on(mesh: Mesh, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    await database(mesh)
    server = SecureServer(("db.example.com",), files(issuer, "db.example.com"), None, (TO_DB,))
    ports = await edge(mesh, GatewayServer(5432, (), (server,)))
    client = await secure(ports[5432], issuer.client(), "db.example.com")
    await client.send(b"x" * 300_000)
    async with asyncio.timeout(DEADLINE_S):
        assert await client.reader.readexactly(300_000) == b"X" * 300_000
    await client.close()
    await until(lambda: not len(mesh.planes["one"].connections), "all are closed")


async def test_tls_ends_and_the_server_ends_first(mesh: Mesh, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    body = bytes(range(256)) * 8000

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(body)
        await writer.drain()

    app = await mesh.app("db", say)
    await mesh.workload("db", app.port, services=(DB,), tcp_ports=((DB, 5432),), is_tcp_only=True)
    mesh.service("db", [mesh.endpoint("db")], ports=(snapshot.Port(5432, "tcp", "tcp"),))
    server = SecureServer(("db.example.com",), files(issuer, "db.example.com"), None, (TO_DB,))
    ports = await edge(mesh, GatewayServer(5432, (), (server,)))
    client = await secure(ports[5432], issuer.client(), "db.example.com")
    async with asyncio.timeout(DEADLINE_S):
        assert await client.reader.read() == body
    await client.close()
    await until(lambda: not len(mesh.planes["one"].connections), "all are closed")


async def test_tcp(mesh: Mesh) -> None:
    await database(mesh)
    ports = await edge(mesh, GatewayServer(5432, (), is_tcp=True, tcp_routes=(TO_DB,)))
    client = await Client.connect(ports[5432])
    await client.send(b"x" * 300_000)
    client.writer.write_eof()
    async with asyncio.timeout(DEADLINE_S):
        assert await client.reader.read() == b"X" * 300_000
    await client.close()
    await until(lambda: not len(mesh.planes["one"].connections), "all are closed")
    (series,) = mesh.planes["two"].series.totals()
    assert series.edge.source_principal == "mesh.local/ns/default/sa/edge"


async def test_policies_hold_for_tcp_from_outside(mesh: Mesh) -> None:
    await database(mesh)
    here = snapshot.Operation(ports=(5432,))
    policy = snapshot.Policy("default/p", "DENY", (snapshot.Rule((), (here,)),))
    server = GatewayServer(5432, (), is_tcp=True, tcp_routes=(TO_DB,))
    ports = await edge(mesh, server, policies=(policy,))
    client = await Client.connect(ports[5432])
    assert await client.is_closed()
    await until(lambda: not len(mesh.planes["one"].connections), "all are closed")
    assert [one[1] for one in mesh.series("one")] == ["UAEX"]


async def test_http_is_sent_to_https(mesh: Mesh) -> None:
    redirected = VirtualHost(("*.example.com",), (), to_https=True)
    ports = await edge(mesh, GatewayServer(80, (redirected,)))
    answer = await fetch(ports[80], "/a?b=c", "www.example.com:8080", token="")
    assert (answer.status, answer.field("location")) == (301, "https://www.example.com/a?b=c")
    assert (await fetch(ports[80], "/", "other.org", token="")).status == 404


async def test_a_hello_that_comes_byte_by_byte(mesh: Mesh, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    ports = await edge(mesh, GatewayServer(443, (), (https(files(issuer, "a.example.com"), "*"),)))
    outgoing, incoming = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = issuer.client().wrap_bio(incoming, outgoing, server_hostname="a.example.com")
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    client = await Client.connect(ports[443])
    client.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in outgoing.read():
        await client.send(bytes([byte]))
        await asyncio.sleep(0)
    async with asyncio.timeout(DEADLINE_S):
        while True:
            incoming.write(await client.reader.read(65536))
            try:
                connection.do_handshake()
                break
            except ssl.SSLWantReadError:
                continue
    client.writer.transport.abort()


@pytest.mark.parametrize(
    "raw",
    [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x40\x00\x01\xff\xff\xff", b"\x16\x03\x01\x00\x30\x01"],
)
async def test_what_is_no_tls_is_closed(mesh: Mesh, tmp_path: Path, raw: bytes) -> None:
    issuer = Issuer(tmp_path)
    ports = await edge(mesh, GatewayServer(443, (), (https(files(issuer, "a.example.com"), "*"),)))
    client = await Client.connect(ports[443])
    await client.send(raw)
    client.writer.write_eof()
    assert await client.is_closed()
    await client.close()


async def test_a_port_may_change_what_it_speaks(mesh: Mesh, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    server = https(files(issuer, "a.example.com"), "*")
    ports = await edge(mesh, GatewayServer(443, (), (server,)))
    assert (await get(ports[443], issuer.client(), "a.example.com")).status == 200
    assert server.virtual_hosts is not None
    serve(mesh, GatewayServer(443, server.virtual_hosts))
    assert (await fetch(ports[443], "/", "a.example.com", token="")).status == 200
    serve(mesh)
    assert (await fetch(ports[443], "/", "a.example.com", token="")).status == 404


def behind_a_balancer(mesh: Mesh, is_on: bool = True) -> None:
    mesh.planes["one"].apply(
        snapshot.MESH_KEY, snapshot.Mesh("mesh.local", "mesh-system", proxy_protocol=is_on)
    )


@pytest.mark.parametrize("version", ["V1", "V2"])
async def test_the_proxy_protocol_says_who_is_behind(mesh: Mesh, tmp_path: Path, version: Version) -> None:
    issuer = Issuer(tmp_path)
    server = https(files(issuer, "a.example.com"), "*")
    assert server.virtual_hosts is not None
    await database(mesh)
    ports = await edge(
        mesh,
        GatewayServer(443, (), (server,)),
        GatewayServer(80, server.virtual_hosts),
        GatewayServer(5432, (), is_tcp=True, tcp_routes=(TO_DB,)),
    )
    behind_a_balancer(mesh)
    header = write_header(version, ("192.0.2.7", 1234), ("192.0.2.1", 443))
    plain = await Client.connect(ports[80])
    await plain.send(header + b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n")
    fields = {name.lower(): value for name, value in (await plain.answer()).json()["fields"]}
    assert fields["x-forwarded-for"].startswith("192.0.2.7")
    await plain.close()
    over_tls = await Client.connect(ports[443])
    await over_tls.send(header)
    await over_tls.writer.start_tls(issuer.client(), server_hostname="a.example.com")
    await over_tls.send(b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n")
    fields = {name.lower(): value for name, value in (await over_tls.answer()).json()["fields"]}
    assert fields["x-forwarded-for"].startswith("192.0.2.7")
    over_tls.writer.transport.abort()
    tcp = await Client.connect(ports[5432])
    await tcp.send(header + b"x")
    assert await tcp.reader.readexactly(1) == b"X"
    await tcp.close()
    # Without a header nobody is let in: it could be anybody.
    for raw in (b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n", b"PROXY TCP4 x y 1 2\r\n", b""):
        client = await Client.connect(ports[80])
        await client.send(raw)
        client.writer.write_eof()
        assert await client.is_closed()
        await client.close()
    behind_a_balancer(mesh, False)
    assert (await fetch(ports[80], "/", "a.example.com", token="")).status == 200


async def test_a_host_is_reached_by_its_own_server_only(mesh: Mesh, tmp_path: Path) -> None:
    """Else a client without certificate would get in by the name of the server that asks for none."""
    issuer = Issuer(tmp_path)
    tls = files(issuer, "a.example.com", mode="MUTUAL", authorities=str(issuer.ca))
    asks = https(tls, "a.example.com")
    routes = (Route("all", "", (), (Destination(REVIEWS),)),)
    anybody = SecureServer(
        ("*",), files(issuer, "b.example.com"), (VirtualHost(("a.example.com", "b.example.com"), routes),)
    )
    ports = await edge(mesh, GatewayServer(443, (), (asks, anybody)))
    for host in ("a.example.com", "A.example.com.:443"):
        answer = await get(ports[443], issuer.client(), "b.example.com", host)
        assert (answer.status, answer.json()["error"]) == (421, "misdirected")
    assert (await get(ports[443], issuer.client(), "b.example.com")).status == 200
    assert (await get(ports[443], issuer.client("partner"), "a.example.com")).status == 200


async def test_a_caller_with_an_identity_is_verified_again_when_trust_changes(mesh: Mesh) -> None:
    await database(mesh)
    relayed = SecureServer(("db.example.com",), ServerTls("ISTIO_MUTUAL"), None, (TO_DB,))
    servers = (https(ServerTls("ISTIO_MUTUAL"), "*"), relayed)
    ports = await edge(mesh, GatewayServer(443, (), servers))
    partner = Authority.create_root("partner.example", time.time())
    plane = mesh.planes["one"]
    plane.set_bundles({**mesh.bundles, "partner.example": partner.bundle()})
    issuing, key = partner.create_intermediate(time.time()), new_key()
    name = for_workload("partner.example", "default", "partner")
    svid = Svid.from_der(issuing.issue(csr(key), name, 3600, time.time()), key)
    identity = Identity(svid, plane.trust)
    client = await secure(ports[443], identity.client, "a.example.com")
    relay = await secure(ports[443], identity.client, "db.example.com")
    await relay.send(b"x")
    async with asyncio.timeout(DEADLINE_S):
        assert await relay.reader.readexactly(1) == b"X"
    request = b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n"
    await client.send(request)
    assert (await client.answer()).status == 200
    plane.set_bundles(mesh.bundles)
    await client.send(request)
    answer = await client.answer()
    assert (answer.status, answer.json()["error"]) == (403, "identity_expired")
    with pytest.raises(FAILURES):
        async with asyncio.timeout(DEADLINE_S):
            await relay.reader.readexactly(1)
