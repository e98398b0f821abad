"""Many clients that are slow on purpose (``slowhttptest``): others are served, and memory stays bounded."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from bench_process import process, program, read_line
from oracle_sides import gateway
from proxy_mesh import Client, free_port, running_mesh, until

CONNECTIONS = 200
RUN_S = 15
LARGE = 4_000_000
"""Kernels hold megabytes of it for each slow reader; much more, and they run short for everybody."""
STREAM_BYTES = 1024 * 1024
"""What the proxy may hold for each of them."""
ANSWER_S = 2.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("slowhttptest") is None, reason="needs slowhttptest (apt install)"),
]
ATTACKS = {
    "headers that never end": ("-H", "-i", "2", "-x", "24"),
    "bodies that never end": ("-B", "-i", "2", "-s", "8192", "-x", "10"),
    "responses that are hardly read": ("-X", "-w", "256", "-y", "512", "-n", "1", "-z", "32"),
}


async def _attack(port: int, options: tuple[str, ...], folder: Path) -> int:
    child = await asyncio.create_subprocess_exec(
        "slowhttptest",
        *options,
        *("-c", str(CONNECTIONS), "-r", "250", "-l", str(RUN_S), "-p", "5", "-v", "0"),
        *("-u", f"http://127.0.0.1:{port}/bytes/{LARGE}"),
        cwd=folder,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await child.wait()


async def _ask(
    port: int, attack: asyncio.Task[int], most_open: list[int], count: Callable[[], int]
) -> list[float]:
    """Requests of a good client while the attack lasts; how long each took."""
    took = []
    client = await Client.connect(port)
    while not attack.done():
        begun_at = time.monotonic()
        await client.send(b"GET /small HTTP/1.1\r\nHost: shop\r\n\r\n")
        assert (await client.answer()).status == 200
        took.append(time.monotonic() - begun_at)
        most_open[0] = max(most_open[0], count())
        await asyncio.wait([attack], timeout=0.05)
    await client.close()
    return took


@pytest.mark.parametrize("options", ATTACKS.values(), ids=ATTACKS)
@pytest.mark.timeout(90)
async def test_slow_clients_hold_up_nobody_else(options: tuple[str, ...], tmp_path: Path) -> None:
    app_port = free_port()
    with process(program("bench_upstream.py", str(app_port)), None) as app:
        read_line(app)
        await _hold(app_port, options, tmp_path)


async def _hold(app_port: int, options: tuple[str, ...], folder: Path) -> None:
    async with running_mesh(("one",)) as mesh:
        port = await gateway(mesh, app_port)
        plane = mesh.planes["one"]
        before = psutil.Process().memory_info().rss
        attack = asyncio.create_task(_attack(port, options, folder))
        most_open = [0]
        took = await _ask(port, attack, most_open, lambda: plane.stats().connections)
        grown = psutil.Process().memory_info().rss - before
        assert attack.result() == 0
        assert most_open[0] > CONNECTIONS / 2, f"only {most_open[0]} slow connections were open at once"
        assert len(took) > RUN_S, f"{len(took)} answers"
        assert sorted(took)[len(took) * 99 // 100] < ANSWER_S, f"the slowest took {max(took):.1f} s"
        assert grown < STREAM_BYTES * CONNECTIONS, f"{grown / 2**20:.0f} MiB more"
        await until(lambda: plane.stats().connections < 10, "the slow connections are gone")
