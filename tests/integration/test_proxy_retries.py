"""Retries that a route asks for, with real traffic."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from proxy_mesh import App, Client, Mesh, fetch, free_port, mesh, request_bytes, until  # noqa: F401
from routing_mesh import callee, client, host_of
from rule_mesh import Gate, answer, apply_rule, ask, scripted, statuses

from ray_mesh.snapshot import Endpoint, Endpoints

# ruff: noqa: F811

OK = answer(200, b"ok")
BUSY = answer(503, b"busy")


async def serving(
    mesh: Mesh, script: list[bytes | None], retries: str, policy: str = "{}"
) -> tuple[int, App]:
    """The client's port, and ``reviews`` that answers by a script behind a route with retries."""
    apps: list[App] = []
    port = await client(mesh)
    apps.append(await callee(mesh, handler=scripted(lambda: apps[0], script)))
    route = f"{{retries: {retries}, route: [{{destination: {{host: reviews}}}}]}}"
    apply_rule(mesh, policy, http=f"[{route}]")
    return port, apps[0]


def recorded(mesh: Mesh) -> tuple[int, str, int]:
    """Status, flags and attempts of the newest request of the client."""
    record = mesh.planes["one"].access_records()[-1]
    return record.edge.code, record.edge.flags, record.attempts


@pytest.mark.parametrize(
    ("failures", "retry_on"),
    [
        ([BUSY, BUSY], "5xx"),
        ([answer(502), answer(504)], "gateway-error"),
        ([answer(418), answer(418)], "retriable-status-codes,418"),
        ([answer(409)], "retriable-4xx"),
        ([None], "gateway-error"),
        ([answer(200, b"", "grpc-status: 14")], "unavailable"),
        ([answer(503, b"late", "connection: close")], "503"),
    ],
)
async def test_conditions(mesh: Mesh, failures: list[bytes | None], retry_on: str) -> None:
    port, app = await serving(mesh, [*failures, OK], f"{{attempts: 2, retryOn: '{retry_on}'}}")
    said = await fetch(port, "/", "reviews", "POST", b"once more")
    assert (said.status, said.body) == (200, b"ok")
    assert len(app.heads) == len(failures) + 1
    assert recorded(mesh) == (200, "", len(failures) + 1)


async def test_what_a_body_says_is_no_status(mesh: Mesh) -> None:
    body = b"x\r\ngrpc-status: 14\r\n\r\n"
    port, app = await serving(mesh, [answer(200, body), OK], "{attempts: 2, retryOn: unavailable}")
    assert (await fetch(port, "/", "reviews")).body == body
    assert len(app.heads) == 1


async def test_a_body_that_comes_after_the_head_is_held_back_too(mesh: Mesh) -> None:
    apps: list[App] = []
    turns = iter(range(9))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await apps[0].read(reader)
        if next(turns):
            writer.write(OK)
        else:
            writer.write(BUSY[:-4])
            await writer.drain()
            await reader.read()

    port = await client(mesh)
    apps.append(await callee(mesh, handler=serve))
    route = "{retries: {attempts: 1, retryOn: 5xx}, route: [{destination: {host: reviews}}]}"
    apply_rule(mesh, "{}", http=f"[{route}]")
    said = await fetch(port, "/", "reviews")
    assert (said.status, said.body) == (200, b"ok")


async def test_when_tries_are_used_up_the_last_answer_stands_and_says_so(mesh: Mesh) -> None:
    port, app = await serving(mesh, [BUSY], "{attempts: 2, retryOn: 5xx, backoff: 1ms}")
    said = await fetch(port, "/", "reviews")
    assert (said.status, said.body, len(app.heads)) == (503, b"busy", 3)
    assert recorded(mesh) == (503, "URX", 3)


async def test_own_answers_say_that_tries_are_used_up(mesh: Mesh) -> None:
    policy = "{tls: {mode: DISABLE}}"
    port, app = await serving(mesh, [None], "{attempts: 1, retryOn: reset}", policy)
    plain = Endpoint("reviews", "127.0.0.1", app.port, "", "", (), "", "plaintext")
    for plane in mesh.planes.values():
        plane.apply("endpoints.default.reviews", Endpoints(host_of("reviews"), (plain,)))
    said = await fetch(port, "/", "reviews", "POST", b"x")
    assert (said.status, said.field("x-mesh-flag"), len(app.heads)) == (503, "UC,URX", 2)
    assert "given up after 2 attempts" in said.json()["message"]
    await app.stop()
    said = await fetch(port, "/", "reviews", "POST", b"x")
    assert (said.status, said.field("x-mesh-flag")) == (503, "UF,URX")


async def test_without_conditions_only_idempotent_requests_are_sent_again(mesh: Mesh) -> None:
    port, app = await serving(mesh, [BUSY, OK, BUSY, OK], "{attempts: 2}")
    assert (await fetch(port, "/", "reviews", "PUT", b"x")).status == 200
    assert (await fetch(port, "/", "reviews", "POST", b"x")).status == 503
    assert [head.split(b" ")[0] for head in app.heads] == [b"PUT", b"PUT", b"POST"]


async def test_no_attempts_and_other_failures_mean_no_retry(mesh: Mesh) -> None:
    port, app = await serving(mesh, [BUSY, answer(500), OK], "{attempts: 0}")
    assert (await fetch(port, "/", "reviews")).status == 503
    apply_rule(
        mesh,
        "{}",
        http="[{retries: {attempts: 3, retryOn: gateway-error}, route: [{destination: {host: reviews}}]}]",
    )
    assert (await fetch(port, "/", "reviews")).status == 500
    assert len(app.heads) == 2


async def test_a_body_larger_than_is_kept_is_never_sent_again(mesh: Mesh) -> None:
    port, app = await serving(mesh, [BUSY, OK], "{attempts: 2, retryOn: 5xx}")
    assert (await fetch(port, "/", "reviews", "PUT", b"x" * 70_000)).status == 503
    assert len(app.heads) == 1


async def test_each_try_has_its_time_and_the_route_has_the_last_word(mesh: Mesh) -> None:
    port, gate = await client(mesh), Gate()
    await callee(mesh, handler=gate)

    def route(attempts: int, timeout: str) -> None:
        retries = f"{{attempts: {attempts}, retryOn: 5xx, perTryTimeout: 100ms, backoff: 1ms}}"
        one = f"{{retries: {retries}, timeout: {timeout}, route: [{{destination: {{host: reviews}}}}]}}"
        apply_rule(mesh, "{}", http=f"[{one}]")

    route(1, "5s")
    said = await fetch(port, "/", "reviews", "POST", b"body")
    assert (said.status, said.field("x-mesh-flag"), gate.arrived) == (504, "UT,URX", 2)
    assert "did not answer within 0.1 s (perTryTimeout); given up after 2 attempts" in said.json()["message"]
    route(50, "400ms")
    began = time.monotonic()
    said = await fetch(port, "/", "reviews")
    assert (said.status, said.field("x-mesh-flag")) == (504, "UT")
    assert 0.4 <= time.monotonic() - began < 3.0
    assert 2 <= recorded(mesh)[2] <= 5
    await until(lambda: any(one[1] == "DC" for one in mesh.series("two")), "a try that was given up ends")


async def test_the_time_of_a_try_begins_when_the_request_is_complete(mesh: Mesh) -> None:
    port, app = await serving(mesh, [OK], "{attempts: 1, retryOn: 5xx, perTryTimeout: 100ms}")
    one = await Client.connect(port)
    whole = request_bytes("POST", "/", "reviews", b"slowly")
    await one.send(whole[:-6])
    await asyncio.sleep(0.4)
    await one.send(whole[-6:])
    assert (await one.answer()).status == 200
    assert len(app.heads) == 1
    await one.close()


async def test_another_endpoint_is_tried_unless_the_route_says_otherwise(mesh: Mesh) -> None:
    port, app = await serving(mesh, [OK], "{attempts: 1, retryOn: connect-failure}")
    live = mesh.endpoint("reviews")
    mesh.service("reviews", [live, *(replace(live, port=free_port()) for _ in range(1))])
    route = "[{retries: {attempts: 1, retryOn: connect-failure%s}, route: [{destination: {host: reviews}}]}]"
    apply_rule(mesh, "{}", http=route % "")
    assert {(await fetch(port, "/", "reviews", "POST", b"x")).status for _ in range(12)} == {200}
    assert len(app.heads) == 12
    apply_rule(mesh, "{}", http=route % ", retryIgnorePreviousHosts: false")
    assert (await fetch(port, "/", "reviews", "POST", b"x")).status in (200, 503)


@pytest.mark.parametrize(
    "policy",
    ["{connectionPool: {http: {maxRetries: 1}}}", "{retryBudget: {percent: 0, minRetryConcurrency: 1}}"],
)
async def test_only_so_many_requests_are_retried_at_a_time(mesh: Mesh, policy: str) -> None:
    apps: list[App] = []
    gate = asyncio.Event()
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, _ = await apps[0].read(reader)
            name = head.partition(b"x-name: ")[2].partition(b"\r\n")[0]
            if name in seen:
                await gate.wait()
            seen.append(name)
            writer.write(OK if gate.is_set() else BUSY)
            await writer.drain()

    port = await client(mesh)
    apps.append(await callee(mesh, handler=serve))
    route = "{retries: {attempts: 3, retryOn: 5xx}, route: [{destination: {host: reviews}}]}"
    apply_rule(mesh, policy, http=f"[{route}]")
    first = await ask(port, x_name="first")
    await until(lambda: len(apps[0].heads) == 2, "the first request is being retried")
    other = await fetch(port, "/", "reviews", x_name="other")
    assert (other.status, other.body) == (503, b"busy")
    gate.set()
    assert await statuses([first]) == [200]


async def test_who_leaves_during_a_pause_is_not_sent_again(mesh: Mesh) -> None:
    port, app = await serving(mesh, [BUSY, OK], "{attempts: 1, retryOn: 5xx, backoff: 20s}")
    one = await ask(port)
    await until(lambda: app.heads, "the first try")
    await one.close()
    await until(lambda: mesh.planes["one"].access_records(), "it is recorded")
    assert recorded(mesh)[1] == "DC"
    assert len(app.heads) == 1
