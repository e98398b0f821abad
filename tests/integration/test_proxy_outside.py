"""ServiceEntries and WorkloadEntries over real sockets: from documents to bytes at the endpoint."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from proxy_mesh import App, Mesh, credential, fetch, free_port, host_of, mesh, until  # noqa: F401

from ray_mesh import snapshot
from ray_mesh.compile import World, compile_endpoints, compile_key
from ray_mesh.proxy.outside import Outside, Resolver, system_lookup
from ray_mesh.proxy.plane import DataPlane, PlaneConfig
from ray_mesh.proxy.pool import Pool
from ray_mesh.resources import load
from ray_mesh.snapshot import Endpoint

# ruff: noqa: F811

API = "api.example.com"
NETWORKING = "apiVersion: networking.istio.io/v1\nkind"


def entry(*endpoints: str, host: str = API, more: str = "resolution: STATIC") -> str:
    ports = "ports: [{number: 80, name: http, protocol: HTTP}, {number: 81, name: admin, protocol: HTTP}]"
    listed = f", endpoints: [{', '.join(endpoints)}]" if endpoints else ""
    return (
        f"{NETWORKING}: ServiceEntry\nmetadata: {{name: ext}}\n"
        f"spec: {{hosts: [{host}], {ports}, {more}{listed}}}\n---\n"
    )


def at(app: App | int, address: str = "127.0.0.1", more: str = "") -> str:
    port = app if isinstance(app, int) else app.port
    return f"{{address: {address}, ports: {{http: {port}}}{more}}}"


def configure(mesh: Mesh, text: str) -> None:
    """Compile documents, and send every host of them over the wire to every plane."""
    documents = {one.key: one for one in load(text, "test.yaml")}
    world = World(documents)
    for callee in world.callees():
        endpoints = compile_endpoints(world, snapshot.key_for("endpoints", callee.host), ())
        service = compile_key(world, snapshot.key_for("service", callee.host))
        assert endpoints is not None
        assert service is not None
        for key, resource in (
            (snapshot.key_for("endpoints", callee.host), endpoints),
            (snapshot.key_for("service", callee.host), service),
        ):
            for plane in mesh.planes.values():
                plane.apply(key, snapshot.decode(key, snapshot.encode(resource)))


@pytest.fixture
async def client(mesh: Mesh) -> int:
    """The outbound port of a workload of node one, whose plane knows at once which hosts exist."""
    port = await mesh.workload("client", free_port(), node="one")
    mesh.planes["one"].on_unknown_host = mesh.planes["one"].unknown
    return port


async def test_what_leaves_carries_nothing_of_the_mesh(mesh: Mesh, client: int) -> None:
    app = await mesh.app("api")
    configure(mesh, entry(at(app)))
    answer = await fetch(
        client,
        "/pay?x=1",
        API,
        X_Forwarded_Client_Cert="By=spiffe://mesh.local/ns/default/sa/client",
        X_Mesh_Source="default/forged;x;y",
        Proxy_Connection="keep-alive",
        X_Mine="stays",
    )
    assert answer.status == 200, answer.body
    fields = {name.lower(): value for name, value in answer.json()["fields"]}
    assert answer.json()["line"] == "GET /pay?x=1 HTTP/1.1"
    assert fields["host"] == API
    assert fields["x-mine"] == "stays"
    assert set(fields) == {"host", "x-mine", "x-request-id", "traceparent", "x-forwarded-proto"}
    (head,) = app.heads
    assert b"mesh" not in head.lower()
    assert b"spiffe" not in head
    assert credential().split()[1].encode() not in head


async def test_calls_outside_are_never_counted_as_mutual_tls(mesh: Mesh, client: int) -> None:
    app = await mesh.app("api")
    configure(mesh, entry(at(app, more=", labels: {app: pay, version: v7}")))
    assert (await fetch(client, f"http://{API}/", API)).status == 200
    (series,) = mesh.planes["one"].series.totals()
    edge = series.edge
    assert (edge.reporter, edge.source_workload) == ("source", "default/client")
    assert (edge.destination_service, edge.destination_workload) == (API, "")
    assert (edge.destination_app, edge.destination_version) == ("pay", "v7")
    assert (edge.destination_principal, edge.security) == ("", "none")
    (record,) = mesh.planes["one"].access_records()
    assert record.upstream == f"127.0.0.1:{app.port}"


async def test_the_token_is_needed_and_checked_first(mesh: Mesh, client: int) -> None:
    app = await mesh.app("api")
    configure(mesh, entry(at(app)))
    for token in ("", "wrong"):
        assert (await fetch(client, "/", API, token=token)).status == 407
    assert app.connections == 0


async def test_mesh_fields_of_an_outside_response_are_not_believed(mesh: Mesh, client: int) -> None:
    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-mesh-flag: UAEX\r\nx-own: 1\r\n\r\n")

    configure(mesh, entry(at(await mesh.app("api", lie))))
    answer = await fetch(client, "/", API)
    assert (answer.status, answer.field("x-mesh-flag"), answer.field("x-own")) == (200, None, "1")


async def test_each_port_has_its_endpoint(mesh: Mesh, client: int) -> None:
    main, admin = await mesh.app("main"), await mesh.app("admin")
    configure(mesh, entry(f"{{address: 127.0.0.1, ports: {{http: {main.port}, admin: {admin.port}}}}}"))
    for authority, app in ((API, "main"), (f"{API}:80", "main"), (f"{API}:81", "admin")):
        assert (await fetch(client, "/", authority)).json()["app"] == app
    answer = await fetch(client, "/", f"{API}:82")
    assert (answer.status, answer.json()["error"]) == (502, "no_such_port")


async def test_routes_subsets_and_timeouts_hold(mesh: Mesh, client: int) -> None:
    one, two = await mesh.app("one"), await mesh.app("two")
    endpoints = (at(one, more=", labels: {version: v1}"), at(two, more=", labels: {version: v2}"))
    subsets = ", ".join(f"{{name: v{n}, labels: {{version: v{n}}}}}" for n in (1, 2))
    rule = (
        f"{NETWORKING}: DestinationRule\nmetadata: {{name: a}}\nspec: {{host: {API}, subsets: [{subsets}]}}\n"
    )
    shares = ", ".join(
        f"{{destination: {{host: {API}, subset: v{n}, port: {{number: 80}}}}, weight: {weight}}}"
        for n, weight in ((1, 80), (2, 20))
    )
    abort = (
        "{match: [{uri: {prefix: /broken}}], fault: {abort: {httpStatus: 418, percentage: {value: 100}}}, "
        f"route: [{{destination: {{host: {API}}}}}]}}"
    )
    routes = (
        f"\n---\n{NETWORKING}: VirtualService\nmetadata: {{name: a}}\n"
        f"spec: {{hosts: [{API}], http: [{abort}, {{timeout: 5s, route: [{shares}]}}]}}\n"
    )
    configure(mesh, entry(*endpoints) + rule + routes)
    seen = Counter([(await fetch(client, "/", API)).json()["app"] for _ in range(200)])
    assert set(seen) == {"one", "two"}
    assert 130 <= seen["one"] <= 188, seen  # 4.5 standard deviations of a binomial
    answer = await fetch(client, "/broken", API)
    assert (answer.status, answer.field("x-mesh-flag")) == (418, "FI")


async def test_a_service_may_be_routed_outside(mesh: Mesh, client: int) -> None:
    app = await mesh.app("api")
    configure(mesh, entry(at(app)))
    route = snapshot.Route("out", "test", (), (snapshot.Destination(API, "", 80),))
    mesh.service("reviews", [], routes=(route,))
    answer = await fetch(client, "/", "reviews")
    assert answer.json()["app"] == "api"
    assert not [name for name, _ in answer.json()["fields"] if name.lower().startswith("x-mesh")]


def database(app: App, host: str = "db") -> str:
    """A host of the mesh whose endpoint is a program without proxy."""
    selector = "location: MESH_INTERNAL, resolution: STATIC, workloadSelector: {labels: {app: db}}"
    return (
        entry(host=host, more=selector) + f"{NETWORKING}: WorkloadEntry\nmetadata: {{name: db-1}}\n"
        f"spec: {{address: 127.0.0.1, ports: {{http: {app.port}}}, labels: {{app: db, version: v1}}}}\n---\n"
    )


DISABLE = (
    f"{NETWORKING}: DestinationRule\nmetadata: {{name: db}}\n"
    "spec: {host: db, trafficPolicy: {tls: {mode: DISABLE}}}\n"
)


async def test_inside_the_mesh_nothing_is_plaintext_until_somebody_says_so(mesh: Mesh, client: int) -> None:
    app = await mesh.app("db")
    configure(mesh, database(app))
    answer = await fetch(client, "/", "db")
    assert (answer.status, answer.json()["flag"]) == (503, "UH")
    assert answer.json()["error"] == "endpoint_without_proxy"
    for word in ("default/db-1", "DestinationRule for db.default.svc.cluster.local", "tls.mode: DISABLE"):
        assert word in answer.json()["message"]
    assert app.connections == 0

    configure(mesh, database(app) + DISABLE)
    assert (await fetch(client, "/", "db")).json()["app"] == "db"
    ok = next(one.edge for one in mesh.planes["one"].series.totals() if one.edge.code == 200)
    assert (ok.destination_workload, ok.security) == ("default/db-1", "none")

    configure(mesh, database(app))
    assert (await fetch(client, "/", "db")).status == 503, "and it is taken back"
    assert app.connections == 1


async def test_beside_workloads_with_a_proxy(mesh: Mesh, client: int) -> None:
    plain, proxied = await mesh.app("plain"), await mesh.app("proxied")
    await mesh.workload("db-2", proxied.port, labels={"app": "db"}, services=(host_of("db"),))
    text = database(plain)
    endpoints = compile_endpoints(
        World({one.key: one for one in load(text, "test.yaml")}), "endpoints.default.db", ()
    )
    assert endpoints is not None
    for is_allowed, expected in ((False, {"proxied"}), (True, {"plain", "proxied"})):
        mesh.service("db", [mesh.endpoint("db-2"), *endpoints.endpoints], plaintext=is_allowed)
        seen = {(await fetch(client, "/", "db")).json()["app"] for _ in range(30)}
        assert seen == expected
    secured = {one.edge.destination_workload: one.edge.security for one in mesh.planes["one"].series.totals()}
    assert secured == {"default/db-2": "mutual_tls", "default/db-1": "none"}
    told = [head for head in proxied.heads if b"x-forwarded-for: 127.0.0.1" in head.lower()]
    assert len(told) == len(proxied.heads)


async def test_two_labels_mean_a_service_first(mesh: Mesh, client: int) -> None:
    outside, inside = await mesh.app("outside"), await mesh.app("inside")
    configure(mesh, entry(at(outside), host="example.com"))
    assert (await fetch(client, "/", "example.com")).json()["app"] == "outside"
    configure(mesh, database(inside, host="other.default") + DISABLE.replace("host: db", "host: other"))
    assert (await fetch(client, "/", "other.default")).json()["app"] == "inside"


async def test_what_no_document_names_stays_refused(mesh: Mesh, client: int) -> None:
    configure(mesh, entry(at(free_port())))
    for host in ("www.example.com", "example.org", "169.254.169.254", "127.0.0.1"):
        answer = await fetch(client, "/", host)
        assert (answer.status, answer.json()["error"]) == (502, "host_not_in_mesh"), host


async def test_an_endpoint_that_is_away_is_a_503_that_names_it(mesh: Mesh, client: int) -> None:
    port = free_port()
    configure(mesh, entry(at(port)))
    answer = await fetch(client, "/", API)
    assert (answer.status, answer.json()["flag"]) == (503, "UF")
    assert f"127.0.0.1:{port}" in answer.json()["message"]


async def test_the_planes_own_ports_are_not_endpoints(mesh: Mesh, client: int) -> None:
    app = await mesh.app("reviews")
    await mesh.workload("reviews", app.port, node="one")
    for port in (mesh.planes["one"].inbound_port, client, app.port):
        configure(mesh, entry(at(port)))
        answer = await fetch(client, "/", API)
        assert (answer.status, answer.json()["flag"]) == (503, "UF")
        assert "a port of the mesh itself or of one of its workloads" in answer.json()["message"]
    assert app.connections == 0


# Names.


@pytest.fixture
async def names(mesh: Mesh) -> dict[str, list[str]]:
    """What names resolve to for the plane of node three, which serves ``client``."""
    known: dict[str, list[str]] = {}

    async def lookup(name: str) -> list[str]:
        if name not in known:
            return await system_lookup(name)
        return known[name]

    plane = DataPlane(PlaneConfig("three-0", "three", "mesh.local"), lookup=lookup)
    await plane.start()
    plane.set_bundles(mesh.bundles)
    plane.on_unknown_host = plane.unknown
    mesh.planes["three"] = plane
    return known


async def test_a_name_is_resolved_by_the_machine(mesh: Mesh, names: dict[str, list[str]]) -> None:
    port = await mesh.workload("client", free_port(), node="three")
    app = await mesh.app("api")
    configure(mesh, entry(at(app, "localhost"), more="resolution: DNS"))
    assert (await fetch(port, "/", API)).json()["app"] == "api"


async def test_a_name_with_several_addresses(mesh: Mesh, names: dict[str, list[str]]) -> None:
    port = await mesh.workload("client", free_port(), node="three")
    app = await mesh.app("api")
    names["api.localhost"] = ["127.0.0.3", "127.0.0.1"]  # the application listens on the second only
    configure(mesh, entry(at(app, "api.localhost"), more="resolution: DNS"))
    for _ in range(4):
        assert (await fetch(port, "/", API)).status == 200


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("169.254.169.254", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%lo", "link-local"),
        ("::ffff:169.254.169.254", "link-local"),
        ("0.0.0.0", "unspecified"),
        ("127.0.0.1", "loopback, which only localhost"),
        ("::ffff:127.0.0.1", "loopback, which only localhost"),
    ],
)
async def test_a_name_may_not_resolve_to_what_no_endpoint_may_have(
    mesh: Mesh, names: dict[str, list[str]], address: str, reason: str
) -> None:
    port = await mesh.workload("client", free_port(), node="three")
    names["metadata.test"] = [address]
    configure(mesh, entry(at(80, "metadata.test"), more="resolution: DNS"))
    answer = await fetch(port, "/latest/meta-data", API)
    assert (answer.status, answer.json()["flag"]) == (503, "UF")
    assert f"metadata.test resolves to {address}, which is {reason}" in answer.json()["message"]


async def test_a_name_that_nobody_knows(mesh: Mesh, names: dict[str, list[str]]) -> None:
    port = await mesh.workload("client", free_port(), node="three")
    names["gone.test"] = []
    configure(mesh, entry(at(80, "gone.test"), more="resolution: DNS"))
    answer = await fetch(port, "/", API)
    assert (answer.status, answer.json()["flag"]) == (503, "UF")
    assert "gone.test has no address" in answer.json()["message"]


async def test_lookups_of_one_name_are_one_and_an_answer_is_kept() -> None:
    asked: list[str] = []
    release = asyncio.Event()

    async def lookup(name: str) -> list[str]:
        asked.append(name)
        await release.wait()
        return ["192.0.2.1", "192.0.2.2"]

    resolver = Resolver(lookup)
    waiting = [asyncio.create_task(resolver.resolve("api.test")) for _ in range(10)]
    await until(lambda: bool(asked), "the lookup")
    waiting.pop().cancel()  # one that gives up takes nothing from the others
    release.set()
    answers = [await one for one in waiting]
    answers.append(await resolver.resolve("api.test"))
    assert asked == ["api.test"]
    assert {len(one) for one in answers} == {2}
    assert {one[0] for one in answers} == {"192.0.2.1", "192.0.2.2"}
    await resolver.stop()


async def test_a_plane_that_is_not_on_loopback_calls_none() -> None:
    plane = DataPlane(PlaneConfig("far-0", "far", "mesh.local", bind_address="10.0.0.1"))
    outside = Outside(plane._why_unfit, Resolver())
    endpoint = Endpoint("", "127.0.0.1", 80, "", "", (), "", "plaintext", 80)
    with pytest.raises(Exception, match="loopback, and the mesh is not on loopback alone"):
        await outside.connect(endpoint, None, Pool())


async def test_a_gateway_may_route_outside(mesh: Mesh) -> None:
    app, bound = await mesh.app("api"), free_port()
    await mesh.workload("edge", free_port(), node="one", gateway_ports=((8080, bound),))
    configure(mesh, entry(at(app)))
    route = snapshot.Route("out", "test", (), (snapshot.Destination(API, "", 80),))
    servers = (snapshot.GatewayServer(8080, (snapshot.VirtualHost(("shop.example.com",), (route,)),)),)
    mesh.planes["one"].apply("gateway.default.edge", snapshot.Gateway("default", "edge", servers))
    answer = await fetch(bound, "/", "shop.example.com", X_Forwarded_Client_Cert="forged")
    assert answer.status == 200, answer.body
    names = {name.lower() for name, _ in answer.json()["fields"]}
    assert names == {"host", "x-request-id", "traceparent", "x-forwarded-for", "x-forwarded-proto"}


async def test_a_body_arrives_whole_and_is_not_sent_twice(mesh: Mesh, client: int) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    app = await mesh.app("api")
    configure(mesh, entry(at(app)))
    body = b"x" * 300_000
    answer = await fetch(client, "/", API, method="POST", body=body)
    assert answer.json()["body"] == body.decode()
    rude = await mesh.app("rude", hang_up)
    configure(mesh, entry(at(rude)))
    answer = await fetch(client, "/", API, method="POST", body=b"pay")
    assert (answer.status, answer.json()["flag"]) == (503, "UC")
    assert rude.connections == 1
