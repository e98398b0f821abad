"""Settings of the whole mesh with real traffic: paths, proxies in front of gateways; and traces."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, get_args

import pytest
from proxy_mesh import TOKEN, Client, Mesh, fetch, mesh, request_bytes  # noqa: F401
from test_proxy_ingress import gateway

from ray_mesh import snapshot
from ray_mesh.compile import World
from ray_mesh.compile.mesh import compile_mesh
from ray_mesh.resources import from_json
from ray_mesh.resources.mesh import Normalization
from ray_mesh.snapshot import Operation, Policy, Rule, ValueMatch

# ruff: noqa: F811


def configure(mesh: Mesh, **spec: Any) -> None:
    """Put a MeshConfig into force."""
    metadata = {"name": "mesh", "namespace": "mesh-system"}
    plain = {"apiVersion": "mesh.ray.io/v1", "kind": "MeshConfig", "metadata": metadata, "spec": spec}
    config = from_json(json.dumps(plain))
    compiled = compile_mesh(World({config.key: config}))
    for plane in mesh.planes.values():
        plane.apply(snapshot.MESH_KEY, snapshot.decode(snapshot.MESH_KEY, snapshot.encode(compiled)))


PATHS = {
    b"/a//b/../c": ("/a//b/../c", "/a//c", "/a/c", "/a/c"),
    b"/%61%2f..%5Cb": ("/%61%2f..%5Cb", "/a%2F..%5Cb", "/a%2F..%5Cb", "/b"),
    b"/a\\b": ("/a\\b", "/a/b", "/a/b", "/a/b"),
    b"//x?q=//..": ("//x?q=//..", "//x?q=//..", "/x?q=//..", "/x?q=//.."),
}


@pytest.mark.parametrize(("number", "word"), list(enumerate(get_args(Normalization))))
async def test_what_is_matched_is_what_is_forwarded(mesh: Mesh, number: int, word: str) -> None:
    port, app = await mesh.pair()
    configure(mesh, pathNormalization={"normalization": word})
    client = await Client.connect(port)
    for path, expected in PATHS.items():
        for _ in range(2):
            await client.send(request_bytes("GET", path.decode(), "reviews"))
            assert (await client.answer()).json()["line"] == f"GET {expected[number]} HTTP/1.1"
    assert app.connections == 1
    for path, expected in PATHS.items():
        matched = Operation(paths=(ValueMatch("exact", expected[number].partition("?")[0]),))
        deny = Policy("default/no", "DENY", (Rule(operations=(matched,)),))
        changed = replace(mesh.workloads["reviews"], policies=(deny,))
        mesh.planes["two"].apply("workload.default.reviews", changed)
        await client.send(request_bytes("GET", path.decode(), "reviews"))
        assert (await client.answer()).status == 403, path
    await client.close()


async def test_base_is_the_default_and_holds_on_open_connections(mesh: Mesh) -> None:
    port, _ = await mesh.pair()
    client = await Client.connect(port)
    for spec, line in (
        ({}, "GET //a HTTP/1.1"),
        ({"pathNormalization": {"normalization": "MERGE_SLASHES"}}, "GET /a HTTP/1.1"),
        ({"pathNormalization": {"normalization": "DEFAULT"}}, "GET //a HTTP/1.1"),
    ):
        configure(mesh, **spec)
        await client.send(request_bytes("GET", "//a", "reviews"))
        assert (await client.answer()).json()["line"] == line
    await client.close()


@pytest.mark.parametrize(
    ("trusted", "said", "client", "proto"),
    [
        (0, "6.6.6.6", "127.0.0.1", "http"),
        (1, "6.6.6.6, 7.7.7.7", "6.6.6.6, 7.7.7.7, 127.0.0.1", "https"),
        (2, "6.6.6.6", "6.6.6.6, 127.0.0.1", "https"),
    ],
)
async def test_proxies_in_front_of_a_gateway(
    mesh: Mesh, trusted: int, said: str, client: str, proto: str
) -> None:
    port = await gateway(mesh)
    configure(mesh, defaultConfig={"gatewayTopology": {"numTrustedProxies": trusted}})
    answer = await fetch(
        port,
        "/api/x",
        "shop.example.com",
        X_Forwarded_For=said,
        X_Forwarded_Proto="https",
        X_Forwarded_Host="evil",
        X_Forwarded_Client_Cert="By=evil",
    )
    fields: dict[str, str] = {name.lower(): value for name, value in answer.json()["fields"]}
    assert fields["x-forwarded-for"] == f"{client}, 127.0.0.1"
    assert fields["x-forwarded-proto"] == proto
    assert not {"x-forwarded-host", "x-forwarded-client-cert"} & fields.keys()


async def test_traces_in_other_words(mesh: Mesh) -> None:
    port, _ = await mesh.pair()
    client = await Client.connect(port)
    seen = []
    trace = "0af7651916cd43dd8448eb211c80319"
    for number, (fields, kept) in enumerate(
        (
            ({"b3": f"{trace}{{}}-b7ad6b7169203331-1"}, True),
            ({"X_B3_TraceId": f"{trace}{{}}", "X_B3_SpanId": "b7ad6b7169203331"}, True),
            ({"traceparent": f"00-{trace}{{}}-b7ad6b7169203331-01", "b3": "0", "tracestate": "a=b"}, True),
            ({"traceparent": "00-no", "tracestate": "a=b", "b3": f"{trace}{{}}-b7ad6b7169203331"}, True),
            ({"tracestate": "a=b"}, False),
        )
    ):
        for _ in range(2):
            sent = {name: value.replace("{}", str(number)) for name, value in fields.items()}
            await client.send(request_bytes("GET", "/", "reviews", b"", TOKEN, **sent))
            answer = (await client.answer()).json()
            got = {name.lower(): value for name, value in answer["fields"]}
            assert (got["traceparent"][3:35] == f"{trace}{number}") is kept
            seen.append(got)
    assert [each.get("tracestate") for each in seen] == [None] * 4 + ["a=b"] * 2 + [None] * 4
    assert seen[0]["b3"].startswith(trace)
    await client.close()
