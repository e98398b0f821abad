"""The gateway on a real broker: admission, waiting, attaching, and what it refuses."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import yaml
from bus_broker import until
from gateway_mesh import NODE, TOKEN, Gateway, running_gateway, start_service, state_of

from ray_mesh.bus import subjects
from ray_mesh.bus.messages import Desired, Event, Rejection, encode
from ray_mesh.bus.store import Store
from ray_mesh.errors import (
    ConfigError,
    Conflict,
    NotFound,
    NotSupported,
    PolicyDenied,
    Rejected,
    Unauthenticated,
    Unavailable,
)
from ray_mesh.gateway.reading import MOST_UNPROVEN
from ray_mesh.sdk.client import AsyncMesh
from ray_mesh.telemetry.histogram import ExpHistogram
from ray_mesh.telemetry.series import Edge, Series

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec:
  selector: {app: reviews}
  ports: [{name: http, port: 9080}]
"""
ROUTES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route:
    - destination: {host: reviews}
"""
BINDING = """
apiVersion: mesh.ray.io/v1
kind: WorkloadBinding
metadata: {name: everywhere}
spec: {serviceAccount: default, nodes: ["*"]}
"""


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running_gateway(tmp_path) as running:
        yield running


async def actions(mesh: AsyncMesh, text: str) -> list[str]:
    return [change.action for change in (await mesh.apply(text)).changes]


async def test_apply_creates_configures_and_leaves_alone(gateway: Gateway) -> None:
    mesh = gateway.mesh
    first = await mesh.apply([SERVICE, ROUTES])
    assert [(c.kind, c.name, c.action) for c in first.changes] == [
        ("Service", "reviews", "created"),
        ("VirtualService", "reviews", "created"),
    ]
    again = await mesh.apply([SERVICE, ROUTES])
    assert {change.action for change in again.changes} == {"unchanged"}
    assert again.revision == first.revision
    slower = ROUTES.replace("- route:", "- timeout: 2s\n    route:")
    changed = await mesh.apply([SERVICE, slower])
    assert [change.action for change in changed.changes] == ["unchanged", "configured"]
    assert changed.revision == first.revision + 1


async def test_one_set_shares_a_set_id_and_keeps_its_first_time(gateway: Gateway) -> None:
    mesh = gateway.mesh
    await mesh.apply([SERVICE, ROUTES])
    service = (await mesh.history("Service", "reviews"))[0]
    routes = (await mesh.history("virtualservice", "reviews"))[0]
    assert service.set_id == routes.set_id
    before = await mesh.get("VirtualService", "reviews")
    await mesh.apply(ROUTES.replace("- route:", "- timeout: 2s\n    route:"))
    after = await mesh.get("VirtualService", "reviews")
    assert after.admitted_at == before.admitted_at
    assert after.revision > before.revision


async def test_dry_run_stores_nothing(gateway: Gateway) -> None:
    dry = await gateway.mesh.apply(SERVICE, dry_run=True)
    assert (dry.dry_run, [c.action for c in dry.changes]) == (True, ["created"])
    assert await gateway.mesh.list() == ()


async def test_the_analyzer_refuses_with_findings_and_stores_nothing(gateway: Gateway) -> None:
    with pytest.raises(ConfigError) as caught:
        await gateway.mesh.apply([SERVICE.replace("reviews", "ratings"), ROUTES])
    errors = [one for one in caught.value.findings if one["severity"] == "error"]
    assert {one["key"] for one in errors} == {"virtualservice.default.reviews"}
    assert all("reviews" in one["message"] and one["fix"] for one in errors)
    assert await gateway.mesh.list() == ()


def outside(port: int, host: str = "api.example.com") -> str:
    return (
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: ext}\n"
        f"spec: {{hosts: [{host}], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: STATIC, "
        f"endpoints: [{{address: 127.0.0.1, ports: {{http: {port}}}}}]}}\n"
    )


async def test_endpoints_outside_are_not_where_the_mesh_is(gateway: Gateway) -> None:
    await gateway.mesh.apply(BINDING)
    attachment = await gateway.mesh.attach("reviews", "v1", 9080)
    broker_port = urllib.parse.urlsplit(gateway.broker.address.url).port
    for port, owner in (
        (gateway.service.port, "the mesh itself"),
        (broker_port, "the mesh itself"),
        (15006, "the mesh itself"),
        (9080, "Workload default/reviews-v1"),
        (attachment.outbound_port, "Workload default/reviews-v1"),
    ):
        with pytest.raises(ConfigError, match=f"RM0112 .*is a port of {owner}"):
            await gateway.mesh.apply(outside(port or 0))
    await gateway.mesh.apply(outside(9999))
    with pytest.raises(ConfigError, match="RM0112"):
        await gateway.mesh.attach("ratings", "v1", 9999)
    with pytest.raises(ConfigError, match=r"RM0111 .*that of Service default/reviews"):
        await gateway.mesh.apply(outside(9998, "reviews.default"))


async def test_errors_of_documents_name_file_and_line(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text(ROUTES.replace("hosts:", "hoests:"))
    with pytest.raises(ConfigError, match=r"routes\.yaml:6.*did you mean hosts"):
        await gateway.mesh.apply(file)
    file.write_text(ROUTES.replace("- route:", "- match: [{statPrefix: a}]\n    route:"))
    with pytest.raises(NotSupported, match=r"not supported yet: spec\.http\[0\]\.match\[0\]\.statPrefix"):
        await gateway.mesh.apply(file)


async def test_get_list_history_delete(gateway: Gateway) -> None:
    mesh = gateway.mesh
    await mesh.apply([SERVICE, ROUTES])
    assert (await mesh.get("service", "reviews")).manifest["spec"]["selector"] == {"app": "reviews"}
    assert [one.kind for one in await mesh.list()] == ["Service", "VirtualService"]
    assert [one.kind for one in await mesh.list("VirtualService")] == ["VirtualService"]
    assert await mesh.list(namespace="other") == ()
    with pytest.raises(ConfigError, match="reviews"):
        await mesh.delete("Service", "reviews")
    deleted = await mesh.delete("VirtualService", "reviews")
    assert [change.action for change in deleted.changes] == ["deleted"]
    with pytest.raises(NotFound):
        await mesh.get("VirtualService", "reviews")
    with pytest.raises(NotFound):
        await mesh.delete("VirtualService", "reviews")
    versions = await mesh.history("VirtualService", "reviews")
    assert [one.manifest is None for one in versions] == [False, True]
    assert await actions(mesh, ROUTES) == ["created"]
    with pytest.raises(ConfigError, match="unknown kind 'Frobnicator'"):
        await mesh.list("Frobnicator")
    with pytest.raises(NotFound, match="never existed"):
        await mesh.history("Service", "unheard-of")


async def test_wait_is_done_when_every_proxy_applied(gateway: Gateway) -> None:
    mesh, peers = gateway.mesh, gateway.peers
    peers.is_applying = False
    revision = (await mesh.apply(SERVICE)).revision
    with pytest.raises(Unavailable, match="proxy p0: applied beacon"):
        await mesh.wait(revision, timeout_s=4.0)
    waiting = asyncio.create_task(mesh.wait(revision, timeout_s=20.0))
    peers.is_applying = True
    peers.beat()
    await waiting
    with pytest.raises(Unavailable, match=r"shard r0: compiled through"):
        await mesh.wait(revision + 1, timeout_s=0.2)


async def test_wait_fails_with_the_reason_when_a_proxy_refuses(gateway: Gateway) -> None:
    mesh, peers = gateway.mesh, gateway.peers
    peers.rejected = (Rejection("mesh.mesh.mesh", 1, "no such trust domain"),)
    revision = (await mesh.apply(SERVICE)).revision
    with pytest.raises(Rejected, match="no such trust domain"):
        await mesh.wait(revision, timeout_s=20.0)
    (row,) = await mesh.proxies()
    assert row.sync == "REJECTED"
    status = await mesh.status()
    assert (status.proxies, status.synced) == (1, 0)
    assert any("no such trust domain" in problem for problem in status.problems)


async def test_attach_gives_a_token_and_registers_its_hash_only(gateway: Gateway) -> None:
    mesh = gateway.mesh
    await mesh.apply(BINDING)
    attachment = await mesh.attach("reviews", "v1", 9080, gateway_ports={8080: 0})
    url = urllib.parse.urlsplit(attachment.http_proxy)
    assert (url.username, url.hostname, url.port) == ("reviews-v1", "127.0.0.1", attachment.outbound_port)
    assert url.password
    assert attachment.gateway_ports == {"8080": 21900}
    assert url.password not in repr(attachment)
    spec = (await mesh.get("Workload", "reviews-v1")).manifest["spec"]
    assert spec["tokenSha256"] == hashlib.sha256(url.password.encode()).hexdigest()
    assert spec["node"] == NODE
    service = (await mesh.get("Service", "reviews")).manifest["spec"]
    assert [port["port"] for port in service["ports"]] == [80, 9080]
    again = await mesh.attach("reviews", "v1", 9080)
    assert again.http_proxy != attachment.http_proxy
    await attachment.detach()
    await attachment.detach()
    with pytest.raises(NotFound):
        await mesh.get("Workload", "reviews-v1")


async def test_a_workload_is_let_go_when_every_proxy_has_taken_it_out_of_its_endpoints(
    gateway: Gateway,
) -> None:
    mesh, peers = gateway.mesh, gateway.peers
    await mesh.apply(BINDING)
    attachment = await mesh.attach("reviews", "v1", 9080, weight=3, locality="eu/a")
    spec = (await mesh.get("Workload", "reviews-v1")).manifest["spec"]
    assert (spec["weight"], spec["locality"]) == (3, "eu/a")
    peers.is_applying = False
    detaching = asyncio.create_task(attachment.detach())
    while not (await mesh.get("Workload", "reviews-v1")).manifest["spec"].get("draining"):
        await asyncio.sleep(0.01)
    assert not detaching.done()
    peers.is_applying = True
    peers.beat()
    await detaching
    with pytest.raises(NotFound):
        await mesh.get("Workload", "reviews-v1")


async def test_what_an_attached_app_speaks(gateway: Gateway) -> None:
    mesh = gateway.mesh
    await mesh.apply(BINDING)
    with pytest.raises(ConfigError, match="protocol is 'h2', expected one of http, http2, grpc"):
        await mesh.attach("reviews", "v1", 50051, protocol="h2")
    await mesh.attach("reviews", "v1", 50051, protocol="grpc")
    assert (await mesh.get("Workload", "reviews-v1")).manifest["spec"]["protocol"] == "grpc"
    ports = (await mesh.get("Service", "reviews")).manifest["spec"]["ports"]
    assert ports == [{"name": "grpc", "port": 80}, {"name": "grpc-app", "port": 50051}]


async def test_a_probe_is_one_of_a_workload_group_and_no_command_on_a_node_of_the_mesh(
    gateway: Gateway,
) -> None:
    mesh = gateway.mesh
    await mesh.apply(BINDING)
    with pytest.raises(ConfigError, match="run no commands"):
        await mesh.attach("reviews", "v1", 9080, probe={"exec": {"command": ["true"]}})
    with pytest.raises(ConfigError, match="httpGet"):
        await mesh.attach("reviews", "v1", 9080, probe={"httpget": {"port": 80}})
    probe = {"httpGet": {"path": "/healthz", "port": 9080}, "periodSeconds": 5}
    await mesh.attach("reviews", "v1", 9080, probe=probe)
    assert (await mesh.get("Workload", "reviews-v1")).manifest["spec"]["probe"] == probe


async def test_an_ingress_has_gateway_ports_and_no_service(gateway: Gateway) -> None:
    await gateway.mesh.apply(BINDING)
    attachment = await gateway.mesh.attach(
        "ingress", "v1", 0, labels={"istio": "ingressgateway"}, gateway_ports={8080: 0}
    )
    assert attachment.gateway_ports == {"8080": 21900}
    manifest = (await gateway.mesh.get("Workload", "ingress-v1")).manifest
    assert "port" not in manifest["spec"]
    assert manifest["metadata"]["labels"]["istio"] == "ingressgateway"
    assert await gateway.mesh.list("Service") == ()


TWO_GATEWAYS = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web}
spec: {gatewayClassName: istio, listeners: [{name: http, port: 8080, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec: {parentRefs: [{name: web}], rules: [{backendRefs: [{name: reviews, port: 9080}]}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: web}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*"]}]
---
"""


async def test_two_kinds_have_gateways_of_one_name(gateway: Gateway) -> None:
    mesh = gateway.mesh
    await mesh.apply(BINDING)
    labels = {"istio": "ingressgateway", "gateway.networking.k8s.io/gateway-name": "web"}
    await mesh.attach("ingress", "v1", 0, labels=labels, gateway_ports={8080: 0})
    applied = await mesh.apply(TWO_GATEWAYS + SERVICE)
    kind = "Gateway.gateway.networking.k8s.io"
    assert [one.kind for one in applied.changes] == [kind, "HTTPRoute", "Gateway", "Service"]
    assert [one.kind for one in await mesh.list("gateways")] == ["Gateway", kind]
    assert [one.kind for one in await mesh.list("gtw")] == [kind]
    with pytest.raises(ConfigError, match=r"is two objects: write gateway\.networking\.istio\.io or"):
        await mesh.get("gateway", "web")
    with pytest.raises(ConfigError, match="still used by HTTPRoute default/web"):
        await mesh.delete("gtw", "web")
    await mesh.delete("gw", "web")
    assert (await mesh.get("gateway", "web")).kind == kind
    await mesh.delete("httproutes", "web")
    await mesh.delete("gateways.gateway.networking.k8s.io", "web")
    assert await mesh.list("gateway") == ()


async def test_attach_at_the_same_time_keeps_one_service(gateway: Gateway) -> None:
    await gateway.mesh.apply(BINDING)
    await asyncio.gather(*(gateway.mesh.attach("reviews", f"v{n}", 9080 + n) for n in range(1, 5)))
    assert len(await gateway.mesh.list("Workload")) == 4
    assert len(await gateway.mesh.history("Service", "reviews")) == 1


async def test_attach_needs_a_binding(gateway: Gateway) -> None:
    with pytest.raises(PolicyDenied, match=r"default/default may not run on node n1.*WorkloadBinding"):
        await gateway.mesh.attach("reviews", "v1", 9080)
    await gateway.mesh.apply(BINDING)
    with pytest.raises(PolicyDenied, match="identity of a proxy"):
        await gateway.mesh.attach("reviews", "v1", 9080, namespace="mesh-system", service_account="proxy-p0")
    with pytest.raises(Unavailable, match="node n9 has no live proxy; nodes with one: n1"):
        await gateway.mesh.attach("reviews", "v1", 9080, node="n9")


async def test_attach_that_cannot_reserve_leaves_nothing(gateway: Gateway) -> None:
    await gateway.mesh.apply(BINDING)
    gateway.peers.reserve_error = "all ports are taken"
    with pytest.raises(Unavailable, match="all ports are taken"):
        await gateway.mesh.attach("reviews", "v1", 9080)
    assert await gateway.mesh.list("Workload") == ()


async def test_workloads_come_by_attaching_only(gateway: Gateway) -> None:
    workload = """
apiVersion: mesh.ray.io/v1
kind: Workload
metadata: {name: forged}
spec: {serviceAccount: default, node: n1, port: 1, outboundPort: 2, tokenSha256: "%s"}
""" % ("0" * 64)
    with pytest.raises(ConfigError, match="register by attaching"):
        await gateway.mesh.apply(workload)


async def test_desired_state_that_admission_did_not_sign_is_ignored_and_reported(gateway: Gateway) -> None:
    mesh = gateway.mesh
    await mesh.apply(SERVICE)
    store = Store(await gateway.broker.join("gateway", "intruder"), subjects.DESIRED_BUCKET)
    key = "service.default.reviews"
    forged = Desired(key, "", 1.0, "intruder", "x")
    signature = base64.b64encode(b"0" * 64).decode()
    await store.put(key, encode(forged), signature)
    assert (await mesh.get("Service", "reviews")).author != "intruder"
    problems = (await mesh.status()).problems
    assert any(key in problem and "ignored" in problem for problem in problems)
    assert [one.author == "intruder" for one in await mesh.history("Service", "reviews")] == [False]
    assert await actions(mesh, SERVICE.replace("9080", "9090")) == ["configured"]
    assert not (await mesh.status()).problems


async def test_two_replicas_share_a_port_and_read_each_others_writes(gateway: Gateway) -> None:
    other = await start_service(
        gateway.broker, "g1", gateway.service.port, gateway.admission, gateway.peers.signing
    )
    try:
        assert other.port == gateway.service.port
        for number in range(6):
            text = SERVICE.replace("reviews", f"service-{number}")
            async with AsyncMesh(state_of(other.port)) as one, AsyncMesh(state_of(other.port)) as another:
                await one.apply(text)
                await another.get("Service", f"service-{number}")
    finally:
        await other.stop()


async def test_admission_gives_up_on_a_conflict_that_never_ends(gateway: Gateway) -> None:
    mesh, service = gateway.mesh, gateway.service
    await mesh.apply(SERVICE)
    texts = [SERVICE.replace("9080", str(9000 + number)) for number in range(12)]
    results = await asyncio.gather(*(mesh.apply(text) for text in texts), return_exceptions=True)
    assert {type(one) for one in results} <= {Conflict} | {type(await mesh.apply(SERVICE))}
    assert len(await mesh.history("Service", "reviews")) >= 2
    assert service.state.head == await Store(service._bus, subjects.DESIRED_BUCKET).head()


async def test_graph_and_metrics_come_from_the_collectors(gateway: Gateway) -> None:
    histogram = ExpHistogram()
    histogram.add(0.25)
    edge = Edge(
        reporter="source",
        source_workload="default/productpage-v1",
        source_app="productpage",
        source_version="v1",
        source_principal="spiffe://mesh.local/ns/default/sa/default",
        destination_service="reviews.default.svc.cluster.local",
        destination_workload="default/reviews-v2",
        destination_app="reviews",
        destination_version="v2",
        destination_principal="spiffe://mesh.local/ns/default/sa/default",
        route="reviews",
        protocol="http",
        code=200,
        flags="-",
        security="mutual_tls",
    )
    gateway.peers.series = (Series(edge, 1, 10, 20, histogram.snapshot()),)
    await until(lambda: bool(gateway.service.view.roles(time.monotonic(), "telemetry")))
    graph = await gateway.mesh.graph(10)
    assert [(one.source, one.destination, one.requests) for one in graph.edges] == [
        ("default/productpage-v1", "default/reviews-v2", 1)
    ]
    assert graph.missing == ()
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{gateway.url}/metrics") as response,
    ):
        text = await response.text()
    assert "istio_requests_total{" in text
    assert "ray_mesh_telemetry_lost_reports_total 2.0" in text


async def test_a_collector_that_does_not_answer_is_named(gateway: Gateway) -> None:
    await until(lambda: bool(gateway.service.view.roles(time.monotonic(), "telemetry")))
    await gateway.peers.telemetry.close()
    assert (await gateway.mesh.graph(10)).missing == ("t0",)


async def test_an_event_of_any_size_takes_little_memory(gateway: Gateway) -> None:
    event = Event(1.0, "error", "r" * 5000, "m" * 500_000, "s" * 5000)
    gateway.peers.proxy.publish(subjects.event("proxy", "p0"), encode(event))
    await until(lambda: any(one.reason.startswith("rr") for one in gateway.service.events))
    kept = next(one for one in gateway.service.events if one.reason.startswith("rr"))
    assert len(kept.reason + kept.message + kept.subject) < 6000
    assert kept.message == "m" * len(kept.message)


async def test_status_events_and_down(gateway: Gateway) -> None:
    mesh = gateway.mesh
    event = Event(1.0, "warning", "quota_degraded", "the policy actor is away", "ratelimit/x")
    gateway.peers.proxy.publish(subjects.event("proxy", "p0"), encode(event))
    await until(lambda: any(one.reason == "quota_degraded" for one in gateway.service.events))
    (heard,) = [one for one in await mesh.events() if one.reason == "quota_degraded"]
    assert (heard.source, heard.severity, heard.subject) == ("proxy.p0", "warning", "ratelimit/x")
    await until(lambda: bool(gateway.service.view.proxies(time.monotonic())))
    status = await mesh.status()
    assert (status.nodes, status.proxies) == ((NODE,), 1)
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session,
        session.post(f"{gateway.url}/v1/down") as response,
    ):
        assert response.status == 200
    assert gateway.controls == ["status", "down"]


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({}, 401, "unauthenticated"),
        ({"Authorization": "Bearer wrong"}, 401, "unauthenticated"),
        ({"Authorization": f"Basic {TOKEN}"}, 401, "unauthenticated"),
        ({"Authorization": f"Bearer {TOKEN}", "Host": "evil.example"}, 403, "denied"),
        ({"Authorization": f"Bearer {TOKEN}", "Host": "127.0.0.1:1"}, 403, "denied"),
        ({"Authorization": f"Bearer {TOKEN}", "Host": "localhost"}, 403, "denied"),
    ],
)
async def test_who_may_not_use_the_api(
    gateway: Gateway, headers: dict[str, str], status: int, reason: str
) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{gateway.url}/v1/resources", headers=headers) as response,
    ):
        assert (response.status, (await response.json())["error"]) == (status, reason)
        assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("path", ["/v1/join", "/v1/sidecar/attest", "/v1/sidecar/workload"])
async def test_of_who_is_not_known_yet_little_is_read(gateway: Gateway, path: str) -> None:
    """The body never ends: an answer can only come from what was read of it so far."""

    async def call(headers: dict[str, str], begin: bytes) -> tuple[int, str]:
        asked = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield begin
            await asked.wait()

        try:
            async with (
                aiohttp.ClientSession() as session,
                session.post(gateway.url + path, data=body(), headers=headers) as response,
            ):
                return response.status, (await response.json())["message"]
        finally:
            asked.set()

    async with asyncio.timeout(10):
        assert await call({}, b"{") == (
            401, "a sidecar shows its join token or its session: Authorization: Bearer ..."
        )  # fmt: skip
        some = {"Authorization": "Bearer some"}
        status, said = await call(some, b'{"node": "' + b"a" * MOST_UNPROVEN)
        assert (status, said) == (422, "the body of this request has at most 65536 bytes")


async def test_the_edges_of_the_api(gateway: Gateway) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}

    async def call(method: str, path: str, data: str | None = None, **extra: str) -> tuple[int, str]:
        async with session.request(
            method, gateway.url + path, data=data, headers={**headers, **extra}
        ) as response:
            assert response.headers["Cache-Control"] == "no-store"
            body = json.loads(await response.text())
            return response.status, body.get("error", "")

    as_json = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{gateway.url}/healthz") as response:
            assert await response.json() == {"ok": True, "broker": True}
        assert await call("GET", "/v1/nothing") == (404, "not_found")
        assert await call("PUT", "/v1/apply") == (405, "invalid_config")
        assert await call("POST", "/v1/apply", "") == (422, "invalid_config")
        assert await call("POST", "/v1/apply", "x" * (17 << 20)) == (413, "invalid_config")
        assert await call("POST", "/v1/apply", "[1]", **as_json) == (422, "invalid_config")
        assert await call("POST", "/v1/apply", "{", **as_json) == (422, "invalid_config")
        assert await call("POST", "/v1/apply?dry_run=maybe", SERVICE) == (422, "invalid_config")
        assert await call("POST", "/v1/apply?source=a.yaml", SERVICE) == (200, "")
        assert await call("GET", "/v1/wait") == (422, "invalid_config")
        assert await call("GET", "/v1/wait?revision=nan") == (422, "invalid_config")
        assert await call("GET", "/v1/graph?window_s=-1") == (422, "invalid_config")
        assert await call("POST", "/v1/workloads", '{"service": "a"}') == (422, "invalid_config")
        wrong = '{"service": "a", "version": "v1", "port": "x", "node": "n1"}'
        assert await call("POST", "/v1/workloads", wrong) == (422, "invalid_config")
        assert await call("DELETE", "/v1/resources/workload/default/a") == (422, "invalid_config")
        assert await call("DELETE", "/v1/workloads/default/a") == (404, "not_found")


async def test_a_wrong_token_is_unauthenticated(gateway: Gateway) -> None:
    async with AsyncMesh(state_of(gateway.service.port, "another")) as mesh:
        with pytest.raises(Unauthenticated, match="bearer token"):
            await mesh.version()


async def test_explaining_a_request_of_the_running_mesh(gateway: Gateway) -> None:
    mesh = gateway.mesh
    await mesh.apply([BINDING, SERVICE, ROUTES])
    await mesh.attach("reviews", "v1", 9080)
    await mesh.attach("web", "v1", 0)
    told = await mesh.explain(
        "http://reviews:9080/reviews/0", workload="web-v1", headers=[("end-user", "bob")]
    )
    assert told.verdict.outcome == "forwarded"
    assert told.shares[0].endpoints == ("default/reviews-v1",)
    ground = next(one for one in told.steps if one.stage == "route").ground
    printed = yaml.safe_dump((await mesh.get("VirtualService", "reviews")).manifest, sort_keys=False)
    title, line, _ = ground.where.rsplit(":", 2)
    assert (title, ground.path) == ("VirtualService default/reviews", "spec.http[0]")
    assert printed.splitlines()[int(line) - 1].startswith("  - route:")
    refused = await mesh.explain("http://nothing/", "POST", workload="default/web-v1")
    assert (refused.verdict.status, refused.is_refused) == (502, True)
    gateway.peers.is_applying = False
    assert await until_served(mesh, ()) == ("UH", 503)
    with pytest.raises(NotFound, match="workload default/nobody does not exist"):
        await mesh.explain("http://reviews:9080/", workload="nobody")
    with pytest.raises(ConfigError, match="who calls is not said"):
        await mesh.explain("http://reviews:9080/")


async def until_served(mesh: AsyncMesh, endpoints: tuple[str, ...]) -> tuple[str, int]:
    """Explain until those are the endpoints: the flag and the status then."""
    async with asyncio.timeout(10):
        while True:
            told = await mesh.explain("http://reviews:9080/", workload="web-v1")
            if told.shares[0].endpoints == endpoints:
                return told.verdict.flag, told.verdict.status
            await asyncio.sleep(0.02)
