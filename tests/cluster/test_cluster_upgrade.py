"""A newer package takes over the mesh that runs, under traffic."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from ray_head import Head, ray_head

from ray_mesh import __version__
from ray_mesh.sdk import AsyncMesh

ROOT = Path(__file__).parents[2]
UP = ("python", "-m", "ray_mesh", "up", "--detach")
NEWER = "99.0.0"
ECHO = """
apiVersion: v1
kind: Service
metadata: {name: echo}
spec: {selector: {app: echo}, ports: [{name: http, port: 80}]}
"""
RATE = 100.0
"""Requests a second on kept connections, and as many on new ones."""


def newer_package(folder: Path) -> Path:
    """This package, as a working directory of a job, of a newer version."""
    ignored = shutil.ignore_patterns("__pycache__")
    package = Path(shutil.copytree(ROOT / "ray_mesh", folder / "newer" / "ray_mesh", ignore=ignored))
    init = package / "__init__.py"
    init.write_text(init.read_text().replace(f'"{__version__}"', f'"{NEWER}"'))
    return package.parent


def actors(head: Head) -> dict[str, Any]:
    done = head.ray_mesh("status", "-o", "json")
    assert done.returncode == 0, done.stderr
    status: dict[str, Any] = json.loads(done.stdout)
    return status


class Load:
    """Posts (which no client repeats by itself) from one workload to another."""

    def __init__(self, proxy: str) -> None:
        self._proxy = proxy
        self.answers: Counter[str] = Counter()

    async def run(self, ended: asyncio.Event) -> None:
        """Post at ``RATE`` on kept connections and at ``RATE`` on new ones until ``ended``."""
        async with aiohttp.ClientSession() as kept, asyncio.TaskGroup() as group:
            while not ended.is_set():
                group.create_task(self._post(kept))
                group.create_task(self._post_once())
                await asyncio.sleep(1 / RATE)

    async def _post_once(self) -> None:
        async with aiohttp.ClientSession() as session:
            await self._post(session)

    async def _post(self, session: aiohttp.ClientSession) -> None:
        try:
            async with session.post("http://echo/", data=b"x" * 100, proxy=self._proxy) as response:
                body = await response.read()
                good = (response.status, body) == (200, b"x" * 100)
                self.answers["ok" if good else f"{response.status} {body!r}"] += 1
        except aiohttp.ClientError as error:
            self.answers[repr(error)] += 1


@asynccontextmanager
async def echo_server() -> AsyncIterator[int]:
    """An application of ours on a free loopback port."""

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    app = web.Application()
    app.router.add_post("/", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def upgrade_under_load(head: Head, newer: Path) -> Counter[str]:
    async with await AsyncMesh.connect(head.state_file) as mesh, echo_server() as port:
        await mesh.apply(ECHO)
        await mesh.attach("echo", "v1", port)
        caller = await mesh.attach("caller", "v1", 0)
        await mesh.wait(caller.revision)
        load, ended = Load(caller.http_proxy), asyncio.Event()
        running = asyncio.create_task(load.run(ended))
        try:
            await asyncio.to_thread(head.submit, "--working-dir", str(newer), "--", *UP)
        finally:
            ended.set()
            await running
        return load.answers


@pytest.mark.timeout(400)
def test_an_upgrade_in_place_under_200_requests_a_second_fails_none(tmp_path: Path) -> None:
    with ray_head(token=True) as head:
        head.submit("--working-dir", str(ROOT), "--", *UP)
        before = actors(head)
        assert before["version"] == __version__
        answers = asyncio.run(upgrade_under_load(head, newer_package(tmp_path)))
        after = actors(head)
        assert after["version"] == NEWER
        assert after["problems"] == []
        assert {one["pid"] for one in before["actors"]}.isdisjoint(one["pid"] for one in after["actors"])
        proxies = json.loads(head.ray_mesh("proxies", "-o", "json").stdout)
        assert [row["version"] for row in proxies] == [NEWER, NEWER]
        assert set(answers) == {"ok"}, answers
        assert answers["ok"] > 1000
        back = head.run("python", "-m", "ray_mesh", "up", cwd=ROOT, env={"RAY_ADDRESS": "auto"})
        assert back.returncode == 65
        assert "use the newer package" in back.stderr
        assert head.ray_mesh("down").returncode == 0
