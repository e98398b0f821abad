"""Applications on Ray in the mesh: kept by it, or joined as they are."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import ray
from aiohttp import web
from mesh_site import Site, eventually
from sidecar_process import CALLER, SERVER, call, free_port, running

from ray_mesh import workload
from ray_mesh.errors import ConfigError, Conflict, Unavailable

untyped_ray: Any = ray


def make_app() -> Callable[[], web.Application]:
    """A function that makes the application; nested, so that it travels by value."""

    def app() -> web.Application:
        import asyncio
        import os

        import aiohttp
        from aiohttp import web

        sick = False
        resting = 0

        async def pid(request: web.Request) -> web.Response:
            return web.Response(text=str(os.getpid()))

        async def rest(request: web.Request) -> web.Response:
            nonlocal resting
            resting += 1
            await asyncio.sleep(2.0)
            return web.Response(text="rested")

        async def count(request: web.Request) -> web.Response:
            return web.Response(text=str(resting))

        async def forward(request: web.Request) -> web.Response:
            async with (
                aiohttp.ClientSession(trust_env=True) as session,
                session.get(request.query["url"]) as response,
            ):
                return web.Response(status=response.status, text=await response.text())

        async def healthz(request: web.Request) -> web.Response:
            return web.Response(status=500 if sick else 200)

        async def fall_ill(request: web.Request) -> web.Response:
            nonlocal sick
            sick = True
            return web.Response()

        application = web.Application()
        application.router.add_get("/pid", pid)
        application.router.add_get("/rest", rest)
        application.router.add_get("/resting", count)
        application.router.add_get("/forward", forward)
        application.router.add_get("/healthz", healthz)
        application.router.add_get("/fall-ill", fall_ill)
        return application

    return app


def pids(proxy: str, count: int = 20) -> Counter[str]:
    """Which processes answer."""
    return Counter(call(proxy, "http://kept/pid")[1] for _ in range(count))


@pytest.mark.timeout(180)
def test_copies_are_balanced_replaced_scaled_and_drained(site: Site) -> None:
    served = site.mesh.serve(make_app(), "kept", "v1", replicas=2, health_path="/healthz")
    try:
        with site.mesh.attach("caller", "v1", 0) as caller:
            first = {str(one.pid) for one in served.status()}
            assert len(first) == 2
            assert set(pids(caller.http_proxy)) == first
            with pytest.raises(Conflict, match="served already"):
                site.mesh.serve(make_app(), "kept", "v1")

            os.kill(int(min(first)), signal.SIGKILL)
            second = eventually(lambda: healthy(served.status(), 2, without=min(first)), timeout_s=30.0)
            assert max(first) in second
            assert set(pids(caller.http_proxy)) == second

            assert call(caller.http_proxy, "http://kept/fall-ill")[0] == 200
            third = eventually(lambda: changed(served.status(), second), timeout_s=30.0)
            assert len(third & second) == 1

            served.scale(1)
            slow: list[tuple[int, str]] = []
            under_way = threading.Thread(
                target=lambda: slow.append(call(caller.http_proxy, "http://kept/rest"))
            )
            under_way.start()
            eventually(lambda: call(caller.http_proxy, "http://kept/resting") == (200, "1"))
            served.stop()
            under_way.join(15.0)
            assert slow == [(200, "rested")]
            assert "kept-v1-0" not in {one.name for one in site.mesh.list("Workload")}
    finally:
        untyped_ray.kill(served._served.keeper)


@pytest.mark.timeout(180)
def test_a_keeper_that_dies_keeps_to_the_number_it_was_scaled_to(site: Site) -> None:
    """Else the workloads of the other copies, which end with it, stay in the mesh and answer nobody."""
    served = site.mesh.serve(make_app(), "kept", "v2", replicas=1)
    try:
        served.scale(2)
        before = healthy(served.status(), 2, without="")
        pid = untyped_ray.get(served._served.keeper.__ray_call__.remote(lambda _: os.getpid()))
        os.kill(pid, signal.SIGKILL)
        after = eventually(lambda: healthy(served.status(), 2, without=""), timeout_s=60.0)
        assert not after & before
        with site.mesh.attach("caller", "v2", 0) as caller:
            answers = Counter(call(caller.http_proxy, "http://kept/pid") for _ in range(20))
            assert {text for _, text in answers} == after
            assert {status for status, _ in answers} == {200}
        served.stop()
    finally:
        untyped_ray.kill(served._served.keeper)


def healthy(replicas: list[Any], count: int, without: str) -> set[str]:
    found = {str(one.pid) for one in replicas if one.state == "HEALTHY"} - {without}
    return found if len(found) == count else set()


def changed(replicas: list[Any], before: set[str]) -> set[str]:
    found = healthy(replicas, 2, "")
    return found if found != before else set()


@pytest.mark.timeout(120)
def test_a_sidecar_outside_ray_and_an_actor_call_each_other_over_mutual_tls(
    site: Site, tmp_path: Path
) -> None:
    port, api = free_port(), site.running.state.api
    served = site.mesh.serve(make_app(), "kept", "v1")
    token = site.mesh.create_token
    outside = {"service": "outside2", "port": port, "node": "sidecar-outside2"}
    visitor = {"service": "visitor2", "port": 0, "node": "sidecar-visitor2"}
    url = "http://kept/pid"
    try:
        with (
            running(
                api, token("default/default"), tmp_path, outside, sys.executable, "-c", SERVER, str(port)
            ) as server,
            site.mesh.attach("caller", "v1", 0) as caller,
        ):
            eventually(lambda: "serving" in server.said(), timeout_s=30.0)
            via_actor = "http://kept/forward?url=http://outside2/x"
            answer = eventually(lambda: (a := call(caller.http_proxy, via_actor))[0] == 200 and a)
            assert answer == (200, "echo of /x")
        with running(
            api, token("default/default"), tmp_path, visitor, sys.executable, "-c", CALLER, url
        ) as client:
            assert client.process.wait(45.0) == 0, client.said()
            assert str(served.status()[0].pid) in client.said()
        eventually(lambda: mutual(site, "default/kept-v1-0", "default/outside2-v1"))
        eventually(lambda: mutual(site, "default/visitor2-v1", "default/kept-v1-0"))
    finally:
        served.stop()


def mutual(site: Site, source: str, destination: str) -> bool:
    edges = [e for e in site.mesh.graph(0).edges if (e.source, e.destination) == (source, destination)]
    return bool(edges) and all(edge.mtls == 1.0 for edge in edges)


@pytest.mark.timeout(60)
def test_an_existing_actor_joins_and_calls_through_the_mesh(site: Site) -> None:
    class Old:
        """Somebody's actor, which knows nothing of a mesh."""

        async def listen(self) -> int:
            from aiohttp import web

            runner = web.AppRunner(make())
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return int(runner.addresses[0][1])

        async def rest(self) -> None:
            await asyncio.sleep(0)

    make = make_app()
    actor: Any = untyped_ray.remote(Old).options(num_cpus=0).remote()
    try:
        port = ray.get(actor.listen.remote())
        with (
            workload.join(site.mesh, actor, "old", "v1", port),
            site.mesh.attach("caller", "v1", 0) as caller,
        ):
            assert call(caller.http_proxy, "http://old/pid")[0] == 200
            out = "http://old/forward?url=http://details:9080/details/0"
            assert call(caller.http_proxy, out)[0] == 200
    finally:
        untyped_ray.kill(actor)


@pytest.mark.timeout(120)
def test_a_ray_serve_application_joins_by_its_http_port(site: Site) -> None:
    serve: Any = import_module("ray.serve")

    @serve.deployment(num_replicas=1, ray_actor_options={"num_cpus": 0})
    class Hello:
        def __call__(self) -> str:
            return "hello from serve"

    untyped_hello: Any = Hello
    port = free_port()
    serve.start(proxy_location="EveryNode", http_options={"host": "127.0.0.1", "port": port})
    try:
        serve.run(untyped_hello.bind(), name="hello", route_prefix="/")
        (attachment,) = workload.join_serve(site.mesh, "hello", "v1", port)
        with attachment, site.mesh.attach("caller", "v1", 0) as caller:
            assert call(caller.http_proxy, "http://hello/") == (200, "hello from serve")
        with pytest.raises(Unavailable):
            workload.join_serve(site.mesh, "hello", "v1", port, nodes=["nowhere"])
    finally:
        serve.shutdown()


def test_an_application_that_does_not_start_is_told_and_leaves_nothing(site: Site) -> None:
    with pytest.raises(ConfigError, match="cannot be sent"):
        site.mesh.serve(web.Application(), "broken", "v1")
    with pytest.raises(ConfigError, match="replicas must be"):
        site.mesh.serve("m:app", "broken", "v1", replicas=0)
