"""The Gateway API, from documents to requests and connections: at an ingress, and between workloads."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from certificates import Issuer
from proxy_mesh import DEADLINE_S, Client, Mesh, fetch, free_port, host_of, mesh  # noqa: F401
from routing_mesh import callee, client

from ray_mesh import snapshot
from ray_mesh.compile import World, admit, compile_key
from ray_mesh.resources import load

# ruff: noqa: F811

DB = host_of("db")
BESIDE = """
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: default}
spec: {selector: {app: reviews}, ports: [{port: 80, name: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: ratings, namespace: default}
spec: {selector: {app: ratings}, ports: [{port: 80, name: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: default}
spec: {selector: {app: db}, ports: [{port: 5432, name: tcp}]}
---
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: prod}
spec: {selector: {app: reviews}, ports: [{port: 80, name: http}]}
---
apiVersion: mesh.ray.io/v1
kind: Workload
metadata: {name: edge, namespace: default, labels: {app: edge}}
spec:
  serviceAccount: edge
  node: one
  port: 9000
  outboundPort: 9001
  gatewayPorts: {'80': 1, '443': 2, '5432': 3}
  tokenSha256: HASH
---
apiVersion: mesh.ray.io/v1
kind: WorkloadBinding
metadata: {name: edge, namespace: default}
spec: {serviceAccount: edge, nodes: ['*']}
---
""".replace("HASH", "ab" * 32)
GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: web, namespace: default}}
spec: {{gatewayClassName: istio, listeners: [{listeners}]}}
---
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: {name}, namespace: default}}
spec: {{parentRefs: [{parent}], {spec}}}
---
"""
HTTP = GATEWAY.format(listeners="{name: http, port: 80, protocol: HTTP}")


def route(spec: str, kind: str = "HTTPRoute", name: str = "one", parent: str = "{name: web}") -> str:
    return ROUTE.format(kind=kind, name=name, parent=parent, spec=spec)


def apply(mesh: Mesh, text: str, *services: str) -> None:
    """What ``edge`` serves by these documents, and how these services are called."""
    documents = load(BESIDE + text, "gateway-api.yaml")
    refused = [one for one in admit(World({}), documents) if one.severity == "error"]
    assert not refused, refused
    world = World({one.key: one for one in documents})
    keys: list[tuple[str, str, tuple[str, ...]]] = [
        ("one.gateway.default.edge", "gateway.default.edge", ("one",))
    ]
    keys += [(key, key, ("one", "two")) for key in (f"service.default.{name}" for name in services)]
    for stored, key, nodes in keys:
        compiled = compile_key(world, stored)
        assert compiled is not None, stored
        for node in nodes:
            mesh.planes[node].apply(key, snapshot.decode(key, snapshot.encode(compiled)))


async def edge(mesh: Mesh, *numbers: int) -> dict[int, int]:
    """``edge`` on node one; what its gateway ports are bound to."""
    ports = {number: free_port() for number in numbers}
    await mesh.workload("edge", free_port(), node="one", gateway_ports=tuple(ports.items()))
    return ports


async def database(mesh: Mesh, context: ssl.SSLContext | None = None) -> asyncio.Server:
    """``db`` on node two answers with what it hears, in upper case."""

    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data.upper())
        writer.close()

    server = await asyncio.start_server(upper, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    await mesh.workload("db", port, services=(DB,), tcp_ports=((DB, 5432),), is_tcp_only=True)
    mesh.service("db", [mesh.endpoint("db")], ports=(snapshot.Port(5432, "tcp", "tcp"),))
    return server


async def told(client: Client) -> bytes:
    """What comes back for a few bytes, empty when the connection is closed."""
    try:
        await client.send(b"hello")
        async with asyncio.timeout(DEADLINE_S):
            return await client.reader.read(5)
    except ConnectionError:
        return b""
    finally:
        await client.close()


async def test_an_http_route_at_an_ingress(mesh: Mesh) -> None:
    port = (await edge(mesh, 80))[80]
    await callee(mesh)
    await callee(mesh, "ratings")
    rules = """hostnames: ['*.example.com'], rules: [
      {matches: [{path: {value: /stars}}], filters: [
         {type: URLRewrite, urlRewrite: {hostname: ratings.org,
           path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}},
         {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Kind, value: stars}]}},
         {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: X-Seen, value: '1'}]}}],
       backendRefs: [{name: ratings, port: 80}]},
      {matches: [{path: {value: /old}}], filters: [{type: RequestRedirect, requestRedirect:
         {scheme: https, statusCode: 301, path: {type: ReplaceFullPath, replaceFullPath: /new}}}]},
      {matches: [{path: {type: Exact, value: /nobody}}], backendRefs: [{name: reviews, port: 80, weight: 0}]},
      {matches: [{path: {type: Exact, value: /theirs}}],
       backendRefs: [{name: reviews, namespace: prod, port: 80}]},
      {matches: [{method: POST}], backendRefs: [{name: ratings, port: 80}]},
      {backendRefs: [{name: reviews, port: 80}]}]"""
    apply(mesh, HTTP + route(rules), "reviews", "ratings")
    host = "a.example.com"
    answer = await fetch(port, "/stars/1?x=y", host, token="")
    fields = {name.lower(): value for name, value in answer.json()["fields"]}
    assert answer.json()["line"] == "GET /1?x=y HTTP/1.1"
    assert (answer.json()["app"], fields["host"], fields["x-kind"]) == ("ratings", "ratings.org", "stars")
    assert answer.field("x-seen") == "1"
    assert (await fetch(port, "/starship", host, token="")).json()["app"] == "reviews"
    assert (await fetch(port, "/", host, method="POST", token="")).json()["app"] == "ratings"
    moved = await fetch(port, "/old/x", f"{host}:8080", token="")
    assert (moved.status, moved.field("location")) == (301, f"https://{host}/new")
    assert (await fetch(port, "/nobody", host, token="")).status == 500
    assert (await fetch(port, "/theirs", host, token="")).status == 500, "without a ReferenceGrant"
    assert (await fetch(port, "/", "example.com", token="")).status == 404


async def test_a_route_of_a_service_is_followed_in_the_mesh(mesh: Mesh) -> None:
    port = await client(mesh)
    await callee(mesh)
    await callee(mesh, "ratings")
    service = "{group: '', kind: Service, name: reviews}"
    own = route(
        "rules: [{matches: [{path: {value: /stars}}], backendRefs: [{name: ratings, port: 80}]}, "
        "{matches: [{path: {value: /reviews}}], backendRefs: [{name: reviews, port: 80}]}]",
        parent=service,
    )
    theirs = route(
        "rules: [{filters: [{type: RequestRedirect, requestRedirect: {hostname: x.org}}]}]",
        name="two",
        parent="{group: '', kind: Service, name: reviews, namespace: default}",
    ).replace("name: two, namespace: default", "name: two, namespace: prod")
    apply(mesh, own + theirs, "reviews", "ratings")
    assert (await fetch(port, "/stars/1", "reviews")).json()["app"] == "ratings"
    assert (await fetch(port, "/reviews", "reviews")).json()["app"] == "reviews"
    assert (await fetch(port, "/else", "reviews")).status == 404
    assert (await fetch(port, "/else", "ratings")).json()["app"] == "ratings"


async def test_connections_and_tls_by_listener(mesh: Mesh, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    certificate, key = issuer.issue("a.example.com")
    files = f"{{mesh.ray.io/server-certificate: {certificate}, mesh.ray.io/private-key: {key}}}"
    listeners = (
        f"{{name: https, port: 443, protocol: HTTPS, hostname: a.example.com, tls: {{options: {files}}}}}, "
        "{name: through, port: 443, protocol: TLS, hostname: '*.example.com', tls: {mode: Passthrough}}, "
        "{name: tcp, port: 5432, protocol: TCP}"
    )
    to_db = "rules: [{backendRefs: [{name: db, port: 5432}]}]"
    documents = GATEWAY.format(listeners=listeners) + route(
        "rules: [{backendRefs: [{name: reviews, port: 80}]}]"
    )
    documents += route(to_db, "TCPRoute", "tcp")
    documents += route(f"hostnames: [db.example.com], {to_db}", "TLSRoute", "tls")
    ports = await edge(mesh, 443, 5432)
    await callee(mesh)
    server = await database(mesh, issuer.server("db.example.com"))
    apply(mesh, documents, "reviews", "db")

    async def over_tls(name: str) -> Client:
        async with asyncio.timeout(DEADLINE_S):
            streams = await asyncio.open_connection(
                "127.0.0.1", ports[443], ssl=issuer.client(), server_hostname=name
            )
        return Client(*streams)

    try:
        one = await over_tls("a.example.com")
        await one.send(b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n")
        assert (await one.answer()).json()["app"] == "reviews"
        await one.close()
        assert await told(await over_tls("db.example.com")) == b"HELLO"
        plain = await asyncio.open_connection(
            "127.0.0.1", ports[5432], ssl=issuer.client(), server_hostname="db.example.com"
        )
        assert await told(Client(*plain)) == b"HELLO", "a TCP listener does not look inside"
    finally:
        server.close()


async def test_connections_to_a_backend_that_is_not_open_to_the_route_are_closed(mesh: Mesh) -> None:
    port = (await edge(mesh, 5432))[5432]
    server = await database(mesh)
    try:
        for status, expected in ((0, b"HELLO"), (500, b"")):
            to_db = snapshot.ConnectionRoute(
                "r", "", (), (snapshot.Destination(DB, "", 5432, status=status),)
            )
            listener = snapshot.GatewayServer(5432, (), is_tcp=True, tcp_routes=(to_db,))
            mesh.planes["one"].apply("gateway.default.edge", snapshot.Gateway("default", "edge", (listener,)))
            assert await told(await Client.connect(port)) == expected
    finally:
        server.close()
