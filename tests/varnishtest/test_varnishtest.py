"""The scripts beside this file, run by ``varnishtest`` (Debian: ``varnish``) against our gateway.

They name the port of the gateway ``${port}`` and listen as its application on ``${app}``.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from oracle_sides import gateway
from proxy_mesh import free_port, running_mesh

SCRIPTS = sorted(Path(__file__).parent.glob("*.vtc"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("varnishtest") is None, reason="needs varnishtest (apt install varnish)"),
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
async def test_script(script: Path) -> None:
    app_port = free_port()
    async with running_mesh(("one",)) as mesh:
        port = await gateway(mesh, app_port)
        child = await asyncio.create_subprocess_exec(
            "varnishtest",
            *("-D", f"port={port}", "-D", f"app={app_port}", "-t", "30", "-v", str(script)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        told, _ = await child.communicate()
    assert child.returncode == 0, told.decode(errors="replace")
