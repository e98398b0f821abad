"""GRPCRoutes, weights and faults of a VirtualService, from documents to calls of a real gRPC client."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_peers import Service, Way, method, serving
from proxy_mesh import DEADLINE_S, Mesh, credential, fetch, free_port, host_of, mesh  # noqa: F401

from ray_mesh import snapshot
from ray_mesh.compile import World, admit, compile_key
from ray_mesh.resources import load

# ruff: noqa: F811

SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec: {{selector: {{app: {name}}}, ports: [{{port: 80, name: grpc}}]}}
---
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {{name: calls, namespace: default}}
spec: {{parentRefs: [{{group: '', kind: Service, name: reviews}}], rules: {rules}}}
"""
VIRTUAL = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews, namespace: default}}
spec: {{hosts: [reviews], http: {rules}}}
"""


class Named(Service):
    """A service that answers with its name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name.encode()

    async def unary(self, request: bytes, context: Any) -> bytes:
        """Its name."""
        return self.name


@contextlib.asynccontextmanager
async def mesh_with(mesh: Mesh, documents: str) -> AsyncIterator[Way]:
    """``reviews`` and ``next`` behind two proxies, routed by these documents; the way of a client."""
    text = "".join(SERVICE.format(name=name) for name in ("reviews", "next")) + documents
    found = load(text, "calls.yaml")
    assert not [one for one in admit(World({}), found) if one.severity == "error"]
    made = World({one.key: one for one in found})
    async with serving(Named("reviews")) as first, serving(Named("next")) as second:
        for name, port in (("reviews", first), ("next", second)):
            host = host_of(name)
            await mesh.workload(name, port, services=(host,), app_protocol="http2")
            compiled = compile_key(made, f"service.default.{name}")
            assert compiled is not None
            for plane in mesh.planes.values():
                plane.apply(f"service.default.{name}", compiled)
                plane.apply(f"endpoints.default.{name}", snapshot.Endpoints(host, (mesh.endpoint(name),)))
        port = await mesh.workload("client", free_port(), node="one")
        yield Way(port, (("proxy-authorization", credential()),), "reviews")


async def answered(channel: Any, way: Way, name: str = "Unary", *more: tuple[str, str]) -> str:
    """Who answers a call, or the status that it ends with."""
    call = method(channel, name)(b"", metadata=(*way.metadata, *more), timeout=DEADLINE_S)
    try:
        return (await call).decode()  # type: ignore[no-any-return]
    except grpc.aio.AioRpcError as error:
        return error.code().name  # type: ignore[no-any-return]


async def test_calls_go_where_the_first_rule_for_their_method_says(mesh: Mesh) -> None:
    to_next = "backendRefs: [{name: next, port: 80}]"
    rules = (
        f"[{{matches: [{{method: {{service: test.Echo, method: Unary}}, "
        f"headers: [{{name: canary, value: 'yes'}}]}}], {to_next}}}, "
        "{matches: [{method: {method: Unary}}], backendRefs: [{name: reviews, port: 80}]}, "
        "{matches: [{method: {type: RegularExpression, method: 'F.*'}}], backendRefs: []}]"
    )
    async with mesh_with(mesh, ROUTE.format(rules=rules)) as way, way.channel() as channel:
        assert await answered(channel, way) == "reviews"
        assert await answered(channel, way, "Unary", ("canary", "yes")) == "next"
        assert await answered(channel, way, "Fail") == "UNAVAILABLE"
        assert await answered(channel, way, "Together") == "UNIMPLEMENTED"


@pytest.mark.parametrize(
    "documents",
    [
        ROUTE.format(
            rules="[{backendRefs: [{name: reviews, port: 80, weight: 3}, {name: next, port: 80, weight: 1}]}]"
        ),
        VIRTUAL.format(
            rules="[{route: [{destination: {host: reviews}, weight: 75}, "
            "{destination: {host: next}, weight: 25}]}]"
        ),
    ],
)
async def test_weights_are_of_calls_and_not_of_connections(mesh: Mesh, documents: str) -> None:
    async with mesh_with(mesh, documents) as way, way.channel() as channel:
        found = Counter([await answered(channel, way) for _ in range(400)])
    assert found.keys() == {"reviews", "next"}
    assert 60 <= found["next"] <= 140  # 100 are expected; 4.6 deviations


async def test_an_abort_by_status_of_grpc(mesh: Mesh) -> None:
    abort = "{grpcStatus: NOT_FOUND, percentage: {value: 100}}"
    rules = f"[{{fault: {{abort: {abort}}}, route: [{{destination: {{host: reviews}}}}]}}]"
    async with mesh_with(mesh, VIRTUAL.format(rules=rules)) as way, way.channel() as channel:
        assert await answered(channel, way) == "NOT_FOUND"
        plain = await fetch(way.port, "/test.Echo/Unary", "reviews")
        assert (plain.status, plain.field("x-mesh-flag")) == (404, "FI")


async def test_a_virtual_service_matches_a_method_by_its_path(mesh: Mesh) -> None:
    rules = (
        "[{match: [{uri: {exact: /test.Echo/Unary}}], route: [{destination: {host: next}}]}, "
        "{route: [{destination: {host: reviews}}]}]"
    )
    async with mesh_with(mesh, VIRTUAL.format(rules=rules)) as way, way.channel() as channel:
        assert await answered(channel, way) == "next"
        assert await answered(channel, way, "Fail") == "NOT_FOUND"
