"""Mirrors get a copy, and nothing else changes."""

from __future__ import annotations

import asyncio
import json

import pytest
from proxy_mesh import mesh, until  # noqa: F401
from routing_mesh import App, Client, Mesh, apply_routes, callee, client, fetch, host_of, request_bytes

from ray_mesh.proxy import mirror
from ray_mesh.telemetry.series import Edge

# ruff: noqa: F811

TO_REVIEWS = "route: [{destination: {host: reviews}}]"


async def mirrored(mesh: Mesh, rule: str) -> tuple[int, App, App]:
    """The port of ``client``, the application of ``reviews``, that of the mirror ``ratings``."""
    port = await client(mesh)
    reviews, ratings = await callee(mesh), await callee(mesh, "ratings")
    apply_routes(mesh, f"[{{{rule}, {TO_REVIEWS}}}]", "ratings")
    return port, reviews, ratings


def copies(mesh: Mesh) -> list[tuple[int, str]]:
    """Status and flags of the copies that ended, as the caller recorded them."""
    records = mesh.planes["one"].access_records()
    return [(one.status, one.flags) for one in records if one.route.endswith(" mirror")]


@pytest.mark.parametrize(
    "rule",
    [
        "mirror: {host: ratings}",
        "mirrors: [{destination: {host: ratings}}]",
        "mirror: {host: ratings}, mirrorPercentage: {value: 100}",
        "mirror: {host: ratings}, mirrorPercent: 100",
        "mirror: {host: ratings}, mirror_percent: 100",
    ],
)
async def test_a_mirror_gets_a_copy(mesh: Mesh, rule: str) -> None:
    port, reviews, ratings = await mirrored(mesh, f"name: r, rewrite: {{uri: /new/}}, {rule}")
    answer = await fetch(port, "/a?b", "reviews:80", x_a="1")
    assert answer.json()["app"] == "reviews"
    answer = await fetch(port, "/a", "reviews", "POST", b"hello" * 1000)
    assert answer.json()["body"] == "hello" * 1000
    await until(lambda: copies(mesh) == [(200, ""), (200, "")], "both copies are answered")
    first, second = (head.decode() for head in ratings.heads)
    assert first.startswith("GET /new/a?b HTTP/1.1\r\n")
    assert "Host: reviews-shadow:80\r\n" in first
    assert "x-a: 1\r\n" in first
    assert "Host: reviews-shadow\r\n" in second
    assert [edge.destination_service for edge in edges(mesh, "r mirror")] == [host_of("ratings")]
    assert len(reviews.heads) == 2


def edges(mesh: Mesh, route: str) -> list[Edge]:
    return [each.edge for each in mesh.planes["one"].series.totals() if each.edge.route == route]


async def test_a_body_that_comes_in_pieces(mesh: Mesh) -> None:
    bodies: list[bytes] = []
    port, _, ratings = await mirrored(mesh, "mirror: {host: ratings}")
    read = ratings.read

    async def remember(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
        head, body = await read(reader)
        bodies.append(body)
        return head, body

    ratings.read = remember  # type: ignore[method-assign]
    connection = await Client.connect(port)
    head = request_bytes("POST", "/", "reviews", transfer_encoding="chunked")
    await connection.send(head)
    for _ in range(3):
        await connection.send(b"5\r\nhello\r\n")
    await until(lambda: mesh.planes["two"].stats().connections, "the request is on its way")
    assert not ratings.heads
    await connection.send(b"0\r\n\r\n")
    assert (await connection.answer()).json()["body"] == "hello" * 3
    await until(lambda: copies(mesh) == [(200, "")], "the copy is answered")
    assert bodies == [b"hello" * 3]
    await connection.close()


async def test_a_large_body_is_not_copied(mesh: Mesh) -> None:
    port, _, ratings = await mirrored(mesh, "mirror: {host: ratings}")
    body = b"x" * (mirror.MAX_BODY_BYTES + 1)
    answer = await fetch(port, "/", "reviews", "POST", body)
    assert answer.json()["body"] == body.decode()
    assert copies(mesh) == [(503, "UO")]
    assert ratings.heads == []


async def test_a_mirror_that_is_slow_or_gone_hurts_nobody(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "MAX_ACTIVE", 3)
    stuck = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stuck.wait()

    port = await client(mesh)
    await callee(mesh)
    await callee(mesh, "ratings", wait)
    apply_routes(mesh, f"[{{mirror: {{host: ratings}}, {TO_REVIEWS}}}]", "ratings")
    for _ in range(8):
        assert (await fetch(port, "/", "reviews")).status == 200
    assert copies(mesh) == [(503, "UO")] * 5
    stuck.set()
    await until(lambda: len(copies(mesh)) == 8, "the others end")
    mesh.service("ratings", [])
    assert (await fetch(port, "/", "reviews")).status == 200
    await until(lambda: copies(mesh)[8:] == [(503, "UH")], "the copy found no endpoint")


async def test_a_share_is_mirrored(mesh: Mesh) -> None:
    port, _, _ = await mirrored(mesh, "mirror: {host: ratings}, mirrorPercentage: {value: 50}")
    for _ in range(100):
        assert (await fetch(port, "/", "reviews")).status == 200
    await until(lambda: len(copies(mesh)) > 20, "about half of them are mirrored")
    assert len(copies(mesh)) < 80


async def test_answers_of_mirrors_of_any_size_are_thrown_away(mesh: Mesh) -> None:
    async def large(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(50):
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    port = await client(mesh)
    await callee(mesh)
    await callee(mesh, "ratings", large)
    apply_routes(mesh, f"[{{mirror: {{host: ratings}}, {TO_REVIEWS}}}]", "ratings")
    answer = await fetch(port, "/", "reviews")
    assert json.loads(answer.body)["app"] == "reviews"
    await until(lambda: copies(mesh) == [(500, "")], "the copy is answered")
