"""TCP from workload to workload: CONNECT, mutual TLS between two planes, plain TCP to the application."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from dataclasses import replace
from typing import Any

import pytest
from proxy_mesh import (  # noqa: F401
    DEADLINE_S,
    App,
    Client,
    Handler,
    Mesh,
    credential,
    fetch,
    free_port,
    host_of,
    mesh,
    until,
)

from ray_mesh import snapshot
from ray_mesh.proxy import tcp_relay, tcp_tunnel, tcp_wire
from ray_mesh.security.ca import Authority

DB = host_of("db")


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends back what comes, and ends when it ends."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def tcp_pair(mesh: Mesh, handler: Handler = echo, **changes: Any) -> tuple[int, App]:  # noqa: F811
    """``client`` on node one may connect to ``db:3306`` on node two."""
    app = await mesh.app("db", handler)
    port = await mesh.workload("client", free_port(), node="one")
    settings: dict[str, Any] = {"services": (DB,), "tcp_ports": ((DB, 3306),), "is_tcp_only": True}
    await mesh.workload("db", app.port, **(settings | changes))
    mesh.service("db", [mesh.endpoint("db")], ports=(snapshot.Port(3306, "mysql", "tcp"),))
    return port, app


async def connect(port: int, target: str = "db:3306", token: str | None = None) -> Client:
    """A tunnel, right after CONNECT was sent."""
    client = await Client.connect(port)
    secret = credential(token) if token is not None else credential()
    await client.send(
        f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: {secret}\r\n\r\n".encode()
    )
    return client


async def tunnel(port: int, target: str = "db:3306") -> Client:
    """An established tunnel."""
    client = await connect(port, target)
    async with asyncio.timeout(DEADLINE_S):
        head = await client.reader.readuntil(b"\r\n\r\n")
    assert head == b"HTTP/1.1 200 Connection Established\r\n\r\n", head
    return client


async def read_all(client: Client) -> bytes:
    async with asyncio.timeout(DEADLINE_S):
        return await client.reader.read()


async def settled(mesh: Mesh) -> None:  # noqa: F811
    """Wait until no plane has a connection."""
    await until(lambda: not any(len(one.connections) for one in mesh.planes.values()), "all are closed")


async def test_bytes_go_both_ways_and_each_direction_ends_by_itself(mesh: Mesh) -> None:  # noqa: F811
    port, _ = await tcp_pair(mesh)
    draw = random.Random(7)
    for size in (0, 1, 3, 4, 5, 70_000, 1_500_000):
        client = await tunnel(port)
        sent = draw.randbytes(size)

        async def send(sent: bytes = sent, client: Client = client) -> None:
            start = 0
            while start < len(sent):
                step = draw.randint(1, 200_000)
                await client.send(sent[start : start + step])
                start += step
            client.writer.write_eof()

        _, received = await asyncio.gather(send(), read_all(client))
        assert received == sent
        await client.close()
    await settled(mesh)
    for node in ("one", "two"):
        (series,) = mesh.planes[node].series.totals()
        assert series.edge.protocol == "tcp"
        assert (series.edge.code, series.edge.flags, series.edge.security) == (0, "", "mutual_tls")
        assert series.edge.source_workload == "default/client"
        assert series.edge.source_principal == "mesh.local/ns/default/sa/client"
        assert series.edge.destination_service == DB
        assert series.edge.destination_workload == "default/db"
        assert series.edge.destination_principal == "mesh.local/ns/default/sa/db"
        assert (series.opened, series.requests) == (7, 7)
        assert series.request_bytes == series.response_bytes == 1_570_013
    record = mesh.planes["one"].access_records()[-1]
    assert (record.method, record.host, record.request_bytes) == ("CONNECT", "db:3306", 1_500_000)


async def test_a_server_may_speak_first(mesh: Mesh) -> None:  # noqa: F811
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 welcome\r\n")
        assert await reader.readline() == b"QUIT\r\n"
        writer.write(b"221 bye\r\n")

    port, _ = await tcp_pair(mesh, greet)
    client = await tunnel(port)
    assert await client.reader.readline() == b"220 welcome\r\n"
    await client.send(b"QUIT\r\n")
    assert await read_all(client) == b"221 bye\r\n"
    await client.close()
    await settled(mesh)


async def test_a_server_that_ends_first_still_hears(mesh: Mesh) -> None:  # noqa: F811
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"all")
        writer.write_eof()
        heard.put_nowait(await reader.read())

    port, _ = await tcp_pair(mesh, half)
    client = await tunnel(port)
    assert await read_all(client) == b"all"
    await client.send(b"late" * 1000)
    client.writer.write_eof()
    async with asyncio.timeout(DEADLINE_S):
        assert await heard.get() == b"late" * 1000
    await client.close()
    await settled(mesh)


async def test_bytes_right_after_connect_are_not_lost(mesh: Mesh) -> None:  # noqa: F811
    port, _ = await tcp_pair(mesh)
    client = await connect(port)
    await client.send(b"early")
    assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert await client.reader.readexactly(5) == b"early"
    await client.close()


@pytest.mark.parametrize("breaker", ["client", "server"])
async def test_a_break_reaches_the_other_end_as_a_reset(mesh: Mesh, breaker: str) -> None:  # noqa: F811
    broken: asyncio.Queue[BaseException | None] = asyncio.Queue()

    def cut(writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(4) == b"ping"
        writer.write(b"pong")
        await writer.drain()
        if breaker == "server":
            cut(writer)
            return
        try:
            await reader.read()
            broken.put_nowait(None)
        except ConnectionResetError as error:
            broken.put_nowait(error)

    port, _ = await tcp_pair(mesh, serve)
    client = await tunnel(port)
    await client.send(b"ping")
    assert await client.reader.readexactly(4) == b"pong"
    if breaker == "client":
        cut(client.writer)
        async with asyncio.timeout(DEADLINE_S):
            assert isinstance(await broken.get(), ConnectionResetError)
    else:
        with pytest.raises(ConnectionResetError):
            await read_all(client)
    await settled(mesh)
    flags = {node: mesh.series(node)[-1][1] for node in ("one", "two")}
    # Between the proxies it is the far end that broke.
    assert flags == ({"one": "DC", "two": "DC"} if breaker == "client" else {"one": "UC", "two": "UC"})


async def test_memory_is_bounded_when_one_side_does_not_read(mesh: Mesh) -> None:  # noqa: F811
    go_on = asyncio.Event()
    received = 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await go_on.wait()
        while data := await reader.read(1 << 20):
            received += len(data)

    port, _ = await tcp_pair(mesh, slow)
    client = await tunnel(port)
    sent = 0
    block = bytes(1 << 18)
    loop = asyncio.get_running_loop()
    connection = client.writer.get_extra_info("socket").dup()
    connection.setblocking(False)
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < 0.5:  # until everything is full
        try:
            sent += connection.send(block)
            idle_since = time.monotonic()
        except BlockingIOError:
            await asyncio.sleep(0.01)
    (relay_one,) = [one.relay for one in mesh.planes["one"].connections]  # type: ignore[attr-defined]
    (relay_two,) = [one.relay for one in mesh.planes["two"].connections]  # type: ignore[attr-defined]
    held = sum(
        side.transport.get_write_buffer_size()
        for relay in (relay_one, relay_two)
        for side in (relay.downstream, relay.upstream)
    )
    assert held <= 2 << 20
    go_on.set()
    await loop.sock_sendall(connection, block)
    connection.shutdown(socket.SHUT_WR)
    connection.close()
    await until(lambda: received == sent + len(block), "the rest arrives")
    await client.close()
    await settled(mesh)


async def test_a_slow_reader_gets_all_after_both_sides_have_ended(mesh: Mesh) -> None:  # noqa: F811
    body = random.Random(3).randbytes(4_000_000)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.write(body)

    port, _ = await tcp_pair(mesh, serve)
    client = await tunnel(port)
    client.writer.write_eof()
    await asyncio.sleep(3)  # longer than TLS waits for its close
    assert await read_all(client) == body
    await client.close()
    await settled(mesh)


async def test_refusals_name_their_reason(mesh: Mesh) -> None:  # noqa: F811
    port, app = await tcp_pair(mesh)
    mesh.service("web", [], ports=(snapshot.Port(80, "http"),))
    mesh.service("empty", [], ports=(snapshot.Port(5432, "tcp", "tcp"),))
    mesh.planes["one"].unknown(host_of("nowhere"))
    mesh.planes["one"].on_unknown_host = lambda host: mesh.planes["one"].unknown(host)
    for target, status, reason in (
        ("db:3307", 502, "no_such_port"),
        ("web:80", 405, "port_is_http"),
        ("empty:5432", 503, "no_healthy_upstream"),
        ("nowhere:1", 502, "host_not_in_mesh"),
        ("127.0.0.1:22", 502, "host_not_in_mesh"),
        ("db", 400, "bad_request"),
        ("db:0", 400, "bad_request"),
    ):
        client = await connect(port, target)
        answer = await client.answer()
        assert (answer.status, answer.json()["error"]) == (status, reason), target
        assert await client.is_closed()
        await client.close()
    for token in ("", "wrong"):
        client = await connect(port, token=token)
        assert (await client.answer()).status == 407
        await client.close()
    assert (await fetch(port, "/", "db:3306")).json()["error"] == "port_is_not_http"
    assert app.connections == 0
    await settled(mesh)


async def test_an_application_that_is_down_is_told_with_the_flag(mesh: Mesh) -> None:  # noqa: F811
    port, app = await tcp_pair(mesh)
    await app.stop()
    client = await connect(port)
    answer = await client.answer()
    assert (answer.status, answer.field("x-mesh-flag")) == (503, "UF")
    await client.close()
    await settled(mesh)
    assert [one[1] for one in mesh.series("one")] == ["UF"]
    assert [one[1] for one in mesh.series("two")] == ["UF"]


HTTP_ONLY = snapshot.Operation(methods=(snapshot.ValueMatch("exact", "GET"),))
PORT_TOO = replace(HTTP_ONLY, ports=(1,))
CLIENT = snapshot.Source(principals=(snapshot.ValueMatch("exact", "mesh.local/ns/default/sa/client"),))
OTHER = snapshot.Source(principals=(snapshot.ValueMatch("exact", "mesh.local/ns/default/sa/other"),))


def policy(action: str, *rules: snapshot.Rule) -> snapshot.Policy:
    return snapshot.Policy("default/p", action, rules)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("policies", "allowed"),
    [
        ((policy("ALLOW", snapshot.Rule((CLIENT,))),), True),
        ((policy("ALLOW", snapshot.Rule((OTHER,))),), False),
        ((policy("ALLOW"),), False),
        # What asks about requests vanishes from ALLOW, and only the question vanishes from DENY.
        ((policy("ALLOW", snapshot.Rule((CLIENT,), (HTTP_ONLY,))),), False),
        (
            (policy("ALLOW", snapshot.Rule((CLIENT,), (HTTP_ONLY,)), snapshot.Rule((CLIENT,))),),
            True,
        ),
        ((policy("DENY", snapshot.Rule((), (HTTP_ONLY,))),), False),
        ((policy("DENY", snapshot.Rule((OTHER,), (HTTP_ONLY,))),), True),
        ((policy("DENY", snapshot.Rule((), (PORT_TOO,))),), True),
    ],
)
async def test_policies_hold_for_connections(
    mesh: Mesh,  # noqa: F811
    policies: tuple[snapshot.Policy, ...],
    allowed: bool,
) -> None:
    port, app = await tcp_pair(mesh, policies=policies)
    client = await connect(port)
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 " if allowed else b"HTTP/1.1 403 "), head
    if not allowed:
        assert b"x-mesh-flag: UAEX" in head
        assert app.connections == 0
    await client.close()
    await settled(mesh)
    if not allowed:
        assert [one[1] for one in mesh.series("two")] == ["UAEX"]


async def test_a_connection_takes_a_token_of_each_rate_limit(mesh: Mesh) -> None:  # noqa: F811
    limit = snapshot.RateLimit("default/one", 1, 60, "CLOSED")
    port, _ = await tcp_pair(mesh, rate_limits=(limit,))
    first = await connect(port)
    await until(lambda: mesh.planes["two"].quota_demand(), "a token is asked for")
    mesh.planes["two"].grant("default/one", 1, time.monotonic() + 60)
    assert (await first.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    second = await connect(port)
    mesh.planes["two"].quota_demand()
    mesh.planes["two"].grant("default/one", 0, time.monotonic() + 60)
    answer = await second.answer()
    assert (answer.status, answer.field("x-mesh-flag")) == (429, "RL")
    await first.close()
    await second.close()


async def test_what_is_not_tcp_here_is_refused_by_the_callee(mesh: Mesh) -> None:  # noqa: F811
    """The callee decides by its own configuration, whatever the caller's proxy believes."""
    port, app = await tcp_pair(mesh, tcp_ports=(), is_tcp_only=False)
    client = await connect(port)
    assert (await client.answer()).json()["error"] == "no_such_port"
    await client.close()
    assert app.connections == 0


async def test_http_does_not_reach_a_workload_of_tcp(mesh: Mesh) -> None:  # noqa: F811
    port, app = await tcp_pair(mesh)
    mesh.service("db", [mesh.endpoint("db")])  # to the caller it is HTTP
    assert (await fetch(port, "/", "db")).status == 503
    assert app.connections == 0


async def test_connections_outlive_rotation_and_end_with_the_root(mesh: Mesh) -> None:  # noqa: F811
    port, _ = await tcp_pair(mesh)
    client = await tunnel(port)
    for node, name in (("one", "client"), ("two", "db")):
        mesh.planes[node].set_identity(f"workload.default.{name}", mesh.svid(name))
        mesh.planes[node].set_bundles(mesh.bundles)
    await client.send(b"still here")
    assert await client.reader.readexactly(10) == b"still here"
    stranger = Authority.create_root("mesh.local", time.time())
    mesh.planes["two"].set_bundles({"mesh.local": stranger.bundle()})
    with pytest.raises(ConnectionResetError):
        await read_all(client)
    await settled(mesh)
    assert mesh.series("two")[-1][1] == "UAEX"


async def test_an_idle_connection_ends(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(tcp_relay, "IDLE_S", 0.3)
    monkeypatch.setattr(tcp_relay, "TICK_S", 0.1)
    port, _ = await tcp_pair(mesh)
    client = await tunnel(port)
    with pytest.raises(ConnectionResetError):
        await read_all(client)
    await settled(mesh)
    assert "SI" in {mesh.series(node)[-1][1] for node in ("one", "two")}


async def test_bytes_are_counted_while_a_connection_lasts(
    mesh: Mesh,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tcp_relay, "TICK_S", 0.05)
    port, _ = await tcp_pair(mesh)
    client = await tunnel(port)
    await client.send(b"x" * 1000)
    await client.reader.readexactly(1000)

    def counted() -> bool:
        series = mesh.planes["two"].series.totals()
        return [(one.opened, one.requests, one.request_bytes) for one in series] == [(1, 0, 1000)]

    await until(counted, "the bytes of an open connection are in the totals")
    await client.close()


async def test_a_removed_workload_lets_go_of_its_connections(
    mesh: Mesh,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tcp_relay, "DRAIN_S", 0.2)
    port, _ = await tcp_pair(mesh)
    client = await tunnel(port)
    mesh.planes["two"].apply("workload.default.db", None)
    with pytest.raises(ConnectionResetError):
        await read_all(client)
    await settled(mesh)


async def test_draining_waits_for_connections(mesh: Mesh) -> None:  # noqa: F811
    port, _ = await tcp_pair(mesh)
    client = await tunnel(port)
    draining = asyncio.create_task(mesh.planes["two"].drain(DEADLINE_S))
    await client.send(b"go on")
    assert await client.reader.readexactly(5) == b"go on"
    client.writer.write_eof()
    assert await read_all(client) == b""
    await client.close()
    assert await draining


async def test_another_endpoint_is_tried_when_one_cannot_be_reached(mesh: Mesh) -> None:  # noqa: F811
    port, _ = await tcp_pair(mesh)
    gone = mesh.endpoint("db", port=free_port(), workload="default/gone")
    ports = (snapshot.Port(3306, "mysql", "tcp"),)
    mesh.service("db", [gone, mesh.endpoint("db")], ports=ports)
    for _ in range(5):
        client = await tunnel(port)
        await client.close()


@pytest.mark.parametrize(
    "bytes_sent",
    [
        b"",
        b"\xff\xff\xff\xff",
        tcp_wire.header(5) + b"hello",
        tcp_wire.header(0),
        b"GET / HTTP/1.1\r\n\r\n",
        tcp_wire.message(tcp_wire.Hello("x", DB, 99)),
        tcp_wire.message(tcp_wire.Hello("x", DB, 3306)) + tcp_wire.END + b"more after the end",
    ],
)
async def test_a_hostile_peer_gets_nothing(mesh: Mesh, bytes_sent: bytes) -> None:  # noqa: F811
    """A peer with a valid certificate that does not keep to the protocol."""
    _, app = await tcp_pair(mesh)
    endpoint = mesh.endpoint("db")
    local = mesh.planes["one"]._hosting.locals["workload.default.client"]
    assert local.identity is not None
    reader, writer = await asyncio.open_connection(
        endpoint.address, endpoint.port, ssl=local.identity.tcp_client, server_hostname=endpoint.sni
    )
    writer.write(bytes_sent)
    if not bytes_sent:
        writer.close()
    async with asyncio.timeout(DEADLINE_S):
        with contextlib.suppress(ConnectionError):
            await reader.read()
    writer.transport.abort()
    await settled(mesh)
    assert app.heads == []


async def undeclared(mesh: Mesh, handler: Handler | None = None) -> int:  # noqa: F811
    """``client`` may call ``db:3306``, of which nobody says what it speaks."""
    app = await mesh.app("db", handler)
    port = await mesh.workload("client", free_port(), node="one")
    await mesh.workload("db", app.port, services=(DB,), tcp_ports=((DB, 3306),))
    mesh.service("db", [mesh.endpoint("db")], ports=(snapshot.Port(3306, "", "auto"),))
    return port


async def test_requests_inside_a_tunnel_are_requests_where_nothing_is_declared(mesh: Mesh) -> None:  # noqa: F811
    port = await undeclared(mesh)
    client = await tunnel(port)
    for part in (b"G", b"ET /a HT", b"TP/1.1\r\nHost: db:3306\r\n\r\n"):
        await client.send(part)
        await asyncio.sleep(0.01)
    answer = await client.answer()
    assert answer.json()["line"] == "GET /a HTTP/1.1"
    await client.send(b"GET /b HTTP/1.1\r\nHost: db:3306\r\n\r\n")
    assert (await client.answer()).json()["line"] == "GET /b HTTP/1.1"
    await client.close()
    await until(lambda: not len(mesh.planes["one"].connections), "the tunnel is closed")
    assert {one.edge.protocol for one in mesh.planes["two"].series.totals()} == {"http"}
    assert (await fetch(port, "/c", "db:3306")).status == 200


async def test_the_token_of_a_tunnel_is_not_that_of_others_that_send_the_same(mesh: Mesh) -> None:  # noqa: F811
    port = await undeclared(mesh)
    head = b"GET /a HTTP/1.1\r\nHost: db:3306\r\n\r\n"
    client = await tunnel(port)
    await client.send(head)
    assert (await client.answer()).status == 200
    stranger = await Client.connect(port)
    await stranger.send(head)
    assert (await stranger.answer()).status == 407
    await stranger.close()
    await client.close()


async def test_a_changed_token_ends_the_requests_of_a_tunnel(mesh: Mesh) -> None:  # noqa: F811
    port = await undeclared(mesh)
    client = await tunnel(port)
    await client.send(b"GET /a HTTP/1.1\r\nHost: db:3306\r\n\r\n")
    assert (await client.answer()).status == 200
    changed = replace(mesh.workloads["client"], token_sha256=bytes(32))
    mesh.planes["one"].apply("workload.default.client", changed)
    await client.send(b"GET /a HTTP/1.1\r\nHost: db:3306\r\n\r\n")
    assert (await client.answer()).status == 407
    await client.close()


async def test_requests_of_a_tunnel_go_on_until_their_workload_goes(mesh: Mesh) -> None:  # noqa: F811
    port = await undeclared(mesh)
    client = await tunnel(port)
    await client.send(b"GET /a HTTP/1.1\r\nHost: db:3306\r\n\r\n")
    assert (await client.answer()).status == 200
    before = mesh.workloads["client"]
    same = bytes(bytearray(before.token_sha256))
    mesh.planes["one"].apply("workload.default.client", replace(before, token_sha256=same))
    await client.send(b"GET /b HTTP/1.1\r\nHost: db:3306\r\n\r\n")
    assert (await client.answer()).status == 200
    mesh.planes["one"].apply("workload.default.client", None)
    assert await read_all(client) == b""


@pytest.mark.parametrize("first", [b"\x00\x01", b"EHLO a\r\n" + b"x" * 30, b"PRI * HTTP/3.0\r\n\r\n"])
async def test_anything_else_inside_is_tcp(mesh: Mesh, first: bytes) -> None:  # noqa: F811
    port = await undeclared(mesh, echo)
    client = await tunnel(port)
    await client.send(first)
    assert await client.reader.readexactly(len(first)) == first
    await client.close()
    await settled(mesh)
    assert {one.edge.protocol for one in mesh.planes["two"].series.totals()} == {"tcp"}


async def test_who_says_nothing_waits_for_the_server(
    mesh: Mesh,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 welcome\r\n")

    monkeypatch.setattr(tcp_tunnel, "DETECTION_TIMEOUT_S", 0.2)
    port = await undeclared(mesh, greet)
    client = await tunnel(port)
    assert await read_all(client) == b"220 welcome\r\n"
    await client.close()
