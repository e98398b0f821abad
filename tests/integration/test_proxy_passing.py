"""Hosts beyond those that are known by name: ALLOW_ANY, Sidecars, and ServiceEntries for patterns."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from proxy_mesh import App, Client, Mesh, credential, fetch, free_port, mesh  # noqa: F401
from test_proxy_outside import NETWORKING, at, configure, entry

from ray_mesh import snapshot
from ray_mesh.compile import World, compile_key
from ray_mesh.proxy.outside import system_lookup
from ray_mesh.proxy.plane import DataPlane, PlaneConfig
from ray_mesh.resources import load

# ruff: noqa: F811

ALLOW_ANY = snapshot.Mesh("mesh.local", "mesh-system", "ALLOW_ANY")
REGISTRY_ONLY = snapshot.Mesh("mesh.local", "mesh-system")


def own_address() -> str:
    """An address of this machine that is not loopback, where such calls may go."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(probe.getsockname()[0])


class Site:
    """One plane that passes calls on, a workload beside it, and what its names mean."""

    def __init__(self, plane: DataPlane, port: int, names: dict[str, list[str]]) -> None:
        self.plane = plane
        self.port = port
        self.names = names

    def counted(self) -> list[tuple[str, int, str]]:
        return sorted(
            (one.edge.destination_service, one.edge.code, one.edge.security)
            for one in self.plane.series.totals()
        )

    async def tunnel(self, target: str) -> tuple[Client, bytes]:
        """Ask for a tunnel; the client and the head of the answer."""
        client = await Client.connect(self.port)
        head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: {credential()}\r\n\r\n"
        await client.send(head.encode())
        return client, await client.reader.readuntil(b"\r\n\r\n")


@pytest.fixture
async def site(mesh: Mesh) -> Site:
    names: dict[str, list[str]] = {}

    async def lookup(name: str) -> list[str]:
        return names[name] if name in names else await system_lookup(name)

    plane = DataPlane(PlaneConfig("three-0", "three", "mesh.local"), lookup=lookup)
    await plane.start()
    plane.set_bundles(mesh.bundles)
    plane.on_unknown_host = plane.unknown
    mesh.planes["three"] = plane
    plane.apply(snapshot.MESH_KEY, ALLOW_ANY)
    return Site(plane, await mesh.workload("client", free_port(), node="three"), names)


@pytest.fixture
async def outside(site: Site) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server outside the mesh under ``api.test``: its authority, and the heads it has read."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    address = own_address()
    server = await asyncio.start_server(serve, address, 0)
    site.names["api.test"] = [address]
    yield f"api.test:{server.sockets[0].getsockname()[1]}", heads
    server.close()


async def test_any_host_is_called_as_it_was_asked_for(site: Site, outside: tuple[str, list[bytes]]) -> None:
    authority, heads = outside
    for _ in range(3):
        answer = await fetch(site.port, "/x?y=1", authority, X_Mesh_Source="forged")
        assert (answer.status, answer.body) == (200, b"ok")
    assert site.counted() == [("PassthroughCluster", 200, "none")]
    assert site.plane.access_records()[-1].route == "allow_any"
    for head in heads:
        assert head.startswith(b"GET /x?y=1 HTTP/1.1\r\n")
        assert b"mesh" not in head.lower()
        assert credential().encode() not in head
    assert (await fetch(site.port, "/", authority, token="wrong")).status == 407


async def test_connect_passes_bytes_on(site: Site, outside: tuple[str, list[bytes]]) -> None:
    client, head = await site.tunnel(outside[0])
    assert head.startswith(b"HTTP/1.1 200 ")
    await client.send(b"anything\r\n\r\n")
    assert b"200 OK" in await client.reader.readuntil(b"\r\n\r\n")
    await client.close()
    assert outside[1] == [b"anything\r\n\r\n"]


FORMS = (
    *("127.0.0.1", "localhost", "a.localhost", "[::1]", "169.254.169.254", "[fe80::1]", "0.0.0.0"),
    *("[::ffff:169.254.169.254]", "[::ffff:127.0.0.1]", "100.100.100.200", "224.0.0.1"),
    *("nobody.default.svc.cluster.local", "nobody.default.svc"),
)


@pytest.mark.parametrize("host", FORMS)
async def test_hosts_that_are_never_called(site: Site, host: str) -> None:
    answer = await fetch(site.port, "/latest/meta-data", host)
    assert (answer.status, answer.json()["error"]) == (502, "host_not_in_mesh"), answer.body
    client, head = await site.tunnel(f"{host}:80")
    assert head.startswith(b"HTTP/1.1 502 ")
    await client.close()
    assert {service for service, _, _ in site.counted()} == {"BlackHoleCluster"}


@pytest.mark.parametrize(
    ("host", "meant"),
    [
        ("rebound.test", "169.254.169.254"),
        ("rebound.test", "127.0.0.1"),
        ("rebound.test", "::1"),
        ("rebound.test", "fe80::1%lo"),
        ("127.1", ""),  # what the machine understands as an address, though its form is none
        ("0xa9fea9fe", ""),
        ("2852039166", ""),
    ],
)
async def test_a_name_that_means_such_an_address_is_not_connected_to(
    site: Site, host: str, meant: str
) -> None:
    if meant:
        site.names[host] = [meant]
    answer = await fetch(site.port, "/", f"{host}:80")
    assert (answer.status, answer.json()["flag"]) == (503, "UF"), answer.body
    assert "not connected to" in answer.json()["message"]
    client, head = await site.tunnel(f"{host}:80")
    assert head.startswith(b"HTTP/1.1 503 ")
    await client.close()


async def test_ports_of_the_mesh_are_never_called(mesh: Mesh, site: Site) -> None:
    plane = DataPlane(PlaneConfig("four-0", "four", "mesh.local", bind_address=own_address()))
    await plane.start()
    mesh.planes["four"] = plane
    app = await mesh.app("reviews")
    await mesh.workload("reviews", app.port)
    far = replace(mesh.endpoint("reviews"), address="203.0.113.9", port=4443)
    mesh.service("reviews", [far])
    plane.apply(snapshot.MESH_KEY, ALLOW_ANY)
    assert "the mesh itself" in plane._why_unfit(own_address(), plane.inbound_port)
    assert "the mesh itself" in site.plane._why_unfit("203.0.113.9", 4443)
    assert not site.plane._why_unfit("203.0.113.9", 80)
    for host in ("203.0.113.9", "[::ffff:203.0.113.9]"):
        answer = await fetch(site.port, "/", f"{host}:4443")
        assert (answer.status, answer.json()["flag"]) == (503, "UF")
        assert "a port of the mesh itself" in answer.json()["message"]


async def test_registry_only_is_taken_up_and_counted(site: Site, outside: tuple[str, list[bytes]]) -> None:
    assert (await fetch(site.port, "/", outside[0])).status == 200
    site.plane.apply(snapshot.MESH_KEY, REGISTRY_ONLY)
    answer = await fetch(site.port, "/", outside[0])
    assert (answer.status, answer.json()["error"]) == (502, "host_not_in_mesh")
    assert "REGISTRY_ONLY" in answer.json()["message"]
    assert site.counted() == [("BlackHoleCluster", 502, "unknown"), ("PassthroughCluster", 200, "none")]


async def test_a_host_that_comes_to_be_known_is_no_longer_passed_on(
    mesh: Mesh, site: Site, outside: tuple[str, list[bytes]]
) -> None:
    authority = outside[0]
    assert (await fetch(site.port, "/", authority)).body == b"ok"
    app = await mesh.app("inside")
    port = authority.partition(":")[2]
    configure(
        mesh,
        f"{NETWORKING}: ServiceEntry\nmetadata: {{name: a}}\nspec: {{hosts: [api.test], resolution: STATIC, "
        f"ports: [{{number: {port}, name: http, protocol: HTTP}}], endpoints: [{at(app)}]}}\n",
    )
    assert (await fetch(site.port, "/", authority)).json()["app"] == "inside"


async def test_while_nobody_answers_what_was_passed_on_goes_on(
    site: Site, outside: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await fetch(site.port, "/", outside[0])).status == 200
    asked: list[str] = []
    site.plane.on_unknown_host = asked.append  # and no answer ever comes
    monkeypatch.setattr("ray_mesh.proxy.registry.UNKNOWN_S", 0.0)
    site.plane.unknown("api.test")
    for _ in range(3):
        assert (await fetch(site.port, "/", outside[0])).status == 200
    assert asked == ["api.test"], "it is asked for again, once at a time"


def with_sidecar(mesh: Mesh, site: Site, text: str) -> None:
    """Give the workload what a Sidecar says."""
    documents = load(text, "sidecar.yaml")
    metadata = "{name: client, namespace: default, labels: {app: client}}"
    workload = load(
        f"apiVersion: mesh.ray.io/v1\nkind: Workload\nmetadata: {metadata}\n"
        f"spec: {{serviceAccount: client, node: three, outboundPort: 1, tokenSha256: '{'0' * 64}'}}\n",
        "workload.yaml",
    )
    world = World({one.key: one for one in (*documents, *workload)})
    compiled = compile_key(world, "three.workload.default.client")
    assert isinstance(compiled, snapshot.Workload)
    changed = replace(mesh.workloads["client"], sidecar=compiled.sidecar)
    site.plane.apply("workload.default.client", changed)


SIDECAR = f"{NETWORKING}: Sidecar\nmetadata: {{name: narrow}}\nspec: "


async def test_a_sidecar_says_whom_a_workload_knows(
    mesh: Mesh, site: Site, outside: tuple[str, list[bytes]]
) -> None:
    site.plane.apply(snapshot.MESH_KEY, REGISTRY_ONLY)
    one, two = await mesh.app("one"), await mesh.app("two")
    first, second = entry(at(one), host="one.example.com"), entry(at(two), host="two.example.com")
    configure(mesh, first + second.replace("name: ext", "name: other"))
    assert (await fetch(site.port, "/", "two.example.com")).status == 200
    with_sidecar(mesh, site, SIDECAR + "{egress: [{hosts: ['./one.example.com']}]}")
    assert (await fetch(site.port, "/", "one.example.com")).status == 200
    answer = await fetch(site.port, "/", "two.example.com")
    assert (answer.status, answer.json()["error"]) == (502, "host_not_in_mesh")
    assert "not among the egress hosts of Sidecar default/narrow" in answer.json()["message"]
    assert (await fetch(site.port, "/", outside[0])).status == 502
    with_sidecar(
        mesh, site, SIDECAR + "{egress: [{hosts: ['./*']}], outboundTrafficPolicy: {mode: ALLOW_ANY}}"
    )
    assert (await fetch(site.port, "/", "two.example.com")).status == 200
    assert (await fetch(site.port, "/", outside[0])).status == 200, "its own policy, not the mesh's"


# Patterns.


async def anywhere(mesh: Mesh, name: str) -> App:
    """An application that listens on an address of this machine that is not loopback."""
    app = App(name)
    await app.start(address=own_address())
    mesh.apps.append(app)
    return app


def patterns(app: App, resolution: str = "NONE", protocol: str = "HTTP") -> str:
    ports = f"ports: [{{number: {app.port}, name: p, protocol: {protocol}}}]"
    return (
        f"{NETWORKING}: ServiceEntry\nmetadata: {{name: wide}}\n"
        f"spec: {{hosts: ['*.apps.test'], {ports}, resolution: {resolution}}}\n---\n"
    )


def apply_all(mesh: Mesh, text: str) -> None:
    """The hosts of documents, and what the mesh says of patterns."""
    configure(mesh, text)
    world = World({one.key: one for one in load(text, "test.yaml")})
    for plane in mesh.planes.values():
        plane.apply(snapshot.MESH_KEY, compile_key(world, snapshot.MESH_KEY))


@pytest.mark.parametrize("resolution", ["NONE", "DYNAMIC_DNS"])
async def test_a_pattern_stands_for_the_host_that_is_asked_for(
    mesh: Mesh, site: Site, resolution: str
) -> None:
    app = await anywhere(mesh, "any")
    apply_all(mesh, patterns(app, resolution))
    for name in ("a", "b", "c.d"):
        site.names[f"{name}.apps.test"] = [own_address()]
        answer = await fetch(site.port, "/", f"{name}.apps.test:{app.port}")
        assert answer.status == 200, answer.body
        assert dict(answer.json()["fields"])["Host"] == f"{name}.apps.test:{app.port}"
    assert {one[0] for one in site.counted()} == {"*.apps.test"}
    refused = await fetch(site.port, "/", "apps.test")
    assert (refused.status, refused.json()["error"]) == (502, "host_not_in_mesh"), "not the suffix itself"
    refused = await fetch(site.port, "/", "a.apps.test:1")
    assert (refused.status, refused.json()["error"]) == (502, "no_such_port")


async def test_of_patterns_the_longest_counts_and_an_exact_host_before_all(mesh: Mesh, site: Site) -> None:
    wide, exact = await anywhere(mesh, "wide"), await mesh.app("exact")
    named = entry(at(exact), host="a.apps.test").replace("number: 80", f"number: {wide.port}")
    apply_all(mesh, patterns(wide) + named)
    for name in ("a", "b"):
        site.names[f"{name}.apps.test"] = [own_address()]
    assert (await fetch(site.port, "/", f"b.apps.test:{wide.port}")).json()["app"] == "wide"
    assert (await fetch(site.port, "/", f"a.apps.test:{wide.port}")).json()["app"] == "exact"


async def test_rules_of_a_pattern_hold_for_its_hosts(mesh: Mesh, site: Site) -> None:
    app = await anywhere(mesh, "any")
    site.names["a.apps.test"] = [own_address()]
    limits = "trafficPolicy: {connectionPool: {http: {http2MaxRequests: 7}}}"
    rule = (
        f"{NETWORKING}: DestinationRule\nmetadata: {{name: a}}\n"
        f"spec: {{host: '*.apps.test', {limits}}}\n---\n"
    )
    routes = (
        f"{NETWORKING}: VirtualService\nmetadata: {{name: a}}\nspec: {{hosts: ['*.apps.test'], "
        "http: [{directResponse: {status: 418}, match: [{uri: {exact: /tea}}]}]}\n---\n"
    )
    apply_all(mesh, patterns(app) + rule)
    assert (await fetch(site.port, "/", f"a.apps.test:{app.port}")).status == 200
    [destination] = [one for one in site.plane.destinations() if one.host == "*.apps.test"]
    [cluster] = destination.clusters
    assert cluster.breaker is not None
    apply_all(mesh, patterns(app) + routes)
    assert (await fetch(site.port, "/tea", f"a.apps.test:{app.port}")).status == 418


async def test_a_tunnel_to_a_host_of_a_pattern(mesh: Mesh, site: Site) -> None:
    app = await anywhere(mesh, "any")
    apply_all(mesh, patterns(app, protocol="TCP"))
    site.names["a.apps.test"] = [own_address()]
    client, head = await site.tunnel(f"a.apps.test:{app.port}")
    assert head.startswith(b"HTTP/1.1 200 "), head
    await client.send(b"GET /in HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.answer()).json()["line"] == "GET /in HTTP/1.1"
    await client.close()


async def test_an_address_of_an_entry_leads_to_its_endpoints(mesh: Mesh, site: Site) -> None:
    app = await mesh.app("listed")
    more = "addresses: [198.51.100.0/24], resolution: STATIC"
    apply_all(mesh, entry(at(app), more=more))
    answer = await fetch(site.port, "/", "198.51.100.7")
    assert answer.json()["app"] == "listed"
    assert site.counted() == [("api.example.com", 200, "none")]
    assert (await fetch(site.port, "/", "198.51.101.7")).status == 502


async def test_an_address_of_an_entry_without_resolution_is_called_itself(mesh: Mesh, site: Site) -> None:
    app = await anywhere(mesh, "any")
    ports = f"ports: [{{number: {app.port}, name: p, protocol: TCP}}]"
    apply_all(
        mesh,
        f"{NETWORKING}: ServiceEntry\nmetadata: {{name: block}}\nspec: {{hosts: [db.test], {ports}, "
        f"addresses: ['{own_address()}/32', 127.0.0.0/8, 169.254.0.0/16], resolution: NONE}}\n",
    )
    client, head = await site.tunnel(f"{own_address()}:{app.port}")
    assert head.startswith(b"HTTP/1.1 200 "), head
    await client.send(b"GET /in HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.answer()).json()["app"] == "any"
    await client.close()
    for address in ("127.0.0.1", "169.254.169.254"):
        client, head = await site.tunnel(f"{address}:{app.port}")
        assert head.startswith(b"HTTP/1.1 502 "), "an entry opens no way there either"
        await client.close()
