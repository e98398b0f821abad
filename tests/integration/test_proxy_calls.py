"""Calls of gRPC: how they end, how long they may take, and what is recorded of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import grpc
import grpc.aio
import pytest
from grpc_mesh import (
    SERVICE,
    ask,
    channel,
    configure,
    deny_all,
    ended,
    endpoints,
    forgetful_call,
    serving,
)
from proxy_mesh import Mesh, credential, host_of, mesh, until  # noqa: F401

# ruff: noqa: F811

OK = ("grpc", 200, "0", "")
EMPTY_SETTINGS = b"\0\0\0\x04\0\0\0\0\0"
VIRTUAL_SERVICE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: default}
spec: {hosts: [reviews], http: [%s]}
---
"""
TO_REVIEWS = "route: [{destination: {host: reviews}}]"


async def failure(made: grpc.aio.Channel, method: str = "Ask", **options: object) -> grpc.aio.AioRpcError:
    """How a call failed."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(made, method, **options)
    return caught.value


async def recorded(mesh: Mesh, node: str, count: int = 1) -> list[tuple[str, int, str, str]]:
    """What a plane recorded, once there is so much."""
    await until(lambda: len(ended(mesh, node)) >= count, f"{node} records {count}")
    return ended(mesh, node)


async def test_a_call_is_secured_and_counted_as_grpc_on_both_sides(mesh: Mesh) -> None:
    port, _ = await serving(mesh, "v1")
    async with channel(port) as made:
        assert await ask(made) == b"v1 hello"
    for node in ("one", "two"):
        assert await recorded(mesh, node) == [OK]
        (record,) = mesh.planes[node].access_records()
        assert (record.edge.security, record.protocol, record.grpc_status) == ("mutual_tls", "grpc", "0")
        assert (record.method, record.path, record.host) == ("POST", f"/{SERVICE}/Ask", "reviews:80")


async def test_a_port_of_which_nothing_is_declared_carries_calls(mesh: Mesh) -> None:
    port, (server,) = await serving(mesh, "v1")
    configure(mesh, "", port="{port: 80}")
    undeclared = replace(mesh.workloads["reviews-v1"], app_protocol="client")
    mesh.planes["two"].apply("workload.default.reviews-v1", undeclared)
    server.script = [5]
    async with channel(port) as made:
        assert (await failure(made)).code() is grpc.StatusCode.NOT_FOUND
        assert await ask(made) == b"v1 hello"
    for node in ("one", "two"):
        assert await recorded(mesh, node, 2) == [("grpc", 200, "5", ""), OK]


async def test_a_status_of_the_application_is_that_of_the_call(mesh: Mesh) -> None:
    port, (server,) = await serving(mesh, "v1")
    server.script = [5]
    async with channel(port) as made:
        told = await failure(made)
        assert (told.code(), told.details()) == (grpc.StatusCode.NOT_FOUND, "as told: 50% naïve")
        watching = made.unary_stream(f"/{SERVICE}/Watch")(b"10")
        assert [await watching.read(), await watching.read()] == [b"one", b"two"]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watching.read()
    assert caught.value.code() is grpc.StatusCode.ABORTED
    for node in ("one", "two"):
        assert await recorded(mesh, node, 2) == [("grpc", 200, "5", ""), ("grpc", 200, "10", "")]


async def test_answers_of_the_proxies_are_statuses(mesh: Mesh) -> None:
    port, _ = await serving(mesh, "v1")
    async with channel(port) as made:
        deny_all(mesh, "reviews-v1")
        denied = await failure(made)
        assert denied.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "RBAC: access of mesh.local/ns/default/sa/client" in denied.details()
        endpoints(mesh)
        alone = await failure(made)
        assert alone.code() is grpc.StatusCode.UNAVAILABLE
        assert "has no endpoints" in alone.details()
        assert (
            dict(alone.initial_metadata() or ()).get("x-mesh-flag")
            or dict(alone.trailing_metadata())["x-mesh-flag"] == "UH"
        )
    assert ended(mesh, "one") == [("grpc", 200, "7", ""), ("grpc", 503, "14", "UH")]
    assert ended(mesh, "two") == [("grpc", 403, "7", "UAEX")]


async def test_a_wrong_token_opens_no_tunnel(mesh: Mesh) -> None:
    port, (server,) = await serving(mesh, "v1")
    async with channel(port, token="wrong") as made:
        assert (await failure(made)).code() is grpc.StatusCode.UNAVAILABLE
    assert server.asked == 0


async def test_a_client_that_knows_no_proxies_shows_its_token_with_each_call(mesh: Mesh) -> None:
    port, (server,) = await serving(mesh, "v1")
    options = (("grpc.default_authority", "reviews:80"), ("grpc.enable_http_proxy", 0))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as made:
        assert await ask(made, metadata=(("proxy-authorization", credential()),)) == b"v1 hello"
        told = await failure(made, metadata=(("proxy-authorization", credential("wrong")),))
        assert told.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "use the proxy URL with the workload's name and token" in told.details()
        assert (await failure(made)).code() is grpc.StatusCode.UNAUTHENTICATED
    assert server.asked == 1
    assert await recorded(mesh, "one", 3) == [OK, *[("grpc", 407, "16", "UAEX")] * 2]


async def test_the_proxy_keeps_a_deadline_that_both_sides_forget(mesh: Mesh) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(EMPTY_SETTINGS)
        await reader.read(-1)

    port, _ = await serving(mesh, "v1")
    app = await mesh.app("silent", silent)
    services = (host_of("reviews"),)
    await mesh.workload("silent", app.port, services=services, app_protocol="http2")
    endpoints(mesh, "silent")
    fields = await forgetful_call(port, "Ask", b"250m")
    assert fields[b"grpc-status"] == b"4"
    assert b"within the 0.25 s that the caller allows" in fields[b"grpc-message"]
    assert await recorded(mesh, "one") == [("grpc", 504, "4", "UT")]


async def test_a_caller_that_waits_no_longer_made_it_time_out(mesh: Mesh) -> None:
    port, (server,) = await serving(mesh, "v1")
    async with channel(port) as made:
        told = await failure(made, "Wait", timeout=0.3)
    assert told.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(server.ended.wait(), 5.0)
    assert await recorded(mesh, "one") == [("grpc", 504, "4", "UT")]
    (record,) = mesh.planes["one"].access_records()
    assert (record.reason, record.duration_s < 2.0) == ("deadline_exceeded", True)


async def test_the_timeout_of_a_route_holds_where_it_is_shorter(mesh: Mesh) -> None:
    port, (server,) = await serving(mesh, "v1")
    configure(mesh, VIRTUAL_SERVICE % f"{{timeout: 0.2s, {TO_REVIEWS}}}")
    async with channel(port) as made:
        told = await failure(made, "Wait", timeout=9.0)
    assert told.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "no complete response within 0.2 s" in told.details()
    await asyncio.wait_for(server.ended.wait(), 5.0)
    assert ended(mesh, "one") == [("grpc", 504, "4", "UT")]
    assert await recorded(mesh, "two") == [("grpc", 0, "1", "DC")]


async def test_a_caller_that_cancels_is_no_error(mesh: Mesh) -> None:
    port, (server,) = await serving(mesh, "v1")
    async with channel(port) as made:
        call = made.unary_unary(f"/{SERVICE}/Wait")(b"", timeout=9.0)
        await asyncio.wait_for(server.arrived.wait(), 5.0)
        call.cancel()
        await asyncio.wait_for(server.ended.wait(), 5.0)
    assert await recorded(mesh, "one") == [("grpc", 0, "1", "DC")]


async def test_a_server_that_dies_in_the_middle_is_told(mesh: Mesh) -> None:
    port, (server,) = await serving(mesh, "v1")
    async with channel(port) as made:
        watching = made.unary_stream(f"/{SERVICE}/Watch")(b"", timeout=9.0)
        assert [await watching.read(), await watching.read()] == [b"one", b"two"]
        await asyncio.wait_for(server.arrived.wait(), 5.0)
        await server.stop()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watching.read()
    assert caught.value.code() is not grpc.StatusCode.OK
    ((protocol, _, status, _),) = await recorded(mesh, "one")
    assert (protocol, status) == ("grpc", str(caught.value.code().value[0]))


async def test_statuses_without_messages_are_tried_again_where_the_route_says_so(mesh: Mesh) -> None:
    port, (server,) = await serving(mesh, "v1")
    configure(mesh, VIRTUAL_SERVICE % f"{{retries: {{attempts: 2, retryOn: unavailable}}, {TO_REVIEWS}}}")
    server.script = [14, 14, 14, 5]
    async with channel(port) as made:
        assert (await failure(made)).code() is grpc.StatusCode.UNAVAILABLE
        assert server.asked == 3
        assert (await failure(made)).code() is grpc.StatusCode.NOT_FOUND
        assert await ask(made) == b"v1 hello"
    records = mesh.planes["one"].access_records()
    assert [(each.attempts, each.grpc_status) for each in records] == [(3, "14"), (1, "5"), (1, "0")]


async def test_an_endpoint_whose_calls_fail_is_left_out(mesh: Mesh) -> None:
    port, (bad, good) = await serving(mesh, "v1", "v2")
    rule = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec:
  host: reviews
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    outlierDetection: {consecutive5xxErrors: 2, maxEjectionPercent: 100}
---
"""
    configure(mesh, rule)
    bad.script = [14] * 100
    good.script = [5] * 4  # a client's mistake is no failure of an endpoint
    codes: Counter[grpc.StatusCode] = Counter()
    async with channel(port) as made:
        for _ in range(20):
            try:
                await ask(made)
            except grpc.aio.AioRpcError as error:
                codes[error.code()] += 1
    assert codes == {grpc.StatusCode.UNAVAILABLE: 2, grpc.StatusCode.NOT_FOUND: 4}
    assert (bad.asked, good.asked) == (2, 18)


async def test_calls_of_one_connection_are_split_by_weight_and_method(mesh: Mesh) -> None:
    port, _ = await serving(mesh, "v1", "v2")
    rule = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec:
  host: reviews
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
"""
    to = "{destination: {host: reviews, subset: %s}, weight: %d}"
    weighted = (
        f"{{match: [{{uri: {{exact: /{SERVICE}/Ask}}}}], route: [{to % ('v1', 80)}, {to % ('v2', 20)}]}}"
    )
    other = f"{{route: [{to % ('v2', 100)}]}}"
    configure(mesh, rule + VIRTUAL_SERVICE % f"{weighted}, {other}")
    async with channel(port) as made:
        answers = await asyncio.gather(*(ask(made) for _ in range(400)))
        assert (await failure(made, "Nothing")).code() is grpc.StatusCode.UNIMPLEMENTED
    share = Counter(answers)[b"v2 hello"] / len(answers)
    assert abs(share - 0.2) < 4.5 * (0.2 * 0.8 / 400) ** 0.5
    record = mesh.planes["one"].access_records()[-1]
    assert record.edge.destination_workload == "default/reviews-v2"
